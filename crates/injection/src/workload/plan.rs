//! Plans an object with a pod template: changes to its metadata and to its template, and warnings.

use std::collections::BTreeMap;

use crate::contract::input::PlanInput;
use crate::contract::plan_error::PlanError;
use crate::contract::request::{InjectionRequest, ReloadMode};
use crate::contract::warning::Warning;
use crate::keys::INJECTED;
use crate::record::{Record, Restart};
use crate::reload::{RestartInput, plan_restart};
use crate::view::workload::WorkloadKind;
use crate::workload::reconcile::{TemplateUpdate, reconcile};
use crate::workload::removal_warnings;
use crate::workload::template_edit::{AnnotationEdit, TemplateEdit};
use crate::workload::update::{AnnotationChanges, ChangeScope, WorkloadUpdate};

/// Policy for a template's containers.
#[derive(Clone, Copy, Debug)]
pub enum TemplatePolicy<'p> {
    /// Keep existing entries, and restore injected ones that an update has dropped.
    Preserve,
    /// Remove injected entries; pods are injected when they are created.
    Remove,
    /// Inject into the template.
    Inject(&'p PlanInput<'p>),
}

/// Changes to a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadPlan {
    pub(crate) kind: WorkloadKind,
    /// Changes to the workload's own metadata, by full name.
    pub(crate) metadata: AnnotationEdit,
    pub(crate) template: TemplateEdit,
    /// Warnings for the author, most important first.
    pub warnings: Vec<Warning>,
}

impl WorkloadPlan {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metadata.entries.is_empty() && self.template.is_empty()
    }
}

impl WorkloadUpdate<'_, '_> {
    /// Plans the requested changes. Without a request, because it cannot be read, what was written stays.
    ///
    /// # Errors
    /// All errors of injecting into the template.
    pub fn plan(
        &self,
        request: Option<&InjectionRequest>,
        secrets: &[String],
        template: TemplatePolicy<'_>,
    ) -> Result<WorkloadPlan, Vec<PlanError>> {
        // Annotations that cannot be inherited are rejected by `check_inherited`; other callers change nothing.
        let copies_stay = self.scope == ChangeScope::Unchanged || self.check_inherited().is_err();
        let (annotations, copied) = if copies_stay {
            let copied = &self.recorded.copied;
            (self.preserve(copied), copied.clone())
        } else {
            (self.propagate(), BTreeMap::new())
        };
        let mut update = self.template_update(template)?;
        update.record.template = !update.record.is_empty();
        let mut record = Record {
            template: update.record.template,
            copied,
            ..Record::default()
        };
        let mut warnings = update.warnings.clone();
        warnings.extend(self.removal_warnings(&update, copies_stay));
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
        // An empty record that the webhook did not write is not removed.
        if !record.is_blank() {
            metadata.insert(INJECTED.to_owned(), Some(record.write()));
        } else if !self.recorded.is_blank() {
            metadata.insert(INJECTED.to_owned(), None);
        }
        warnings.sort();
        warnings.dedup();
        let (own, no_metadata) = (self.object.annotations(), self.object.metadata.is_none());
        Ok(WorkloadPlan {
            kind: self.kind,
            metadata: AnnotationEdit::of(own, no_metadata, metadata),
            template: self.edit_template(annotations, update, self.is_injected(&self.recorded)),
            warnings,
        })
    }

    /// Changes to the template's containers.
    fn template_update(
        &self,
        template: TemplatePolicy<'_>,
    ) -> Result<TemplateUpdate, Vec<PlanError>> {
        let input = match (self.scope, template) {
            (ChangeScope::Unchanged, _) | (_, TemplatePolicy::Preserve) => {
                return Ok(self.restored(&self.recorded));
            }
            (ChangeScope::Annotations | ChangeScope::Template, TemplatePolicy::Remove) => None,
            (ChangeScope::Annotations | ChangeScope::Template, TemplatePolicy::Inject(input)) => {
                Some(input)
            }
        };
        let recorded = if self.is_injected(&self.recorded) && !self.is_replaced() {
            &self.in_template
        } else {
            &Record::default()
        };
        let old = self.old.map(|old| &old.pod).filter(|_| !self.is_rollback());
        reconcile(input, self.pod(), old, recorded, &self.statements)
    }

    fn restart(
        &self,
        mode: ReloadMode,
        secrets: &[String],
        in_template: bool,
    ) -> (AnnotationChanges, Restart, Vec<Warning>) {
        let metadata = self.object.annotations();
        let recorded = if self.recorded.is_dropped_from(metadata) {
            Restart::default()
        } else {
            self.statements.without_stated(&self.recorded.restart)
        };
        let planned = plan_restart(&RestartInput {
            kind: self.kind,
            mode,
            secrets,
            metadata,
            template: self.template.pod.annotations(),
            recorded: &recorded,
            in_template,
        });
        let mut warnings = removal_warnings::from_metadata(metadata, &recorded, &planned.written);
        if !warnings.is_empty() && self.statements.is_apply() {
            warnings.clear();
        }
        warnings.extend(planned.warning.map(Warning::NoRestart));
        (planned.changes, planned.written, warnings)
    }

    /// Warnings about entries that are removed from the template, unless the update itself is an apply, which has all
    /// statements of its author.
    fn removal_warnings(&self, update: &TemplateUpdate, copies_stay: bool) -> Vec<Warning> {
        let mut warnings = removal_warnings::from_containers(self.pod(), &update.removals);
        let has_original = |key: &str| self.annotations.get(key).is_some();
        let copies = self
            .copies
            .keys()
            .map(String::as_str)
            .filter(|key| !copies_stay && !has_original(key));
        warnings.extend(removal_warnings::from_template(copies));
        if !warnings.is_empty() && self.statements.is_apply() {
            warnings.clear();
        }
        warnings
    }
}
