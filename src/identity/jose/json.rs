//! JSON objects in which no member is there twice, and whose depth is limited.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::limits::MAX_DEPTH;

/// Reads one object that is all of `bytes`, with room for the number of members that it usually has. `None` for anything
/// else.
pub(super) fn parse_object(bytes: &[u8], members: usize) -> Option<Map<String, Value>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = StrictValue { depth: 0, members }
        .deserialize(&mut deserializer)
        .ok()?;
    deserializer.end().ok()?;
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Value at a depth.
#[derive(Clone, Copy)]
struct StrictValue {
    depth: usize,
    /// Members of an object, if this is one.
    members: usize,
}

impl StrictValue {
    /// Values inside of this one.
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom("too deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
            members: 4,
        })
    }
}

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (inner, mut list) = (self.inner()?, Vec::new());
        while let Some(entry) = entries.next_element_seed(inner)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let (inner, mut object) = (self.inner()?, Map::with_capacity(self.members));
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_has_each_member_once() {
        let accepts = |text: &str| parse_object(text.as_bytes(), 4).is_some();
        for text in [
            "{}",
            r#" {"a":1,"b":[true,null,-2,1.5,"x"],"c":{"a":{}}} "#,
            r#"{"a":"\ud83d\ude00"}"#,
        ] {
            assert!(accepts(text), "{text}");
        }
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{}{}",
            "{} x",
            "\u{feff}{}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":1}}"#,
            r#"{"b":[{"a":1,"a":1}]}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1e999}"#,
            r#"{"a":01}"#,
            r#"{"a":1,}"#,
            "{'a':1}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(!accepts(text), "{text}");
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}", 4).is_none());
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            parse_object(format!("{{\"a\":{open}{close}}}").as_bytes(), 4).is_some()
        };
        assert!(nested(MAX_DEPTH));
        assert!(!nested(MAX_DEPTH + 1));
        assert!(!nested(5_000));
    }
}
