//! Control plane for experiments: etcd, API server and controller manager on loopback ports, no nodes.
//!
//! Prints the path of the administrator's kubeconfig and of kubectl, a line each, and exits when its standard input
//! ends. `hack/demo.sh` uses it where no node can run.

use std::io::{Read as _, Write as _};

use testbed::control_plane::{ControlPlane, Options};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let control_plane = ControlPlane::start(Options::default()).await;
    let [kubectl] = testbed::tools::program_paths(["kubectl"]);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}\n{}",
        control_plane.kubeconfig.display(),
        kubectl.display()
    )?;
    out.flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
