//! What else Debian offers for the job: collectd with its MQTT plugin, and collectd behind a mosquitto that bridges.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdover::clock;

use super::meter::Meter;
use super::subject::{Subject, copy};
use crate::host::Host;
use crate::scratch;
use crate::support::child::Running;
use crate::support::free_port;
use crate::support::lab::Lab;

/// The same as the host set but for file systems, which its `df` plugin would add.
const PLUGINS: [&str; 6] = ["cpu", "memory", "disk", "interface", "load", "mqtt"];
const PLUGIN_DIR: &str = "/usr/lib/collectd";
const TYPES: &str = "/usr/share/collectd/types.db";

/// Why collectd cannot run here, if so.
pub fn missing() -> Option<&'static str> {
    let there = program("collectd").is_some() && Path::new(PLUGIN_DIR).join("mqtt.so").exists();
    (!there).then_some("not installed: apt-get install --no-install-recommends collectd-core libmosquitto1")
}

/// collectd, each second, at QoS 1 over TLS straight to the broker.
pub fn collectd(label: &'static str, lab: &Lab, broker: u16) -> Result<Subject, Box<dyn Error>> {
    let dir = scratch::dir(label)?;
    let meter = Meter::before(broker)?;
    let identity = lab.client(label);
    let tls = format!(
        "CACert {:?}\nCertificateFile {:?}\nCertificateKeyFile {:?}\nTLSProtocol \"tlsv1.2\"",
        lab.ca(),
        identity.cert,
        identity.key
    );
    let child = start_collectd(label, &dir, meter.port, &tls)?;
    Ok(Subject { label, sender: label.to_owned(), processes: vec![child], meter: Some(meter) })
}

/// collectd to a mosquitto on the same host, which keeps what it has and passes it on over TLS.
pub fn bridge(label: &'static str, lab: &Lab, broker: u16) -> Result<Subject, Box<dyn Error>> {
    let sender = "bridge";
    let dir = scratch::dir(sender)?;
    let meter = Meter::before(broker)?;
    let identity = lab.client(sender);
    let inner = free_port();
    let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
    let text = format!(
        "listener {inner} 127.0.0.1\nallow_anonymous true\n{user}log_dest stderr\nset_tcp_nodelay true\n\
         persistence true\npersistence_location {}/\nautosave_interval 5\nmax_queued_messages 0\n\
         connection up\naddress localhost:{}\nbridge_cafile {}\nbridge_certfile {}\nbridge_keyfile {}\n\
         cleansession false\nlocal_cleansession false\nnotifications false\nrestart_timeout 5\ntopic # out 1\n",
        dir.display(),
        meter.port,
        lab.ca().display(),
        identity.cert.display(),
        identity.key.display(),
    );
    let config = dir.join("mosquitto.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new(copy(&program("mosquitto").ok_or("mosquitto is not installed")?, &dir)?);
    command.arg("-c").arg(config);
    let mosquitto = Running::start("mosquitto as a bridge", &mut command, &dir.join("mosquitto.log"));
    let collectd = start_collectd(sender, &dir, inner, "")?;
    Ok(Subject { label, sender: sender.to_owned(), processes: vec![collectd, mosquitto], meter: Some(meter) })
}

fn start_collectd(prefix: &str, dir: &Path, port: u16, tls: &str) -> Result<Running, Box<dyn Error>> {
    let plugins = dir.join("plugins");
    std::fs::create_dir_all(&plugins)?;
    for plugin in PLUGINS {
        copy(&Path::new(PLUGIN_DIR).join(format!("{plugin}.so")), &plugins)?;
    }
    let load: String = PLUGINS.iter().map(|plugin| format!("LoadPlugin {plugin}\n")).collect();
    let text = format!(
        "Hostname \"peer\"\nFQDNLookup false\nInterval 1\nBaseDir {dir:?}\nPIDFile {:?}\nPluginDir {plugins:?}\n\
         TypesDB {TYPES:?}\n{load}\
         <Plugin cpu>\nReportByCpu true\nReportByState true\nValuesPercentage true\n</Plugin>\n\
         <Plugin disk>\n{}</Plugin>\n<Plugin interface>\n{}</Plugin>\n\
         <Plugin mqtt>\n<Publish up>\nHost \"localhost\"\nPort {port}\nClientId {prefix:?}\nQoS 1\nPrefix {prefix:?}\n\
         StoreRates true\nRetain false\n{tls}\n</Publish>\n</Plugin>\n",
        dir.join("collectd.pid"),
        seen("disks", "device", "Disk")?,
        seen("network", "interface", "Interface")?,
    );
    let config = dir.join("collectd.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new(copy(&program("collectd").ok_or("collectd is not installed")?, dir)?);
    command.arg("-f").arg("-C").arg(config);
    Ok(Running::start("collectd", &mut command, &dir.join("collectd.log")))
}

/// What our own collector sees, so that both look at the same devices.
fn seen(collector: &str, tag: &str, key: &str) -> Result<String, Box<dyn Error>> {
    let points = Host::of(&[collector])?.run(0, &clock::now()).points;
    let names = points.iter().filter_map(|point| point.tags.get(tag));
    Ok(names.map(|name| format!("{key} \"{name}\"\n")).collect())
}

/// Where it is; Debian keeps daemons where the PATH of an ordinary user does not look.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|file| file.is_file())
}
