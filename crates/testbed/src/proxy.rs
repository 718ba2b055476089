//! Real forward proxy: CONNECT, CONNECT behind TLS, and SOCKS 5.

use std::path::Path;

use super::control_plane::ControlPlane;
use super::process::{Folder, Process};
use super::{free_ports, tools, wait_for};

/// Running proxy. Killed on drop.
pub struct ForwardProxy {
    process: Process,
    ports: [u16; 3],
    _folder: Folder,
}

impl ForwardProxy {
    /// Starts a proxy with a certificate of the control plane's CA. It requires the credentials, if there are any.
    pub async fn start(cp: &ControlPlane, credentials: Option<(&str, &str)>) -> Self {
        let folder = Folder::new();
        let ports: [u16; 3] = free_ports();
        let (cert, key) = cp
            .authority
            .server(&["localhost", "127.0.0.1"])
            .write(&folder, "proxy");
        let path = |path: &Path| path.display().to_string();
        let mut args = vec![
            "--cert".to_owned(),
            path(&cert),
            "--key".to_owned(),
            path(&key),
        ];
        for (flag, port) in ["--http", "--https", "--socks5"].into_iter().zip(ports) {
            args.extend([flag.to_owned(), format!("127.0.0.1:{port}")]);
        }
        if let Some((user, password)) = credentials {
            args.extend(["--user", user, "--password", password].map(ToOwned::to_owned));
        }
        let program = tokio::task::spawn_blocking(|| tools::program_paths(["proxy"])).await;
        let [program] = program.expect("the proxy is built");
        let process = Process::start("proxy", folder.path(), &program, &args, &[]);
        for port in ports {
            wait_for("the proxy listens", || async {
                assert!(process.exit_status().is_none(), "{}", process.tail());
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .ok()
            })
            .await;
        }
        Self {
            process,
            ports,
            _folder: folder,
        }
    }

    /// URL of the proxy for one of its protocols, with `userinfo` before the host.
    pub fn url(&self, scheme: &str, userinfo: &str) -> String {
        let place = ["http", "https", "socks5"]
            .iter()
            .position(|known| *known == scheme)
            .expect("a protocol");
        format!("{scheme}://{userinfo}127.0.0.1:{}", self.ports[place])
    }

    /// Number of connections to this address that were requested by a protocol: `connect` or `socks5`.
    pub fn connections(&self, protocol: &str, address: &str) -> usize {
        self.process
            .log()
            .lines()
            .filter(|line| *line == format!("{protocol} {address}"))
            .count()
    }
}
