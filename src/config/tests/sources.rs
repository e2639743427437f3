use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::{Config, Origin, Sources};
use super::*;

/// A folder with a main file, and files in conf.d.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(main: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.main(), main).unwrap();
        folder
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("holdover.toml")
    }

    fn conf_d(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let folder = self.0.path().join("conf.d");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
        self
    }

    fn load(&self) -> Result<Checked, Rejected> {
        self.load_with(&[])
    }

    fn load_with(&self, env: &[(String, String)]) -> Result<Checked, Rejected> {
        Config::load(&Sources { file: Some(self.main()), conf_d: None }, &around(env))
    }
}

#[test]
fn later_sources_win_value_by_value() {
    let folder = Folder::new(&format!("{BROKER}keep_alive = \"10s\"\n[log]\nlevel = \"warn\"\n[host]\nsite = \"a\"\n"));
    folder.conf_d("20.toml", "[log]\nlevel = \"debug\"\n[host]\nsite = \"c\"\n");
    folder.conf_d("10.toml", "[log]\nlevel = \"error\"\nformat = \"json\"\n[host]\nsite = \"b\"\n");
    let checked =
        folder.load_with(&env(&[("HOLDOVER__HOST__SITE", "d"), ("HOLDOVER_OTHER", "x"), ("PATH", "/bin")])).unwrap();
    assert_eq!((checked.config.log.level.as_str(), checked.config.host.site.as_str()), ("debug", "d"));
    assert_eq!(checked.config.broker.keep_alive, Duration::from_secs(10));
    assert!(checked.origin_of("log.level").to_string().ends_with("20.toml:2:9"));
    assert!(checked.origin_of("log.format").to_string().ends_with("10.toml:3:10"));
    assert_eq!(checked.origin_of("host.site"), Origin::Env("HOLDOVER__HOST__SITE".into()));
}

#[test]
fn collectors_of_all_files_add_up() {
    let folder = Folder::new(&format!("{BROKER}[[collector]]\nname = \"u\"\nuse = \"memory\"\n"));
    folder.conf_d("a.toml", "[[collector]]\nname = \"more\"\nuse = \"cpu\"\n");
    let checked = folder.load().unwrap();
    let names: Vec<&str> = checked.config.collectors.iter().map(|collector| &*collector.name).collect();
    assert_eq!(names[names.len() - 2..], ["u", "more"]);
    folder.conf_d("b.toml", "[[collector]]\nname = \"more\"\nuse = \"cpu\"\n");
    let message = error(folder.load());
    assert!(message.contains("b.toml:1:1: error: collector \"more\" is configured twice"), "{message}");
    assert!(message.contains("a.toml:1:1"), "{message}");
}

#[test]
fn only_toml_files_of_conf_d_are_read() {
    let folder = Folder::new(BROKER);
    for name in ["x.toml~", ".x.toml", "x.toml.swp", "README", "x.bak"] {
        folder.conf_d(name, "not toml at all [[[");
    }
    assert!(folder.load().is_ok());
}

#[test]
fn named_conf_d_must_be_there() {
    let folder = Folder::new(&format!("{BROKER}[agent]\nconf_d = \"more\"\n"));
    assert!(error(folder.load()).contains("cannot list"));
    fs::create_dir(folder.0.path().join("more")).unwrap();
    fs::write(folder.0.path().join("more/a.toml"), "[host]\nsite = \"m\"\n").unwrap();
    folder.conf_d("ignored.toml", "[host]\nsite = \"x\"\n");
    assert_eq!(folder.load().unwrap().config.host.site, "m");
    let given = Sources { file: Some(folder.main()), conf_d: Some(folder.0.path().join("conf.d")) };
    assert_eq!(Config::load(&given, &around(&[])).unwrap().config.host.site, "x");
    let missing = Sources { file: Some(folder.main()), conf_d: Some(folder.0.path().join("nowhere")) };
    assert!(error(Config::load(&missing, &around(&[]))).contains("nowhere: No such file"));
}

