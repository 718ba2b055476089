//! Namespace with the Secrets `db` and `s3`, and a webhook of its own.

use http::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::state::group_and_template;
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::helm::Helm;
use testbed::namespace::{Identity, TestNamespace};
use testbed::objects::{ApiResponse, collection, path, send};
use testbed::process::Folder;
use testbed::wait_for;
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};

/// Limit of concurrent programs: more would only share the processors.
static PROGRAMS: Semaphore = Semaphore::const_new(6);

pub struct Fixture {
    // Dropped in this order: no calls to a webhook that is gone.
    registered: Option<Registration>,
    webhooks: Vec<WebhookProcess>,
    pub ns: TestNamespace,
    pub cp: &'static ControlPlane,
    user: Identity,
    chart: Folder,
}

impl Fixture {
    /// Fixture whose webhook has these arguments.
    pub async fn new(stem: &str, args: &[&str]) -> Self {
        let mut fixture = Self::unregistered(stem).await;
        let webhook = fixture.launch(|launch| launch.with(args)).await;
        let configuration = webhook.service_configuration();
        fixture.register(vec![webhook], configuration).await;
        fixture
    }

    /// Fixture without a webhook.
    pub async fn unregistered(stem: &str) -> Self {
        let cp = ControlPlane::shared().await;
        let ns = cp.namespace(stem).await;
        for name in ["db", "s3"] {
            let metadata = ns.named(name);
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"k": "x"}});
            cp.create(&secret).await.object();
        }
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
        let user = cp.service_account(&ns.name, "developer", &rules).await;
        let chart = Folder::new();
        chart.write("Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0\n");
        std::fs::create_dir(chart.path().join("templates")).expect("a folder");
        chart.write("templates/object.yaml", "{{ .Values.object | toJson }}\n");
        Self {
            registered: None,
            webhooks: Vec::new(),
            ns,
            cp,
            user,
            chart,
        }
    }

    /// Starts a webhook with the shipped permissions.
    pub async fn launch(&self, more: impl FnOnce(Launch) -> Launch) -> WebhookProcess {
        // One at a time: all of them apply the same manifests.
        static LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = LOCK.lock().await;
        let identity = webhook_identity(self.cp).await;
        more(Launch::serve(self.cp, &identity)).start().await
    }

    /// Registers a configuration for this namespace, in place of the previous one.
    pub async fn register(&mut self, webhooks: Vec<WebhookProcess>, configuration: Value) {
        self.webhooks.extend(webhooks);
        let configuration =
            with_max_timeout(limited_to_namespaces(configuration, &[&self.ns.name]));
        // The previous one is deleted only now: in between, a pod would be admitted without injection.
        self.registered = Some(Registration::shared(self.cp, &configuration).await);
    }

    pub async fn kubectl(&self, args: &[&str], stdin: &str) -> CommandOutput {
        let _permit = PROGRAMS.acquire().await.expect("never closed");
        self.cp
            .kubectl(&[&["-n", &self.ns.name], args].concat(), stdin)
            .await
    }

    /// Runs Helm with a chart that has one object.
    pub async fn helm(
        &self,
        helm: Helm,
        command: &str,
        release: &str,
        object: &Value,
    ) -> CommandOutput {
        let _permit = PROGRAMS.acquire().await.expect("never closed");
        let chart = self.chart.path().display().to_string();
        let mut args = vec![command, release, "-n", &self.ns.name];
        args.push(if command == "rollback" {
            "1"
        } else {
            chart.as_str()
        });
        // After an undo, fields belong to kubectl.
        if helm == Helm::V4 && command != "install" {
            args.push("--force-conflicts");
        }
        let values = if command == "rollback" {
            Value::Null
        } else {
            json!({"object": object})
        };
        self.cp.helm(helm, &args, &values).await
    }

    /// Creates an object as the administrator, without a tool.
    pub async fn create(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(self.ns.name);
        self.cp.create(&object).await.object()
    }

    fn path(&self, kind: &str, name: &str) -> String {
        let (version, _) = group_and_template(kind);
        path(&json!({"apiVersion": version, "kind": kind, "metadata": self.ns.named(name)}))
    }

    pub async fn patch(
        &self,
        kind: &str,
        name: &str,
        subresource: &str,
        patch: &Value,
    ) -> ApiResponse {
        let at = format!("{}{subresource}", self.path(kind, name));
        self.cp.request(Method::PATCH, &at, Some(patch)).await
    }

    pub async fn stored(&self, kind: &str, name: &str) -> Value {
        self.cp
            .request(Method::GET, &self.path(kind, name), None)
            .await
            .object()
    }

    /// Waits until the controller has observed the current generation.
    pub async fn observed(&self, kind: &str, name: &str) -> Value {
        wait_for("the controller has seen the workload", || async {
            let stored = self.stored(kind, name).await;
            let seen = &stored["status"]["observedGeneration"];
            (*seen == stored["metadata"]["generation"] || matches!(kind, "Rollout" | "CronJob"))
                .then_some(stored)
        })
        .await
    }

    /// Creates a pod from the template as an ordinary user; it is not stored.
    pub async fn new_pod(&self, template: &Value) -> ApiResponse {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"],
            "spec": template["spec"]});
        pod["metadata"]["generateName"] = json!("new-");
        pod["metadata"]["namespace"] = json!(self.ns.name);
        let path = format!("{}?dryRun=All", collection(&pod));
        send(&self.user.client(), Method::POST, &path, Some(&pod)).await
    }
}
