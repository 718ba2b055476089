//! A JSON patch (RFC 6902) that borrows from the plan behind it: it is written once, as bytes, and a tree of maps for
//! each variable would cost more than all of planning.

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use serde::Serialize;

use crate::plan::env_entry::EnvEntry;

/// Operations, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Patch<'p>(pub Vec<Operation<'p>>);

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation<'p> {
    /// Adds to a map or into a list, or replaces a map's entry.
    Add {
        /// Where.
        path: PointerBuf,
        /// What.
        value: PatchValue<'p>,
    },
    /// Fails the patch when something else is there.
    Test {
        /// Where.
        path: PointerBuf,
        /// What is there.
        value: &'p str,
    },
    /// Takes away, from a list as well.
    Remove {
        /// Where.
        path: PointerBuf,
    },
}

/// All that is ever added to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PatchValue<'p> {
    /// An annotation's or a label's value.
    Text(Cow<'p, str>),
    /// Annotations or labels where there are none; empty, also any other map that is missing.
    Map(BTreeMap<&'static str, Cow<'p, str>>),
    /// An entry of `envFrom`.
    Source(EnvFromSource<'p>),
    /// `envFrom` where there is none.
    Sources(Vec<EnvFromSource<'p>>),
    /// An entry of `env`.
    Variable(EnvVar<'p>),
    /// `env` where there is none.
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

/// For whoever applies it to a document.
impl From<Patch<'_>> for json_patch::Patch {
    fn from(patch: Patch<'_>) -> Self {
        let value = serde_json::to_value(patch).expect("a patch of strings and maps serialises");
        serde_json::from_value(value).expect("it is written as RFC 6902 says")
    }
}
