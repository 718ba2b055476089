//! Authorization of calls of the admin API: whether a caller may do what a route does, in a namespace.
//!
//! Every route is one question ([`ROUTES`]). [`RealmGuard`] decides first: callers of a realm have no access outside of
//! the namespaces of their realm, whatever RBAC allows. Then the API server decides by SubjectAccessReview
//! ([`SubjectAccessReviewer`]), so that permissions are ordinary RoleBindings. [`AccessControl`] puts both together.
//!
//! A denial is the default. Without a response of the API server, the result is [`AccessUnavailable`]: neither.

mod cached;
mod control;
mod guard;
mod limiter;
mod namespace_realm;
mod question;
mod reviewer;
mod role;
mod role_rules;
mod route;
mod settings;
mod shared_cache;
#[cfg(any(test, feature = "test-util"))]
pub mod static_reviewer;
mod subject;
mod subject_access_review;

pub use self::cached::CachedReviewer;
pub use self::control::{AccessControl, AccessDecision, AccessDenial, RouteDecision};
pub use self::guard::{GuardDecision, RealmGuard};
pub use self::namespace_realm::{ApiNamespaceRealms, NamespaceRealms, REALM_LABEL};
pub use self::question::{
    API_GROUP, AccessQuestion, AccessResource, AccessVerb, ApiPermission, InvalidQuestion,
};
pub use self::reviewer::{AccessReviewer, AccessUnavailable, AccessVerdict};
pub use self::role::AdminRole;
pub use self::route::{AdminOperation, AdminRoute, ROUTES, RouteAccess, RouteNamespace};
pub use self::settings::{
    InvalidRealms, NamespacePatterns, RealmNamespaces, RealmSettings, RealmsSettings,
};
pub use self::subject::AccessSubject;
pub use self::subject_access_review::SubjectAccessReviewer;
