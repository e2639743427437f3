//! JSON Schema of what is said over the socket, made from the types; kept in `schemas/`. Only with feature `schema`.

use serde_json::{Value as Json, json};

use super::{Answer, Header, MAX_TAGS, VERSION};
use crate::collect::exec::NdjsonLine;
use crate::wire::{LEVEL, MAX_NAME, schema_of};

/// File stem and schema, in the order of the conversation.
pub fn schemas() -> Vec<(&'static str, Json)> {
    vec![("put", header()), ("put-line", line()), ("put-answer", answer())]
}

fn header() -> Json {
    let mut schema = schema_of::<Header>("PutHeader", "The first line of a batch on the socket for applications.");
    let properties = &mut schema["properties"];
    properties["put"] = json!({ "description": "Version of the conversation.", "type": "integer", "const": VERSION });
    properties["collector"]["pattern"] = json!(LEVEL);
    properties["collector"]["maxLength"] = json!(MAX_NAME);
    properties["tags"]["maxProperties"] = json!(MAX_TAGS);
    schema
}

fn line() -> Json {
    let about = "A record: a line of a batch whose format is ndjson, or one that a script prints. Empty lines and # comments \
                 are passed over.";
    schema_of::<NdjsonLine>("PutLine", about)
}

fn answer() -> Json {
    let mut schema = schema_of::<Answer>("PutAnswer", "The agent's answer to a batch.");
    schema["$defs"]["Refused"]["properties"]["line"]["minimum"] = json!(1);
    // Null, never absent.
    schema["required"] = json!(["stored", "epoch", "seqs", "refused", "error"]);
    schema
}
