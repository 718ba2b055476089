//! Small volume that can be full, grow, and be read-only: a tmpfs in a mount namespace that ends with the test process.

use std::path::Path;
use std::process::Command;

use super::command_output::CommandOutput;
use super::process::{Folder, Process};
use super::wait_for;
use super::webhook_process::Launch;

/// Mounts the volume, and holds its namespace.
const HOLDER: &str =
    r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && : >"$2/.mounted" && exec sleep infinity"#;

/// Writes a file until nothing fits any more.
const FILLER: &str =
    r#"dd if=/dev/zero of="$1/filler" bs=4k oflag=append conv=notrunc 2>/dev/null; exit 0"#;

/// Mounted volume. Needs Linux, with user namespaces for those who are not root.
pub struct Volume {
    // Dropped before the folder that it is mounted on.
    holder: Process,
    folder: Folder,
}

impl Volume {
    /// Mounts a volume of this size, as in `32m`.
    pub async fn mount(size: &str) -> Self {
        let folder = Folder::new();
        let mount_point = folder.path().join("volume");
        std::fs::create_dir(&mount_point).expect("a folder");
        let words = [
            "-rm",
            "sh",
            "-c",
            HOLDER,
            "sh",
            size,
            &mount_point.display().to_string(),
        ];
        let args = words.map(str::to_owned);
        let holder = Process::start("volume", folder.path(), Path::new("unshare"), &args, &[]);
        let volume = Self { holder, folder };
        wait_for("the volume", || async {
            let ended = volume.holder.exit_status();
            assert!(ended.is_none(), "{}", volume.holder.tail());
            let marker = volume.path().join(".mounted").display().to_string();
            let found = volume.run(&["test", "-e", &marker]).await;
            (found.code == 0).then_some(())
        })
        .await;
        volume
    }

    /// Mount point, which has the volume inside the namespace alone.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("volume")
    }

    /// Command that runs another one inside the namespace.
    pub fn enter(&self) -> Vec<String> {
        let pid = self.holder.pid().to_string();
        let words = ["nsenter", "-U", "--preserve-credentials", "-m", "-t", &pid];
        words.map(str::to_owned).to_vec()
    }

    async fn run(&self, words: &[&str]) -> CommandOutput {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(words);
        CommandOutput::run_async(command, "").await
    }

    /// Mounts it again with other options, such as `size=64m`, `ro` or `rw`.
    pub async fn remount(&self, options: &str) {
        let path = self.path().display().to_string();
        let options = format!("remount,{options}");
        let mounted = self.run(&["mount", "-o", &options, &path]).await;
        mounted.expect_success();
    }

    /// Fills all that is free.
    pub async fn fill(&self) {
        let path = self.path().display().to_string();
        let filled = self.run(&["sh", "-c", FILLER, "sh", &path]).await;
        filled.expect_success();
    }
}

impl Launch {
    /// Runs the program in the mount namespace of a volume.
    pub fn inside(self, volume: &Volume) -> Self {
        self.behind(&volume.enter())
    }
}
