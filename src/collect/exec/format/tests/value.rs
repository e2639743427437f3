use super::*;

#[test]
fn one_value_is_one_field() {
    for (text, expected) in [
        ("42\n", "demo{} value=42"),
        ("-0.5", "demo{} value=-0.5"),
        ("\n +1e3 \n", "demo{} value=1000.0"),
        ("18446744073709551615", "demo{} value=1.8446744073709552e19"),
        ("true", "demo{} value=true"),
        ("False", "demo{} value=false"),
    ] {
        assert_eq!(shown(&read(text, "auto")), [expected]);
        assert_eq!(shown(&read(text, "value")), [expected]);
    }
}

#[test]
fn text_is_a_value_only_where_it_is_asked_for_and_never_changes_the_type_of_value() {
    assert_eq!(shown(&read("active (running)\n", "value")), ["demo{} text=\"active (running)\""]);
    assert_eq!(told("active"), "nothing");
    for (text, reason) in [
        ("NaN", "line 1: no finite number: `NaN`"),
        ("-inf", "line 1: no finite number"),
        ("1e999", "line 1: no finite number"),
        ("1\n\n2", "line 3: one line with one value was expected"),
    ] {
        let points = read(text, "value");
        assert_eq!(points.len(), 1);
        assert!(only_error(&points).message.starts_with(reason), "{points:?}");
    }
    assert_eq!(read(" \n", "value"), vec![]);
}
