//! An update of a workload under review.

use std::collections::BTreeMap;

use crate::record::Record;
use crate::view::annotations::Annotations;
use crate::view::workload::{TemplateView, WorkloadKind, WorkloadView};
use crate::workload::statements::Statements;

/// Scope of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeScope {
    /// The object is new, or an author changed annotations of the contract.
    Annotations,
    /// The template has other changes, so that its pods are replaced anyway.
    Template,
    /// The template is as it was.
    Unchanged,
}

/// A workload under review.
#[derive(Debug)]
pub struct WorkloadUpdate<'r, 'a> {
    pub(crate) kind: WorkloadKind,
    pub(crate) object: &'r WorkloadView<'a>,
    pub(crate) template: &'r TemplateView<'a>,
    pub(crate) old: Option<&'r TemplateView<'a>>,
    pub(crate) statements: Statements<'a>,
    /// Annotations that a CronJob's template inherited, in the template of its Job; the Job's own metadata lacks them.
    pub(crate) farthest: Option<Annotations<'static>>,
    /// Annotations of the template that an earlier version copied there.
    pub(crate) copies: BTreeMap<String, String>,
    /// Earlier additions to the workload.
    pub(crate) recorded: Record,
    /// Earlier additions to the template.
    pub(crate) in_template: Record,
    pub(crate) annotations: Annotations<'static>,
    pub(crate) scope: ChangeScope,
}

/// Changes to annotations, by full name; `None` removes one.
pub(crate) type AnnotationChanges = BTreeMap<String, Option<String>>;
