use std::time::Duration;

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::connect::{duration, password};
use super::*;
use crate::hub::filter::Filter;
use crate::hub::observer::Observer;
use crate::hub::summary::{Run, Summary};
use crate::hub::tail::{Options, Report};
use crate::uplink::transport::tls::{Roots, TlsFiles};

fn tail(args: &[&str]) -> Result<TailArgs, clap::Error> {
    let words = ["holdover-hub", "tail"].iter().chain(args);
    Cli::try_parse_from(words).map(|cli| match cli.command {
        Command::Tail(args) => *args,
        other => panic!("{other:?}"),
    })
}

fn options(args: &[&str]) -> Result<Options, ArgsError> {
    tail(args).unwrap().options(0xabc, false)
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_broker_is_enough() {
    let options = options(&["--broker", "mqtts://broker.example"]).unwrap();
    assert_eq!(options.link.url.to_string(), "mqtts://broker.example:8883");
    assert_eq!(options.link.needed, ["v1/+/+/m/+", "v1/+/+/h", "v1/+/+/status"]);
    assert_eq!(options.link.wanted, ["v1/+/+/event"]);
    assert_eq!(options.link.client_id, "holdover-tail-0000000000000abc");
    assert_eq!(options.link.tls, TlsFiles { roots: Roots::System, identity: None });
    assert!(options.alone);
}

#[test]
fn data_is_shared_in_a_group_and_status_is_not() {
    let options = options(&["--broker", "mqtts://b", "--prefix", "acme/x", "--share", "g"]).unwrap();
    assert_eq!(options.link.needed, ["$share/g/acme/x/v1/+/+/m/+", "$share/g/acme/x/v1/+/+/h", "acme/x/v1/+/+/status"]);
    assert!(!options.alone);
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    for (args, expected) in [
        (&[] as &[&str], "no broker given"),
        (&["--broker", "broker.example"], "--broker: "),
        (&["--broker", "mqtts://b:80"], "--broker: broker port 80"),
        (&["--broker", "mqtt://b"], "--broker: clear text"),
        (&["--broker", "mqtt://127.0.0.1"], "--broker: clear text"),
        (&["--broker", "mqtts://b", "--prefix", "a.b"], "--prefix: "),
        (&["--broker", "mqtts://b", "--prefix", "a/b/c/d"], "--prefix: "),
        (&["--broker", "mqtts://b", "--share", "g/h"], "--share: "),
        (&["--broker", "mqtts://b", "--cert", "c"], "--cert needs --key"),
        (&["--broker", "mqtts://b", "--key", "k"], "--key needs --cert"),
        (&["--broker", "mqtts://b", "--username", "u"], "--username needs --password-file"),
        (&["--broker", "mqtts://b", "--password-file", "/f"], "--password-file needs --username"),
    ] {
        let error = options(args).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{args:?}: {error}");
        assert_eq!(error.exit_code(), EXIT_USAGE);
    }
    assert!(options(&["--broker", "mqtt://127.0.0.1", "--allow-clear-text"]).is_ok());
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [
        &["--count", "0"] as &[&str],
        &["--count", "x"],
        &["--for", "ten minutes"],
        &["--for", "-5s"],
        &["--for", "0s"],
        &["--linger", "5s"],
        &["--lane", "fast"],
        &["--password", "secret"],
        &["--share", "g", "--fail-on-gap"],
    ] {
        let error = tail(args).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{args:?}");
    }
    assert_eq!(tail(&["--help"]).unwrap_err().kind(), ErrorKind::DisplayHelp);
}

#[test]
fn durations_are_written_as_people_do() {
    for (text, seconds) in [("30s", 30), ("10m", 600), ("1h30m", 5400), ("2 hours", 7200)] {
        assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
    }
    assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
}

#[test]
fn the_environment_stands_in_for_flags_and_not_over_them() {
    let env = |name: &str| match name {
        "HOLDOVER_HUB_BROKER" => Some("mqtts://env".to_owned()),
        "HOLDOVER_HUB_CA" => Some("/env/ca".to_owned()),
        "HOLDOVER_HUB_PREFIX" => Some(String::new()),
        _ => None,
    };
    let args = tail(&["--broker", "mqtts://flag"]).unwrap().with_env(env);
    let options = args.options(0, false).unwrap();
    assert_eq!(options.link.url.host(), "flag");
    assert_eq!(options.link.tls.roots, Roots::File("/env/ca".into()));
    assert_eq!(options.prefix, "");
}

#[test]
fn a_password_is_the_first_line_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let with = |content: &str| {
        std::fs::write(&path, content).unwrap();
        password(&path)
    };
    assert_eq!(with("secret\n").unwrap(), "secret");
    assert_eq!(with("secret\r\nmore").unwrap(), "secret");
    assert!(with("").unwrap_err().to_string().contains("first line is empty"));
    assert!(with(&"x".repeat(5000)).unwrap_err().to_string().contains("longer than"));
    let missing = password(&dir.path().join("none")).unwrap_err();
    assert_eq!(missing.exit_code(), EXIT_CONFIG);
    assert!(missing.to_string().contains("none"));
}