#[test]
fn environment_alone_suffices_and_knows_types() {
    let vars = env(&[
        ("HOLDOVER__BROKER__URLS", "mqtts://a, mqtts://b:1"),
        ("HOLDOVER__AGENT__DEFAULT_COLLECTORS", "false"),
        ("HOLDOVER__UPLINK__IN_FLIGHT", "4"),
        ("HOLDOVER__OUTBOX__MAX_BYTES", "32MiB"),
        ("HOLDOVER__AGENT__MAX_CPU", "7"),
        ("HOLDOVER__AGENT__SHED", "cpu, load"),
    ]);
    let config = Config::load(&Sources::default(), &around(&vars)).unwrap().config;
    assert_eq!((config.broker.urls.len(), config.uplink.in_flight, config.outbox.max_bytes), (2, 4, 32 << 20));
    assert!(config.collectors.is_empty());
    assert_eq!((config.agent.limits.max_cpu, config.agent.limits.shed), (7, vec!["cpu".to_owned(), "load".to_owned()]));
}

#[test]
fn bad_variables_are_named() {
    for (name, value, expected) in [
        ("HOLDOVER__BROKER__URRL", "x", "unknown key broker.urrl\n  hint: did you mean url?"),
        ("HOLDOVER__BROKR__URL", "x", "unknown section brokr"),
        ("HOLDOVER__BROKER", "x", "does not name one section and one key"),
        ("HOLDOVER__A__B__C", "x", "does not name one section and one key"),
        ("HOLDOVER__", "x", "does not name one section and one key"),
        ("HOLDOVER__COLLECTOR__NAME", "x", "collectors cannot be set"),
        ("HOLDOVER__UPLINK__IN_FLIGHT", "many", "\"many\" is no whole number"),
        ("HOLDOVER__UPLINK__IN_FLIGHT", "1", "1 is outside"),
        ("HOLDOVER__AGENT__DEFAULT_COLLECTORS", "ja", "neither true nor false"),
        ("HOLDOVER__OUTBOX__DIR", "relative", "only absolute paths"),
        ("HOLDOVER__BROKER__KEEP_ALIVE", "30", "not a duration"),
    ] {
        let vars = env(&[(name, value)]);
        let message = error(
            Config::parse(Path::new("/h.toml"), BROKER, &around(&[]))
                .and_then(|_| Folder::new(BROKER).load_with(&vars)),
        );
        assert!(message.starts_with(&format!("environment {name}: error: ")), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn half_written_file_is_named_and_nothing_misleading_is_said() {
    let folder = Folder::new(BROKER);
    folder.conf_d("half.toml", "[[collector]]\nname = \"x\"\nexec = [\"/bin/tr");
    let message = error(folder.load());
    assert!(message.contains("half.toml:3:") && message.contains("not valid TOML"), "{message}");
    // A broken main file does not also lack its broker.
    fs::write(folder.main(), "[broker]\nurl = \"mqtts").unwrap();
    fs::remove_file(folder.0.path().join("conf.d/half.toml")).unwrap();
    let found = errors(folder.load());
    assert!(found.iter().all(|error| error.contains("holdover.toml:2:")), "{found:#?}");
}

#[test]
fn every_prefix_of_a_good_file_is_accepted_or_refused_with_a_place() {
    let text = format!(
        "{BROKER}keep_alive = \"10s\"\n\n[[collector]]\nname = \"memory\"\nparams = {{}}\n\n[log]\nlevel = \"warn\"\n"
    );
    for end in 0..text.len() {
        for error in errors(parse(&text[..end])) {
            let placed = error.starts_with("/etc/holdover/holdover.toml:") || error.contains("broker.url is missing");
            assert!(placed, "{end}: {error}");
        }
    }
}

#[test]
fn files_from_other_systems_are_read() {
    let bom = Folder::new(&format!("\u{feff}{BROKER}"));
    assert!(bom.load().unwrap().origin_of("broker.url").to_string().ends_with("holdover.toml:2:7"));
    let crlf = Folder::new(&BROKER.replace('\n', "\r\n"));
    assert!(crlf.load().is_ok());
    let bom_error = Folder::new("\u{feff}x = 1\n[broker]\nurl = \"mqtts://b\"\n");
    assert!(error(bom_error.load()).contains("holdover.toml:1:1: error: unknown key x"));
    let wide = Folder::new("[broker]\nurl = \"mqtts://b\" # \u{fc}\n[host]\nprefix = \"\u{fc}\u{fc}\" ; x\n");
    let message = error(wide.load());
    assert!(message.contains("holdover.toml:4:15: error: not valid TOML"), "columns count characters: {message}");
}

#[test]
fn empty_file_lacks_only_the_broker() {
    assert!(error(Folder::new("").load()).contains("broker.url is missing"));
    assert!(error(Folder::new("# nothing\n\n").load()).contains("broker.url is missing"));
}

#[test]
fn text_that_is_not_utf8_has_a_place() {
    let folder = Folder::new(BROKER);
    folder.conf_d("latin1.toml", b"[host]\nsite = \"K\xf6ln\"\n");
    let message = error(folder.load());
    assert!(message.contains("latin1.toml:2:10: error: not UTF-8 text\n  hint: save the file as UTF-8"), "{message}");
    let utf16: Vec<u8> = BROKER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(folder.0.path().join("conf.d/latin1.toml"), [&[0xff, 0xfe][..], &utf16].concat()).unwrap();
    assert!(error(folder.load()).contains("latin1.toml:1:1: error: not UTF-8"));
    fs::write(folder.0.path().join("conf.d/latin1.toml"), [0; 100]).unwrap();
    assert!(errors(folder.load())[0].contains("latin1.toml:1:1: error: not valid TOML"));
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = Folder::new(BROKER);
    let load = |path: &Path| error(Config::load(&Sources { file: Some(path.to_owned()), conf_d: None }, &around(&[])));
    assert!(
        load(Path::new("/nonexistent/holdover.toml")).contains("cannot read /nonexistent/holdover.toml: No such file")
    );
    assert!(load(folder.0.path()).contains("it is a directory"));
    // It would never end.
    assert!(load(Path::new("/dev/zero")).contains("not a regular file"));
    fs::create_dir_all(folder.0.path().join("conf.d/dir.toml")).unwrap();
    assert!(error(folder.load()).contains("dir.toml: it is a directory"));
}

#[test]
fn huge_file_is_refused_unread() {
    let folder = Folder::new(BROKER);
    folder.conf_d("huge.toml", vec![b'#'; 10 << 20]);
    let message = error(folder.load());
    assert!(message.contains("huge.toml: it is larger than 1MiB"), "{message}");
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("x = {}1{}", "{a = ".repeat(5_000), "}".repeat(5_000)),
        format!("[{}]", ["a"; 5_000].join(".")),
        format!("{} = 1", ["a"; 5_000].join(".")),
        format!("[host]\nid = {}{}", "[".repeat(20), "]".repeat(20)),
        "[host.a.b.c.d.e.f.g.h.i.j.k]\nx = 1\n".to_owned(),
    ] {
        let found = errors(parse(&format!("{text}\n{BROKER}")));
        assert!(!found.is_empty() && found.iter().all(|error| error.len() < 1_000), "{found:?}");
    }
}

#[test]
fn repeated_keys_are_refused_not_merged() {
    let message = error(parse("[broker]\nurl = \"mqtts://a\"\nurl = \"mqtts://b\"\n"));
    assert!(message.contains("toml:3:1: error: not valid TOML") && message.contains("duplicate key"), "{message}");
}

#[test]
fn file_that_everyone_may_write_is_a_warning() {
    let folder = Folder::new(BROKER);
    fs::set_permissions(folder.main(), fs::Permissions::from_mode(0o666)).unwrap();
    let found = warnings(&folder.load().unwrap());
    assert!(found[0].contains("every user of this host may change this file\n  hint: chmod o-w"), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_text_is_accepted_or_refused(text in "(\\[{1,2}(host|broker|collector|x)\\]{1,2}\n|(id|url|name|every|cron|x) = (\"[a-z:/0 *?]{0,12}\"|[0-9.e-]{1,6}|\\[|\\{\\}|true)\n|.{0,8}){0,12}") {
        if let Err(rejected) = parse(&text) {
            prop_assert!(rejected.errors().count() > 0);
        }
    }

    #[test]
    fn any_bytes_in_conf_d_are_accepted_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = Folder::new(BROKER);
        folder.conf_d("x.toml", &bytes);
        if let Err(rejected) = folder.load() {
            prop_assert!(rejected.to_string().contains("x.toml"), "{}", rejected);
        }
    }
}
