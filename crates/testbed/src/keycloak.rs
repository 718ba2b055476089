//! Real Keycloak on loopback ports with TLS under a test's CA. `hack/tools/keycloak.sh` obtains it.
//!
//! It is started once for a test program and has a store of its own, which survives [`Keycloak::stop`] and
//! [`Keycloak::start`]. Realms are made by its admin API, because a realm file with client scopes would replace the
//! built-in ones.

mod admin;
mod realm;
mod tokens;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

pub use self::admin::{HttpsClient, KeycloakResponse};
pub use self::realm::{AUDIENCE, CLIENT_SECRET, PASSWORD, Realm};
pub use self::tokens::{TokenSet, claims_of};
use super::pki::Authority;
use super::process::{Folder, Process};
use super::tools::project_root;
use super::{free_ports, poll, print_line};

/// Time limit of a start. It takes 13 s on an idle machine with 2 cores, and 7 s with a store that is there.
const START_TIMEOUT: Duration = Duration::from_mins(3);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds of the process: about 400 MB in all.
const HEAP: [&str; 5] = [
    "-Xms64m",
    "-Xmx512m",
    "-XX:MaxMetaspaceSize=256m",
    "-XX:+UseSerialGC",
    // It runs for a minute: optimised code would come too late, and takes a core.
    "-XX:TieredStopAtLevel=1",
];

/// Packages that libraries of Keycloak open by reflection.
const OPENED: [&str; 4] = [
    "java.util",
    "java.util.concurrent",
    "java.security",
    "java.lang",
];

/// Running Keycloak. Killed on drop.
pub struct Keycloak {
    /// CA of its certificate.
    pub authority: Authority,
    /// URL without a path, as its issuers start.
    pub url: String,
    client: HttpsClient,
    ports: [u16; 2],
    process: Mutex<Option<Process>>,
    /// Token of the administrator, and when it was obtained.
    admin_token: tokio::sync::Mutex<Option<(Instant, String)>>,
    folder: Folder,
}

impl Keycloak {
    /// Keycloak of this test program. It ends with the test process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Keycloak> = OnceCell::const_new();
        SHARED.get_or_init(Self::launch).await
    }

    /// Starts a Keycloak with an empty store.
    pub async fn launch() -> Self {
        let home = tokio::task::spawn_blocking(distribution)
            .await
            .expect("the script's result");
        let (folder, authority, ports) = (
            Folder::new(),
            Authority::new("keycloak-test-ca"),
            free_ports(),
        );
        // Keycloak writes into its home folder, and only its own files are in this one.
        for name in ["lib", "providers", "conf", "themes"] {
            symlink(Path::new(&home).join(name), folder.path().join(name)).expect("a link");
        }
        authority
            .server(&["localhost", "127.0.0.1"])
            .write(&folder, "keycloak");
        let [port, _] = ports;
        let keycloak = Self {
            client: HttpsClient::new(&authority.pem(), port),
            url: format!("https://localhost:{port}"),
            authority,
            ports,
            process: Mutex::new(None),
            admin_token: tokio::sync::Mutex::default(),
            folder,
        };
        keycloak.start().await;
        keycloak
    }

    /// Starts the process, and waits until it serves.
    pub async fn start(&self) {
        let started = Instant::now();
        let arguments = self.arguments();
        let env = [
            ("KC_BOOTSTRAP_ADMIN_USERNAME", admin::ADMIN),
            ("KC_BOOTSTRAP_ADMIN_PASSWORD", admin::ADMIN_PASSWORD),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let program = Path::new("java");
        *self.process() = Some(Process::start(
            "keycloak",
            self.folder.path(),
            program,
            &arguments,
            &env,
        ));
        let [_, management] = self.ports;
        let health = self.client.on_port(management);
        let ready = poll(START_TIMEOUT, || async {
            if let Some(process) = self.process().as_ref() {
                let ended = process.exit_status();
                assert!(
                    ended.is_none(),
                    "Keycloak ended: {ended:?}\n{}",
                    process.tail()
                );
            }
            let response = health.get("/health/ready").await.ok()?;
            (response.status == 200).then_some(())
        });
        if ready.await.is_none() {
            let tail = self.process().as_ref().map(Process::tail);
            panic!(
                "Keycloak does not serve after {START_TIMEOUT:?}\n{}",
                tail.unwrap_or_default()
            );
        }
        print_line(&format!(
            "Keycloak: serves after {:.1} s, {} MB resident",
            started.elapsed().as_secs_f64(),
            self.resident_megabytes()
        ));
    }

    /// Stops the process. Its store is kept.
    pub async fn stop(&self) {
        let process = self.process().take();
        if let Some(process) = process {
            let stopped = process.stop(STOP_TIMEOUT).await;
            assert!(
                stopped.is_some(),
                "Keycloak does not stop\n{}",
                process.tail()
            );
        }
    }

    /// Issuer of a realm.
    pub fn issuer(&self, realm: &str) -> String {
        format!("{}/realms/{realm}", self.url)
    }

    /// Client for requests that no helper has.
    pub fn client(&self) -> &HttpsClient {
        &self.client
    }

    /// File of the CA, for settings.
    pub fn ca_file(&self) -> PathBuf {
        let file = self.folder.path().join("ca.crt");
        if !file.exists() {
            self.folder.write("ca.crt", self.authority.pem());
        }
        file
    }

    /// Requests for a path that the log of this Keycloak has so far.
    pub fn requests_for(&self, path: &str) -> usize {
        let log = self.process().as_ref().map(Process::log);
        log.unwrap_or_default()
            .lines()
            .filter(|line| line.contains("http.access-log") && line.contains(path))
            .count()
    }

    /// Resident memory of the process.
    pub fn resident_megabytes(&self) -> u64 {
        let status = self.process().as_ref().and_then(|process| {
            std::fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()
        });
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kilobytes| kilobytes / 1024)
    }

    fn arguments(&self) -> Vec<String> {
        let home = self.folder.path().display();
        let [port, management] = self.ports;
        let mut arguments: Vec<String> = HEAP.map(str::to_owned).to_vec();
        arguments
            .extend(OPENED.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
        arguments.extend([
            format!("-Dkc.home.dir={home}"),
            format!("-Djboss.server.config.dir={home}/conf"),
            "-Djava.util.logging.manager=org.jboss.logmanager.LogManager".to_owned(),
            "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory".to_owned(),
            "-cp".to_owned(),
            format!("{home}/lib/quarkus-run.jar"),
            "io.quarkus.bootstrap.runner.QuarkusEntryPoint".to_owned(),
            "start".to_owned(),
            "--optimized".to_owned(),
            "--cache=local".to_owned(),
            "--http-host=127.0.0.1".to_owned(),
            format!("--https-port={port}"),
            format!("--https-certificate-file={home}/keycloak.crt"),
            format!("--https-certificate-key-file={home}/keycloak.key"),
            // Without it, the issuer would follow the header Host.
            format!("--hostname={}", self.url),
            format!("--http-management-port={management}"),
            "--http-access-log-enabled=true".to_owned(),
        ]);
        arguments
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Folder of Keycloak. Obtains it if it is missing, and logs that to stderr: it takes a minute.
fn distribution() -> String {
    let script = project_root().join("hack/tools/keycloak.sh");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{} does not run: {error}", script.display()));
    assert!(
        output.status.success(),
        "{}: {}",
        script.display(),
        output.status
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
