use super::*;

#[test]
fn escapes_types_and_times() {
    let line =
        r#"my\ meas\,ure,ta\=g=va\,lue,k=a\b f\ 1=1i,u=7u,x=-1.5e3,t=T,s="a \"q\" \\ , = x\y" 1700000000123456789"#;
    let points = read(line, "auto");
    let point = &points[0];
    assert_eq!(point.error, None);
    assert_eq!((point.name.as_ref(), point.ts), ("my meas,ure", 1_700_000_000_123));
    assert_eq!(point.tags["ta=g"], "va,lue");
    assert_eq!(point.tags["k"], r"a\b");
    assert_eq!(point.fields["f 1"], Value::Int(1));
    assert_eq!(point.fields["u"], Value::Int(7));
    assert_eq!(point.fields["x"], Value::Float(-1500.0));
    assert_eq!(point.fields["t"], Value::Bool(true));
    assert_eq!(point.fields["s"], Value::Str(r#"a "q" \ , = x\y"#.into()));
    assert_eq!(read("a x=1 -1", "auto")[0].ts, -1);
    assert_eq!(read("a x=9223372036854775807i", "auto")[0].fields["x"], Value::Float(i64::MAX as f64));
}

#[test]
fn bad_lines_say_what_is_wrong() {
    let cases = [
        ("a", "no field"),
        (",t=1 x=1", "no measurement"),
        ("a,t x=1", "tag `t` has no value"),
        ("a,t= x=1", "tag `t` has an empty value"),
        ("a,t=b=c x=1", "must be written"),
        ("a x", "field `x` has no value"),
        ("a x=", "the value of field `x`"),
        ("a x=nan", "the value of field `x`"),
        ("a x=inf", "the value of field `x`"),
        ("a x=1i2", "the value of field `x`"),
        ("a x=\"open", "the value of field `x`"),
        ("a x=\"s\"y", "the value of field `x`"),
        ("a x=1 y=2", "`y=2` is no time"),
        ("a x=1 99999999999999999999", "is no time"),
        ("a =1", "empty field"),
    ];
    for (line, reason) in cases {
        for format in ["influx", "auto"] {
            let points = read(&format!("ok x=1\n{line}\nafter x=1"), format);
            assert_eq!(good(&points), ["ok", "after"]);
            let message = &only_error(&points).message;
            assert!(message.starts_with("line 2: ") && message.contains(reason), "{line}: {message}");
        }
    }
}

/// A writer by the specification. A backslash before what must be escaped cannot be written in names.
fn written(point: &Point) -> String {
    let escape = |text: &str, stops: &[char]| {
        text.chars().flat_map(|c| [Some('\\').filter(|_| stops.contains(&c)), Some(c)]).flatten().collect::<String>()
    };
    let mut line = escape(&point.name, &[',', ' ']);
    for (name, value) in &point.tags {
        line += &format!(",{}={}", escape(name, &[',', ' ', '=']), escape(value, &[',', ' ', '=']));
    }
    for (at, (name, value)) in point.fields.iter().enumerate() {
        line.push(if at == 0 { ' ' } else { ',' });
        let value = match value {
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => format!("{n}i"),
            Value::Float(x) => format!("{x:?}"),
            Value::Str(s) => format!("\"{}\"", escape(s, &['"', '\\'])),
        };
        line += &format!("{}={value}", escape(name, &[',', ' ', '=']));
    }
    format!("{line} {}", i128::from(point.ts) * 1_000_000)
}

fn value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::int),
        (-1e300f64..1e300).prop_map(Value::Float),
        "[^\\p{Cc}]{0,40}".prop_map(Value::Str),
    ]
}

proptest::proptest! {
    #[test]
    fn what_is_written_by_the_specification_is_read_back(
        name in "[a-zé,= _.:/-]{1,20}x",
        tags in proptest::collection::btree_map("x[a-zé,= \"_.-]{0,10}x", "[a-zé,= \"_.{}]{0,10}x", 0..5),
        fields in proptest::collection::btree_map("x[a-zé,= \"#_.-]{0,10}x", value(), 1..9),
        ts in -9_000_000_000_000i64..9_000_000_000_000,
    ) {
        let mut point = Point {
            name: format!("x{name}").into(),
            tags: tags.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            fields: fields.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            ts,
            ..DEFAULTS.point()
        };
        DEFAULTS.place(&mut point);
        for format in ["influx", "auto"] {
            proptest::prop_assert_eq!(read(&written(&point), format), vec![point.clone()]);
        }
    }
}
