//! Any JSON document: an object is one record, a list of objects gives a record each, further documents may follow.
//!
//! What is nested is flattened with `_`, list elements by their number, as Telegraf does: `{"a":{"b":[1,2]}}` has the
//! fields `a_b_0` and `a_b_1`. Read as a stream: at most [`MAX_FIELDS`] fields of a record are held, whatever comes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::reading::{MAX_FIELDS, MAX_KEY, Reading};
use super::{Likeness, Output, Spec};
use crate::collect::MAX_POINTS;
use crate::record::{Fields, Point, Value};

/// How many objects and lists may be within each other.
const MAX_DEPTH: usize = 16;

pub(super) const SPEC: Spec = Spec {
    name: "json",
    about: "any JSON object, flattened with `_`; a list of objects gives a record each",
    exit_is_data: false,
    detect,
    parse,
};

fn detect(output: &Output<'_>) -> Likeness {
    let text = output.complete().trim_ascii_start();
    let next = text.get(1..).and_then(|rest| rest.trim_ascii_start().first());
    match (text.first(), next) {
        // A list of anything else is no records, and many a log line begins with a bracket.
        (Some(b'{'), _) | (Some(b'['), Some(b'{' | b']')) => match first_value(text) {
            Some(_) => Likeness::Surely,
            None => Likeness::Perhaps,
        },
        _ => Likeness::No,
    }
}

/// The bytes of the first document, if it is one.
fn first_value(text: &[u8]) -> Option<&[u8]> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    text.get(..values.byte_offset())
}

pub(super) fn first_value_spans_lines(output: &Output<'_>) -> bool {
    first_value(output.complete().trim_ascii_start()).is_some_and(|value| value.contains(&b'\n'))
}

fn parse(output: &Output<'_>, reading: &mut Reading<'_>) {
    let mut documents = serde_json::Deserializer::from_slice(output.complete()).into_iter::<Document>();
    let mut record = 0;
    while record < MAX_POINTS {
        let document = match documents.next() {
            Some(Ok(document)) => document,
            // The process did not end well, and that is said already.
            Some(Err(error)) if error.is_eof() && !output.whole => return,
            Some(Err(error)) => return reading.refuse_all(format!("JSON: {error}")),
            None => return,
        };
        for flat in document.records {
            record += 1;
            let point = flat.into_point(reading);
            if let Err(reason) = reading.add(point) {
                reading.refuse_all(format!("record {record}: {reason}"));
            }
        }
        reading.leave_out(document.over);
    }
    // What follows is counted and not taken in.
    let rest = output.complete().get(documents.byte_offset()..).unwrap_or_default();
    let rest = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
    reading.leave_out(rest.map_while(Result::ok).count());
}

/// One value of the text: the records in it, and how many more there were.
struct Document {
    records: Vec<Flat>,
    over: usize,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
        let mut flat = Flat::default();
        Walk { flat: &mut flat, name: String::new(), depth: 0 }.visit_map(map)?;
        Ok(Document { records: vec![flat], over: 0 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document, A::Error> {
        let (mut records, mut over) = (Vec::new(), 0);
        while records.len() < MAX_POINTS {
            let mut flat = Flat::default();
            if seq.next_element_seed(Walk { flat: &mut flat, name: String::new(), depth: 0 })?.is_none() {
                return Ok(Document { records, over });
            }
            records.push(flat);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            over += 1;
        }
        Ok(Document { records, over })
    }
}

/// One record in the making.
#[derive(Default)]
struct Flat {
    fields: Fields,
    /// The first thing for which it cannot be one.
    problem: Option<String>,
}

impl Flat {
    fn refuse(&mut self, problem: impl FnOnce() -> String) {
        self.problem.get_or_insert_with(problem);
    }

    fn put(&mut self, name: String, value: Value) {
        if self.problem.is_some() {
            return;
        }
        if self.fields.len() >= MAX_FIELDS {
            return self.refuse(|| format!("more than {MAX_FIELDS} fields; print a list of smaller objects"));
        }
        if self.fields.contains_key(&*name) {
            return self.refuse(|| format!("two values for the field `{name}`"));
        }
        self.fields.insert(Cow::Owned(name), value);
    }

    fn into_point(self, reading: &Reading<'_>) -> Result<Point, String> {
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(Point { fields: self.fields, ..reading.defaults().point() }),
        }
    }
}

/// Takes one value, of whatever kind, into the fields of a record; the name is empty for the record itself.
struct Walk<'a> {
    flat: &'a mut Flat,
    name: String,
    depth: usize,
}

impl Walk<'_> {
    /// A number, text or boolean.
    fn leaf(self, value: Option<Value>) {
        match (self.depth, value) {
            (0, _) => self.flat.refuse(|| "no object".to_owned()),
            (_, Some(value)) => self.flat.put(self.name, value),
            (_, None) => self.flat.refuse(|| format!("field `{}` is no finite number", self.name)),
        }
    }

    /// What is inside of it under `key`; nothing when it may not be that deep.
    fn inner(&mut self, key: &str) -> Option<Walk<'_>> {
        if self.depth >= MAX_DEPTH {
            self.flat.refuse(|| format!("nested deeper than {MAX_DEPTH}"));
        } else if self.name.len() + key.len() > MAX_KEY {
            self.flat.refuse(|| format!("the name of a field is longer than {MAX_KEY} bytes"));
        }
        if self.flat.problem.is_some() {
            return None;
        }
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}_{key}", self.name) };
        Some(Walk { flat: self.flat, name, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(Some(Value::Bool(value)));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.leaf(Some(Value::int(value)));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.leaf(Some(Value::uint(value)));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.leaf(Value::float(value));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.leaf(Some(Value::Str(value.to_owned())));
        Ok(())
    }

    /// `null`: not measured.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.depth == 0 {
            self.leaf(None);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.inner(&key) {
                Some(inner) => map.next_value_seed(inner)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == 0 {
            self.flat.refuse(|| "no object but a list".to_owned());
        }
        for at in 0u32.. {
            let more = match self.inner(&at.to_string()) {
                Some(inner) => seq.next_element_seed(inner)?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
        }
        Err(de::Error::custom("a list without end"))
    }
}
