//! Routes of the admin API, and the question that each of them is. Router, API description, roles of the chart and
//! docs/ADMIN-API.md are made from this table, or are compared with it.

use super::question::{
    AccessQuestion, AccessResource as Resource, AccessVerb as Verb, ApiPermission, InvalidQuestion,
};
use super::role::AdminRole::{self, Auditor, Editor, Platform, Revealer, Viewer};

/// Operation of the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdminOperation {
    WhoAmI,
    ListBackends,
    ListIdentityProviders,
    RefreshIdentityProvider,
    ListReplicas,
    ListSecrets,
    GetSecret,
    CreateSecret,
    UpdateSecret,
    RevealValue,
    ListConsumers,
    PreviewInjection,
    ListAuditEvents,
    GetAuditEvent,
    ExportAuditEvents,
    ListAuditChains,
    ListAuditKeys,
    GetOidcConfig,
    CreateIdentityClient,
    ReviewToken,
}

/// Access that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAccess {
    /// Every caller whose token is valid.
    AnyCaller,
    Permission(ApiPermission),
}

/// Place of the namespace in a request. It is never in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteNamespace {
    /// The route is about the whole cluster.
    Cluster,
    /// Segment `{namespace}` of the path.
    Path,
    /// Parameter `namespace` of the query; the whole cluster without it.
    Query,
}

/// Route of the admin API.
#[derive(Clone, Copy, Debug)]
pub struct AdminRoute {
    pub operation: AdminOperation,
    pub method: &'static str,
    pub path: &'static str,
    /// Header that decides between two routes with the same path.
    pub condition: Option<&'static str>,
    pub access: RouteAccess,
    pub namespace: RouteNamespace,
    /// Segment of the path that names the object.
    pub name: Option<&'static str>,
    /// Roles of the chart that have the permission.
    pub roles: &'static [AdminRole],
}

/// All routes.
pub const ROUTES: &[AdminRoute] = &[
    any(AdminOperation::WhoAmI, "/v1/whoami").by_query(),
    get(
        AdminOperation::ListBackends,
        "/v1/backends",
        Verb::Get,
        Resource::Backends,
        &[Platform],
    ),
    get(
        AdminOperation::ListIdentityProviders,
        "/v1/identity-providers",
        Verb::Get,
        Resource::IdentityProviders,
        &[Platform],
    ),
    post(
        AdminOperation::RefreshIdentityProvider,
        "/v1/identity-providers/{name}/refresh",
        Verb::Update,
        Resource::IdentityProviders,
        &[Platform],
    )
    .named("name"),
    get(
        AdminOperation::ListReplicas,
        "/v1/replicas",
        Verb::Get,
        Resource::Replicas,
        &[Platform],
    ),
    get(
        AdminOperation::ListSecrets,
        "/v1/namespaces/{namespace}/secrets",
        Verb::List,
        Resource::Secrets,
        &[Viewer, Editor],
    )
    .by_path(),
    get(
        AdminOperation::GetSecret,
        "/v1/namespaces/{namespace}/secrets/{name}",
        Verb::Get,
        Resource::Secrets,
        &[Viewer, Editor],
    )
    .by_path()
    .named("name"),
    patch(
        AdminOperation::CreateSecret,
        "If-None-Match: *",
        Verb::Create,
    ),
    patch(AdminOperation::UpdateSecret, "If-Match", Verb::Update),
    get(
        AdminOperation::RevealValue,
        "/v1/namespaces/{namespace}/secrets/{name}/keys/{key}",
        Verb::Get,
        Resource::SecretValue,
        &[Revealer],
    )
    .by_path()
    .named("name"),
    get(
        AdminOperation::ListConsumers,
        "/v1/namespaces/{namespace}/secrets/{name}/consumers",
        Verb::Get,
        Resource::SecretConsumers,
        &[Viewer, Editor],
    )
    .by_path()
    .named("name"),
    post(
        AdminOperation::PreviewInjection,
        "/v1/namespaces/{namespace}/injection-previews",
        Verb::Create,
        Resource::InjectionPreviews,
        &[Viewer, Editor],
    )
    .by_path(),
    get(
        AdminOperation::ListAuditEvents,
        "/v1/audit/events",
        Verb::List,
        Resource::AuditEvents,
        &[Auditor],
    )
    .by_query(),
    get(
        AdminOperation::GetAuditEvent,
        "/v1/audit/events/{id}",
        Verb::Get,
        Resource::AuditEvents,
        &[Auditor],
    )
    .by_query()
    .named("id"),
    get(
        AdminOperation::ExportAuditEvents,
        "/v1/audit/export",
        Verb::Export,
        Resource::AuditEvents,
        &[Auditor],
    )
    .by_query(),
    get(
        AdminOperation::ListAuditChains,
        "/v1/audit/chains",
        Verb::List,
        Resource::AuditChains,
        &[Auditor],
    ),
    any(AdminOperation::ListAuditKeys, "/v1/audit/keys"),
    get(
        AdminOperation::GetOidcConfig,
        "/v1/realms/{realm}/oidc-config",
        Verb::Get,
        Resource::Realms,
        &[Platform],
    )
    .named("realm"),
    post(
        AdminOperation::CreateIdentityClient,
        "/v1/namespaces/{namespace}/identity-clients",
        Verb::Create,
        Resource::IdentityClients,
        &[Platform],
    )
    .by_path(),
    post(
        AdminOperation::ReviewToken,
        "/v1/token-reviews",
        Verb::Create,
        Resource::TokenReviews,
        &[Platform],
    ),
];

const fn any(operation: AdminOperation, path: &'static str) -> AdminRoute {
    AdminRoute {
        operation,
        method: "GET",
        path,
        condition: None,
        access: RouteAccess::AnyCaller,
        namespace: RouteNamespace::Cluster,
        name: None,
        roles: &[],
    }
}

