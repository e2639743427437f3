use super::*;

/// The example of Prometheus' documentation.
const EXAMPLE: &str = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file: \"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="1"} 133988
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320

# TYPE rpc summary
rpc{quantile="0.01",} 3102
rpc { quantile = "0.99" , } NaN
rpc_sum	1.7560473e+07
rpc_count 2693
"#;

#[test]
fn the_text_format_gives_a_record_per_family_and_labels() {
    assert_eq!(told(EXAMPLE), "prometheus");
    let points = read(EXAMPLE, "auto");
    assert!(points.iter().all(|p| p.error.is_none()), "{points:?}");
    assert_eq!(
        shown(&points),
        [
            "http_requests_total{code=200,method=post} counter=1027.0 @1395066363000",
            "http_requests_total{code=400,method=post} counter=3.0 @1395066363000",
            r#"msdos_file_access_time_seconds{error=Cannot find file: "FILE.TXT",path=C:\DIR\FILE.TXT} value=1458255915.0"#,
            "metric_without_timestamp_and_labels{} value=12.47",
            "http_request_duration_seconds{} +Inf=144320.0,0.05=24054.0,1=133988.0,count=144320.0,sum=53423.0",
            "rpc{} 0.01=3102.0,count=2693.0,sum=17560473.0",
        ]
    );
}

/// All types of OpenMetrics 1.0.
const OPEN: &str = r#"# TYPE acme_seconds summary
# UNIT acme_seconds seconds
# HELP acme_seconds Latency though all of ACME's "router".
acme_seconds_sum{path="/api/v1"} 9036.32
acme_seconds_count{path="/api/v1"} 807283.0
acme_seconds{path="/api/v1",quantile="0.5"} 1.29854
acme_seconds_created{path="/api/v1"} 1605281325.0
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 4.20072246e+06 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.7
process_cpu_seconds_created 1520430000.123 1520879607.789
# TYPE size_bytes histogram
size_bytes_bucket{le="100000.0"} 2 # {} 1
size_bytes_bucket{le="1000000.0"} 3
size_bytes_bucket{le="+Inf"} 4
size_bytes_count 4
size_bytes_sum 5e+06
# TYPE queue gaugehistogram
queue_bucket{le="0.00001"} 1
queue_bucket{le="+Inf"} 2
queue_gcount 2
queue_gsum -3
# TYPE mode stateset
mode{mode="idle",cpu="0"} 0
mode{mode="busy",cpu="0"} 1
# TYPE build info
build_info{version="1.2\n3"} 1
# TYPE odd unknown
odd{empty=""} -7.5
# EOF
"#;

#[test]
fn openmetrics_has_its_own_types_and_times_in_seconds() {
    assert_eq!(told(OPEN), "openmetrics");
    for format in ["auto", "openmetrics", "prometheus"] {
        let points = read(OPEN, format);
        assert!(points.iter().all(|p| p.error.is_none()), "{points:?}");
        assert_eq!(
            shown(&points),
            [
                "acme_seconds{path=/api/v1,unit=seconds} 0.5=1.29854,count=807283.0,created=1605281325.0,sum=9036.32",
                "process_cpu_seconds{} counter=4200722.46,created=1520430000.123 @1520879607789",
                "size_bytes{} +Inf=4.0,100000=2.0,1e+06=3.0,count=4.0,sum=5000000.0",
                "queue{} +Inf=2.0,1e-05=1.0,count=2.0,sum=-3.0",
                "mode{cpu=0} busy=true,idle=false",
                "build{version=1.2\u{fffd}3} value=1.0",
                "odd{} value=-7.5",
            ]
        );
    }
}

#[test]
fn names_in_quotes_are_read() {
    let text = "# TYPE \"my.metric\" gauge\n{\"my.metric\",\"a label\"=\"b\"} 1\nmine{\"x y\"=\"z\"} 2\n";
    assert_eq!(shown(&read(text, "auto")), ["my.metric{a label=b} gauge=1.0", "mine{x y=z} value=2.0"]);
}

