//! Scripts of `hack/` that decide something: whether the port is closed, and which leftovers are removed.

use std::process::Command;

use testbed::command_output::CommandOutput;
use testbed::process::Folder;
use testbed::tools::project_root;

/// Runs commands with bash, after sourcing a file of `hack/`, or a function of one.
#[track_caller]
fn bash(script: &str) -> (i32, String) {
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(project_root());
    let output = CommandOutput::run(command, "");
    (output.code, output.text().trim().to_owned())
}

#[test]
fn ranges_become_peers_by_family() {
    for (ranges, peers) in [
        ("", "[]"),
        (
            "10.244.0.0/16",
            r#"[{ipBlock: {cidr: 0.0.0.0/0, except: ["10.244.0.0/16"]}}]"#,
        ),
        (
            "fd00::/64",
            r#"[{ipBlock: {cidr: "::/0", except: ["fd00::/64"]}}]"#,
        ),
        (
            "10.1.0.0/24 fd00::/64 10.2.0.0/24",
            r#"[{ipBlock: {cidr: 0.0.0.0/0, except: ["10.1.0.0/24", "10.2.0.0/24"]}}, {ipBlock: {cidr: "::/0", except: ["fd00::/64"]}}]"#,
        ),
    ] {
        assert_eq!(
            bash(&format!("source hack/lib/callers.sh; peers '{ranges}'")),
            (0, peers.to_owned())
        );
    }
}

/// The output of kubectl about nodes and pods decides whether the port is declared closed.
#[test]
fn ranges_of_the_only_node_count_when_all_pods_are_in_them() {
    let found = |nodes: &str, pods: &str| {
        let kubectl = format!(
            "k() {{ case \"$2\" in nodes) printf '%b' '{nodes}' ;; *) printf '%b' '{pods}' ;; esac; }}"
        );
        bash(&format!(
            "source hack/lib/callers.sh; {kubectl}; TARGET=own; pod_cidrs"
        ))
    };
    let nodes = "10.244.0.0/24 fd00:10:244::/64\\n";
    let inside = "true 192.168.1.1\\n 10.244.0.5 fd00:10:244::5\\n 10.244.0.9\\n";
    assert_eq!(
        found(nodes, inside),
        (0, "10.244.0.0/24 fd00:10:244::/64".to_owned())
    );
    // Requests of another node's API server may come from a tunnel.
    assert_eq!(
        found("10.244.0.0/24\\n10.244.1.0/24\\n", " 10.244.0.5\\n"),
        (0, String::new())
    );
    // The network has addresses of its own, or there is no pod that shows it.
    assert_eq!(
        found(nodes, " 10.244.0.5\\n 172.20.0.9\\n"),
        (0, String::new())
    );
    assert_eq!(found(nodes, "true 192.168.1.1\\n"), (0, String::new()));
    assert_eq!(found("", inside), (0, String::new()));
    let given =
        "source hack/lib/callers.sh; TARGET=own; POD_CIDRS=10.1.0.0/16,fd00::/64; pod_cidrs";
    assert_eq!(bash(given), (0, "10.1.0.0/16 fd00::/64".to_owned()));
}

/// Without flock, another build may be in progress.
#[test]
fn leftovers_of_running_builds_are_kept() {
    let folder = Folder::new();
    let folder_path = folder.path().display();
    let script = format!(
        "source <(sed -n '/^remove_leftovers()/,/^}}/p' hack/tools/tools.sh)
         true & gone=$!; wait $gone
         mkdir '{folder_path}'/.building.$gone '{folder_path}'/.building.$$ '{folder_path}'/kept
         remove_leftovers '{folder_path}'; remove_leftovers '{folder_path}/kept'
         ls -A '{folder_path}' | sed \"s/$$/own/\""
    );
    assert_eq!(bash(&script), (0, ".building.own\nkept".to_owned()));
}
