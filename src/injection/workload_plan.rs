//! The plan for an object with a pod template: what its annotations and its template's come to.
//!
//! An update is judged by comparing the object with what it was. What a newer version of this program would do
//! otherwise never reaches a template that nobody touched: that would restart the cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use super::carry::{self, Carry, authored, carry};
use super::input::PlanInput;
use super::keys::{INJECTED, PREFIX, RECORD_KEY};
use super::limits::MAX_COMPARED_ELEMENTS;
use super::pod::{Annotations, PodView};
use super::problem::{PlanError, Warning};
use super::record::{Record, Restart};
use super::reload::{RestartInput, restart};
use super::request::{InjectionRequest, ReloadMode};
use super::revise::{Revision, restore, revise};
use super::template_edit::{Changes, TemplateEdit};
use super::template_patch::render_template;
use super::workload::{TemplateView, WorkloadKind, WorkloadView};

/// How much of a workload an update touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It is new, or what its authors say in our annotations has changed.
    Annotations,
    /// Its template has changed by other means, so that its pods are replaced anyway.
    Template,
    /// Neither: the template stays as it was.
    Neither,
}

/// A workload under review.
#[derive(Debug)]
pub struct Review<'r, 'a> {
    kind: WorkloadKind,
    object: &'r WorkloadView<'a>,
    template: &'r TemplateView<'a>,
    old: Option<&'r TemplateView<'a>>,
    /// What was written on the workload earlier.
    recorded: Record,
    /// What was written into the template earlier.
    in_template: Record,
    annotations: Annotations<'static>,
    scope: Scope,
}

/// What to do with a template's containers.
#[derive(Clone, Copy, Debug)]
pub enum Template<'p> {
    /// Leave what is there, and put back what an update has dropped of ours.
    Keep,
    /// Take back what was injected; pods are injected when they are created.
    Without,
    /// Inject.
    With(&'p PlanInput<'p>),
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadPlan {
    pub(super) kind: WorkloadKind,
    /// Of the workload's own metadata, by whole name.
    pub(super) metadata: Changes,
    pub(super) template: TemplateEdit,
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
    json.bytes().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count()
}

// === impl Review ===

