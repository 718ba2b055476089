//! RFC 8785 form of JSON whose numbers are integers: sorted names, no spaces, one way to write each text.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::record::MAX_INTEGER;

/// JSON in which no object has a name twice: readers disagree about which of the two counts.
pub(super) struct UniqueNames(pub Value);

/// RFC 8785 form of a value; `None` if it has a number that not every reader keeps exactly.
pub(super) fn canonical(value: &Value) -> Option<String> {
    let mut out = String::new();
    write(value, &mut out)?;
    Some(out)
}

fn write(value: &Value, out: &mut String) -> Option<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&integer(number)?.to_string()),
        Value::String(text) => write_text(text, out)?,
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(fields) => write_object(fields, out)?,
    }
    Some(())
}

fn write_object(fields: &Map<String, Value>, out: &mut String) -> Option<()> {
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (at, (name, value)) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(name, out)?;
        out.push(':');
        write(value, out)?;
    }
    out.push('}');
    Some(())
}

/// Writes a text as RFC 8785 has it, which is how `serde_json` writes it.
fn write_text(text: &str, out: &mut String) -> Option<()> {
    out.push_str(&serde_json::to_string(text).ok()?);
    Some(())
}

/// Integer of a number. `1.0` and `1e0` are other ways to write 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the float is an integer below 2^53"
)]
fn integer(number: &serde_json::Number) -> Option<i64> {
    let integer = if let Some(integer) = number.as_i64() {
        integer
    } else {
        let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
        (float.abs() < 9e15).then_some(float as i64)?
    };
    (integer.unsigned_abs() <= MAX_INTEGER).then_some(integer)
}

impl<'de> Deserialize<'de> for UniqueNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueNames(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, UniqueNames(value))) = fields.next_entry::<String, _>()? {
            if map.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice in an object"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn canonical_of(json: &str) -> Option<String> {
        let UniqueNames(value) = serde_json::from_str(json).ok()?;
        canonical(&value)
    }

    #[rstest]
    #[case::order(
        r#"{ "b": [1, {"d":true, "c":null}], "a": "x" }"#,
        r#"{"a":"x","b":[1,{"c":null,"d":true}]}"#
    )]
    #[case::escapes(r#""\u0061\/\u00e9\u001F\b\u20ac""#, "\"a/é\\u001f\\b€\"")]
    #[case::utf16_order(r#"{"\ufb33":1,"\ud83d\ude00":2}"#, "{\"😀\":2,\"\u{fb33}\":1}")]
    #[case::numbers("[1.0,1e3,-0.0,9007199254740991]", "[1,1000,0,9007199254740991]")]
    fn canonical_form_is_that_of_rfc_8785(#[case] json: &str, #[case] expected: &str) {
        assert_eq!(canonical_of(json).as_deref(), Some(expected));
    }

    #[rstest]
    #[case::fraction("[0.5]")]
    #[case::large("[9007199254740993]")]
    #[case::larger("[1e300]")]
    #[case::twice(r#"{"a":1,"b":{"c":1,"\u0063":2}}"#)]
    #[case::deep(&"[".repeat(200))]
    fn canonical_form_is_refused_where_readers_disagree(#[case] json: &str) {
        assert_eq!(canonical_of(json), None);
    }
}
