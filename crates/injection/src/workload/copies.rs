//! Copies that an earlier version wrote: under the names of the originals, into the template, with a record of them on
//! the workload. They are read so that such an object can be brought over when it changes; none is written any more.

use std::collections::BTreeMap;

use crate::contract::inherited::{self, Keys, is_an_authors, nearest};
use crate::view::pod::Annotations;
use crate::workload::statements::{Place, Statements};

/// The annotations around a pod template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layers<'r, 'a> {
    /// Beside the template, those nearest to the pods first.
    pub beside: [Option<&'r Annotations<'a>>; 2],
    pub template: Option<&'r Annotations<'a>>,
}

impl<'r> Layers<'r, '_> {
    /// The copies among the template's annotations. An annotation with the recorded value is a copy unless an author
    /// states it; in an object that is new, also unless there is an original.
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
            .filter(|(key, _)| !statements.states_annotation(Place::Template, key))
            .collect()
    }

    /// The template's annotations that are as they were recorded: copies, and what has become an author's since.
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

    /// What authors wrote on the template.
    pub fn own(&self, copies: &Keys<'_>) -> Keys<'r> {
        let theirs = self.template.into_iter().flat_map(Annotations::ours);
        theirs
            .filter(|(key, _)| is_an_authors(key) && !copies.contains_key(key))
            .collect()
    }

    /// What holds for the pods and stands beside the template; `farthest` counts where nothing nearer does.
    pub fn inherited(&self, farthest: Keys<'r>, copies: &Keys<'_>) -> Keys<'r> {
        let mut inherited = farthest;
        inherited.extend(nearest(self.beside));
        let own = self.own(copies);
        inherited.retain(|key, _| !own.contains_key(key));
        inherited
    }
}

/// The value of the annotation by which a template with `template` inherits from the annotations beside it, those
/// nearest to the pods first; `None` when there is nothing to inherit.
#[must_use]
pub fn inherit(
    beside: [Option<&Annotations<'_>>; 2],
    template: Option<&Annotations<'_>>,
) -> Option<String> {
    inherited::write(&Layers { beside, template }.inherited(Keys::new(), &Keys::new()))
}

/// Copies that were recorded and that an update has dropped.
pub(crate) fn dropped<'c>(
    template: Option<&Annotations<'_>>,
    recorded: &'c BTreeMap<String, String>,
) -> impl Iterator<Item = (&'c String, &'c String)> {
    recorded
        .iter()
        .filter(move |(key, _)| template.is_none_or(|template| template.get(key).is_none()))
}
