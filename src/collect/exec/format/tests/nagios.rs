use super::*;

fn plugin(text: &str, exit: i32) -> Vec<Point> {
    let output = Output { whole: exit == 0, exit: Some(exit), ..output(text.as_bytes()) };
    read_output(&output, "nagios")
}

fn state(state: i32, text: &str) -> String {
    format!("nagios_state{{collector=demo}} service_output={text:?},state={state}")
}

#[test]
fn state_text_and_performance_data_have_telegrafs_names() {
    let text = "PING OK - Packet loss = 0%, RTA = 0.30 ms|rta=0.298000ms;4000.000000;6000.000000;0.000000 pl=0%;80;90;0;100\n\
                This is a long output\nwith three lines\n";
    assert_eq!(
        shown(&plugin(text, 0)),
        [
            "nagios_state{collector=demo} long_service_output=\"This is a long output\\nwith three lines\",\
             service_output=\"PING OK - Packet loss = 0%, RTA = 0.30 ms\",state=0",
            "nagios{collector=demo,perfdata=rta,unit=ms} critical_gt=6000.0,critical_lt=0.0,min=0.0,value=0.298,\
             warning_gt=4000.0,warning_lt=0.0",
            "nagios{collector=demo,perfdata=pl,unit=%} critical_gt=90.0,critical_lt=0.0,max=100.0,min=0.0,value=0.0,\
             warning_gt=80.0,warning_lt=0.0",
        ]
    );
}

/// The example of the plugin interface's documentation.
#[test]
fn data_may_follow_in_further_lines() {
    let text = "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n/ 15272 MB (77%);\n/boot 68 MB (69%);\n\
                /home 69357 MB (27%);\n/var/log 819 MB (84%); | /boot=68MB;88;93;0;98\n\
                /home=69357MB;253404;253409;0;253414\n/var/log=818MB;970;975;0;980\n";
    let points = plugin(text, 1);
    let tags: Vec<_> = points.iter().filter_map(|p| p.tags.get("perfdata").map(|tag| &**tag)).collect();
    assert_eq!(tags, ["/", "/boot", "/home", "/var/log"]);
    assert_eq!(points[0].fields["state"], Value::Int(1));
    assert_eq!(points[0].fields["service_output"], Value::Str("DISK OK - free space: / 3326 MB (56%);".into()));
    let long = "/ 15272 MB (77%);\n/boot 68 MB (69%);\n/home 69357 MB (27%);\n/var/log 819 MB (84%);";
    assert_eq!(points[0].fields["long_service_output"], Value::Str(long.into()));
    // As Icinga's plugins do it: text and data in each line.
    let points = plugin("OK\nfirst | a=1\nsecond | b=2\n", 0);
    assert_eq!(points[0].fields["long_service_output"], Value::Str("first\nsecond".into()));
    assert_eq!(
        shown(&points)[1..],
        ["nagios{collector=demo,perfdata=a} value=1.0", "nagios{collector=demo,perfdata=b} value=2.0"]
    );
}

#[test]
fn performance_data_is_read_as_the_guidelines_and_plugins_have_it() {
    let cases = [
        ("time=0.008457s;;;0.000000;10.000000", "perfdata=time,unit=s} max=10.0,min=0.0,value=0.008457"),
        (
            "'load1'=0.00;~:4;@0:6;0;",
            "perfdata=load1} critical_ge=6.0,critical_le=0.0,min=0.0,value=0.0,warning_gt=4.0",
        ),
        ("x=5;10:;@10:20", "perfdata=x} critical_ge=20.0,critical_le=10.0,value=5.0,warning_lt=10.0"),
        ("x=5;-10:-5;:7", "perfdata=x} critical_gt=7.0,critical_lt=0.0,value=5.0,warning_gt=-5.0,warning_lt=-10.0"),
        (
            "x=5;80%;90%;0",
            "perfdata=x} critical_gt=90.0,critical_lt=0.0,min=0.0,value=5.0,warning_gt=80.0,warning_lt=0.0",
        ),
        ("'it''s = 1'=-1.5e3c;;;;;", "perfdata=it's = 1,unit=c} value=-1500.0"),
        ("C:\\ Label=5EB", "perfdata=C:\\ Label,unit=EB} value=5.0"),
        ("t=.5°C", "perfdata=t,unit=°C} value=0.5"),
        ("\u{fffd}=1", "perfdata=\u{fffd}} value=1.0"),
    ];
    for (data, expected) in cases {
        let points = plugin(&format!("OK | {data}"), 0);
        assert_eq!(shown(&points), [state(0, "OK"), format!("nagios{{collector=demo,{expected}")], "{data}");
        assert!(points.iter().all(|p| p.error.is_none()), "{data}: {points:?}");
    }
    assert_eq!(shown(&plugin("OK - a | b\nc | d", 0)).len(), 1, "a `|` with no `=` behind it is text");
    assert_eq!(shown(&plugin("OK - a | b\n", 0)), [state(0, "OK - a | b")]);
    assert_eq!(shown(&plugin("OK |\n", 0)), [state(0, "OK")]);
    // A value that could not be had is none.
    assert_eq!(shown(&plugin("OK | a=U b=;1;2 c=3", 0))[1..], ["nagios{collector=demo,perfdata=c} value=3.0"]);
}

