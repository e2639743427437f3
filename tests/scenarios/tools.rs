//! The tools themselves, without the agent: the witness writes what passes, the front takes out exactly one record.

use crate::support::agent::Agent;
use crate::support::front::Front;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, python};

#[test]
fn witness_sees_raw_records_and_the_front_takes_out_exactly_one() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let agent = Agent::new(&lab, "edge-01", broker.port);
    let mut front = Front::absent(&lab, broker.port);
    front.up(&lab, &agent, &["--drop-seq", "2"]);
    let envelope = lab.path("envelope");
    let script = "import msgpack, sys\n\
         records = [{'seq': n, 'fields': {'x': 1.5 * n}} for n in (1, 2, 3)]\n\
         loss = {'epoch': 7, 'from': 4, 'to': 9, 'count': 6, 'reason': 'quota', 't0': 0, 't1': 0}\n\
         open(sys.argv[1], 'wb').write(msgpack.packb({'v': 1, 'host': 'edge-01', 'epoch': 7, 'lane': 'history',\n\
         'losses': [loss], 'records': records}))\n";
    assert!(python().args(["-c", script]).arg(&envelope).status().expect("python3 starts").success());
    let edge = lab.client("edge-01");
    let publish = |port: u16, topic: &str| {
        let mut command = broker.client("mosquitto_pub", &edge);
        command.args(["-p", &port.to_string(), "-q", "1", "-t", topic, "-f"]).arg(&envelope);
        assert!(command.status().expect("it starts").success());
    };
    publish(front.port, "v1/lab/edge-01/h");
    witness.wait("what was let through", PATIENCE, |received| received.records.len() >= 2);
    let keys: Vec<u64> = witness.received.records.keys().map(|(_, seq)| *seq).collect();
    assert_eq!(keys, [1, 3]);
    assert_eq!(witness.received.losses.len(), 1);
    publish(broker.port, "v1/lab/edge-01/h");
    witness.wait("all of it", PATIENCE, |received| received.records.len() == 3);
    // {"seq": 2, "fields": {"x": 3.0}}, byte for byte.
    assert_eq!(witness.received.records[&(7, 2)], "82a373657102a66669656c647381a178cb4008000000000000");
    assert_eq!((witness.received.duplicates(), witness.received.contradictions.len()), (2, 0));
    // The envelope says history, the topic says live.
    publish(broker.port, "v1/lab/edge-01/m/cpu");
    witness.wait("a complaint", PATIENCE, |received| !received.malformed.is_empty());
}
