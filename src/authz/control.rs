//! Access control of the admin API: the guard of realms, and then the engine.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};

use super::guard::{GuardDecision, RealmGuard};
use super::namespace_realm::NamespaceRealms;
use super::question::AccessQuestion;
use super::reviewer::{AccessReviewer, AccessUnavailable, AccessVerdict};
use super::route::{AdminRoute, ROUTES, RouteNamespace};
use super::subject::AccessSubject;

/// Reviews at the same time for the list of permissions of one caller.
const MAX_CONCURRENT_QUESTIONS: usize = 8;

/// Decision about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDecision {
    Allowed,
    Denied(AccessDenial),
}

/// Reason of a denial, for the record. The caller does not get it: a response that differs would disclose which
/// namespaces exist, and whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDenial {
    /// The realm of the caller is not configured.
    UnknownRealm,
    /// The namespace is not of the caller's realm.
    OtherNamespace,
    /// The call is about the whole cluster, and the caller's realm is not one of the platform.
    ClusterScope,
    /// RBAC does not allow it.
    NotPermitted,
}

impl AccessDenial {
    /// Word in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownRealm => "unknown_realm",
            Self::OtherNamespace => "other_namespace",
            Self::ClusterScope => "cluster_scope",
            Self::NotPermitted => "not_permitted",
        }
    }
}

/// Decision about one route, in the list of permissions of a caller.
#[derive(Clone, Debug)]
pub struct RouteDecision {
    pub route: &'static AdminRoute,
    pub decision: Result<AccessDecision, AccessUnavailable>,
}

/// Access control of the admin API.
#[derive(Clone, Debug)]
pub struct AccessControl {
    guard: Arc<RealmGuard>,
    labels: Arc<dyn NamespaceRealms>,
    engine: Arc<dyn AccessReviewer>,
}

impl AccessControl {
    /// Creates access control over an engine, which is asked each time: wrap it in a [`super::CachedReviewer`].
    #[must_use]
    pub fn new(
        guard: Arc<RealmGuard>,
        labels: Arc<dyn NamespaceRealms>,
        engine: Arc<dyn AccessReviewer>,
    ) -> Self {
        Self {
            guard,
            labels,
            engine,
        }
    }

    /// Guard of realms, which makes subjects.
    #[must_use]
    pub fn guard(&self) -> &RealmGuard {
        &self.guard
    }

    /// Decides about a call. The guard comes first, and its denial is final: the engine is not asked then.
    ///
    /// # Errors
    /// The API server cannot be asked. The call is neither allowed nor denied.
    pub async fn decide(
        &self,
        subject: &AccessSubject,
        question: &AccessQuestion,
    ) -> Result<AccessDecision, AccessUnavailable> {
        let realm = subject.realm();
        let denied = match self.guard.check(realm, question.namespace()) {
            GuardDecision::Permitted => None,
            GuardDecision::IfLabelled => {
                let namespace = question.namespace().unwrap_or_default();
                let label = self.labels.realm_of(namespace, subject.tenant()).await?;
                (label.as_deref() != Some(realm)).then_some(AccessDenial::OtherNamespace)
            }
            GuardDecision::UnknownRealm => Some(AccessDenial::UnknownRealm),
            GuardDecision::OtherNamespace => Some(AccessDenial::OtherNamespace),
            GuardDecision::ClusterScope => Some(AccessDenial::ClusterScope),
        };
        if let Some(denial) = denied {
            return Ok(AccessDecision::Denied(denial));
        }
        Ok(match self.engine.review(subject, question).await? {
            AccessVerdict::Allowed => AccessDecision::Allowed,
            AccessVerdict::Denied => AccessDecision::Denied(AccessDenial::NotPermitted),
        })
    }

