//! The plan for an object with a pod template: what its annotations and its template's come to.
//!
//! An update is judged by comparing the object with what it was. What a newer version of this program would do
//! otherwise never reaches a template that nobody touched: that would restart the cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::contract::inherited::Keys;
use crate::contract::input::PlanInput;
use crate::contract::problem::{PlanError, Warning};
use crate::contract::request::{InjectionRequest, ReloadMode};
use crate::keys::{INHERITED_KEY, INJECTED, PREFIX, RECORD_KEY};
use crate::limits::{MAX_COMPARED_BYTES, MAX_COMPARED_ELEMENTS};
use crate::record::{Record, Restart};
use crate::reload::{RestartInput, restart};
use crate::view::pod::{Annotations, PodView};
use crate::view::workload::{TemplateView, WorkloadKind, WorkloadView};
use crate::workload::inheritance::{authored, farthest, is_misplaced, layers_of};
use crate::workload::revise::{TemplateUpdate, restore, revise};
use crate::workload::statements::Statements;
use crate::workload::taken_back;
use crate::workload::template_edit::{Changes, TemplateEdit};
use crate::workload::template_patch::render_template;
use crate::workload::update::{ChangeScope, Told, WorkloadUpdate};

/// What to do with a template's containers.
#[derive(Clone, Copy, Debug)]
pub enum TemplatePolicy<'p> {
    /// Keep the entries that are there, and restore injected ones that an update has dropped.
    Preserve,
    /// Remove what was injected; pods are injected when they are created.
    Remove,
    /// Inject.
    Inject(&'p PlanInput<'p>),
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadPlan {
    pub(crate) kind: WorkloadKind,
    /// Of the workload's own metadata, by whole name.
    pub(crate) metadata: Changes,
    pub(crate) template: TemplateEdit,
    /// For a person, most important first.
    pub warnings: Vec<Warning>,
}

impl WorkloadPlan {
    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metadata.entries.is_empty() && self.template.is_empty()
    }
}

/// At least as many elements as a JSON text has.
fn elements(json: &str) -> usize {
    json.bytes()
        .filter(|byte| matches!(byte, b',' | b'{' | b'['))
        .count()
}

// === impl Review ===

impl<'r, 'a> WorkloadUpdate<'r, 'a> {
    /// Looks at a workload and, for an update, at what it was; `None` when it has no pod template.
    #[must_use]
    pub fn of(
        kind: WorkloadKind,
        object: &'r WorkloadView<'a>,
        old: Option<&'r WorkloadView<'a>>,
    ) -> Option<Self> {
        Self::new(kind, object, old, old.is_none())
    }

