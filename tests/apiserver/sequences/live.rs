//! Real API server with its controllers, and the webhook with the shipped permissions and configuration. The requests
//! are those of kubectl.

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use super::apply::{self, Form, configuration};
use super::author::{CONTAINER, Field, Manifest, Step, object, template_path};
use super::check::{ApiServer, Checker, Revision};
use testbed::control_plane::ControlPlane;
use testbed::namespace::TestNamespace;
use testbed::objects::{ApiResponse, collection, path, send, send_as};
use testbed::webhook::{Registration, limited_to_namespaces, webhook_identity, with_max_timeout};
use testbed::webhook_process::{Launch, WebhookProcess};

/// Namespace with a webhook of its own.
pub struct Fixture {
    // Dropped in this order: no calls to a webhook that is gone.
    _registered: Registration,
    _webhook: WebhookProcess,
    ns: TestNamespace,
    client: Client,
}

impl Fixture {
    pub async fn new(cp: &ControlPlane, stem: &str, args: &[&str]) -> Self {
        let ns = cp.namespace(stem).await;
        for name in ["a", "b", "c"] {
            let metadata = ns.named(name);
            cp.create(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"k": "x"}}))
                .await
                .object();
        }
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity).with(args).start().await;
        let configuration = with_max_timeout(limited_to_namespaces(
            webhook.service_configuration(),
            &[&ns.name],
        ));
        let registered = Registration::shared(cp, &configuration).await;
        Self {
            _registered: registered,
            _webhook: webhook,
            ns,
            client: cp.client(),
        }
    }
}

/// One workload on the real API server.
pub struct Live<'b> {
    fixture: &'b Fixture,
    kind: &'static str,
    name: String,
    path: String,
    restarts: usize,
}

/// Warnings of a successful request; a rejection by the webhook as an error.
fn done(response: ApiResponse) -> Result<Vec<String>, String> {
    match response.is_accepted() {
        true => Ok(response.warnings),
        false if response.message().contains("denied the request") => {
            Err(format!("refused: {}", response.message()))
        }
        false => Err(format!(
            "the API server answers {}: {}",
            response.status, response.body
        )),
    }
}

impl<'b> Live<'b> {
    /// Creates a workload by `kubectl apply`.
    pub async fn create(
        fixture: &'b Fixture,
        kind: &'static str,
        name: &str,
        manifest: &Manifest,
    ) -> Result<(Self, Checker), String> {
        let mut live = Self {
            fixture,
            kind,
            name: name.to_owned(),
            path: String::new(),
            restarts: 0,
        };
        let object = live.manifest(manifest);
        live.path = path(&object);
        let to = format!(
            "{}?fieldManager=kubectl-client-side-apply",
            collection(&object)
        );
        done(
            send(
                &fixture.client,
                Method::POST,
                &to,
                Some(&configuration(&object)),
            )
            .await,
        )?;
        let checker = Checker::new(&live.object().await, manifest.clone(), 0);
        Ok((live, checker))
    }

    fn manifest(&self, manifest: &Manifest) -> Value {
        let mut object = object(self.kind, &self.name, manifest);
        object["metadata"]["namespace"] = json!(self.fixture.ns.name);
        object
    }

    async fn patch(&self, query: &str, body: &Value, content_type: &str) -> ApiResponse {
        send_as(
            &self.fixture.client,
            Method::PATCH,
            &format!("{}?{query}", self.path),
            Some(body),
            content_type,
        )
        .await
    }

    async fn merge(&self, manager: &str, body: &Value) -> ApiResponse {
        self.patch(
            &format!("fieldManager={manager}"),
            body,
            Form::Merge.content_type(),
        )
        .await
    }

    async fn apply(&self, manifest: &Manifest) -> Option<ApiResponse> {
        let live = self.object().await;
        let patch = apply::patch(&self.manifest(manifest), &live);
        if patch.is_empty() {
            return None;
        }
        Some(
            self.patch(
                "fieldManager=kubectl-client-side-apply",
                &patch.into(),
                Form::of(self.kind).content_type(),
            )
            .await,
        )
    }

    async fn replace(&self, manifest: &Manifest) -> ApiResponse {
        loop {
            let mut object = self.manifest(manifest);
            object["metadata"]["resourceVersion"] =
                self.object().await["metadata"]["resourceVersion"].clone();
            let to = format!("{}?fieldManager=kubectl-replace", self.path);
            let response = send(&self.fixture.client, Method::PUT, &to, Some(&object)).await;
            // A controller wrote in between.
            if response.status != 409 {
                return response;
            }
        }
    }