    /// Decides about every route, in a namespace or without one: the same decisions that calls get. A route with a name
    /// is asked about every name. Routes that need a namespace are left out without one.
    pub async fn decide_routes(
        &self,
        subject: &AccessSubject,
        namespace: Option<&str>,
    ) -> Vec<RouteDecision> {
        let asked = ROUTES.iter().filter_map(|route| {
            let own = match route.namespace {
                RouteNamespace::Cluster => None,
                _ => namespace,
            };
            route.question(own, None).ok().map(|asked| (route, asked))
        });
        stream::iter(asked)
            .map(|(route, question)| async move {
                let decision = match question {
                    Some(question) => self.decide(subject, &question).await,
                    None => Ok(AccessDecision::Allowed),
                };
                RouteDecision { route, decision }
            })
            .buffered(MAX_CONCURRENT_QUESTIONS)
            .collect()
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::authz::static_reviewer::{AccessGrant, StaticReviewer};
    use crate::authz::{AdminOperation, AdminRole};
    use crate::identity::{AuthenticatedCaller, UserInfo};

    /// Labels in memory, and the namespaces that were asked about.
    #[derive(Debug, Default)]
    struct LabelTable {
        labels: Mutex<BTreeMap<String, String>>,
        asked: Mutex<Vec<String>>,
        fails: bool,
    }

    #[async_trait]
    impl NamespaceRealms for LabelTable {
        async fn realm_of(
            &self,
            namespace: &str,
            _: &str,
        ) -> Result<Option<String>, AccessUnavailable> {
            self.asked.lock().unwrap().push(namespace.to_owned());
            if self.fails {
                let reason = "away".to_owned();
                return Err(AccessUnavailable { reason });
            }
            Ok(self.labels.lock().unwrap().get(namespace).cloned())
        }
    }

    struct Fixture {
        control: AccessControl,
        engine: Arc<StaticReviewer>,
        labels: Arc<LabelTable>,
    }

    impl Fixture {
        fn new(fails: bool) -> Self {
            let settings = json!({
                "a": {"namespaces": {"names": ["team-a"], "labelled": true}},
                "b": {"namespaces": {"names": ["team-b"], "labelled": true}, "platform": true},
            });
            let guard = RealmGuard::new(&serde_json::from_value(settings).unwrap()).unwrap();
            let engine = Arc::new(StaticReviewer::default());
            let labels = Arc::new(LabelTable {
                fails,
                ..LabelTable::default()
            });
            let control = AccessControl::new(
                Arc::new(guard),
                Arc::clone(&labels) as Arc<dyn NamespaceRealms>,
                Arc::clone(&engine) as Arc<dyn AccessReviewer>,
            );
            Self {
                control,
                engine,
                labels,
            }
        }

        fn label(&self, namespace: &str, realm: &str) {
            let mut labels = self.labels.labels.lock().unwrap();
            labels.insert(namespace.to_owned(), realm.to_owned());
        }

        fn subject(&self, realm: &str) -> AccessSubject {
            let caller = AuthenticatedCaller {
                user_info: UserInfo {
                    subject: "alice".to_owned(),
                    groups: vec!["data".to_owned()],
                    ..UserInfo::default()
                },
                ..AuthenticatedCaller::default()
            };
            self.control.guard().subject(realm, &caller).unwrap()
        }

        async fn reads(&self, realm: &str, namespace: &str) -> AccessDecision {
            let route = AdminOperation::GetSecret.route();
            let question = route
                .question(Some(namespace), Some("db"))
                .unwrap()
                .unwrap();
            let subject = self.subject(realm);
            self.control.decide(&subject, &question).await.unwrap()
        }
    }

    /// Question about the whole cluster.
    fn replicas() -> AccessQuestion {
        let route = AdminOperation::ListReplicas.route();
        route.question(None, None).unwrap().unwrap()
    }

    const CLUSTER_SCOPE: AccessDecision = AccessDecision::Denied(AccessDenial::ClusterScope);

    const OTHER: AccessDecision = AccessDecision::Denied(AccessDenial::OtherNamespace);

    #[tokio::test]
    async fn row_64_namespace_of_another_realm_is_denied_despite_a_binding() {
        let fixture = Fixture::new(false);
        // Mistakes: everything for alice of realm a, and for its group.
        fixture.engine.set(vec![
            AccessGrant::user("oidc:a:alice", AdminRole::Viewer, None),
            AccessGrant::group("oidc:a:group:data", AdminRole::Platform, None),
        ]);
        assert_eq!(fixture.reads("a", "team-a").await, AccessDecision::Allowed);
        let before = fixture.engine.calls();
        assert_eq!(fixture.reads("a", "team-b").await, OTHER);
        let subject = fixture.subject("a");
        let whole = fixture.control.decide(&subject, &replicas()).await;
        assert_eq!(whole, Ok(CLUSTER_SCOPE));
        assert_eq!(fixture.engine.calls(), before, "the engine is not asked");
        // The same group name of realm b is another group.
        assert_eq!(
            fixture.reads("b", "team-b").await,
            AccessDecision::Denied(AccessDenial::NotPermitted)
        );
    }

    #[tokio::test]
    async fn row_64_existence_of_a_namespace_is_not_visible() {
        let fixture = Fixture::new(false);
        fixture.engine.set(vec![AccessGrant::user(
            "oidc:a:alice",
            AdminRole::Viewer,
            None,
        )]);
        fixture.label("theirs", "b");
        // One of realm b, and one that does not exist: one result, after the same calls.
        for namespace in ["theirs", "nowhere"] {
            assert_eq!(fixture.reads("a", namespace).await, OTHER);
        }
        let asked = fixture.labels.asked.lock().unwrap().clone();
        assert_eq!(
            (asked, fixture.engine.calls()),
            (vec!["theirs".to_owned(), "nowhere".to_owned()], 0)
        );
    }

    #[tokio::test]
    async fn row_65_live_label_decides() {
        let fixture = Fixture::new(false);
        fixture.engine.set(vec![
            AccessGrant::user("oidc:a:alice", AdminRole::Viewer, None),
            AccessGrant::user("oidc:b:alice", AdminRole::Viewer, None),
        ]);
        let label = |realm: &str| fixture.label("shared", realm);
        for (realm, other) in [("a", "b"), ("b", "a")] {
            label(realm);
            assert_eq!(
                fixture.reads(realm, "shared").await,
                AccessDecision::Allowed
            );
            assert_eq!(fixture.reads(other, "shared").await, OTHER);
        }
        // The label of a realm that is not a name, or of none.
        label("");
        assert_eq!(fixture.reads("a", "shared").await, OTHER);
    }

    #[tokio::test]
    async fn row_68_nothing_is_allowed_without_an_answer() {
        let fixture = Fixture::new(true);
        let route = AdminOperation::GetSecret.route();
        let subject = fixture.subject("a");
        let question = |namespace| {
            route
                .question(Some(namespace), Some("db"))
                .unwrap()
                .unwrap()
        };
        let labels_away = fixture.control.decide(&subject, &question("shared")).await;
        assert!(labels_away.is_err());
        fixture.engine.fail(true);
        let engine_away = fixture.control.decide(&subject, &question("team-a")).await;
        let sentence = engine_away.unwrap_err().to_string();
        assert_eq!(
            sentence,
            "permissions cannot be checked at the moment: the engine is away. Retry"
        );
        // A denial of the guard needs nobody.
        let denied = fixture.control.decide(&subject, &replicas()).await;
        assert_eq!(denied, Ok(CLUSTER_SCOPE));
    }

    #[tokio::test]
    async fn permissions_of_a_caller_are_those_of_its_calls() {
        let fixture = Fixture::new(false);
        fixture.engine.set(vec![
            AccessGrant::user("oidc:b:alice", AdminRole::Viewer, Some("team-b")),
            AccessGrant::user("oidc:b:alice", AdminRole::Platform, None),
        ]);
        let subject = fixture.subject("b");
        for namespace in [Some("team-b"), Some("team-a"), None] {
            let decisions = fixture.control.decide_routes(&subject, namespace).await;
            let mut compared = 0;
            for RouteDecision { route, decision } in decisions {
                let own =
                    namespace.filter(|_| route.namespace != crate::authz::RouteNamespace::Cluster);
                let expected = match route.question(own, None).unwrap() {
                    Some(question) => fixture.control.decide(&subject, &question).await,
                    None => Ok(AccessDecision::Allowed),
                };
                assert_eq!(decision, expected, "{} {}", route.method, route.path);
                compared += 1;
            }
            let all = if namespace.is_some() { 20 } else { 12 };
            assert_eq!(compared, all, "{namespace:?}");
        }
    }
}