impl<'r, 'a> Review<'r, 'a> {
    /// Looks at a workload and, for an update, at what it was; `None` when it has no pod template.
    #[must_use]
    pub fn of(kind: WorkloadKind, object: &'r WorkloadView<'a>, old: Option<&'r WorkloadView<'a>>) -> Option<Self> {
        let template = object.template(kind)?;
        let before = old.and_then(|old| old.template(kind));
        let record =
            |annotations: Option<&Annotations<'_>>| annotations.and_then(|a| a.get(RECORD_KEY)).and_then(Record::read);
        let was = old.and_then(|old| record(old.annotations())).unwrap_or_default();
        // Whoever replaces an object wholesale drops the record with the rest.
        let recorded = record(object.annotations()).unwrap_or_else(|| was.clone());
        let in_template = record(template.pod.annotations())
            .or_else(|| record(before.and_then(|before| before.pod.annotations())))
            .unwrap_or_default();
        let words = authored(object.beside_template(), template.pod.annotations(), &recorded.copied);
        let annotations =
            Annotations::from_pairs(words.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())));
        let mut review =
            Self { kind, object, template, old: before, recorded, in_template, annotations, scope: Scope::Annotations };
        if let (Some(old), Some(before)) = (old, before)
            && words == authored(old.beside_template(), before.pod.annotations(), &was.copied)
        {
            review.scope = if review.keeps(before, &was) { Scope::Neither } else { Scope::Template };
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
        if [now, then].into_iter().any(|json| elements(json) > MAX_COMPARED_ELEMENTS) {
            return false;
        }
        let parsed = [now, then].map(serde_json::from_str::<Value>);
        let [Ok(mut now), Ok(then)] = parsed else { return false };
        let carry = carry::restore(self.template.pod.annotations(), &was.copied);
        let edit = self.edit_template(&carry, self.restored(was), was.template);
        let patch = json_patch::Patch::from(render_template(&edit, &[]));
        json_patch::patch(&mut now, &patch).is_ok() && now == then
    }

    /// How much the update touches.
    #[must_use]
    pub fn scope(&self) -> Scope {
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

    /// What the template's annotations lack of those beside it, and which copies in it are stale. Nothing, in a stored
    /// object of which every change was reviewed.
    #[must_use]
    pub fn carry(&self) -> Carry {
        carry(self.object.beside_template(), self.template.pod.annotations(), &self.recorded.copied)
    }

    /// Plans for what is asked for; `None` when that cannot be read, and then what was written stays.
    ///
    /// # Errors
    /// Everything that stands against injecting into the template.
    pub fn plan(
        &self,
        request: Option<&InjectionRequest>,
        secrets: &[String],
        template: Template<'_>,
    ) -> Result<WorkloadPlan, Vec<PlanError>> {
        let carry = match self.scope {
            Scope::Annotations | Scope::Template => self.carry(),
            Scope::Neither => carry::restore(self.template.pod.annotations(), &self.recorded.copied),
        };
        let ours = if self.recorded.template { &self.in_template } else { &Record::default() };
        let old = self.old.map(|old| &old.pod);
        let revision = match (self.scope, template) {
            (Scope::Neither, _) | (_, Template::Keep) => self.restored(&self.recorded),
            (Scope::Annotations | Scope::Template, Template::Without) => revise(None, self.pod(), old, ours)?,
            (Scope::Annotations | Scope::Template, Template::With(input)) => {
                revise(Some(input), self.pod(), old, ours)?
            }
        };
        let mut record =
            Record { template: !revision.record.is_empty(), copied: carry.copied.clone(), ..Record::default() };
        let mut warnings = revision.warnings.clone();
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
            template: self.edit_template(&carry, revision, self.recorded.template),
            warnings,
        })
    }

    fn restart(
        &self,
        mode: ReloadMode,
        secrets: &[String],
        in_template: bool,
    ) -> (BTreeMap<String, Option<String>>, Restart, Option<Warning>) {
        let planned = restart(&RestartInput {
            kind: self.kind,
            mode,
            secrets,
            metadata: self.object.annotations(),
            template: self.template.pod.annotations(),
            recorded: &self.recorded.restart,
            in_template,
        });
        (planned.changes, planned.written, planned.warning.map(Warning::NoRestart))
    }

    /// What was injected and stood there before the update.
    fn restored(&self, recorded: &Record) -> Revision {
        match self.old {
            Some(old) if recorded.template => restore(self.pod(), &old.pod, &self.in_template),
            // A second pass over a new object: what the first one wrote is there.
            None if recorded.template => Revision { record: self.in_template.clone(), ..Revision::default() },
            Some(_) | None => Revision::default(),
        }
    }

    fn edit_template(&self, carry: &Carry, revision: Revision, was_injected: bool) -> TemplateEdit {
        let pod = self.pod();
        let mut annotations: BTreeMap<String, Option<String>> =
            carry.changes.iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.clone())).collect();
        let labelled = pod.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()?.injected.as_ref());
        let labelled = labelled.map(super::Text::as_str) == Some("true");
        let mut label = None;
        if !revision.record.is_empty() {
            annotations.insert(INJECTED.to_owned(), Some(revision.record.write()));
            label = (!labelled).then_some(true);
        } else if was_injected {
            annotations.insert(INJECTED.to_owned(), None);
            label = labelled.then_some(false);
        }
        let absent = Revision::absent(pod);
        TemplateEdit {
            annotations: Changes::of(pod.annotations(), absent.metadata, annotations),
            label,
            no_labels: absent.labels,
            revision,
        }
    }
}
