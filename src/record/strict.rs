//! How the fields of every payload are read: strictly in kind, sensibly in form.
//!
//! Whole numbers stay within 53 bits and may arrive as integral floats (JavaScript, Lua and Telegraf write
//! `3.0`); words are text, never an index; objects are maps, never arrays by position; maps hold each name once.
//! Knows serde only: no format, no limits, no I/O.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::MAX_INT;

/// A whole number within +-[`MAX_INT`].
#[derive(Clone, Copy)]
pub(crate) struct Int(pub i64);

/// A whole number in 0..=[`MAX_INT`].
#[derive(Clone, Copy)]
pub(crate) struct Uint(pub u64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor)
    }
}

impl<'de> Deserialize<'de> for Uint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Int(value) = Int::deserialize(deserializer)?;
        u64::try_from(value).map(Uint).map_err(|_| {
            de::Error::custom(format_args!("{value} is negative, expected a whole number from 0 to 2^53-1"))
        })
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number below 2^53")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Int, E> {
        if (-MAX_INT..=MAX_INT).contains(&value) {
            Ok(Int(value))
        } else {
            Err(E::invalid_value(de::Unexpected::Signed(value), &self))
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Int, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Int, E> {
        if value.fract() == 0.0 && value.abs() <= MAX_INT as f64 {
            Ok(Int(value as i64))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }
}

pub(crate) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Int::deserialize(deserializer).map(|n| n.0)
}

pub(crate) fn uint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Uint::deserialize(deserializer).map(|n| n.0)
}

pub(crate) fn optional_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<Int>::deserialize(deserializer)?.map(|n| n.0))
}

pub(crate) fn optional_uint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Uint>::deserialize(deserializer)?.map(|n| n.0))
}

pub(crate) fn optional_int_pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[i64; 2]>, D::Error> {
    Ok(Option::<[Int; 2]>::deserialize(deserializer)?.map(|pair| pair.map(|n| n.0)))
}

pub(crate) fn uint_pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<[u64; 2]>, D::Error> {
    Ok(Vec::<[Uint; 2]>::deserialize(deserializer)?.into_iter().map(|pair| pair.map(|n| n.0)).collect())
}

/// A small whole number, such as a version.
pub(crate) fn small<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let value = uint(deserializer)?;
    T::try_from(value).map_err(|_| de::Error::custom(format_args!("{value} is out of range")))
}

/// One of an enum's names. MessagePack libraries would also take its index, which is no part of the format.
pub(crate) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    T::deserialize(StrDeserializer::new(&text))
}

pub(crate) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(ObjectsVisitor(PhantomData))
}

/// A `T` that was a map, where serde would also take an array by position.
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

struct ObjectsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectsVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of maps")
    }

    /// Grows as elements arrive: a header that promises billions reserves nothing.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Object(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

/// A map of names, each once.
pub(crate) fn names<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: From<String> + AsRef<str> + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(NamesVisitor(PhantomData))
}

struct NamesVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: From<String> + AsRef<str> + Ord, V: Deserialize<'de>> Visitor<'de> for NamesVisitor<K, V> {
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            match values.entry(K::from(name)) {
                Entry::Vacant(entry) => entry.insert(map.next_value()?),
                Entry::Occupied(entry) => {
                    let name = entry.key().as_ref();
                    return Err(de::Error::custom(format_args!("{name:?} occurs twice in one map")));
                }
            };
        }
        Ok(values)
    }
}