#[test]
fn only_fail_on_gap_turns_an_incomplete_account_into_a_failure() {
    let mut observer = Observer::new("", Filter::default(), true);
    observer.take("v1/a/b/h", b"bad", false, crate::clock::now());
    let report = Report { summary: Summary::of(&observer, Run::default()), reader_gone: false };
    assert_eq!(tail(&[]).unwrap().exit_code(&report), EXIT_OK);
    assert_eq!(tail(&["--fail-on-gap"]).unwrap().exit_code(&report), EXIT_FAILED);
    assert!(tail(&[]).unwrap().wants_summary(&report));
    assert!(!tail(&["-q"]).unwrap().wants_summary(&report));
}

#[test]
fn silence_does_not_pass_for_completeness() {
    let observer = Observer::new("", Filter::default(), true);
    let report = Report { summary: Summary::of(&observer, Run::default()), reader_gone: false };
    assert!(report.summary.text().contains("nothing was heard"), "{}", report.summary.text());
    assert_eq!(tail(&[]).unwrap().exit_code(&report), EXIT_OK);
    assert_eq!(tail(&["--fail-on-gap"]).unwrap().exit_code(&report), EXIT_FAILED);
}

fn ingest(args: &[&str]) -> Result<crate::hub::ingest::Options, ArgsError> {
    let words = ["holdover-hub", "ingest"].iter().chain(args);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Ingest(args) => args.options(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ingest_keeps_its_place_with_the_broker() {
    let options = ingest(&["--broker", "mqtts://b", "--hub", "h1", "--dir", "/d", "--prefix", "acme"]).unwrap();
    assert_eq!(options.link.client_id, "holdover-h1-w0");
    assert!(matches!(options.link.keeps, crate::hub::link::Keeps::Always(_)));
    assert_eq!(options.link.needed, ["acme/v1/+/+/m/+", "acme/v1/+/+/h", "acme/v1/+/+/status"]);
    assert_eq!(options.link.wanted, ["acme/v1/+/+/reply/h1"]);
    assert_eq!(options.link.presence.unwrap().as_str(), "acme/v1/_hubs/h1/w0/state");
}

#[test]
fn ingest_refuses_what_cannot_be() {
    let full = ["--broker", "mqtts://b", "--hub", "h", "--dir", "/d"];
    for (args, expected) in [
        (&full[..4], "--dir DIR is needed; give it or set HOLDOVER_HUB_DIR"),
        (&["--broker", "mqtts://b", "--dir", "/d"][..], "--hub NAME is needed"),
        (&["--broker", "mqtts://b", "--hub", "a.b", "--dir", "/d"][..], "--hub: "),
        (&[&full[..], &["--worker", ""]].concat()[..], "--worker: "),
        (&[&full[..], &["--sink", "oracle"]].concat()[..], "--sink: no sink is called \"oracle\"; there is: ndjson"),
    ] {
        let error = ingest(args).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{args:?}: {error}");
    }
    for flags in [["--file-age", "1 fortnight"], ["--housekeeping", "17 3 * *"], ["--file-mib", "0"]] {
        let words = ["holdover-hub", "ingest"].iter().chain(&full).chain(&flags).copied().collect::<Vec<_>>();
        assert_eq!(Cli::try_parse_from(words).map(|_| ()).unwrap_err().kind(), ErrorKind::ValueValidation, "{flags:?}");
    }
}

#[test]
fn seqs_to_resend_are_one_or_a_range() {
    let parse = |text: &str| Cli::try_parse_from(["holdover-hub", "resend", "h", text, "--dir", "/d"]).map(|_| ());
    assert!(parse("7").is_ok() && parse("1042-1100").is_ok());
    for bad in ["0", "9-3", "a-b", "3-", "-3"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_passes_by_itself_keeps_no_hub_down() {
    use std::path::PathBuf;

    use crate::hub::ingest::IngestError;
    use crate::hub::ledger::LedgerError;
    use crate::hub::sinks::SinkError;
    let path = || PathBuf::from("/d");
    let source = std::io::ErrorKind::StorageFull.into();
    let passing = [
        IngestError::Sink(SinkError { what: "cannot sync", path: path(), source }),
        IngestError::Ledger(LedgerError::Io { path: path(), source: std::io::ErrorKind::StorageFull.into() }),
        IngestError::Ledger(LedgerError::InUse(path())),
        IngestError::Dir { path: path(), source: std::io::Error::other("Input/output error") },
    ];
    passing.iter().for_each(|error| assert_eq!(error.exit_code(), EXIT_UNAVAILABLE, "{error}"));
    let lasting = [LedgerError::Newer(path(), 9), LedgerError::Damaged { path: path(), why: String::new() }];
    lasting.iter().for_each(|error| assert_eq!(error.exit_code(), EXIT_CONFIG, "{error}"));
    let source = std::io::ErrorKind::PermissionDenied.into();
    let unusable = IngestError::Unusable(Box::new(IngestError::Dir { path: path(), source }));
    assert_eq!(unusable.exit_code(), EXIT_CONFIG);
    assert!(unusable.to_string().contains("/d: permission denied; check that --dir"), "{unusable}");
}
