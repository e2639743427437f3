use super::*;

#[test]
fn lines_of_our_own_say_what_is_wrong_with_them() {
    let cases = [
        ("{\"fields\":{}}", "no field"),
        ("{\"field\":{\"a\":1}}", "unknown field `field`"),
        ("{\"fields\":{\"a\":[1]}}", "`a`: invalid type: sequence, expected a boolean, a number or a text"),
        ("{\"fields\":{\"a\":1e999}}", "number out of range"),
        ("{\"tags\":{\"a\":1},\"fields\":{\"a\":1}}", "expected a string"),
        ("{\"status\":\"ok\",\"error\":{\"kind\":\"exit\",\"message\":\"\"}}", "beside"),
        ("{\"fields\":{\"a\":1}", "EOF"),
        ("{\"fields\":{\"a\":1},\"ts\":9007199254740993}", "time out of range"),
        ("{\"fields\":{\"a\":{}}}", "`a`: invalid type: map"),
        (
            &format!("{{\"fields\":{{{}}}}}", (0..257).map(|i| format!("\"k{i}\":1")).collect::<Vec<_>>().join(",")),
            "more than 256",
        ),
        ("{\"seq\":5,\"fields\":{\"a\":1}}", "unknown field `seq`"),
    ];
    for (line, reason) in cases {
        let points = read(line, "ndjson");
        assert!(only_error(&points).message.contains(reason), "{line}: {points:?}");
    }
}

#[test]
fn documents_are_flattened_as_telegraf_does() {
    let text = r#"{
        "a": 5, "b": {"c": 6, "d": {"e": -1.5}}, "on": true, "s": "text", "none": null, "empty": {}, "list": [],
        "l": [1, {"x": 2}, [3], null, "four"], "big": 9007199254740993, "huge": 1e300, "u": 18446744073709551615
    }"#;
    let expected = "demo{} a=5,b_c=6,b_d_e=-1.5,big=9007199254740992.0,huge=1e300,l_0=1,l_1_x=2,l_2_0=3,l_4=\"four\",\
                    on=true,s=\"text\",u=1.8446744073709552e19";
    assert_eq!(shown(&read(text, "auto")), [expected]);
    assert!(read(text, "auto").iter().all(|p| p.error.is_none()));
}

#[test]
fn lists_of_objects_and_documents_in_a_row_are_records() {
    assert_eq!(shown(&read("[{\"a\":1},\n{\"a\":{\"b\":2}}]", "auto")), ["demo{} a=1", "demo{} a_b=2"]);
    assert_eq!(shown(&read("{\"a\":1}\n{\"a\":2} {\"a\":3}[{\"a\":4}]", "auto")).len(), 4);
    assert_eq!(read("[]", "auto"), vec![]);
}

#[test]
fn a_record_that_cannot_be_one_costs_itself() {
    let cases = [
        ("7", "record 2: no object"),
        ("null", "record 2: no object"),
        ("\"text\"", "record 2: no object"),
        ("[1]", "record 2: no object but a list"),
        ("{}", "record 2: no field"),
        ("{\"a\":null}", "record 2: no field"),
        ("{\"a\":1,\"a\":2}", "record 2: two values for the field `a`"),
        ("{\"a\":{\"b\":1},\"a_b\":2}", "record 2: two values for the field `a_b`"),
        ("{\"\":1}", "record 2: empty field"),
        ("{\"a\\u0000\":1}", "record 2: control character in a field"),
        (&format!("{{\"{}\":1}}", "k".repeat(129)), "longer than 128 bytes"),
        (&format!("{{\"a\":{}1{}}}", "[".repeat(17), "]".repeat(17)), "record 2: nested deeper than 16"),
    ];
    for (element, reason) in cases {
        let points = read(&format!("[{{\"a\":1}},{element},{{\"a\":3}}]"), "auto");
        assert_eq!(shown(&points), ["demo{} a=1", "demo{} a=3"], "{element}");
        assert!(only_error(&points).message.contains(reason), "{element}: {points:?}");
    }
    let many = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("\"k{i}\":1")).collect::<Vec<_>>().join(","));
    assert_eq!(good(&read(&many(256), "auto")).len(), 1);
    assert!(only_error(&read(&many(257), "auto")).message.contains("more than 256 fields"));
    let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(100_000));
    assert!(only_error(&read(&wide, "auto")).message.contains("more than 256 fields"));
    assert!(good(&read(&format!("{{\"a\":{}1{}}}", "[".repeat(15), "]".repeat(15)), "auto")).len() == 1);
}

#[test]
fn broken_json_says_where_and_keeps_what_came_before() {
    for (text, records, place) in [
        ("{\"a\":1}\n{\"a\":2,}\n{\"a\":3}", 1, "line 2 column 8"),
        ("{\"a\":", 0, "EOF while parsing a value at line 1 column 5"),
        ("{fields:{a:1}}", 0, "key must be a string at line 1 column 2"),
        ("[{\"a\":1}", 0, "EOF"),
        ("{\"a\":1} trailing", 1, "line 1 column 1"),
        ("{\"a\":1e999}", 0, "number out of range"),
    ] {
        let points = read(text, "json");
        assert_eq!(good(&points).len(), records, "{text}");
        let message = &only_error(&points).message;
        assert!(message.starts_with("JSON: ") && message.contains(place), "{text}: {message}");
    }
    let points = read_output(&output(b"{\"a\":\"\xff\"}"), "auto");
    assert!(only_error(&points).message.contains("unicode"), "{points:?}");
    // One that was killed half-way is told of by its own record.
    let killed = Output { whole: false, exit: None, ..output(b"{\"a\":1}\n{\"a\":\n") };
    assert_eq!(shown(&read_output(&killed, "json")), ["demo{} a=1"]);
    assert!(read_output(&killed, "json").iter().all(|p| p.error.is_none()));
}

#[test]
fn escape_codes_and_controls_in_text_are_made_harmless() {
    assert_eq!(
        read("{\"a\":\"x\\u001b[31m\\u0000\\ny\"}", "auto")[0].fields["a"],
        Value::Str("x\u{fffd}[31m\u{fffd}\ny".into())
    );
}
