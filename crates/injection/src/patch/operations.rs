//! A JSON patch (RFC 6902) that borrows from its plan. It is written once, as bytes: a tree of maps for each variable
//! would cost more than all of planning.

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use serde::Serialize;

use crate::plan::env_entry::EnvEntry;

/// Operations in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Patch<'p>(pub Vec<Operation<'p>>);

/// An operation of RFC 6902.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation<'p> {
    /// Adds to a map or a list, or replaces a map's entry.
    Add {
        /// JSON pointer to the new value.
        path: PointerBuf,
        /// The new value.
        value: PatchValue<'p>,
    },
    /// Fails the patch if the value is another one.
    Test {
        /// JSON pointer to the value.
        path: PointerBuf,
        /// The expected value.
        value: &'p str,
    },
    /// Removes an entry of a map or of a list.
    Remove {
        /// JSON pointer to the entry.
        path: PointerBuf,
    },
}

/// Values that are added to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PatchValue<'p> {
    /// Value of an annotation or label.
    Text(Cow<'p, str>),
    /// Annotations or labels if there is no map; empty, also any other missing map.
    Map(BTreeMap<&'static str, Cow<'p, str>>),
    /// An entry of `envFrom`.
    Source(EnvFromSource<'p>),
    /// The whole `envFrom` list, if there is none.
    Sources(Vec<EnvFromSource<'p>>),
    /// An entry of `env`.
    Variable(EnvVar<'p>),
    /// The whole `env` list, if there is none.
    Variables(Vec<EnvVar<'p>>),
}

/// `core/v1` `EnvFromSource`, of a whole Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvFromSource<'p> {
    secret_ref: SecretRef<'p>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct SecretRef<'p> {
    name: &'p str,
}

impl<'p> From<&'p String> for EnvFromSource<'p> {
    fn from(name: &'p String) -> Self {
        Self {
            secret_ref: SecretRef { name },
        }
    }
}

/// `core/v1` `EnvVar`, of a key of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar<'p> {
    name: &'p str,
    value_from: ValueFrom<'p>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ValueFrom<'p> {
    secret_key_ref: SecretKeyRef<'p>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct SecretKeyRef<'p> {
    name: &'p str,
    key: &'p str,
}

impl<'p> From<&'p EnvEntry> for EnvVar<'p> {
    fn from(EnvEntry { name, secret, key }: &'p EnvEntry) -> Self {
        Self {
            name,
            value_from: ValueFrom {
                secret_key_ref: SecretKeyRef { name: secret, key },
            },
        }
    }
}

/// For callers that apply the patch to a document.
impl From<Patch<'_>> for json_patch::Patch {
    fn from(patch: Patch<'_>) -> Self {
        let value = serde_json::to_value(patch).expect("a patch of strings and maps serialises");
        serde_json::from_value(value).expect("it is written as RFC 6902 says")
    }
}
