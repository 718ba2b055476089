//! Realms and their namespaces: the first of two guards. Without IO.
//!
//! A binding of RBAC can be a mistake: it names a group of another realm. The guard denies the access all the same,
//! because it comes first and a denial is final.

use std::collections::BTreeMap;

use super::settings::{InvalidRealms, RealmNamespaces, RealmPrefixes, RealmsSettings};
use super::subject::{AccessSubject, CLUSTER_REALM};
use crate::identity::AuthenticatedCaller;

/// Decision about a realm and a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardDecision {
    /// RBAC decides.
    Permitted,
    /// RBAC decides if the live namespace has the label of the realm; otherwise the namespace is of another realm.
    IfLabelled,
    /// The realm is not configured.
    UnknownRealm,
    /// The namespace is not of the realm.
    OtherNamespace,
    /// The question is about the whole cluster, and the realm is not one of the platform.
    ClusterScope,
}

/// Namespaces and prefixes of all realms.
#[derive(Clone, Debug)]
pub struct RealmGuard {
    realms: BTreeMap<String, GuardedRealm>,
}

#[derive(Clone, Debug)]
struct GuardedRealm {
    namespaces: RealmNamespaces,
    platform: bool,
    /// `None`: users of the cluster, whose names are the API server's.
    prefixes: Option<RealmPrefixes>,
}

impl RealmGuard {
    /// Creates a guard. Users of the cluster have all namespaces unless the settings have a realm `kubernetes`: for
    /// them, RBAC is the whole truth.
    ///
    /// # Errors
    /// The settings are wrong, with a sentence that names the field.
    pub fn new(settings: &RealmsSettings) -> Result<Self, InvalidRealms> {
        let prefixes = settings.prefixes()?;
        let mut realms: BTreeMap<String, GuardedRealm> = settings
            .realms
            .iter()
            .map(|(name, realm)| {
                let guarded = GuardedRealm {
                    namespaces: realm.namespaces.clone(),
                    platform: realm.platform,
                    prefixes: prefixes.get(name.as_str()).cloned(),
                };
                (name.clone(), guarded)
            })
            .collect();
        realms
            .entry(CLUSTER_REALM.to_owned())
            .or_insert_with(|| GuardedRealm {
                namespaces: RealmNamespaces {
                    all: true,
                    ..RealmNamespaces::default()
                },
                platform: true,
                prefixes: None,
            });
        Ok(Self { realms })
    }

    /// User and groups of a caller. The realm is the name of the provider that verified the token, never a claim. Names
    /// of an issuer are prefixed; those of the realm `kubernetes`, which no issuer can have, are as the API server has
    /// them. `None` if the realm is not configured.
    #[must_use]
    pub fn subject(&self, realm: &str, caller: &AuthenticatedCaller) -> Option<AccessSubject> {
        let Some(prefixes) = self.realms.get(realm)?.prefixes.as_ref() else {
            return Some(AccessSubject::of_cluster(caller));
        };
        let with = |prefix: &str, names: &[String]| -> Vec<String> {
            names.iter().map(|name| format!("{prefix}{name}")).collect()
        };
        let groups = [
            with(&prefixes.group, &caller.user_info.groups),
            with(&prefixes.realm_role, &caller.realm_roles),
            with(&prefixes.client_role, &caller.client_roles),
        ];
        Some(AccessSubject::new(
            realm,
            realm.to_owned(),
            format!("{}{}", prefixes.user, caller.user_info.subject),
            String::new(),
            groups.concat(),
        ))
    }

    /// Whether callers of a realm may ask RBAC about a namespace, or about the whole cluster.
    #[must_use]
    pub fn check(&self, realm: &str, namespace: Option<&str>) -> GuardDecision {
        let Some(guarded) = self.realms.get(realm) else {
            return GuardDecision::UnknownRealm;
        };
        match namespace {
            None if guarded.platform => GuardDecision::Permitted,
            None => GuardDecision::ClusterScope,
            Some(namespace) => guarded.namespaces.check(namespace),
        }
    }
}