#[test]
fn bad_performance_data_costs_itself_and_is_told() {
    let cases = [
        ("junk", "performance data is `label=value", 2),
        ("=3", "performance data without a label", 2),
        ("x=abc", "the value of `x` is no number", 2),
        ("x=0,5", "the value of `x` is no number", 2),
        ("x=1.2.3", "the value of `x` is no number", 2),
        ("x=1;2;3;4;5;6", "more than a value and four limits", 2),
        ("'open=1", "performance data is `label=value", 2),
        ("x=1e999", "the value of `x` is no number", 2),
        ("x=1;a:b", "a threshold of `x` is no range", 3),
        ("x=1;~:", "a threshold of `x` is no range", 3),
        ("x=1;;;low", "the min of `x` is no number", 3),
    ];
    for (data, reason, records) in cases {
        let points = plugin(&format!("OK | good=1 {data}"), 0);
        assert_eq!(good(&points).len(), records, "{data}: {points:?}");
        let error = only_error(&points);
        assert!(error.kind == ErrorKind::Parse && error.message.contains(reason), "{data}: {}", error.message);
    }
}

#[test]
fn the_state_is_never_lost() {
    assert_eq!(shown(&plugin("", 2)), [state(2, "")]);
    assert_eq!(shown(&plugin("no line feed", 1)), [state(1, "no line feed")]);
    for exit in [Some(4), Some(127), Some(255), None] {
        let output = Output { whole: false, exit, ..output(b"what\nit sa") };
        assert_eq!(read_output(&output, "nagios")[0].fields["state"], Value::Int(3), "{exit:?}");
    }
    // Bytes that are no text, controls, and more than fits.
    let points = plugin("CRITICAL \u{1b}[31m\0", 2);
    assert_eq!(points[0].fields["service_output"], Value::Str("CRITICAL \u{fffd}[31m\u{fffd}".into()));
    let latin = Output { exit: Some(1), whole: false, ..output(b"WARNING - \xfcber | a=1\n") };
    assert_eq!(shown(&read_output(&latin, "nagios"))[0], state(1, "WARNING - \u{fffd}ber"));
    let long = format!("{}\n{}", "é".repeat(5000), "long\n".repeat(100_000));
    let points = plugin(&long, 2);
    assert_eq!((points.len(), &points[0].error), (1, &None));
    let Value::Str(text) = &points[0].fields["long_service_output"] else { panic!("a text") };
    assert!(text.ends_with("...") && text.len() <= 8 << 10);
}

#[test]
fn a_plugin_is_known_by_its_name_its_folder_its_data_or_a_status_that_its_exit_code_confirms() {
    let told = |text: &str, exit: Option<i32>, program: &str| {
        told_of(&Output { whole: exit == Some(0), exit, program, stdout: text.as_bytes() })
    };
    let refused = "connect to address 127.0.0.1 and port 1: Connection refused\n";
    assert_eq!(told(refused, Some(2), "/usr/lib/nagios/plugins/check_tcp"), "nagios");
    assert_eq!(told(refused, Some(2), "check_tcp"), "nagios");
    assert_eq!(told(refused, Some(2), "/opt/monitoring-plugins/tcp"), "nagios");
    assert_eq!(told(refused, Some(2), "/opt/tcp"), "nothing");
    assert_eq!(told(refused, None, "check_tcp"), "nagios");
    assert_eq!(told("5\n", Some(2), "check_x"), "nagios");
    assert_eq!(told("up 5\n", Some(0), "check_x"), "nagios");
    assert_eq!(told("HTTP CRITICAL - no\n", Some(2), "sudo"), "nagios");
    assert_eq!(told("HTTP CRITICAL - no\n", Some(1), "sudo"), "nothing");
    assert_eq!(told("HTTP CRITICAL - no\n", Some(127), "sudo"), "nothing");
    assert_eq!(told("this is a text with the word OK\n", Some(0), "sudo"), "nothing");
    assert_eq!(told("anything | time=5s;1;2\n", Some(1), "sudo"), "nagios");
    assert_eq!(told("anything | time=5s;1;2\n", Some(9), "sudo"), "nothing");
    // What is another format beyond doubt is that.
    assert_eq!(told("# TYPE a gauge\na 1\n", Some(0), "check_x"), "prometheus");
    assert_eq!(told("a x=1\n", Some(0), "check_x"), "influx");
    assert_eq!(told("{\"a\":1}\n", Some(0), "check_x"), "json");
}
