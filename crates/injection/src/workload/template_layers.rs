//! Annotations around a pod template, and the copies among them.
//!
//! An earlier version copied annotations of the metadata to the template under their own names, with a record of them
//! on the workload. Copies are recognized, so that such an object can be converted when it changes. None is written
//! today.

use std::collections::BTreeMap;

use crate::contract::inherited::{self, Keys, is_author_key, nearest};
use crate::view::annotations::Annotations;
use crate::workload::statements::{ObjectPart, Statements};

/// Annotations around a pod template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TemplateLayers<'r, 'a> {
    /// Annotations beside the template, nearest to the pods first.
    pub beside: [Option<&'r Annotations<'a>>; 2],
    pub template: Option<&'r Annotations<'a>>,
}

impl<'r> TemplateLayers<'r, '_> {
    /// Copies among the template's annotations. An annotation with the recorded value is a copy unless an author states
    /// it; in a new object it is a copy only if there is an original.
    pub fn copies<'c>(
        &self,
        recorded: &'c BTreeMap<String, String>,
        statements: &Statements<'_>,
        is_new: bool,
    ) -> Keys<'c> {
        let has_original = |key: &str| {
            self.beside
                .into_iter()
                .flatten()
                .any(|layer| layer.get(key).is_some())
        };
        self.recorded(recorded)
            .filter(|(key, _)| !is_new || has_original(key))
            .filter(|(key, _)| !statements.states_annotation(ObjectPart::Template, key))
            .collect()
    }

    /// Annotations of the template with the recorded value: copies, and annotations that an author states since.
    pub fn recorded<'c>(
        &self,
        recorded: &'c BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'c str, &'c str)> {
        let template = self.template;
        recorded
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .filter(move |(key, value)| {
                template.and_then(|template| template.get(key)) == Some(value)
            })
    }

    /// Annotations of the template that authors wrote.
    pub fn own(&self, copies: &Keys<'_>) -> Keys<'r> {
        let annotations = self.template.into_iter().flat_map(Annotations::ours);
        annotations
            .filter(|(key, _)| is_author_key(key) && !copies.contains_key(key))
            .collect()
    }

    /// Annotations beside the template that apply to its pods. `farthest` apply if there is no nearer one.
    pub fn inherited(&self, farthest: Keys<'r>, copies: &Keys<'_>) -> Keys<'r> {
        let mut inherited = farthest;
        inherited.extend(nearest(self.beside));
        let own = self.own(copies);
        inherited.retain(|key, _| !own.contains_key(key));
        inherited
    }
}

/// Value of the annotation by which a template inherits from the annotations beside it, those nearest to the pods
/// first; `None` if there is nothing to inherit.
#[must_use]
pub fn inherit(
    beside: [Option<&Annotations<'_>>; 2],
    template: Option<&Annotations<'_>>,
) -> Option<String> {
    inherited::write(&TemplateLayers { beside, template }.inherited(Keys::new(), &Keys::new()))
}

/// Recorded copies that an update has dropped.
pub(crate) fn dropped<'c>(
    template: Option<&Annotations<'_>>,
    recorded: &'c BTreeMap<String, String>,
) -> impl Iterator<Item = (&'c String, &'c String)> {
    recorded
        .iter()
        .filter(move |(key, _)| template.is_none_or(|template| template.get(key).is_none()))
}
