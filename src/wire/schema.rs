//! JSON Schema (draft 2020-12) of every payload, made from the types; `schemas/` holds the result.
//!
//! What the types cannot say (bounds, levels, the 53 bits, words yet to come) is added from one table.
//! Only with feature `schema`: no program carries it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use super::{
    Ack, Command, EVENT_NAME, Envelope, HubState, MAX_ACK_RANGES, MAX_ID, MAX_NAME, MAX_PENDING, MAX_PROBLEMS,
    MAX_STATUS_LOSSES, Meta, Offline, Reply, Status, VERSION,
};
use crate::record::MAX_INT;

/// Every payload's file stem and schema, in the order of the README.
pub fn schemas() -> Vec<(&'static str, Json)> {
    vec![
        ("envelope", schema_of::<Envelope>("Envelope", "One data message, live or history.")),
        ("event", event()),
        ("status", schema_of::<Status>("Status", "The heartbeat on the status topic.")),
        (
            "offline",
            schema_of::<Offline>("Offline", "The will on the status topic, and its last message after a clean stop."),
        ),
        ("meta", schema_of::<Meta>("Meta", "The retained description of what a host sends.")),
        ("cmd", schema_of::<Command>("Command", "A command to a host.")),
        ("reply", schema_of::<Reply>("Reply", "The answer to a command.")),
        ("ack", schema_of::<Ack>("Ack", "What one hub has committed of a host's epoch.")),
        ("hub-state", schema_of::<HubState>("HubState", "The state of one hub worker.")),
    ]
}

/// Of one type, with what the types cannot say.
pub fn schema_of<T: JsonSchema>(title: &str, description: &str) -> Json {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    schema["title"] = json!(title);
    schema["description"] = json!(description);
    bound_integers(&mut schema);
    tighten(title, &mut schema);
    if let Some(types) = schema.get_mut("$defs").and_then(Json::as_object_mut) {
        types.iter_mut().for_each(|(name, schema)| tighten(name, schema));
    }
    schema
}

/// An envelope of exactly one record of one name.
fn event() -> Json {
    let mut schema =
        schema_of::<Envelope>("Event", "A copy of one record named holdover.event, in an envelope of its own.");
    schema["properties"]["records"]["minItems"] = json!(1);
    schema["properties"]["records"]["maxItems"] = json!(1);
    schema["$defs"]["Record"]["properties"]["name"]["const"] = json!(EVENT_NAME);
    schema["required"].as_array_mut().expect("an envelope has required fields").push(json!("records"));
    schema
}

/// Whole numbers are below 2^53 on the wire, whatever the width of the type that holds them.
fn bound_integers(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(bound_integers),
        Json::Object(map) => {
            let format = map.get("format").and_then(Json::as_str).map(str::to_owned);
            match format.as_deref() {
                Some("uint64") => _ = map.insert("maximum".into(), json!(MAX_INT)),
                Some("int64") => map.extend([("minimum".into(), json!(-MAX_INT)), ("maximum".into(), json!(MAX_INT))]),
                _ => {}
            }
            if format.is_some_and(|f| f.contains("int") || f == "double") {
                map.remove("format");
            }
            map.values_mut().for_each(bound_integers);
        }
        _ => {}
    }
}

/// A level of a topic.
pub const LEVEL: &str = "^[A-Za-z0-9_-]+$";

/// What is added: (type, property, or "" for the type itself; keyword; value).
fn additions() -> Vec<(&'static str, &'static str, &'static str, Json)> {
    vec![
        ("Envelope", "host", "pattern", json!(LEVEL)),
        ("Envelope", "site", "pattern", json!(LEVEL)),
        ("Event", "host", "pattern", json!(LEVEL)),
        ("Event", "site", "pattern", json!(LEVEL)),
        ("Record", "seq", "minimum", json!(1)),
        ("Loss", "from", "minimum", json!(1)),
        ("Loss", "to", "minimum", json!(1)),
        ("Status", "host", "pattern", json!(LEVEL)),
        ("Status", "site", "pattern", json!(LEVEL)),
        ("Status", "state", "const", json!("online")),
        ("Status", "level", "enum", json!(["broker", "hub"])),
        ("Status", "pending", "maxItems", json!(MAX_PENDING)),
        ("Status", "losses", "maxItems", json!(MAX_STATUS_LOSSES)),
        ("Status", "problems", "maxItems", json!(MAX_PROBLEMS)),
        ("PendingRange", "from", "minimum", json!(1)),
        ("PendingRange", "to", "minimum", json!(1)),
        ("Offline", "state", "const", json!("offline")),
        ("Meta", "host", "pattern", json!(LEVEL)),
        ("Meta", "site", "pattern", json!(LEVEL)),
        ("Resend", "id", "maxLength", json!(MAX_ID)),
        ("Resend", "from", "minimum", json!(1)),
        ("Resend", "to", "minimum", json!(1)),
        ("Run", "id", "maxLength", json!(MAX_ID)),
        ("Run", "collector", "pattern", json!(LEVEL)),
        ("Run", "collector", "maxLength", json!(MAX_NAME)),
        ("Ping", "id", "maxLength", json!(MAX_ID)),
        ("Reply", "id", "maxLength", json!(MAX_ID)),
        ("Ack", "ranges", "maxItems", json!(MAX_ACK_RANGES)),
    ]
}

const VALUE: &str = "One field's value. Writers keep integers within 53 bits and floats finite; readers take larger integers as floats.";

fn tighten(name: &str, schema: &mut Json) {
    match name {
        "Command" => {
            let variants = schema["oneOf"].as_array_mut().expect("a command is one of several");
            variants.iter_mut().zip(["Resend", "Run", "Ping"]).for_each(|(schema, name)| tighten(name, schema));
            return;
        }
        "ErrorKind" | "LossReason" => return open_words(schema),
        "Value" => schema["description"] = json!(VALUE),
        // Null says that the end is unknown; absence would leave it to guessing.
        "Loss" => schema["required"].as_array_mut().expect("a loss has required fields").push(json!("to")),
        _ => {}
    }
    let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) else { return };
    if let Some(v) = properties.get_mut("v") {
        *v = json!({ "description": "Version of the wire format.", "type": "integer", "const": VERSION });
    }
    for (_, property, keyword, value) in additions().into_iter().filter(|(of, ..)| *of == name) {
        let property = properties.get_mut(property).and_then(Json::as_object_mut);
        _ = property.expect("the table names properties that exist").insert(keyword.into(), value);
    }
}

/// A reader takes words that it does not know as `other`.
fn open_words(schema: &mut Json) {
    let map = schema.as_object_mut().expect("a list of words");
    let mut words = match map.remove("oneOf") {
        Some(Json::Array(words)) => words,
        _ => match map.remove("enum") {
            words @ Some(_) => vec![json!({ "enum": words })],
            None => Vec::new(),
        },
    };
    words.push(json!({ "type": "string", "description": "A word of a newer agent: treat it as `other`." }));
    map.extend(Map::from_iter([("anyOf".to_owned(), Json::Array(words)), ("type".to_owned(), json!("string"))]));
}
