//! Compares a workload with its state before the update: the scope of the change.
//!
//! Defaults of a newer version of the webhook never change a template that the update does not touch: that would
//! restart every workload of the cluster.

use serde_json::Value;

use crate::contract::inherited::Keys;
use crate::keys::{PREFIX, RECORD_KEY};
use crate::limits::{MAX_COMPARED_BYTES, MAX_COMPARED_ELEMENTS};
use crate::record::Record;
use crate::view::annotations::Annotations;
use crate::view::workload::{TemplateView, WorkloadKind, WorkloadView};
use crate::workload::propagation::{author_annotations, farthest, is_misplaced, layers_of};
use crate::workload::statements::Statements;
use crate::workload::template_patch::render_template;
use crate::workload::update::{ChangeScope, WorkloadUpdate};

/// Upper bound of the number of elements of a JSON text.
fn max_elements(json: &str) -> usize {
    json.bytes()
        .filter(|byte| matches!(byte, b',' | b'{' | b'['))
        .count()
}

fn record_in(annotations: Option<&Annotations<'_>>) -> Option<Record> {
    annotations
        .and_then(|annotations| annotations.get(RECORD_KEY))
        .and_then(Record::read)
}

/// Annotations of the authors before the update.
fn old_annotations<'r>(
    (old, template): (&'r WorkloadView<'_>, &'r TemplateView<'_>),
    record: &Record,
    statements: &Statements<'_>,
) -> Keys<'r> {
    let layers = layers_of(old, template);
    let copies = layers.copies(&record.copied, statements, false);
    author_annotations(&layers, None, &copies)
}

impl<'r, 'a> WorkloadUpdate<'r, 'a> {
    /// Reviews a workload and, for an update, its state before; `None` if it has no pod template.
    #[must_use]
    pub fn of(
        kind: WorkloadKind,
        object: &'r WorkloadView<'a>,
        old: Option<&'r WorkloadView<'a>>,
    ) -> Option<Self> {
        Self::new(kind, object, old, old.is_none())
    }

    /// Reviews a stored workload; `None` if it has no pod template.
    #[must_use]
    pub fn stored(kind: WorkloadKind, object: &'r WorkloadView<'a>) -> Option<Self> {
        Self::new(kind, object, None, false)
    }

    fn new(
        kind: WorkloadKind,
        object: &'r WorkloadView<'a>,
        old: Option<&'r WorkloadView<'a>>,
        is_new: bool,
    ) -> Option<Self> {
        let template = object.template(kind)?;
        let old_template = old.and_then(|old| old.template(kind));
        let old_record = old
            .and_then(|old| record_in(old.annotations()))
            .unwrap_or_default();
        let recorded = record_in(object.annotations()).unwrap_or_else(|| old_record.clone());
        let in_template = record_in(template.pod.annotations())
            .or_else(|| record_in(old_template.and_then(|old| old.pod.annotations())))
            .unwrap_or_default();
        let statements = Statements::of(kind, object, old);
        let farthest = farthest(kind, object, template);
        let layers = layers_of(object, template);
        let copies = if old_record.is_dropped_from(object.annotations()) {
            Keys::new()
        } else {
            layers.copies(&recorded.copied, &statements, is_new)
        };
        let adopts_copies = copies.len() < layers.recorded(&recorded.copied).count();
        let by_authors = author_annotations(&layers, farthest.as_ref(), &copies);
        let scope = match old.zip(old_template) {
            Some(old)
                if is_misplaced(object) == is_misplaced(old.0)
                    && by_authors == old_annotations(old, &old_record, &statements) =>
            {
                ChangeScope::Template
            }
            Some(_) | None => ChangeScope::Annotations,
        };
        let mut update = Self {
            kind,
            object,
            template,
            old: old_template,
            statements,
            annotations: owned_annotations(&by_authors),
            copies: copies
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            farthest,
            recorded,
            in_template,
            scope,
        };
        if scope == ChangeScope::Template
            && !adopts_copies
            && old_template.is_some_and(|old| update.keeps_template(old, &old_record))
        {
            update.scope = ChangeScope::Unchanged;
        }
        Some(update)
    }

    /// Whether the template is unchanged once the injected entries that the update dropped are restored.
    fn keeps_template(&self, old: &TemplateView<'_>, old_record: &Record) -> bool {
        let (new, old) = (self.template.json(), old.json());
        if new == old {
            return true;
        }
        // Larger templates count as changed: comparing them would cost too much, and nobody writes such templates.
        if [new, old].into_iter().any(|json| {
            json.len() > MAX_COMPARED_BYTES || max_elements(json) > MAX_COMPARED_ELEMENTS
        }) {
            return false;
        }
        let parsed = [new, old].map(serde_json::from_str::<Value>);
        let [Ok(mut new), Ok(old)] = parsed else {
            return false;
        };
        let edit = self.edit_template(
            self.preserve(&old_record.copied),
            self.restored(old_record),
            self.is_injected(old_record),
        );
        let patch = json_patch::Patch::from(render_template(&edit, &[]));
        json_patch::patch(&mut new, &patch).is_ok() && new == old
    }

    /// Scope of the update.
    #[must_use]
    pub fn scope(&self) -> ChangeScope {
        self.scope
    }

    /// Annotations of the authors as they apply to the pods: the template's own, then the jobTemplate's, then the
    /// workload's.
    #[must_use]
    pub fn annotations(&self) -> &Annotations<'static> {
        &self.annotations
    }
}

fn owned_annotations(keys: &Keys<'_>) -> Annotations<'static> {
    Annotations::from_pairs(
        keys.iter()
            .map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())),
    )
}
