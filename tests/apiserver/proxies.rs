//! Proxies on the way to the API server: the commands and `serve` through a real one, compared with kubectl, which has
//! to use the same way.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::control_plane::ControlPlane;
use testbed::process::Folder;
use testbed::proxy::ForwardProxy;
use testbed::webhook::webhook_identity;
use testbed::webhook_process::Launch;

/// Host name of the API server on this machine that is not exempt from proxies.
const HOST: &str = "0.0.0.0";

/// Kubeconfig like this one, for [`HOST`], with this `proxy-url`. Also the address that a proxy logs.
fn elsewhere(folder: &Folder, kubeconfig: &Path, proxy_url: Option<&str>) -> (PathBuf, String) {
    let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    let cluster = &mut config["clusters"][0]["cluster"];
    let server = cluster["server"]
        .as_str()
        .expect("a server")
        .replace("127.0.0.1", HOST);
    let address = server.trim_start_matches("https://").to_owned();
    cluster["server"] = server.into();
    cluster["tls-server-name"] = "localhost".into();
    if let Some(url) = proxy_url {
        cluster["proxy-url"] = url.into();
    }
    (folder.write("kubeconfig", config.to_string()), address)
}

/// Variables that name proxies, all of them, so that those of the calling environment do not count.
fn environment(command: &mut Command, set: &[(&str, &str)]) {
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(set.iter().copied());
}

/// Runs a program to its end.
async fn run(mut command: Command, stdin: &str, set: &[(&str, &str)]) -> (i32, String) {
    environment(&mut command, set);
    let output = CommandOutput::run_async(command, stdin).await;
    (output.code, output.text())
}

fn webhook_command(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-secrets-webhook"));
    command.args(args).arg("--kubeconfig").arg(kubeconfig);
    command
}

fn kubectl(kubeconfig: &Path) -> Command {
    let [program] = testbed::tools::program_paths(["kubectl"]);
    let mut command = Command::new(program);
    command
        .args(["get", "--raw", "/version", "--kubeconfig"])
        .arg(kubeconfig);
    command
}

const SCAN: [&str; 3] = ["scan", "-n", "default"];

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {secrets.floe.dev/refs: by-proxy/a}}
spec: {containers: [{name: main}]}
";

#[tokio::test]
async fn commands_use_proxy_of_environment() {
    let cp = ControlPlane::shared().await;
    let proxy = ForwardProxy::start(cp, Some(("user", "p@ss:CANARY"))).await;
    cp.secret("default", "by-proxy", &["a"], "v").await;
    let folder = Folder::new();
    let (kubeconfig, address) = elsewhere(&folder, &cp.kubeconfig, None);
    for (scheme, protocol) in [
        ("http", "connect"),
        ("https", "connect"),
        ("socks5", "socks5"),
    ] {
        let url = proxy.url(scheme, "user:p%40ss%3ACANARY@");
        for (args, stdin, code) in [
            (&SCAN[..], "", 0),
            (&["inject", "-f", "-", "--cluster"], POD, 0),
            // There is no webhook to find.
            (&["doctor"], "", 1),
        ] {
            let before = proxy.connections(protocol, &address);
            let set = [
                ("HTTPS_PROXY", url.as_str()),
                ("NO_PROXY", "other.example.com,10.0.0.0/8"),
            ];
            let (found, printed) = run(webhook_command(&kubeconfig, args), stdin, &set).await;
            assert_eq!(found, code, "{scheme} {args:?}: {printed}");
            assert!(
                proxy.connections(protocol, &address) > before,
                "{scheme} {args:?}: {printed}"
            );
            assert!(!printed.contains("CANARY"), "{printed}");
        }
    }
}

/// `serve` and `controller` use the kubeconfig, and their log at the highest level has no password.
#[tokio::test]
async fn serve_uses_proxy_and_logs_no_password() {
    let cp = ControlPlane::shared().await;
    let proxy = ForwardProxy::start(cp, Some(("user", "CANARY"))).await;
    let identity = webhook_identity(cp).await;
    for scheme in ["http", "https", "socks5"] {
        let folder = Folder::new();
        let url = proxy.url(scheme, "user:CANARY@");
        let (kubeconfig, address) = elsewhere(&folder, &identity.kubeconfig, Some(&url));
        let protocol = if scheme == "socks5" {
            scheme
        } else {
            "connect"
        };
        let before = proxy.connections(protocol, &address);
        let launch =
            Launch::serve(cp, &identity).set("--kubeconfig", &kubeconfig.display().to_string());
        let webhook = launch.with(&["--log", "trace"]).start().await;
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "operation": "CREATE",
            "namespace": "default", "name": "p", "userInfo": {"username": "u"},
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default",
                "annotations": {"secrets.floe.dev/env-from": "nobody-has-this"}}, "spec": {"containers": [{"name": "main"}]}},
        }});
        let response = webhook.review("/admit/pods", &review).await.to_string();
        assert!(
            response.contains("not found in namespace"),
            "{scheme}: {response}\n{}",
            webhook.log()
        );
        assert!(proxy.connections(protocol, &address) > before, "{scheme}");
        let log = webhook.log();
        let place = log
            .find("CANARY")
            .map(|at| log[at.saturating_sub(300)..at].to_owned());
        assert_eq!(place, None, "{scheme}");
        assert!(log.contains("nobody-has-this"), "{scheme}: {log}");
    }
}