const fn get(
    operation: AdminOperation,
    path: &'static str,
    verb: Verb,
    resource: Resource,
    roles: &'static [AdminRole],
) -> AdminRoute {
    AdminRoute {
        access: RouteAccess::Permission(ApiPermission { verb, resource }),
        roles,
        ..any(operation, path)
    }
}

const fn post(
    operation: AdminOperation,
    path: &'static str,
    verb: Verb,
    resource: Resource,
    roles: &'static [AdminRole],
) -> AdminRoute {
    AdminRoute {
        method: "POST",
        ..get(operation, path, verb, resource, roles)
    }
}

/// Route that changes a secret. The precondition decides whether it creates or updates, so the question is known before
/// anything is read.
const fn patch(operation: AdminOperation, condition: &'static str, verb: Verb) -> AdminRoute {
    let path = "/v1/namespaces/{namespace}/secrets/{name}";
    let route = get(operation, path, verb, Resource::Secrets, &[Editor]);
    AdminRoute {
        method: "PATCH",
        condition: Some(condition),
        ..route.by_path().named("name")
    }
}

impl AdminRoute {
    const fn by_path(self) -> Self {
        Self {
            namespace: RouteNamespace::Path,
            ..self
        }
    }

    const fn by_query(self) -> Self {
        Self {
            namespace: RouteNamespace::Query,
            ..self
        }
    }

    const fn named(self, name: &'static str) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    /// Question that a request of this route is; `None` if every caller may.
    ///
    /// # Errors
    /// The namespace is missing or not expected, or a name cannot be one.
    pub fn question(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Option<AccessQuestion>, InvalidQuestion> {
        match (self.namespace, namespace) {
            (RouteNamespace::Path, None) => return Err(InvalidQuestion::MissingNamespace),
            (RouteNamespace::Cluster, Some(_)) => return Err(InvalidQuestion::UnexpectedNamespace),
            _ => {}
        }
        match self.access {
            RouteAccess::AnyCaller => Ok(None),
            RouteAccess::Permission(permission) => {
                AccessQuestion::new(permission, namespace, name).map(Some)
            }
        }
    }
}

impl AdminOperation {
    /// Route of the operation.
    ///
    /// # Panics
    /// Never: every operation has a row, which a test checks.
    #[must_use]
    pub fn route(self) -> &'static AdminRoute {
        let is_own = |route: &&AdminRoute| route.operation == self;
        ROUTES.iter().find(is_own).expect("a row of the operation")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn operations_have_one_row_each() {
        let operations: BTreeSet<_> = ROUTES.iter().map(|route| route.operation).collect();
        assert_eq!((operations.len(), ROUTES.len()), (20, 20));
        for operation in operations {
            assert_eq!(operation.route().operation, operation);
        }
        // The last of the enum, so that a new operation without a row fails here.
        assert_eq!(ROUTES.len(), AdminOperation::ReviewToken as usize + 1);
    }

    #[test]
    fn requests_are_distinct_and_name_their_segments() {
        let requests: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| (route.method, route.path, route.condition))
            .collect();
        assert_eq!(requests.len(), ROUTES.len());
        for route in ROUTES {
            let has = |segment: &str| route.path.contains(&format!("{{{segment}}}"));
            let in_path = route.namespace == RouteNamespace::Path;
            assert_eq!(has("namespace"), in_path, "{}", route.path);
            assert!(route.name.is_none_or(has), "{}", route.path);
            let open = route.access == RouteAccess::AnyCaller;
            assert_eq!(open, route.roles.is_empty(), "{}", route.path);
        }
    }

    #[test]
    fn question_needs_the_namespace_of_its_path() {
        let list = AdminOperation::ListSecrets.route();
        assert_eq!(
            list.question(None, None),
            Err(InvalidQuestion::MissingNamespace)
        );
        let question = list.question(Some("a"), None).unwrap().expect("a question");
        assert_eq!(question.namespace(), Some("a"));
        let chains = AdminOperation::ListAuditChains.route();
        assert_eq!(
            chains.question(Some("a"), None),
            Err(InvalidQuestion::UnexpectedNamespace)
        );
        let events = AdminOperation::ListAuditEvents.route();
        for namespace in [None, Some("a")] {
            let question = events.question(namespace, None).unwrap().expect("one");
            assert_eq!(question.namespace(), namespace);
        }
        assert_eq!(
            AdminOperation::WhoAmI.route().question(Some("a"), None),
            Ok(None)
        );
    }

    /// Row of docs/ADMIN-API.md.
    fn row(route: &AdminRoute) -> String {
        let condition = route.condition.map(|header| format!(" with `{header}`"));
        let permission = match route.access {
            RouteAccess::AnyCaller => "any caller".to_owned(),
            RouteAccess::Permission(ApiPermission { verb, resource }) => {
                format!("`{}` `{}`", verb.as_str(), resource.as_str())
            }
        };
        let namespace = match route.namespace {
            RouteNamespace::Cluster => "no",
            RouteNamespace::Path => "path",
            RouteNamespace::Query => "query, or all",
        };
        let roles: Vec<&str> = route.roles.iter().map(|role| role.as_str()).collect();
        format!(
            "| `{} {}`{} | {permission} | {namespace} | {} |",
            route.method,
            route.path,
            condition.unwrap_or_default(),
            roles.join(", "),
        )
    }

    #[test]
    fn docs_contain_the_routes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ADMIN-API.md");
        let page = std::fs::read_to_string(path).unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.contains("/v1/") && line.starts_with('|'))
            .collect();
        let expected: Vec<String> = ROUTES.iter().map(row).collect();
        assert_eq!(rows, expected);
    }
}
