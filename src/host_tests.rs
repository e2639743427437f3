use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const UUID: &str = "4C4C4544-0044-4810-8031-B8C04F4A3532";

struct Machine(TempDir);

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            machine.put(path, text);
        }
        machine
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A network adapter on that bus.
    fn adapter(&self, name: &str, bus: &str, mac: &str, assigned: &str) {
        let rel = format!("sys/class/net/{name}");
        self.put(&format!("{rel}/address"), mac);
        self.put(&format!("{rel}/addr_assign_type"), assigned);
        self.put(&format!("{rel}/device/x"), "");
        symlink(format!("../../bus/{bus}"), self.0.path().join(rel).join("device/subsystem")).unwrap();
    }

    fn root(&self) -> HostRoot {
        HostRoot::new(self.0.path())
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[test]
fn the_first_source_there_is_decides() {
    let machine_id = ("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let full = Machine::new(&[("sys/class/dmi/id/product_uuid", UUID), machine_id]);
    let root = full.root();
    let got = |configured, stored, cn| decide(configured, stored, cn, &root);
    assert_eq!(got(Some("edge-01"), Some("old"), Some("cn")).id, "edge-01");
    assert!(got(Some("edge-01"), Some("old"), None).note.unwrap().contains("was `old`"));
    assert_eq!(got(None, Some("old\n"), None), HostId { id: "old".into(), source: Source::Stored, note: None });
    assert_eq!(
        (got(None, None, Some("cn")).id.as_str(), got(None, None, Some("cn")).source),
        ("cn", Source::Certificate)
    );
    assert_eq!((got(None, None, None).id, got(None, None, None).source), (UUID.to_ascii_lowercase(), Source::Dmi));
    let hashed = decide(None, None, None, &Machine::new(&[machine_id]).root());
    assert_eq!(hashed.source, Source::MachineId);
    assert!(is_id(&hashed.id) && !hashed.id.contains("0123456789abcdef"), "never the raw machine id");
    assert_eq!(hashed, decide(None, None, None, &Machine::new(&[machine_id]).root()), "the same every time");
    let bare = Machine::new(&[]).root();
    let (a, b) = (decide(None, None, None, &bare), decide(None, None, None, &bare));
    assert_eq!(a.source, Source::Minted);
    assert!(is_id(&a.id) && a.id != b.id && a.id.len() == 21, "{a:?}");
}

#[test]
fn a_certificate_for_another_name_is_noticed_not_followed() {
    let root = Machine::new(&[]).root();
    let got = decide(None, Some("edge-01"), Some("edge-02"), &root);
    assert_eq!(got.id, "edge-01");
    assert!(got.note.unwrap().contains("the certificate is for `edge-02`"));
}

#[test]
fn a_damaged_stored_id_is_replaced_and_said() {
    let root = Machine::new(&[]).root();
    for stored in ["a/b", "a\0b", "x y", &"n".repeat(65)] {
        let got = decide(None, Some(stored), Some("cn"), &root);
        assert_eq!((got.id.as_str(), got.source), ("cn", Source::Certificate));
        assert!(got.note.unwrap().contains("damaged"), "{stored:?}");
    }
    assert_eq!(decide(None, Some("  "), Some("cn"), &root).note, None);
}

#[test]
fn uuids_that_are_shared_or_none_are_passed_over() {
    let machine_id = ("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    for uuid in SHARED_UUIDS.iter().copied().chain(["Not Settable", "", "4C4C4544-0044-4810-8031-B8C04F4A353", "\0\0"])
    {
        let machine = Machine::new(&[("sys/class/dmi/id/product_uuid", &uuid.to_ascii_uppercase()), machine_id]);
        assert_eq!(decide(None, None, None, &machine.root()).source, Source::MachineId, "{uuid:?}");
    }
    for id in ["uninitialized", "", "00000000000000000000000000000000", "0123"] {
        assert_eq!(decide(None, None, None, &Machine::new(&[("etc/machine-id", id)]).root()).source, Source::Minted);
    }
}

#[test]
fn ids_are_kept_or_made_harmless_without_meeting() {
    assert_eq!(sanitize("edge-01_B").as_deref(), Some("edge-01_B"));
    assert_eq!(sanitize(" edge \n").as_deref(), Some("edge"));
    assert_eq!(sanitize(" \t"), None);
    let dotted = sanitize("edge.example.com").unwrap();
    assert!(dotted.starts_with("edge_example_com-"), "{dotted}");
    assert_ne!(dotted, sanitize("edge-example.com").unwrap());
    assert_ne!(sanitize(&"a".repeat(65)), sanitize(&"a".repeat(66)));
}

proptest::proptest! {
    #[test]
    fn any_text_becomes_an_id_that_stays_itself(text in ".{0,200}") {
        if let Some(id) = sanitize(&text) {
            proptest::prop_assert!(is_id(&id), "{}", id);
            proptest::prop_assert_eq!(sanitize(&id), Some(id.clone()));
        } else {
            proptest::prop_assert!(text.trim().is_empty());
        }
    }
}

#[test]
fn the_fingerprint_follows_the_board_and_nothing_else() {
    let uuid = ("sys/class/dmi/id/product_uuid", UUID);
    let machine = Machine::new(&[uuid, ("sys/class/dmi/id/board_serial", "CN12963"), ("etc/machine-id", "x")]);
    let before = fingerprint(&machine.root());
    assert!(before.starts_with("dmi-"), "{before}");
    machine.adapter("eth0", "pci", "00:11:22:33:44:55", "0");
    machine.put("etc/machine-id", "0123456789abcdef0123456789abcdef");
    assert_eq!(fingerprint(&machine.root()), before, "a network card and a new installation change nothing");
    machine.put("sys/class/dmi/id/board_serial", "CN99999");
    assert_ne!(fingerprint(&machine.root()), before, "another board does");
    let pi = |serial: &str| {
        Machine::new(&[("proc/cpuinfo", &format!("processor\t: 0\n\nSerial\t\t: {serial}\nModel\t: Pi\n"))])
    };
    assert_ne!(fingerprint(&pi("10000000abcdef01").root()), fingerprint(&pi("10000000abcdef02").root()));
    assert_eq!(fingerprint(&pi("0000000000000000").root()), "none");
    assert_eq!(
        fingerprint(&Machine::new(&[("sys/class/dmi/id/board_serial", "To be filled by O.E.M.")]).root()),
        "none"
    );
}

#[test]
fn without_a_board_identity_fixed_adapters_count_and_others_do_not() {
    let machine = Machine::new(&[("etc/machine-id", "0123456789abcdef0123456789abcdef")]);
    let installed = fingerprint(&machine.root());
    assert!(installed.starts_with("machine-"), "{installed}");
    machine.adapter("usb0", "usb", "00:11:22:33:44:01", "0");
    machine.adapter("wlan0", "platform", "00:11:22:33:44:02", "1");
    machine.put("sys/class/net/docker0/address", "00:11:22:33:44:03");
    machine.put("sys/class/net/lo/address", "00:00:00:00:00:00");
    assert_eq!(fingerprint(&machine.root()), installed);
    machine.adapter("eth0", "pci", "00:11:22:33:44:55", "0");
    let with_card = fingerprint(&machine.root());
    assert!(with_card.starts_with("nic-"), "{with_card}");
    assert_eq!(fingerprint(&machine.root()), with_card);
}

#[test]
fn the_boot_id_is_the_kernels_or_new() {
    let path = "proc/sys/kernel/random/boot_id";
    let machine = Machine::new(&[(path, "72D2AA98-d3d0-45f8-86bc-2e53c7bcd504\n")]);
    assert_eq!(boot_id(&machine.root()), "72d2aa98-d3d0-45f8-86bc-2e53c7bcd504");
    machine.put(path, "garbage");
    assert_ne!(boot_id(&machine.root()), boot_id(&machine.root()));
}

#[test]
fn the_inventory_knows_this_machine() {
    let facts = inventory(&HostRoot::default());
    for key in ["os.type", "os.name", "os.kernel", "host.arch", "host.cpu.logical_count", "host.memory"] {
        assert!(facts.get(key).is_some_and(|fact| !fact.is_empty()), "{key}: {facts:?}");
    }
    let pi = Machine::new(&[("sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.4\0")]);
    assert_eq!(inventory(&pi.root())["host.model"], "Raspberry Pi 4 Model B Rev 1.4");
}

#[test]
fn the_inventory_of_a_mounted_host_names_that_host() {
    let host = Machine::new(&[
        ("etc/os-release", "PRETTY_NAME=\"x\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\n"),
        ("etc/hostname", "edge-01\n"),
    ]);
    let facts = inventory(&host.root());
    assert_eq!((&*facts["os.name"], &*facts["os.version"]), ("Debian GNU/Linux", "12"));
    assert_eq!(facts["host.name"], "edge-01");
    assert!(!inventory(&Machine::new(&[]).root()).contains_key("host.name"), "the container's name is not the host's");
}
