//! Authorization of the admin API on a real API server: the same decisions from RBAC as from the static engine.

#![cfg(feature = "test-util")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floe_secrets_webhook::authz::static_reviewer::{AccessGrant, StaticReviewer};
use floe_secrets_webhook::authz::{
    API_GROUP, AccessControl, AccessDecision, AccessDenial, AccessReviewer, AccessSubject,
    AccessVerb, AdminOperation, AdminRole, ApiNamespaceRealms, CachedReviewer, NamespaceRealms,
    REALM_LABEL, ROUTES, RealmGuard, RealmsSettings, RouteDecision, SubjectAccessReviewer,
};
use floe_secrets_webhook::identity::{AuthenticatedCaller, UserInfo};
use floe_secrets_webhook::kubernetes::ObjectApi;
use http::Method;
use serde_json::{Value, json};
use testbed::control_plane::ControlPlane;
use testbed::namespace::TestNamespace;
use testbed::{unique, wait_for};

/// Seconds of the cache, and some for the API server's own view of its bindings on a busy machine.
const IN_FORCE: Duration = Duration::from_secs(10);

/// Realm of which namespaces are known by name, and one of which they are labelled.
const REALMS: [&str; 2] = ["named", "labelled"];

/// Two namespaces of two realms, one that does not exist, the roles of the chart, and both engines.
struct Fixture {
    cp: &'static ControlPlane,
    named: TestNamespace,
    labelled: TestNamespace,
    /// Prefix of the roles and groups of this test.
    stem: String,
    guard: Arc<RealmGuard>,
    labels: Arc<dyn NamespaceRealms>,
    engine: Arc<StaticReviewer>,
}

/// One binding, in RBAC and in the static engine.
struct Binding {
    group: String,
    role: AdminRole,
    namespace: Option<String>,
}

impl Fixture {
    async fn new() -> Self {
        let cp = ControlPlane::shared().await;
        let named = cp.namespace("named").await;
        let labels = json!({"labels": {REALM_LABEL: "labelled"}});
        let labelled = cp.namespace_with("labelled", &labels).await;
        let settings: RealmsSettings = serde_json::from_value(json!({
            "named": {"namespaces": {"names": [named.name]}, "platform": true},
            "labelled": {"namespaces": {"labelled": true}},
        }))
        .expect("settings");
        let fixture = Self {
            cp,
            named,
            labelled,
            stem: unique("authz"),
            guard: Arc::new(RealmGuard::new(&settings).expect("a guard")),
            labels: Arc::new(ApiNamespaceRealms::new(ObjectApi::new(cp.client()))),
            engine: Arc::new(StaticReviewer::default()),
        };
        for role in AdminRole::ALL {
            fixture
                .cp
                .create(&fixture.cluster_role(role))
                .await
                .object();
        }
        fixture
    }

    fn role_name(&self, role: AdminRole) -> String {
        format!("{}-{}", self.stem, role.as_str())
    }

