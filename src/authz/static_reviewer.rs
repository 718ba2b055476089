//! Engine with rules in memory, for tests: the roles of the chart, bound as RBAC binds them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::question::AccessQuestion;
use super::reviewer::{AccessReviewer, AccessUnavailable, AccessVerdict};
use super::role::AdminRole;
use super::subject::AccessSubject;

/// Binding of a role to a user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessGrant {
    pub user: Option<String>,
    pub group: Option<String>,
    pub role: AdminRole,
    /// `None`: all namespaces and the whole cluster, as a ClusterRoleBinding.
    pub namespace: Option<String>,
}

impl AccessGrant {
    #[must_use]
    pub fn user(user: &str, role: AdminRole, namespace: Option<&str>) -> Self {
        Self {
            user: Some(user.to_owned()),
            group: None,
            role,
            namespace: namespace.map(str::to_owned),
        }
    }

    #[must_use]
    pub fn group(group: &str, role: AdminRole, namespace: Option<&str>) -> Self {
        Self {
            user: None,
            group: Some(group.to_owned()),
            role,
            namespace: namespace.map(str::to_owned),
        }
    }

    fn allows(&self, subject: &AccessSubject, question: &AccessQuestion) -> bool {
        let is_bound = self.user.as_deref() == Some(subject.user())
            || self
                .group
                .as_ref()
                .is_some_and(|group| subject.groups().contains(group));
        let is_inside =
            self.namespace.is_none() || self.namespace.as_deref() == question.namespace();
        let permission = question.permission();
        is_bound && is_inside && self.role.permissions().any(|each| each == permission)
    }
}

/// Engine with rules in memory.
#[derive(Debug, Default)]
pub struct StaticReviewer {
    grants: Mutex<Vec<AccessGrant>>,
    calls: AtomicUsize,
    fails: AtomicBool,
}

impl StaticReviewer {
    /// Replaces all rules.
    pub fn set(&self, grants: Vec<AccessGrant>) {
        *self.grants.lock().unwrap_or_else(PoisonError::into_inner) = grants;
    }

    /// Makes every review fail, or succeed again.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// Reviews so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl AccessReviewer for StaticReviewer {
    async fn review(
        &self,
        subject: &AccessSubject,
        question: &AccessQuestion,
    ) -> Result<AccessVerdict, AccessUnavailable> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(AccessUnavailable {
                reason: "the engine is away".to_owned(),
            });
        }
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let is_allowed = grants.iter().any(|grant| grant.allows(subject, question));
        Ok(if is_allowed {
            AccessVerdict::Allowed
        } else {
            AccessVerdict::Denied
        })
    }
}
