//! Real PostgreSQL server on a loopback port, over TLS and with a password.
//!
//! The server refuses to run as root. A test of root runs it as `nobody`, from a copy of the programs that this user can
//! reach.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tokio_postgres::{Client, NoTls};

use super::pki::Authority;
use super::process::{Folder, Process};
use super::tools::program_paths;
use super::{free_ports, unique, wait_for};

/// Owner of all databases.
const USER: &str = "floe";

/// Password of the owner.
pub const PASSWORD: &str = "canary-password-of-postgres";

/// User and group of `nobody`.
const NOBODY: u32 = 65_534;

/// Server with a data folder of its own. Killed on drop.
pub struct Postgres {
    folder: Folder,
    port: u16,
    server: Option<Process>,
}

impl Postgres {
    /// Starts an empty server whose certificate is of this authority.
    pub async fn start(authority: &Authority) -> Self {
        let folder = Folder::new();
        let pair = authority.server(&["localhost", "127.0.0.1"]);
        let (_, key) = pair.write(&folder, "server");
        folder.write("ca.crt", authority.pem());
        folder.write("password", format!("{PASSWORD}\n"));
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("the folder can be written");
        set_mode(&key, 0o600);
        if is_root(&folder) {
            for path in [folder.path(), &data, &key, &folder.path().join("password")] {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("root may change owners");
            }
        }
        let [port] = free_ports();
        let mut server = Self {
            folder,
            port,
            server: None,
        };
        server.create_data();
        server.run().await;
        server
    }

    /// Creates the data folder.
    fn create_data(&self) {
        let (program, args) = self.command("initdb");
        let mut initdb = Command::new(program);
        initdb
            .args(args)
            .arg("-D")
            .arg(self.folder.path().join("data"));
        initdb.args(["-U", USER, "-E", "UTF8", "--no-locale", "--no-sync"]);
        initdb.args(["--auth=scram-sha-256", "--no-instructions", "--pwfile"]);
        initdb.arg(self.folder.path().join("password"));
        let output = initdb.output().expect("initdb starts");
        assert!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the server on its data, and waits until it takes connections.
    async fn run(&mut self) {
        let (program, mut args) = self.command("postgres");
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        args.extend(["-D".to_owned(), file("data")]);
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.crt")),
            format!("ssl_key_file={}", file("server.key")),
            "max_connections=60".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ] {
            args.extend(["-c".to_owned(), setting]);
        }
        // The processes of one that was killed end a moment later, and keep a new one from starting until then.
        let started = wait_for("a server of PostgreSQL", || async {
            let process = Process::start("postgres", self.folder.path(), &program, &args, &[]);
            self.takes_connections(&process).await.then_some(process)
        });
        self.server = Some(started.await);
    }

    /// Waits until the server takes a connection; false if it ends before.
    async fn takes_connections(&self, process: &Process) -> bool {
        let state = || async {
            if process.exit_status().is_some() {
                return Some(false);
            }
            self.connect("postgres").await.is_ok().then_some(true)
        };
        wait_for("a connection to PostgreSQL", state).await
    }

    /// Program and arguments before its own: those that make it run as `nobody`.
    fn command(&self, name: &str) -> (PathBuf, Vec<String>) {
        if !is_root(&self.folder) {
            let [program] = program_paths([name]);
            return (program, Vec::new());
        }
        let program = reachable_programs().join("bin").join(name);
        let user = NOBODY.to_string();
        let args = ["--reuid", &user, "--regid", &user, "--clear-groups"].map(str::to_owned);
        let mut args = Vec::from(args);
        args.push(program.display().to_string());
        (PathBuf::from("setpriv"), args)
    }

    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).dbname(database);
        config.user(USER).password(PASSWORD);
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Runs SQL in a database.
    pub async fn execute(&self, database: &str, sql: &str) {
        let client = self.connect(database).await.expect("a connection");
        client.batch_execute(sql).await.expect("valid SQL");
    }

    /// First column of the rows of a query.
    pub async fn texts(&self, database: &str, sql: &str) -> Vec<String> {
        let client = self.connect(database).await.expect("a connection");
        let rows = client.query(sql, &[]).await.expect("valid SQL");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Creates an empty database, and returns its name.
    pub async fn database(&self) -> String {
        let name = unique("audit").replace('-', "_");
        self.execute("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        name
    }

    /// URL of a database, without the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@localhost:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// File with the authority of the server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Kills the server, as a crash does.
    pub fn kill(&mut self) {
        drop(self.server.take());
    }

    /// Starts the server again after [`Self::kill`].
    pub async fn restart(&mut self) {
        self.kill();
        self.run().await;
    }

    /// Puts an empty server in the place of this one, with the same address, password and certificate.
    pub async fn fail_over_to_empty(&mut self) {
        self.kill();
        let data = self.folder.path().join("data");
        std::fs::rename(&data, self.folder.path().join("old")).expect("the folder can be written");
        std::fs::create_dir(&data).expect("the folder can be written");
        if is_root(&self.folder) {
            chown(&data, Some(NOBODY), Some(NOBODY)).expect("root may change owners");
        }
        self.create_data();
        self.run().await;
    }

    /// Puts the first server back after [`Self::fail_over_to_empty`].
    pub async fn fail_back(&mut self) {
        self.kill();
        let path = |name: &str| self.folder.path().join(name);
        std::fs::rename(path("data"), path("empty")).expect("the folder can be written");
        std::fs::rename(path("old"), path("data")).expect("the folder can be written");
        self.run().await;
    }
}

fn is_root(folder: &Folder) -> bool {
    let owner = folder.path().join("ca.crt").metadata();
    owner.is_ok_and(|file| file.uid() == 0)
}

fn set_mode(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("an own file");
}

/// Folder with a copy of the programs and their libraries. The cache is in the home of root, which nobody else can enter.
fn reachable_programs() -> &'static Path {
    static COPY: OnceLock<Folder> = OnceLock::new();
    let copy = COPY.get_or_init(|| {
        let [program] = program_paths(["postgres"]);
        let installed = program
            .parent()
            .and_then(Path::parent)
            .expect("two folders");
        let folder = Folder::new();
        set_mode(folder.path(), 0o755);
        let copied = Command::new("cp")
            .args(["-r", "--no-preserve=ownership"])
            .args(["bin", "lib", "share"].map(|name| installed.join(name)))
            .arg(folder.path())
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "cp fails");
        folder
    });
    copy.path()
}
