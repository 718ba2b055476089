//! The annotation contract: the annotations, the requests that they are parsed to, errors and warnings.

pub(crate) mod binding;
pub(crate) mod collector;
pub(crate) mod decision;
pub(crate) mod idle_defaults;
pub(crate) mod inherited;
pub(crate) mod input;
pub(crate) mod layers;
pub(crate) mod misspelled;
pub(crate) mod name_convention;
pub(crate) mod parse;
pub(crate) mod plan_error;
pub(crate) mod reference;
pub(crate) mod request;
pub(crate) mod secret_ref;
pub(crate) mod selector;
pub(crate) mod sentence;
pub(crate) mod sidecar;
pub(crate) mod suggestions;
pub(crate) mod values;
pub(crate) mod warning;
