//! A stand-in for a hub that says what the test wants it to say; the witness beside it is its ears.

use std::path::PathBuf;

use super::lab::{Identity, Lab};
use super::mosquitto::Mosquitto;
use super::oracle::Received;

/// Its name: not that of the witness, whose session a second client of the same name would end.
const NAME: &str = "hub-2";

pub struct ScriptedHub {
    identity: Identity,
    host: String,
}

impl ScriptedHub {
    /// Lets it in, as the comment in the shipped acl says; before the broker starts.
    pub fn new(lab: &Lab, host: &str) -> ScriptedHub {
        let acl: PathBuf = lab.authority().join("acl");
        let shipped = std::fs::read_to_string(&acl).expect("the broker is prepared");
        let block = format!("\nuser {NAME}\ntopic read v1/#\ntopic write v1/+/+/ack/{NAME}\ntopic write v1/+/+/cmd\n");
        std::fs::write(&acl, shipped + &block).expect("own directory");
        ScriptedHub { identity: lab.client(NAME), host: host.to_owned() }
    }

    /// Everything up to this seq of the epoch is stored.
    pub fn ack(&self, broker: &Mosquitto, epoch: u64, upto: u64) {
        let ack = format!("{{\"v\":1,\"epoch\":{epoch},\"upto\":{upto},\"ranges\":[]}}");
        self.publish(broker, &format!("ack/{NAME}"), &["-r", "-m", &ack]);
    }

    /// Sends the command and wants an answer.
    pub fn command(&self, broker: &Mosquitto, command: &str) {
        let reply = format!("v1/lab/{}/reply/{NAME}", self.host);
        let properties = ["-D", "publish", "response-topic", &reply, "-D", "publish", "correlation-data", "c-1"];
        self.publish(broker, "cmd", &[&properties[..], &["-m", command]].concat());
    }

    fn publish(&self, broker: &Mosquitto, leaf: &str, args: &[&str]) {
        let mut command = broker.client("mosquitto_pub", &self.identity);
        command.args(["-q", "1", "-t", &format!("v1/lab/{}/{leaf}", self.host)]).args(args);
        assert!(command.status().expect("it starts").success());
    }
}

/// The answers that the witness heard, as JSON texts.
pub fn replies(received: &Received) -> Vec<String> {
    let reply = |(topic, payload): &(String, String)| topic.ends_with(&format!("/reply/{NAME}")).then(|| text(payload));
    received.others.iter().filter_map(reply).collect()
}

fn text(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    String::from_utf8((0..hex.len() / 2).map(|i| byte(i * 2)).collect()).expect("JSON is text")
}
