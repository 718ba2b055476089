//! Settings of realms: the namespaces of each, and the prefixes of its users and groups. Fields that are not known are
//! refused.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

use super::subject::CLUSTER_REALM;
use crate::backend::is_dns_label;

/// Realms of one file.
pub const MAX_REALMS: usize = 64;
/// Names, or prefixes, of one list.
pub const MAX_PATTERNS: usize = 1024;
/// Characters of a prefix of users, groups or roles.
pub const MAX_PREFIX: usize = 128;

/// Realms by the name of their identity provider. A realm that is not there has no access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RealmsSettings {
    pub realms: BTreeMap<String, RealmSettings>,
}

/// Access of one realm, before RBAC is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RealmSettings {
    /// Namespaces of the realm. Default: none.
    pub namespaces: RealmNamespaces,
    /// Callers may also ask about the whole cluster, such as about replicas and chains of the audit trail.
    pub platform: bool,
    /// Prefix of users. Default: `oidc:REALM:`.
    pub user_prefix: Option<String>,
    /// Prefix of groups. Default: `oidc:REALM:group:`.
    pub group_prefix: Option<String>,
    /// Prefix of roles of the realm. Default: `oidc:REALM:role:`.
    pub realm_role_prefix: Option<String>,
    /// Prefix of roles of our client. Default: `oidc:REALM:client-role:`.
    pub client_role_prefix: Option<String>,
}

/// Namespaces of a realm: those that one of the fields has, without those that `deny` has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RealmNamespaces {
    /// All namespaces of the cluster.
    pub all: bool,
    /// Namespaces whose label `secrets.floe.dev/realm` is the name of the realm.
    pub labelled: bool,
    /// Names.
    pub names: Vec<String>,
    /// Beginnings of names.
    pub prefixes: Vec<String>,
    /// Namespaces that are never of the realm.
    pub deny: NamespacePatterns,
}

/// Namespaces by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespacePatterns {
    /// Names.
    pub names: Vec<String>,
    /// Beginnings of names.
    pub prefixes: Vec<String>,
}

/// Reason why settings of realms are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidRealms {
    #[error("realms: at most {MAX_REALMS} are allowed")]
    TooMany,
    #[error(
        "realms: {name:?} is not a name: use 1 to 63 lower-case letters, digits and hyphens, the name of the identity provider"
    )]
    Name { name: String },
    #[error("realms.{realm}.{field}: {problem}")]
    Field {
        realm: String,
        field: &'static str,
        problem: String,
    },
    #[error(
        "realms.{realm}.{field}: the prefix {prefix:?} and {other:?} of realms.{other_realm} begin alike, so that names of one realm could be those of another: change one of them"
    )]
    SamePrefix {
        realm: String,
        field: &'static str,
        prefix: String,
        other_realm: String,
        other: String,
    },
}

/// Prefixes of one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RealmPrefixes {
    pub(super) user: String,
    pub(super) group: String,
    pub(super) realm_role: String,
    pub(super) client_role: String,
}

impl RealmPrefixes {
    fn of(realm: &str, settings: &RealmSettings) -> Self {
        let prefix = |set: &Option<String>, kind: &str| {
            set.clone()
                .unwrap_or_else(|| format!("oidc:{realm}:{kind}"))
        };
        Self {
            user: prefix(&settings.user_prefix, ""),
            group: prefix(&settings.group_prefix, "group:"),
            realm_role: prefix(&settings.realm_role_prefix, "role:"),
            client_role: prefix(&settings.client_role_prefix, "client-role:"),
        }
    }