#[test]
fn bad_lines_cost_themselves_and_say_what_is_wrong() {
    let cases = [
        ("a", "the value of `a` is no number"),
        ("a b", "the value of `a` is no number"),
        ("a 0x1p3", "the value of `a` is no number"),
        ("a 1_000", "the value of `a` is no number"),
        ("1a 5", "no name of a metric"),
        ("{} 5", "no name of a metric"),
        ("a 1 2.5", "`2.5` is no time in milliseconds"),
        ("a 1 2 3", "something stands behind the time"),
        ("a 1 # {} 1", "only OpenMetrics has exemplars"),
        ("a{b} 1", "label `b` has no value"),
        ("a{b=c} 1", "the value of label `b` is not in quotes"),
        ("a{b=\"c} 1", "the value of label `b` is not in quotes"),
        ("a{b=\"c\"", "`,` or `}` was expected"),
        ("a{b=\"c\" d=\"e\"} 1", "`,` or `}` was expected"),
        ("a{b=\"c\",b=\"d\"} 1", "label `b` is there twice"),
        ("a{b:c=\"d\"} 1", "label `b` has no value"),
        ("a{,} 1", "the name of a label was expected"),
        ("# TYPE a strange", "`strange` is no type"),
        ("# TYPE", "names no metric"),
        ("# TYPE h histogram", "a second `# TYPE`"),
        ("h 1", "only buckets, count and sum"),
        ("h_bucket 1", "`h` without the label `le`"),
        ("h_bucket{le=\"x\"} 1", "`x` is no bound"),
        ("h_bucket{le=\"1.0\"} 1", "twice"),
        ("ok 2", "twice"),
        ("late 1 9007199254740993", "time out of range"),
        ("# TYPE ok gauge", "or one behind its samples"),
        (
            &format!("a{{{}}} 1", (0..101).map(|i| format!("l{i}=\"\"")).collect::<Vec<_>>().join(",")),
            "more than 100 labels",
        ),
    ];
    for (line, reason) in cases {
        let text = format!("# TYPE h histogram\nh_bucket{{le=\"1\"}} 1\nok 1\n{line}\nafter 1\n");
        let points = read(&text, "prometheus");
        assert_eq!(good(&points), ["h", "ok", "after"], "{line}");
        let message = &only_error(&points).message;
        assert!(message.starts_with("line 4: ") && message.contains(reason), "{line}: {message}");
    }
}

#[test]
fn what_is_kept_in_mind_is_bounded() {
    let buckets: String = (0..300).map(|i| format!("h_bucket{{le=\"{i}\"}} 1\n")).collect();
    let points = read(&format!("# TYPE h histogram\n{buckets}ok 1\n"), "prometheus");
    assert_eq!(good(&points), ["h", "ok"]);
    assert_eq!(points[0].fields.len(), 256);
    assert!(only_error(&points).message.starts_with("line 258: more than 256 buckets"), "{points:?}");
    let types: String = (0..5000).map(|i| format!("# TYPE m{i} gauge\n")).collect();
    let points = read(&format!("{types}m1 1\n"), "prometheus");
    assert_eq!(shown(&points), ["m1{} gauge=1.0"]);
    assert!(only_error(&points).message.starts_with("line 4001: more than 4000 metrics"), "{points:?}");
}

#[test]
fn an_openmetrics_text_has_an_end_and_nothing_behind_it() {
    let points = read("a 1 1.5\n# EOF\nb 2\n", "auto");
    assert_eq!(shown(&points), ["a{} value=1.0 @1500"]);
    assert!(only_error(&points).message.starts_with("line 3: after `# EOF`"));
    let points = read("a 1\n", "openmetrics");
    assert_eq!(good(&points), ["a"]);
    assert!(only_error(&points).message.starts_with("no `# EOF` at the end"));
    let killed = Output { whole: false, exit: None, ..output(b"a 1\n") };
    assert!(read_output(&killed, "openmetrics").iter().all(|p| p.error.is_none()), "its failure is told already");
    for (line, reason) in [
        ("m{m=\"x\"} 2", "a state is 0 or 1"),
        ("m 1", "`m` without the label `m`"),
        ("i 1", "must be called `i_info`"),
        ("a 1 # x", "an exemplar begins with `{`"),
        ("a 1 # {} x", "the value of the exemplar is no number"),
        ("a 1 # {} 1 x", "the time of the exemplar"),
        ("a 1 nan", "`nan` is no time in seconds"),
    ] {
        let points = read(&format!("# TYPE m stateset\n# TYPE i info\n{line}\n# EOF\n"), "openmetrics");
        let message = &only_error(&points).message;
        assert!(points.len() == 1 && message.contains(reason), "{line}: {message}");
    }
}

#[test]
fn values_that_are_none_are_left_out_and_no_error() {
    assert_eq!(read("a NaN\nb +Inf\nc -inf\nd nan 5\n", "prometheus"), vec![]);
}

#[test]
fn bounds_are_called_as_go_prints_them() {
    for (bound, name) in [
        ("0.005", "0.005"),
        ("1", "1"),
        ("2.50", "2.5"),
        ("100000", "100000"),
        ("1000000", "1e+06"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("1234567", "1.234567e+06"),
        ("-5", "-5"),
        ("1e100", "1e+100"),
        ("+Inf", "+Inf"),
        ("0", "0"),
    ] {
        let points = read(&format!("# TYPE h histogram\nh_bucket{{le=\"{bound}\"}} 1\n"), "prometheus");
        assert_eq!(shown(&points), [format!("h{{}} {name}=1.0")]);
    }
}
