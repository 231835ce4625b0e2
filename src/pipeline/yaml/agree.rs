//! The second opinion: `serde_yaml` walks the tree that the events gave, and must find the same.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Node, Value};

/// Whether `serde_yaml` reads the same values; else where and what differs.
pub(super) fn check(root: &Node, text: &str) -> Result<(), (Option<usize>, String)> {
    Same(root).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let at = error.location().map(|location| location.index());
        (at, format!("two readers of YAML do not agree on this: {error}"))
    })
}

struct Same<'a>(&'a Node);

impl<'de> DeserializeSeed<'de> for Same<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.value {
            // Asked for a text, `serde_yaml` hands out any scalar as it is written.
            Value::Scalar(_) => deserializer.deserialize_str(self),
            Value::List(_) => deserializer.deserialize_seq(self),
            Value::Map(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Same<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.kind())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match &self.0.value {
            Value::Scalar(scalar) if scalar.text == text => Ok(()),
            _ => Err(E::custom("a text with two meanings")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for item in self.0.items() {
            if list.next_element_seed(Same(item))?.is_none() {
                return Err(A::Error::custom("a list with two lengths"));
            }
        }
        match list.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("a list with two lengths")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for entry in self.0.entries() {
            match map.next_key::<String>()? {
                Some(key) if key == entry.key => map.next_value_seed(Same(&entry.value))?,
                _ => return Err(A::Error::custom("a map with two sets of keys")),
            }
        }
        match map.next_key::<String>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("a map with two sets of keys")),
        }
    }
}
