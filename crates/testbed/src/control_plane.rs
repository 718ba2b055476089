//! Real control plane on loopback ports: etcd, kube-apiserver and, by default, kube-controller-manager.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use tokio::sync::OnceCell;

use super::kubeconfig::{client_kubeconfig, config};
use super::pki::{Authority, signing_key};
use super::process::{Folder, Process};
use super::{free_ports, poll, tools};

const START_TIMEOUT: Duration = Duration::from_mins(2);
const MAX_ATTEMPTS: usize = 3;

/// Options of a control plane.
#[derive(Debug, Clone)]
pub struct Options {
    /// Without it there are no pods of Deployments and Jobs and no garbage collection, and the start is faster.
    pub controller_manager: bool,
    /// More flags for kube-apiserver, such as `--max-requests-inflight=5`.
    pub apiserver_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_manager: true,
            apiserver_flags: Vec::new(),
        }
    }
}

/// Running control plane.
pub struct ControlPlane {
    /// CA of all certificates of the control plane and of webhook servers.
    pub authority: Authority,
    /// Kubeconfig of the administrator, of group `system:masters`.
    pub kubeconfig: PathBuf,
    /// URL of the API server.
    pub server: String,
    /// Keys, data and the components' logs.
    pub folder: Folder,
    pub(super) programs: Programs,
    pub(super) options: Options,
    pub(super) admin: Config,
    // Stopped in this order: an API server that has lost etcd does not stop.
    controller_manager: Option<Process>,
    apiserver: Process,
    etcd: Process,
}

#[derive(Debug, Clone)]
pub(super) struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    controller_manager: PathBuf,
    pub(super) kubectl: PathBuf,
}

impl ControlPlane {
    /// Control plane of this test binary, with a controller manager. It ends with the test process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
        let shared = SHARED
            .get_or_init(|| Self::try_start(Options::default()))
            .await;
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a control plane for one test, stopped on drop.
    pub async fn start(options: Options) -> Self {
        Self::try_start(options)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start(options: Options) -> Result<Self, String> {
        // Both rcgen and kube find the provider themselves; the servers of tests need it installed.
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let programs = tokio::task::spawn_blocking(|| {
            let names = [
                "etcd",
                "kube-apiserver",
                "kube-controller-manager",
                "kubectl",
            ];
            let [etcd, apiserver, controller_manager, kubectl] = tools::program_paths(names);
            Programs {
                etcd,
                apiserver,
                controller_manager,
                kubectl,
            }
        });
        let programs = programs
            .await
            .map_err(|_| "the control plane's programs are missing, see above".to_owned())?;
        let mut error = String::new();
        for _ in 0..MAX_ATTEMPTS {
            match Self::attempt(programs.clone(), options.clone()).await {
                Ok(started) => return Ok(started),
                Err(failure) => error = failure,
            }
            // Another process took a port between the check and the component's bind.
            if !error.contains("address already in use") {
                break;
            }
        }
        Err(error)
    }

    async fn attempt(programs: Programs, options: Options) -> Result<Self, String> {
        let folder = Folder::new();
        let authority = Authority::new("floe-secrets-test-ca");
        let [etcd_port, peer_port, api_port, manager_port] = free_ports();
        let server = format!("https://127.0.0.1:{api_port}");

        folder.write("ca.crt", authority.pem());
        let (private, public) = signing_key();
        folder.write("sa.key", private);
        folder.write("sa.pub", public);
        let hosts = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "127.0.0.1",
        ];
        authority.server(&hosts).write(&folder, "apiserver");
        let admin = authority.client("floe-admin", &["system:masters"]);
        let kubeconfig = folder.write(
            "admin.kubeconfig",
            client_kubeconfig(&server, &authority, &admin),
        );

        let etcd = Process::start(
            "etcd",
            folder.path(),
            &programs.etcd,
            &etcd_flags(&folder, etcd_port, peer_port),
            &[],
        );
        let mut flags = apiserver_flags(&folder, etcd_port, api_port);
        flags.extend(options.apiserver_flags.iter().cloned());
        let apiserver = Process::start(
            "kube-apiserver",
            folder.path(),
            &programs.apiserver,
            &flags,
            &[],
        );

        let admin = config(&kubeconfig).await;
        let mut started = Self {
            authority,
            kubeconfig,
            server,
            folder,
            programs,
            options,
            admin,
            controller_manager: None,
            apiserver,
            etcd,
        };
        let client = started.client();
        started
            .await_component("the API server's /readyz", || async {
                ready(&client).await
            })
            .await?;
        if started.options.controller_manager {
            started.start_controller_manager(manager_port);
        } else {
            create_default_service_account(&client, "default").await;
        }
        started
            .await_component("ServiceAccount default/default", || async {
                has_default_service_account(&client, "default").await
            })
            .await?;
        check_version(&client).await?;
        Ok(started)
    }

