//! JSON of records. Their texts and the names of their fields are plain nearly always, and are copied as they are; all
//! else is written by `serde_json`, whose output this is, in half of the instructions.

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeSeq, SerializeStruct, Serializer};
use serde_json::Error;

use super::text::{PLAIN_TEXT, is_plain};

/// Writes a value behind the bytes in `out`.
///
/// # Errors
/// The value has maps, tuples or bytes, or reports an error itself.
pub(super) fn write_json(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Error> {
    value.serialize(JsonWriter::new(out))
}

struct JsonWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Whether the value is a text that is known to be plain.
    is_plain: bool,
}

impl<'o> JsonWriter<'o> {
    fn new(out: &'o mut Vec<u8>) -> Self {
        Self {
            out,
            is_plain: false,
        }
    }
}

/// Fields of an object or entries of a list.
struct JsonEntries<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
    end: u8,
}

impl<'o> JsonEntries<'o> {
    fn open(out: &'o mut Vec<u8>, begin: u8, end: u8) -> Self {
        out.push(begin);
        Self {
            out,
            is_first: true,
            end,
        }
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
    }

    fn close(self) {
        self.out.push(self.end);
    }
}

impl SerializeSeq for JsonEntries<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.separate();
        value.serialize(JsonWriter::new(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.close();
        Ok(())
    }
}

impl SerializeStruct for JsonEntries<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        value.serialize(JsonWriter::new(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.close();
        Ok(())
    }
}

/// Methods for values without parts other than texts.
macro_rules! by_serde_json {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            serde_json::to_writer(self.out, &value)
        })*
    };
}

/// Error of a value that no record has.
fn unsupported<T>() -> Result<T, Error> {
    Err(Error::custom("records have no maps, tuples and bytes"))
}

impl<'o> Serializer for JsonWriter<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = JsonEntries<'o>;
    type SerializeStruct = JsonEntries<'o>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    by_serde_json! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        if !self.is_plain && !is_plain(text) {
            return serde_json::to_writer(self.out, text);
        }
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        // A word of this program, like the name of a field.
        let is_plain = true;
        Self { is_plain, ..self }.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(Self {
            is_plain: name == PLAIN_TEXT,
            ..self
        })
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<JsonEntries<'o>, Error> {
        Ok(JsonEntries::open(self.out, b'[', b']'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<JsonEntries<'o>, Error> {
        Ok(JsonEntries::open(self.out, b'{', b'}'))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        unsupported()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        unsupported()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        unsupported()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        unsupported()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        unsupported()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        unsupported()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        unsupported()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::audit::test_support::{admission, emitter, fullest};

    fn written(value: &impl Serialize) -> String {
        let mut out = Vec::new();
        write_json(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_are_written_as_serde_json_does() {
        for record in [
            emitter().start(None),
            emitter().stop(),
            admission("é\"\\", 3),
            fullest(),
        ] {
            assert_eq!(written(&record), serde_json::to_string(&record).unwrap());
        }
        assert_eq!(written(&(None::<u8>)), "null");
        assert_eq!(written(&Vec::<bool>::new()), "[]");
    }

    #[test]
    fn values_that_no_record_has_are_errors() {
        let mut out = Vec::new();
        assert!(write_json(&BTreeMap::from([("a", 1)]), &mut out).is_err());
        assert!(write_json(&(1, 2), &mut out).is_err());
    }

    proptest! {
        #[test]
        fn texts_are_written_as_serde_json_does(text in any::<String>()) {
            prop_assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
        }
    }
}