impl RealmNamespaces {
    fn check(&self, namespace: &str) -> GuardDecision {
        if matches(&self.deny.names, &self.deny.prefixes, namespace) {
            GuardDecision::OtherNamespace
        } else if self.all || matches(&self.names, &self.prefixes, namespace) {
            GuardDecision::Permitted
        } else if self.labelled {
            GuardDecision::IfLabelled
        } else {
            GuardDecision::OtherNamespace
        }
    }
}

fn matches(names: &[String], prefixes: &[String], namespace: &str) -> bool {
    names.iter().any(|name| name == namespace)
        || prefixes.iter().any(|prefix| namespace.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::UserInfo;

    fn guard(value: Value) -> RealmGuard {
        RealmGuard::new(&serde_json::from_value(value).unwrap()).unwrap()
    }

    fn caller(subject: &str, groups: &[String], roles: &[String]) -> AuthenticatedCaller {
        AuthenticatedCaller {
            user_info: UserInfo {
                subject: subject.to_owned(),
                groups: groups.to_vec(),
                ..UserInfo::default()
            },
            realm_roles: roles.to_vec(),
            client_roles: roles.to_vec(),
            ..AuthenticatedCaller::default()
        }
    }

    #[rstest]
    #[case("tenant-a", Some("team-a"), GuardDecision::Permitted)]
    #[case("tenant-a", Some("a-jobs"), GuardDecision::Permitted)]
    #[case("tenant-a", Some("a-secret"), GuardDecision::OtherNamespace)]
    #[case("tenant-a", Some("a-private-x"), GuardDecision::OtherNamespace)]
    #[case("tenant-a", Some("team-b"), GuardDecision::OtherNamespace)]
    #[case("tenant-a", None, GuardDecision::ClusterScope)]
    #[case("labelled", Some("team-a"), GuardDecision::IfLabelled)]
    #[case("labelled", Some("kube-system"), GuardDecision::OtherNamespace)]
    #[case("platform", Some("team-a"), GuardDecision::OtherNamespace)]
    #[case("platform", None, GuardDecision::Permitted)]
    #[case("everything", Some("team-a"), GuardDecision::Permitted)]
    #[case("everything", Some("kube-system"), GuardDecision::OtherNamespace)]
    #[case("unknown", Some("team-a"), GuardDecision::UnknownRealm)]
    #[case("unknown", None, GuardDecision::UnknownRealm)]
    #[case("kubernetes", Some("kube-system"), GuardDecision::Permitted)]
    #[case("kubernetes", None, GuardDecision::Permitted)]
    fn namespace_belongs_to_its_realm(
        #[case] realm: &str,
        #[case] namespace: Option<&str>,
        #[case] expected: GuardDecision,
    ) {
        let deny = json!({"names": ["a-secret", "kube-system"], "prefixes": ["a-private-"]});
        let guard = guard(json!({
            "tenant-a": {"namespaces": {"names": ["team-a"], "prefixes": ["a-"], "deny": deny}},
            "labelled": {"namespaces": {"labelled": true, "deny": deny}},
            "platform": {"platform": true},
            "everything": {"namespaces": {"all": true, "deny": deny}},
        }));
        assert_eq!(guard.check(realm, namespace), expected);
    }

    #[test]
    fn users_of_the_cluster_can_be_restricted() {
        let guard = guard(json!({"kubernetes": {"namespaces": {"names": ["ops"]}}}));
        let check = |namespace| guard.check(CLUSTER_REALM, namespace);
        assert_eq!(check(Some("ops")), GuardDecision::Permitted);
        assert_eq!(check(Some("team-a")), GuardDecision::OtherNamespace);
        assert_eq!(check(None), GuardDecision::ClusterScope);
    }

    #[test]
    fn row_62_names_of_the_cluster_are_prefixed() {
        let guard = guard(json!({"tenant-a": {}}));
        let names = ["system:masters", "system:serviceaccounts"].map(str::to_owned);
        let caller = caller("system:serviceaccount:kube-system:root", &names, &names);
        let subject = guard.subject("tenant-a", &caller).unwrap();
        assert_eq!(
            subject.user(),
            "oidc:tenant-a:system:serviceaccount:kube-system:root"
        );
        assert_eq!(
            subject.groups(),
            [
                "oidc:tenant-a:client-role:system:masters",
                "oidc:tenant-a:client-role:system:serviceaccounts",
                "oidc:tenant-a:group:system:masters",
                "oidc:tenant-a:group:system:serviceaccounts",
                "oidc:tenant-a:role:system:masters",
                "oidc:tenant-a:role:system:serviceaccounts",
            ]
        );
        assert_eq!(guard.subject("other", &caller), None);
    }

    #[test]
    fn users_of_the_cluster_keep_their_names() {
        let groups = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned);
        let mut caller = caller("system:serviceaccount:team-a:ci", &groups, &groups);
        caller
            .user_info
            .claims
            .insert("uid".to_owned(), json!("u-1"));
        let subject = guard(json!({})).subject(CLUSTER_REALM, &caller).unwrap();
        assert_eq!(subject.user(), "system:serviceaccount:team-a:ci");
        assert_eq!(
            (subject.uid(), subject.tenant()),
            ("u-1", "kubernetes/team-a")
        );
        assert_eq!(
            subject.groups(),
            ["system:authenticated", "system:serviceaccounts"]
        );
    }

    /// Prefixes that are likely to collide with each other and with those of Kubernetes.
    fn prefix() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            Just(None),
            "[systemoidc:ab]{0,6}".prop_map(Some),
            Just(Some("oidc:b:".to_owned())),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-c:/]{0,8}",
            "(ystem:|system:|tem:)masters",
            "(role|group|client-role):[ab]",
        ]
    }

    fn realm() -> impl Strategy<Value = Value> {
        (prefix(), prefix(), prefix(), prefix()).prop_map(|(user, group, realm, client)| {
            json!({
                "userPrefix": user, "groupPrefix": group,
                "realmRolePrefix": realm, "clientRolePrefix": client,
            })
        })
    }

    proptest! {
        /// Two realms with accepted prefixes share no user and no group, no role is a group, and no name is one of
        /// Kubernetes.
        #[test]
        fn row_62_realms_share_no_names(
            a in realm(), b in realm(),
            users in (name(), name()),
            groups in prop::collection::vec(name(), 0..4),
            roles in prop::collection::vec(name(), 0..4),
        ) {
            let settings = serde_json::from_value(json!({"a": a, "b": b})).unwrap();
            let Ok(guard) = RealmGuard::new(&settings) else { return Ok(()) };
            let of_a = guard.subject("a", &caller(&users.0, &groups, &roles)).unwrap();
            let of_b = guard.subject("b", &caller(&users.1, &groups, &roles)).unwrap();
            prop_assert_ne!(of_a.user(), of_b.user());
            prop_assert!(of_a.groups().iter().all(|group| !of_b.groups().contains(group)));
            for name in of_a.groups().iter().map(String::as_str).chain([of_a.user()]) {
                prop_assert!(!name.starts_with("system:"), "{name}");
            }
            let only_roles = guard.subject("a", &caller("u", &[], &roles)).unwrap();
            let only_groups = guard.subject("a", &caller("u", &groups, &[])).unwrap();
            prop_assert!(only_groups.groups().iter().all(|group| !only_roles.groups().contains(group)));
        }

        /// A denial wins, whatever else the settings say; and what nothing permits is denied.
        #[test]
        fn denial_wins_and_is_the_default(
            namespace in "[a-c]{1,4}",
            names in prop::collection::vec("[a-c]{1,4}", 0..3),
            prefixes in prop::collection::vec("[a-c]{1,2}", 0..3),
            denied in prop::collection::vec("[a-c]{1,4}", 0..3),
            all: bool,
            labelled: bool,
        ) {
            let guard = guard(json!({"r": {"namespaces": {
                "all": all, "labelled": labelled, "names": names, "prefixes": prefixes,
                "deny": {"names": denied},
            }}}));
            let decision = guard.check("r", Some(&namespace));
            let named = names.contains(&namespace)
                || prefixes.iter().any(|prefix| namespace.starts_with(prefix.as_str()));
            let expected = if denied.contains(&namespace) {
                GuardDecision::OtherNamespace
            } else if all || named {
                GuardDecision::Permitted
            } else if labelled {
                GuardDecision::IfLabelled
            } else {
                GuardDecision::OtherNamespace
            };
            prop_assert_eq!(decision, expected);
            prop_assert_eq!(guard.check("r", None), GuardDecision::ClusterScope);
        }
    }
}