    /// ClusterRole with the rules of the table of routes, as the chart has it.
    fn cluster_role(&self, role: AdminRole) -> Value {
        let rules = role.rules().into_iter().map(|(resource, verbs)| {
            let verbs: Vec<&str> = verbs.into_iter().map(AccessVerb::as_str).collect();
            json!({"apiGroups": [API_GROUP], "resources": [resource.as_str()], "verbs": verbs})
        });
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": self.role_name(role)},
            "rules": rules.collect::<Vec<_>>(),
        })
    }

    /// Access control over SubjectAccessReview, or over the static engine.
    fn control(&self, engine: Arc<dyn AccessReviewer>) -> AccessControl {
        AccessControl::new(Arc::clone(&self.guard), Arc::clone(&self.labels), engine)
    }

    fn by_rbac(&self) -> AccessControl {
        self.control(Arc::new(SubjectAccessReviewer::new(self.cp.client())))
    }

    fn by_table(&self) -> AccessControl {
        self.control(Arc::clone(&self.engine) as Arc<dyn AccessReviewer>)
    }

    /// Caller of a realm, in one group.
    fn subject(&self, realm: &str, group: &str) -> AccessSubject {
        let caller = AuthenticatedCaller {
            user_info: UserInfo {
                subject: "alice".to_owned(),
                groups: vec![group.to_owned()],
                ..UserInfo::default()
            },
            ..AuthenticatedCaller::default()
        };
        self.guard.subject(realm, &caller).expect("a realm")
    }

    /// Group of callers of a realm that have a role, as RBAC knows it.
    fn group(&self, realm: &str, role: AdminRole) -> String {
        format!("oidc:{realm}:group:{}", self.role_name(role))
    }

    async fn bind(&self, binding: &Binding) -> Value {
        let scope = if binding.namespace.is_some() {
            "RoleBinding"
        } else {
            "ClusterRoleBinding"
        };
        let group = "rbac.authorization.k8s.io";
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": scope,
            "metadata": {"name": unique("authz"), "namespace": binding.namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": self.role_name(binding.role)},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": binding.group}],
        });
        self.cp.create(&object).await.object()
    }

    async fn unbind(&self, binding: &Value) {
        let path = testbed::objects::path(binding);
        let response = self.cp.request(Method::DELETE, &path, None).await;
        assert!(response.is_accepted(), "{}", response.message());
    }

    /// Adds bindings to both engines.
    async fn bind_all(&self, bindings: &[Binding]) {
        let grants = bindings
            .iter()
            .map(|each| AccessGrant::group(&each.group, each.role, each.namespace.as_deref()));
        self.engine.set(grants.collect());
        for binding in bindings {
            self.bind(binding).await;
        }
    }

    /// Decisions about all routes, by method, path and condition.
    async fn decisions(
        control: &AccessControl,
        subject: &AccessSubject,
        namespace: Option<&str>,
    ) -> BTreeMap<AdminOperation, AccessDecision> {
        let decisions = control.decide_routes(subject, namespace).await;
        let decided = decisions
            .into_iter()
            .map(|RouteDecision { route, decision }| {
                (route.operation, decision.expect("a decision"))
            });
        decided.collect()
    }

    /// Waits until a caller has or has not an access by RBAC, and returns how long it took.
    async fn until(
        &self,
        control: &AccessControl,
        subject: &AccessSubject,
        allowed: bool,
    ) -> Duration {
        let began = Instant::now();
        let route = AdminOperation::GetSecret.route();
        let namespace = self.named.name.as_str();
        let question = route.question(Some(namespace), Some("db")).expect("valid");
        let question = question.expect("a permission");
        wait_for("the binding is in force, or is not any more", || async {
            let decision = control
                .decide(subject, &question)
                .await
                .expect("a decision");
            ((decision == AccessDecision::Allowed) == allowed).then_some(())
        })
        .await;
        began.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_64_rbac_decides_as_the_table_of_routes() {
    let fixture = Fixture::new().await;
    let (named, labelled) = (&fixture.named.name, &fixture.labelled.name);
    // Each role for a group of each realm: in the namespace of the realm, in that of the other realm by mistake, and
    // the first realm's in the whole cluster as well.
    let mut bindings = Vec::new();
    for (realm, own, other) in [("named", named, labelled), ("labelled", labelled, named)] {
        for role in AdminRole::ALL {
            for namespace in [own, other] {
                bindings.push(Binding {
                    group: fixture.group(realm, role),
                    role,
                    namespace: Some(namespace.clone()),
                });
            }
        }
        for role in [AdminRole::Auditor, AdminRole::Platform] {
            bindings.push(Binding {
                group: fixture.group(realm, role),
                role,
                namespace: None,
            });
        }
    }
    fixture.bind_all(&bindings).await;
    let (by_rbac, by_table) = (fixture.by_rbac(), fixture.by_table());
    // The API server has seen the last binding.
    let last = fixture.subject("named", &fixture.role_name(AdminRole::Viewer));
    fixture.until(&by_rbac, &last, true).await;
    let mut compared = 0;
    let mut allowed = 0;
    for realm in REALMS {
        for role in AdminRole::ALL {
            let subject = fixture.subject(realm, &fixture.role_name(role));
            for namespace in [Some(named.as_str()), Some(labelled), Some("nowhere"), None] {
                let expected = Fixture::decisions(&by_table, &subject, namespace).await;
                wait_for("RBAC has the bindings", || async {
                    let decided = Fixture::decisions(&by_rbac, &subject, namespace).await;
                    (decided == expected).then_some(())
                })
                .await;
                compared += expected.len();
                let is_allowed = |decision: &&AccessDecision| **decision == AccessDecision::Allowed;
                allowed += expected.values().filter(is_allowed).count();
                let own = (realm == "named") == (namespace == Some(named));
                if namespace.is_some() && !own {
                    // Bindings in the namespace of the other realm give nothing.
                    let reads = expected[&AdminOperation::GetSecret];
                    assert_eq!(reads, AccessDecision::Denied(AccessDenial::OtherNamespace));
                }
            }
        }
    }
    // Two realms, five roles; three namespaces with every route, and once the routes that need none.
    let without = ROUTES.len() - 8;
    assert_eq!(compared, 2 * 5 * (3 * ROUTES.len() + without));
    assert!(allowed > 100, "{allowed} of {compared} are allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_64_group_of_another_realm_has_no_access() {
    let fixture = Fixture::new().await;
    let role = AdminRole::Viewer;
    let bound = Binding {
        group: fixture.group("labelled", role),
        role,
        namespace: Some(fixture.named.name.clone()),
    };
    let mine = Binding {
        group: fixture.group("named", role),
        role,
        namespace: Some(fixture.named.name.clone()),
    };
    fixture.bind(&bound).await;
    fixture.bind(&mine).await;
    let control = fixture.by_rbac();
    let group = fixture.role_name(role);
    fixture
        .until(&control, &fixture.subject("named", &group), true)
        .await;
    // The same name of a group in the other realm is bound, and is of no use here.
    let namespace = Some(fixture.named.name.as_str());
    let other = fixture.subject("labelled", &group);
    let decisions = Fixture::decisions(&control, &other, namespace).await;
    for (operation, decision) in decisions {
        let open = operation.route().roles.is_empty();
        assert_eq!(decision == AccessDecision::Allowed, open, "{operation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_give_and_take_within_ten_seconds() {
    let fixture = Fixture::new().await;
    let engine = Arc::new(SubjectAccessReviewer::new(fixture.cp.client()));
    let cached = fixture.control(Arc::new(CachedReviewer::new(engine)));
    let role = AdminRole::Viewer;
    let subject = fixture.subject("named", &fixture.role_name(role));
    fixture.until(&cached, &subject, false).await;
    let binding = Binding {
        group: fixture.group("named", role),
        role,
        namespace: Some(fixture.named.name.clone()),
    };
    let bound = fixture.bind(&binding).await;
    let given = fixture.until(&cached, &subject, true).await;
    fixture.unbind(&bound).await;
    let taken = fixture.until(&cached, &subject, false).await;
    // A denial and a grant were in the cache, each for its whole time at most.
    let slack = Duration::from_secs(5);
    assert!(
        given <= IN_FORCE + slack && taken <= IN_FORCE + slack,
        "{given:?} {taken:?}"
    );
    eprintln!("given after {given:?}, taken after {taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_65_relabelled_namespace_is_of_its_new_realm() {
    let fixture = Fixture::new().await;
    let labels = ApiNamespaceRealms::new(ObjectApi::new(fixture.cp.client()));
    let name = &fixture.labelled.name;
    let realm = async |name: &str| labels.realm_of(name, "t").await.expect("a label");
    assert_eq!(realm(name).await.as_deref(), Some("labelled"));
    assert_eq!(realm("nowhere").await, None);
    let label = format!("{REALM_LABEL}=other");
    let args = ["label", "--overwrite", "namespace", name, &label];
    fixture.cp.kubectl(&args, "").await.expect_success();
    let began = Instant::now();
    wait_for("the new label decides", || async {
        (realm(name).await.as_deref() == Some("other")).then_some(())
    })
    .await;
    let slack = Duration::from_secs(5);
    assert!(began.elapsed() <= IN_FORCE + slack, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_lists_the_rules_and_cannot_ask_about_one() {
    let fixture = Fixture::new().await;
    let role = AdminRole::Viewer;
    let group = fixture.group("named", role);
    let namespace = fixture.named.name.clone();
    let binding = Binding {
        group: group.clone(),
        role,
        namespace: Some(namespace.clone()),
    };
    fixture.bind(&binding).await;
    let subject = fixture.subject("named", &fixture.role_name(role));
    fixture.until(&fixture.by_rbac(), &subject, true).await;
    let as_caller = ["--as", subject.user(), "--as-group", &group];
    let list = [
        &["auth", "can-i", "--list", "-n", &namespace],
        &as_caller[..],
    ]
    .concat();
    let listed = fixture.cp.kubectl(&list, "").await.expect_success().stdout;
    for resource in [
        "secrets.",
        "secrets.admin.secrets.floe.dev/consumers",
        "injectionpreviews.",
    ] {
        let resource = if resource.ends_with('.') {
            format!("{resource}{API_GROUP}")
        } else {
            resource.to_owned()
        };
        assert!(listed.contains(&resource), "{resource}: {listed}");
    }
    let resource = format!("secrets.{API_GROUP}");
    let one = [
        &["auth", "can-i", "get", &resource, "-n", &namespace],
        &as_caller[..],
    ]
    .concat();
    let answer = fixture.cp.kubectl(&one, "").await;
    assert_eq!(answer.stdout.trim(), "no", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_68_api_server_without_an_answer_gives_no_decision() {
    let fixture = Fixture::new().await;
    let subject = fixture.subject("named", "g");
    let namespace = fixture.named.name.as_str();
    let question = AdminOperation::GetSecret
        .route()
        .question(Some(namespace), Some("db"));
    let question = question.expect("valid").expect("a permission");
    for (server, sentence) in [
        (scripted::status(429, "Too Many Requests"), "HTTP 429"),
        (scripted::status(500, "Internal Server Error"), "HTTP 500"),
        (scripted::status(403, "Forbidden"), "scripted"),
        (scripted::silent(), "within 2 s"),
        (scripted::away(), "no readable answer"),
    ] {
        let engine = Arc::new(SubjectAccessReviewer::new(server.await));
        let control = fixture.control(Arc::new(CachedReviewer::new(engine)));
        let error = control.decide(&subject, &question).await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
    }
}

/// Servers that respond to every review in one way.
mod scripted {
    use std::net::SocketAddr;

    use kube::{Client, Config};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn client(address: SocketAddr) -> Client {
        let url = format!("http://{address}").parse().expect("a URL");
        floe_secrets_webhook::kubernetes::client::client(Config::new(url)).expect("a client")
    }

    /// Listens, and responds with `response`; never if it is empty.
    async fn start(response: String) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 16 * 1024];
                if !response.is_empty() && stream.read(&mut request).await.is_ok() {
                    stream.write_all(response.as_bytes()).await.ok();
                    stream.shutdown().await.ok();
                }
                open.push(stream);
            }
        });
        client(address)
    }

    pub(super) async fn answer(code: u16, reason: &'static str) -> Client {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "message": "scripted", "reason": reason})
        .to_string();
        let length = body.len();
        start(format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
        .await
    }

    type Started = std::pin::Pin<Box<dyn Future<Output = Client>>>;

    pub(super) fn status(code: u16, reason: &'static str) -> Started {
        Box::pin(answer(code, reason))
    }

    pub(super) fn silent() -> Started {
        Box::pin(start(String::new()))
    }

    pub(super) fn away() -> Started {
        Box::pin(async {
            let [port] = testbed::free_ports();
            client(SocketAddr::from(([127, 0, 0, 1], port)))
        })
    }
}