    /// Looks at a workload as it is stored; `None` when it has no pod template.
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
        let before = old.and_then(|old| old.template(kind));
        let record = |annotations: Option<&Annotations<'_>>| {
            annotations
                .and_then(|a| a.get(RECORD_KEY))
                .and_then(Record::read)
        };
        let was = old
            .and_then(|old| record(old.annotations()))
            .unwrap_or_default();
        let recorded = record(object.annotations()).unwrap_or_else(|| was.clone());
        let in_template = record(template.pod.annotations())
            .or_else(|| record(before.and_then(|before| before.pod.annotations())))
            .unwrap_or_default();
        let statements = Statements::of(kind, object, old);
        let farthest = farthest(kind, object, template);
        let layers = layers_of(object, template);
        let replaced = was.drops(object.annotations());
        let copies = if replaced {
            Keys::new()
        } else {
            layers.copies(&recorded.copied, &statements, is_new)
        };
        let adopted = copies.len() < layers.recorded(&recorded.copied).count();
        let words = authored(&layers, farthest.as_ref(), &copies);
        let annotations = Annotations::from_pairs(
            words
                .iter()
                .map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())),
        );
        let scope = match old.zip(before) {
            None => ChangeScope::Annotations,
            Some((old, before)) => {
                let layers = layers_of(old, before);
                let copies = layers.copies(&was.copied, &statements, false);
                let same = words == authored(&layers, None, &copies)
                    && is_misplaced(object) == is_misplaced(old);
                if same {
                    ChangeScope::Template
                } else {
                    ChangeScope::Annotations
                }
            }
        };
        let copies = copies
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let mut review = Self {
            kind,
            object,
            template,
            old: before,
            statements,
            farthest,
            copies,
            recorded,
            in_template,
            annotations,
            scope,
        };
        if let Some(before) = before.filter(|before| {
            scope == ChangeScope::Template && !adopted && review.keeps(before, &was)
        }) {
            review.old = Some(before);
            review.scope = ChangeScope::Neither;
        }
        Some(review)
    }

    /// Whether the template is as it was, once what an update dropped of ours is back.
    fn keeps(&self, before: &TemplateView<'_>, was: &Record) -> bool {
        let (now, then) = (self.template.json(), before.json());
        if now == then {
            return true;
        }
        // What cannot be compared within bounds counts as changed: nobody writes templates of that size.
        if [now, then]
            .into_iter()
            .any(|json| json.len() > MAX_COMPARED_BYTES || elements(json) > MAX_COMPARED_ELEMENTS)
        {
            return false;
        }
        let parsed = [now, then].map(serde_json::from_str::<Value>);
        let [Ok(mut now), Ok(then)] = parsed else {
            return false;
        };
        let edit = self.edit_template(
            self.kept(&was.copied),
            self.restored(was),
            self.is_injected(was),
        );
        let patch = json_patch::Patch::from(render_template(&edit, &[]));
        json_patch::patch(&mut now, &patch).is_ok() && now == then
    }

    /// How much the update touches.
    #[must_use]
    pub fn scope(&self) -> ChangeScope {
        self.scope
    }

    /// What its authors say, as its pods will: the template's own annotations, then the jobTemplate's, then the
    /// workload's.
    #[must_use]
    pub fn annotations(&self) -> &Annotations<'static> {
        &self.annotations
    }

    /// The pod template.
    #[must_use]
    pub fn pod(&self) -> &'r PodView<'a> {
        &self.template.pod
    }

    /// Plans for what is asked for; `None` when that cannot be read, and then what was written stays.
    ///
    /// # Errors
    /// Everything that stands against injecting into the template.
    pub fn plan(
        &self,
        request: Option<&InjectionRequest>,
        secrets: &[String],
        template: TemplatePolicy<'_>,
    ) -> Result<WorkloadPlan, Vec<PlanError>> {
        // What cannot be inherited is refused where it is written; elsewhere everything stays.
        let stays = self.scope == ChangeScope::Neither || self.check_inherited().is_err();
        let (annotations, copied) = if stays {
            (
                self.kept(&self.recorded.copied),
                self.recorded.copied.clone(),
            )
        } else {
            (self.brought_up(), BTreeMap::new())
        };
        let ours = if self.is_injected(&self.recorded) && !self.is_replaced() {
            &self.in_template
        } else {
            &Record::default()
        };
        let old = self.old.map(|old| &old.pod).filter(|_| !self.came_back());
        let mut revision = match (self.scope, template) {
            (ChangeScope::Neither, _) | (_, TemplatePolicy::Preserve) => {
                self.restored(&self.recorded)
            }
            (ChangeScope::Annotations | ChangeScope::Template, TemplatePolicy::Remove) => {
                revise(None, self.pod(), old, ours, &self.statements)?
            }
            (ChangeScope::Annotations | ChangeScope::Template, TemplatePolicy::Inject(input)) => {
                revise(Some(input), self.pod(), old, ours, &self.statements)?
            }
        };
        revision.record.template = !revision.record.is_empty();
        let mut record = Record {
            template: revision.record.template,
            copied,
            ..Record::default()
        };
        let mut warnings = revision.warnings.clone();
        warnings.extend(self.taken_back(&revision, stays));
        let mut metadata = BTreeMap::new();
        match request {
            None => record.restart = self.recorded.restart.clone(),
            Some(request) => {
                let planned = self.restart(request.reload, secrets, record.template);
                metadata = planned.0;
                record.restart = planned.1;
                warnings.extend(planned.2);
            }
        }
        let own = self.object.annotations();
        // A record that says nothing and that nobody of us wrote is not ours to take away.
        if !record.says_nothing() {
            metadata.insert(INJECTED.to_owned(), Some(record.write()));
        } else if !self.recorded.says_nothing() {
            metadata.insert(INJECTED.to_owned(), None);
        }
        warnings.sort();
        warnings.dedup();
        Ok(WorkloadPlan {
            kind: self.kind,
            metadata: Changes::of(own, self.object.metadata.is_none(), metadata),
            template: self.edit_template(annotations, revision, self.is_injected(&self.recorded)),
            warnings,
        })
    }

    fn restart(
        &self,
        mode: ReloadMode,
        secrets: &[String],
        in_template: bool,
    ) -> (Told, Restart, Vec<Warning>) {
        let ours = if self.recorded.drops(self.object.annotations()) {
            Restart::default()
        } else {
            self.statements.less_stated(&self.recorded.restart)
        };
        let planned = restart(&RestartInput {
            kind: self.kind,
            mode,
            secrets,
            metadata: self.object.annotations(),
            template: self.template.pod.annotations(),
            recorded: &ours,
            in_template,
        });
        let mut warnings =
            taken_back::from_metadata(self.object.annotations(), &ours, &planned.written);
        if !warnings.is_empty() && self.statements.is_apply() {
            warnings.clear();
        }
        warnings.extend(planned.warning.map(Warning::NoRestart));
        (planned.changes, planned.written, warnings)
    }

    /// Warnings about what is taken out of the template, unless the update itself tells what its author states.
    fn taken_back(&self, revision: &TemplateUpdate, copies_stay: bool) -> Vec<Warning> {
        let mut warnings = taken_back::from_containers(self.pod(), &revision.withdrawn);
        let has_original = |key: &str| self.annotations.get(key).is_some();
        let copies = self
            .copies
            .keys()
            .map(String::as_str)
            .filter(|key| !copies_stay && !has_original(key));
        warnings.extend(taken_back::from_template(copies));
        if !warnings.is_empty() && self.statements.is_apply() {
            warnings.clear();
        }
        warnings
    }

    /// Whether the template comes from an earlier revision, by the annotations of ours that it brings: no author writes
    /// those. What stood there just before says nothing about its entries.
    fn came_back(&self) -> bool {
        let standing = |pod: &'r PodView<'a>, key: &str| {
            pod.annotations()
                .and_then(|annotations| annotations.get(key))
        };
        let differs = |key: &str| {
            self.old
                .is_some_and(|old| standing(&old.pod, key) != standing(self.pod(), key))
        };
        standing(self.pod(), RECORD_KEY).is_some()
            && (differs(RECORD_KEY) || differs(INHERITED_KEY))
    }

    /// Whether the entries that the template's record names were written by the webhook into a template: the record says
    /// so itself, and in a template that an earlier version left, the workload's record does. A template that comes back
    /// from an earlier revision brings its own record. What `inject` writes offline is its author's.
    fn is_injected(&self, recorded: &Record) -> bool {
        recorded.template || self.in_template.template
    }

    /// Whether the template was written anew, without the record: entries that the record names and that are there all
    /// the same are their author's. The label tells it from a `kubectl apply` without the last of its author's
    /// annotations, which takes out all annotations of the template and nothing else.
    fn is_replaced(&self) -> bool {
        self.in_template.drops(self.pod().annotations()) && !self.is_labelled()
    }

    fn is_labelled(&self) -> bool {
        let label = self
            .pod()
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref()?.injected.as_ref());
        label.map(crate::CowStr::as_str) == Some("true")
    }

    /// What was injected and stood there before the update.
    fn restored(&self, recorded: &Record) -> TemplateUpdate {
        match self.old {
            Some(old) if self.is_injected(recorded) => {
                restore(self.pod(), &old.pod, &self.in_template)
            }
            // A second pass over a new object: what the first one wrote is there.
            None if self.is_injected(recorded) => TemplateUpdate {
                record: self.in_template.clone(),
                ..TemplateUpdate::default()
            },
            Some(_) | None => TemplateUpdate::default(),
        }
    }

    fn edit_template(
        &self,
        mut annotations: Told,
        revision: TemplateUpdate,
        was_injected: bool,
    ) -> TemplateEdit {
        let pod = self.pod();
        let labelled = self.is_labelled();
        let mut label = None;
        if !revision.record.is_empty() {
            annotations.insert(INJECTED.to_owned(), Some(revision.record.write()));
            label = (!labelled).then_some(true);
        } else if was_injected {
            annotations.insert(INJECTED.to_owned(), None);
            label = labelled.then_some(false);
        }
        let absent = TemplateUpdate::absent(pod);
        TemplateEdit {
            annotations: Changes::of(pod.annotations(), absent.metadata, annotations),
            label,
            no_labels: absent.labels,
            revision,
        }
    }
}