    /// Prefixes of names that RBAC takes for groups.
    fn of_groups(&self) -> [(&'static str, &str); 3] {
        [
            ("groupPrefix", &self.group),
            ("realmRolePrefix", &self.realm_role),
            ("clientRolePrefix", &self.client_role),
        ]
    }
}

impl RealmsSettings {
    /// Checks what the types do not, and returns the prefixes of each realm.
    ///
    /// # Errors
    /// A name, a pattern or a prefix cannot be one, or prefixes of two kinds or realms begin alike.
    pub(super) fn prefixes(&self) -> Result<BTreeMap<&str, RealmPrefixes>, InvalidRealms> {
        if self.realms.len() > MAX_REALMS {
            return Err(InvalidRealms::TooMany);
        }
        let mut prefixes = BTreeMap::new();
        for (realm, settings) in &self.realms {
            if !is_dns_label(realm) {
                let name = realm.chars().take(MAX_PREFIX).collect();
                return Err(InvalidRealms::Name { name });
            }
            check_realm(realm, settings).map_err(|(field, problem)| InvalidRealms::Field {
                realm: realm.clone(),
                field,
                problem,
            })?;
            if realm != CLUSTER_REALM {
                prefixes.insert(realm.as_str(), RealmPrefixes::of(realm, settings));
            }
        }
        check_disjoint(&prefixes, |each| vec![("userPrefix", each.user.as_str())])?;
        check_disjoint(&prefixes, |each| each.of_groups().to_vec())?;
        Ok(prefixes)
    }
}

type Problem = (&'static str, String);

fn check_realm(realm: &str, settings: &RealmSettings) -> Result<(), Problem> {
    let RealmNamespaces {
        names,
        prefixes,
        deny,
        ..
    } = &settings.namespaces;
    check_patterns("namespaces.names", names, is_dns_label)?;
    check_patterns("namespaces.prefixes", prefixes, is_label_start)?;
    check_patterns("namespaces.deny.names", &deny.names, is_dns_label)?;
    check_patterns("namespaces.deny.prefixes", &deny.prefixes, is_label_start)?;
    for (field, prefix) in [
        ("userPrefix", &settings.user_prefix),
        ("groupPrefix", &settings.group_prefix),
        ("realmRolePrefix", &settings.realm_role_prefix),
        ("clientRolePrefix", &settings.client_role_prefix),
    ] {
        let Some(prefix) = prefix else { continue };
        if realm == CLUSTER_REALM {
            let problem = "users of the cluster keep their names: remove it".to_owned();
            return Err((field, problem));
        }
        check_prefix(prefix).map_err(|problem| (field, problem))?;
    }
    Ok(())
}

fn check_patterns(
    field: &'static str,
    patterns: &[String],
    is_valid: fn(&str) -> bool,
) -> Result<(), Problem> {
    if patterns.len() > MAX_PATTERNS {
        return Err((field, format!("at most {MAX_PATTERNS} entries are allowed")));
    }
    match patterns.iter().find(|pattern| !is_valid(pattern)) {
        Some(wrong) => {
            let wrong: String = wrong.chars().take(MAX_PREFIX).collect();
            let problem = format!(
                "{wrong:?} is not of a namespace: use lower-case letters, digits and hyphens, without wildcards"
            );
            Err((field, problem))
        }
        None => Ok(()),
    }
}

/// Whether a name of a namespace can begin with this text.
fn is_label_start(text: &str) -> bool {
    text.len() < 63 && is_dns_label(&format!("{text}0")) && !text.is_empty()
}

/// Checks that no name with the prefix is one of Kubernetes itself.
fn check_prefix(prefix: &str) -> Result<(), String> {
    const RESERVED: &str = "system:";
    if prefix.is_empty() || prefix.len() > MAX_PREFIX {
        return Err(format!(
            "a prefix has 1 to {MAX_PREFIX} characters: without one, users could take names of the cluster"
        ));
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a prefix has letters, digits and punctuation of ASCII".to_owned());
    }
    if prefix.starts_with(RESERVED) || RESERVED.starts_with(prefix) {
        return Err(format!(
            "names that begin with {RESERVED:?} are those of Kubernetes: choose another prefix"
        ));
    }
    Ok(())
}

/// Checks that no prefix begins with another one: then every name belongs to one prefix.
fn check_disjoint(
    realms: &BTreeMap<&str, RealmPrefixes>,
    of_realm: fn(&RealmPrefixes) -> Vec<(&'static str, &str)>,
) -> Result<(), InvalidRealms> {
    let all: Vec<(&str, &'static str, &str)> = realms
        .iter()
        .flat_map(|(realm, prefixes)| {
            let prefixes = of_realm(prefixes).into_iter();
            prefixes.map(move |(field, prefix)| (*realm, field, prefix))
        })
        .collect();
    let mut sorted = all;
    sorted.sort_unstable_by_key(|(_, _, prefix)| *prefix);
    // Of texts in order, one that begins another one stands right before a text that begins with it.
    for pair in sorted.windows(2) {
        if let [(other_realm, _, other), (realm, field, prefix)] = pair
            && prefix.starts_with(other)
        {
            return Err(InvalidRealms::SamePrefix {
                realm: (*realm).to_owned(),
                field,
                prefix: (*prefix).to_owned(),
                other_realm: (*other_realm).to_owned(),
                other: (*other).to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn settings(value: Value) -> RealmsSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn unknown_fields_are_rejected() {
        for wrong in [
            json!({"a": {"namespace": {}}}),
            json!({"a": {"namespaces": {"selector": "x"}}}),
            json!({"a": {"namespaces": {"deny": {"all": true}}}}),
        ] {
            let error = serde_json::from_value::<RealmsSettings>(wrong).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }

    #[rstest]
    #[case(json!({"A": {}}), "realms: \"A\" is not a name")]
    #[case(json!({"../a": {}}), "is not a name")]
    #[case(json!({"a": {"namespaces": {"names": ["*"]}}}), "realms.a.namespaces.names: \"*\"")]
    #[case(json!({"a": {"namespaces": {"prefixes": [""]}}}), "namespaces.prefixes")]
    #[case(json!({"a": {"namespaces": {"deny": {"prefixes": ["kube-*"]}}}}), "namespaces.deny.prefixes")]
    #[case(json!({"a": {"userPrefix": ""}}), "realms.a.userPrefix: a prefix has 1 to 128")]
    #[case(json!({"a": {"userPrefix": "system:serviceaccount:"}}), "are those of Kubernetes")]
    #[case(json!({"a": {"groupPrefix": "sys"}}), "are those of Kubernetes")]
    #[case(json!({"a": {"groupPrefix": "a b"}}), "punctuation of ASCII")]
    #[case(json!({"kubernetes": {"userPrefix": "a:"}}), "keep their names")]
    #[case(json!({"a": {"userPrefix": "x:"}, "b": {"userPrefix": "x:y:"}}), "realms.b.userPrefix: the prefix \"x:y:\" and \"x:\" of realms.a")]
    #[case(json!({"a": {"userPrefix": "x:"}, "b": {"userPrefix": "x:"}}), "begin alike")]
    #[case(json!({"a": {"groupPrefix": "oidc:b:"}, "b": {}}), "begin alike")]
    #[case(json!({"a": {"groupPrefix": "oidc:a:"}}), "begin alike")]
    fn wrong_settings_are_rejected(#[case] value: Value, #[case] sentence: &str) {
        let error = settings(value).prefixes().unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn counts_are_limited() {
        let realms = (0..=MAX_REALMS).map(|number| (format!("r{number}"), json!({})));
        let many = settings(Value::Object(realms.collect()));
        assert_eq!(many.prefixes(), Err(InvalidRealms::TooMany));
        let names = vec!["a"; MAX_PATTERNS + 1];
        let many = settings(json!({"a": {"namespaces": {"names": names}}}));
        assert!(many.prefixes().is_err());
    }

    #[test]
    fn prefixes_can_be_those_of_the_cluster() {
        let shared = settings(json!({
            "corp": {"userPrefix": "corp:", "groupPrefix": "corp:"},
            "other": {},
        }));
        let prefixes = shared.prefixes().unwrap();
        assert_eq!(prefixes["corp"].group, "corp:");
        assert_eq!(prefixes["other"].client_role, "oidc:other:client-role:");
    }

    #[test]
    fn docs_contain_the_limits() {
        use crate::authz::limiter::{MAX_CALLS, MAX_TENANT_CALLS, MAX_TENANT_WAITING};
        use crate::authz::shared_cache::{ANSWER_TTL, CALL_TIMEOUT, MAX_ANSWERS};
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ADMIN-API.md");
        let page = std::fs::read_to_string(path).unwrap();
        for (limit, value) in [
            (
                "Seconds for which a decision is used, allowed or denied",
                ANSWER_TTL.as_secs().to_string(),
            ),
            ("Decisions that are kept", MAX_ANSWERS.to_string()),
            (
                "Seconds until the API server has to respond, waiting included",
                CALL_TIMEOUT.as_secs().to_string(),
            ),
            ("Reviews in flight", MAX_CALLS.to_string()),
            (
                "Reviews in flight of one realm",
                MAX_TENANT_CALLS.to_string(),
            ),
            (
                "Reviews of one realm that are in flight or wait",
                MAX_TENANT_WAITING.to_string(),
            ),
            ("Realms", MAX_REALMS.to_string()),
            (
                "Names, or prefixes, in one list of a realm",
                MAX_PATTERNS.to_string(),
            ),
            (
                "Characters of a prefix of users, groups or roles",
                MAX_PREFIX.to_string(),
            ),
        ] {
            let row = format!("| {limit} | {value} |");
            assert!(page.contains(&row), "{row}");
        }
    }
}
