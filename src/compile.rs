//! `compile`: a floe manifest in, a dbt profile without secrets and the annotations that make its variables exist out.
//!
//! [`manifest`] reads the files to a [`model::Manifest`]; [`profile`] turns it into a list of demands, the only source
//! of both outputs.

pub(crate) mod model;
