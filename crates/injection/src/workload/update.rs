//! An update of a workload, as it is reviewed.

use std::collections::BTreeMap;

use crate::record::Record;
use crate::view::pod::Annotations;
use crate::view::workload::{TemplateView, WorkloadKind, WorkloadView};
use crate::workload::statements::Statements;

/// How much of a workload an update touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeScope {
    /// It is new, or what its authors say in our annotations has changed.
    Annotations,
    /// Its template has changed by other means, so that its pods are replaced anyway.
    Template,
    /// Neither: the template stays as it was.
    Neither,
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
    /// What was written on the workload earlier.
    pub(crate) recorded: Record,
    /// What was written into the template earlier.
    pub(crate) in_template: Record,
    pub(crate) annotations: Annotations<'static>,
    pub(crate) scope: ChangeScope,
}

/// Annotations by their whole names; `None` takes one away.
pub(crate) type Told = BTreeMap<String, Option<String>>;