/// A `proxy-url`, variables, and the way: through the proxy, directly, or none.
type Row<'r> = (Option<&'r str>, &'r [(&'r str, &'r str)], Option<bool>);

/// Way that kubectl and the webhook's programs use with the same settings.
#[tokio::test]
async fn proxy_choice_equals_kubectl() {
    let cp = ControlPlane::shared().await;
    let open = ForwardProxy::start(cp, None).await;
    let closed = ForwardProxy::start(cp, Some(("user", "CANARY"))).await;
    let port = cp.server.rsplit(':').next().expect("a port");
    let (http, https, socks5) = (
        open.url("http", ""),
        open.url("https", ""),
        open.url("socks5", ""),
    );
    let bare = http.trim_start_matches("http://");
    let wrong = ["http", "https", "socks5"].map(|scheme| closed.url(scheme, "user:wrong-CANARY@"));
    let nobody = closed.url("http", "");
    let at_port = format!("{HOST}:{port}");
    let other_port = format!("{HOST}:1");
    let (through, direct, none) = (Some(true), Some(false), None);
    let rows: [Row<'_>; 24] = [
        (None, &[], direct),
        (None, &[("HTTPS_PROXY", &http)], through),
        (None, &[("https_proxy", bare)], through),
        (None, &[("HTTPS_PROXY", &https)], through),
        (None, &[("HTTPS_PROXY", &socks5)], through),
        (
            None,
            &[("HTTP_PROXY", &nobody), ("ALL_PROXY", &nobody)],
            direct,
        ),
        (
            None,
            &[("HTTPS_PROXY", &nobody), ("NO_PROXY", HOST)],
            direct,
        ),
        (
            None,
            &[("HTTPS_PROXY", &nobody), ("NO_PROXY", "a,0.0.0.0/8,")],
            direct,
        ),
        (None, &[("HTTPS_PROXY", &nobody), ("no_proxy", "*")], direct),
        (
            None,
            &[("HTTPS_PROXY", &nobody), ("NO_PROXY", &at_port)],
            direct,
        ),
        (
            None,
            &[("HTTPS_PROXY", &http), ("NO_PROXY", &other_port)],
            through,
        ),
        (
            None,
            &[
                ("HTTPS_PROXY", &http),
                ("NO_PROXY", "127.0.0.0/8,localhost,.svc"),
            ],
            through,
        ),
        (
            None,
            &[("HTTPS_PROXY", &http), ("NO_PROXY", "127.0.0.1")],
            through,
        ),
        (None, &[("HTTPS_PROXY", &nobody)], none),
        (None, &[("HTTPS_PROXY", &wrong[0])], none),
        (None, &[("HTTPS_PROXY", &wrong[1])], none),
        (None, &[("HTTPS_PROXY", &wrong[2])], none),
        (Some(&http), &[], through),
        (Some(&https), &[], through),
        (Some(&socks5), &[("HTTPS_PROXY", &nobody)], through),
        (Some(&http), &[("NO_PROXY", "*")], through),
        (Some(&wrong[0]), &[], none),
        (Some("ftp://user:CANARY@proxy"), &[], none),
        (Some("http://127.0.0.1:1"), &[], none),
    ];
    for (proxy_url, set, way) in rows {
        let folder = Folder::new();
        let (kubeconfig, address) = elsewhere(&folder, &cp.kubeconfig, proxy_url);
        let used = || open.connections("connect", &address) + open.connections("socks5", &address);
        for (who, command) in [
            ("kubectl", kubectl(&kubeconfig)),
            ("scan", webhook_command(&kubeconfig, &SCAN)),
        ] {
            let before = used();
            let (code, printed) = run(command, "", set).await;
            let found = (code == 0).then(|| used() > before);
            assert_eq!(found, way, "{who}: {proxy_url:?} {set:?}: {printed}");
            let refused = printed.contains("proxy") && !printed.contains("CANARY");
            assert!(
                who == "kubectl" || way.is_some() || refused,
                "{proxy_url:?} {set:?}: {printed}"
            );
        }
    }
    assert_eq!(
        closed.connections("connect", &at_port) + closed.connections("socks5", &at_port),
        0
    );
}

/// Addresses of this machine are never reached through a proxy.
#[tokio::test]
async fn local_addresses_bypass_proxy_of_environment() {
    let cp = ControlPlane::shared().await;
    let set = [("HTTPS_PROXY", "http://127.0.0.1:1")];
    for command in [
        kubectl(&cp.kubeconfig),
        webhook_command(&cp.kubeconfig, &SCAN),
    ] {
        let (code, printed) = run(command, "", &set).await;
        assert_eq!(code, 0, "{printed}");
    }
}