    async fn undo(&self, earlier: &Revision) -> ApiResponse {
        let template = &earlier.template;
        let replace =
            |path: &str, value: &Value| json!({"op": "replace", "path": path, "value": value});
        match self.kind {
            "Deployment" => {
                let live = self.object().await;
                let annotations = earlier.annotations_after(&live);
                let patch = json!([
                    replace("/spec/template", template),
                    replace("/metadata/annotations", &annotations)
                ]);
                self.patch(
                    "fieldManager=kubectl-rollout",
                    &patch,
                    "application/json-patch+json",
                )
                .await
            }
            "Rollout" => {
                let patch = json!([replace("/spec/template", template)]);
                self.patch(
                    "fieldManager=kubectl-argo-rollouts",
                    &patch,
                    "application/json-patch+json",
                )
                .await
            }
            _ => {
                let mut template = template.clone();
                template["$patch"] = json!("replace");
                let patch = json!({"spec": {"template": template}});
                self.patch(
                    "fieldManager=kubectl-rollout",
                    &patch,
                    Form::Strategic.content_type(),
                )
                .await
            }
        }
    }

    async fn annotate(&self, field: &Field, value: Option<&Value>) -> ApiResponse {
        let mut patch = json!({"kind": self.kind});
        field.set(&mut patch, Some(value.unwrap_or(&Value::Null)));
        self.merge("kubectl-annotate", &patch).await
    }

    async fn set_image(&self, image: &str) -> ApiResponse {
        if Form::of(self.kind) == Form::Merge {
            let at = format!("{}/spec/containers/0/image", template_path(self.kind));
            let patch = json!([{"op": "replace", "path": at, "value": image}]);
            return self
                .patch(
                    "fieldManager=kubectl-set",
                    &patch,
                    "application/json-patch+json",
                )
                .await;
        }
        let mut patch = json!({"spec": {"containers": [{"name": CONTAINER, "image": image}]}});
        for step in template_path(self.kind)
            .rsplit('/')
            .filter(|step| !step.is_empty())
        {
            patch = json!({step: patch});
        }
        self.patch(
            "fieldManager=kubectl-set",
            &patch,
            Form::Strategic.content_type(),
        )
        .await
    }
}

impl ApiServer for Live<'_> {
    fn tells_applies_apart(&self) -> bool {
        // Times in managed fields are whole seconds, and these steps are faster.
        false
    }

    async fn apply_step(
        &mut self,
        step: &Step,
        earlier: Option<&Revision>,
    ) -> Result<Vec<String>, String> {
        let response = match step {
            Step::Apply(manifest) => match self.apply(manifest).await {
                Some(response) => response,
                None => return Ok(Vec::new()),
            },
            Step::ServerApply(manager, manifest) => {
                let query = format!("fieldManager=m{manager}&force=true");
                self.patch(
                    &query,
                    &self.manifest(manifest),
                    "application/apply-patch+yaml",
                )
                .await
            }
            Step::Replace(manifest) => self.replace(manifest).await,
            Step::Annotate(field, value) => self.annotate(field, value.as_ref()).await,
            Step::Undo(_) => self.undo(earlier.expect("a revision")).await,
            Step::Restart => {
                self.restarts += 1;
                let field = Field::Template("kubectl.kubernetes.io/restartedAt".to_owned());
                self.annotate(&field, Some(&json!(self.restarts.to_string())))
                    .await
            }
            Step::SetImage(image) => self.set_image(image).await,
            Step::Label => {
                let touched = self.object().await["metadata"]["labels"]["touched"] != "yes";
                let labels = json!({"touched": if touched { "yes" } else { "no" }});
                self.merge("kubectl-label", &json!({"metadata": {"labels": labels}}))
                    .await
            }
        };
        done(response)
    }

    async fn object(&self) -> Value {
        send(&self.fixture.client, Method::GET, &self.path, None)
            .await
            .object()
    }

    async fn container(&self) -> Result<Value, String> {
        let object = self.object().await;
        let mut pod = object
            .pointer(template_path(self.kind))
            .expect("a template")
            .clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["namespace"] = json!(self.fixture.ns.name);
        pod["metadata"]["generateName"] = json!(format!("{}-", self.name));
        let to = format!("{}?dryRun=All", collection(&pod));
        let response = send(&self.fixture.client, Method::POST, &to, Some(&pod)).await;
        let body = response.body.clone();
        done(response)?;
        Ok(body["spec"]["containers"][0].clone())
    }
}