    fn start_controller_manager(&mut self, port: u16) {
        let manager = self.authority.client("system:kube-controller-manager", &[]);
        let content = client_kubeconfig(&self.server, &self.authority, &manager);
        let kubeconfig = self.folder.write("controller-manager.kubeconfig", content);
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let flags = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            "--use-service-account-credentials".to_owned(),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        let program = &self.programs.controller_manager;
        self.controller_manager = Some(Process::start(
            "kube-controller-manager",
            self.folder.path(),
            program,
            &flags,
            &[],
        ));
    }

    /// Waits for `probe`. Returns the end of the components' logs if one exits or the time is over.
    async fn await_component<F>(
        &self,
        what: &str,
        mut probe: impl FnMut() -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = bool>,
    {
        let outcome = poll(START_TIMEOUT, || {
            let probing = probe();
            async {
                match self.components().find_map(Process::exit_status) {
                    Some(status) => {
                        Some(Err(format!("a component ended ({status}) before {what}")))
                    }
                    None => probing.await.then_some(Ok(())),
                }
            }
        });
        let failure = match outcome.await {
            Some(Ok(())) => return Ok(()),
            Some(Err(failure)) => failure,
            None => format!("not within {START_TIMEOUT:?}: {what}"),
        };
        let tails: Vec<String> = self.components().map(Process::tail).collect();
        Err(format!(
            "the control plane did not start: {failure}\n{}",
            tails.join("\n")
        ))
    }

    fn components(&self) -> impl Iterator<Item = &Process> {
        [&self.etcd, &self.apiserver]
            .into_iter()
            .chain(&self.controller_manager)
    }

    /// Client of the administrator. Each test needs its own: a client's worker lives in the runtime that created it.
    pub fn client(&self) -> Client {
        Client::try_from(self.admin.clone()).expect("the administrator's configuration")
    }

    /// Minor version of Kubernetes, as in 36 of v1.36.3: older ones lack some of what newer ones serve.
    pub async fn minor_version(&self) -> u32 {
        let version = self
            .client()
            .apiserver_version()
            .await
            .expect("the API server's version");
        version.minor.parse().expect("a number")
    }

    /// Process ids of etcd, the API server and the controller manager, in this order, for `/proc`.
    pub fn process_ids(&self) -> Vec<u32> {
        self.components().map(Process::pid).collect()
    }

    /// Log of the API server.
    pub fn apiserver_log(&self) -> String {
        self.apiserver.log()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(manager) = &self.controller_manager {
            manager.kill();
        }
        self.apiserver.kill();
        self.etcd.kill();
    }
}

fn etcd_flags(folder: &Folder, port: u16, peer_port: u16) -> Vec<String> {
    let client = format!("http://127.0.0.1:{port}");
    vec![
        format!("--data-dir={}", folder.path().join("etcd").display()),
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        "--log-level=error".to_owned(),
    ]
}

fn apiserver_flags(folder: &Folder, etcd_port: u16, port: u16) -> Vec<String> {
    let file = |name: &str| folder.path().join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]
}

/// Fails if the API server is not of `KUBERNETES_VERSION`, so that no run on another version counts for it.
#[expect(clippy::disallowed_methods, reason = "shared with hack/tools/tools.sh")]
async fn check_version(client: &Client) -> Result<(), String> {
    let Some(expected) = std::env::var("KUBERNETES_VERSION")
        .ok()
        .filter(|version| !version.is_empty())
    else {
        return Ok(());
    };
    let actual = client
        .apiserver_version()
        .await
        .map_err(|error| error.to_string())?
        .git_version;
    let same = actual
        .strip_prefix('v')
        .is_some_and(|actual| actual.starts_with(&format!("{expected}.")));
    if same {
        Ok(())
    } else {
        Err(format!(
            "KUBERNETES_VERSION is {expected}, and the API server's {actual}"
        ))
    }
}

async fn ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz")
        .body(Vec::new())
        .expect("a request");
    // The server is ready a moment before it has created its own namespaces.
    let namespaces: Api<Namespace> = Api::all(client.clone());
    client.request_text(request).await.is_ok()
        && matches!(namespaces.get_opt("default").await, Ok(Some(_)))
}

async fn has_default_service_account(client: &Client, namespace: &str) -> bool {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    matches!(accounts.get_opt("default").await, Ok(Some(_)))
}

/// Creates what the controller manager would create: pods are rejected without it.
pub(super) async fn create_default_service_account(client: &Client, namespace: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let metadata = ObjectMeta {
        name: Some("default".to_owned()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount {
        metadata,
        ..ServiceAccount::default()
    };
    accounts
        .create(&PostParams::default(), &account)
        .await
        .expect("the default ServiceAccount is created");
}

/// Waits until pods can be created in the namespace.
pub(super) async fn await_default_service_account(client: &Client, namespace: &str) {
    super::wait_for(&format!("ServiceAccount {namespace}/default"), || async {
        has_default_service_account(client, namespace)
            .await
            .then_some(())
    })
    .await;
}
