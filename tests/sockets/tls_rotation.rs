//! Certificate changes under a live listener: as the kubelet makes them, partial, to garbage, to expired ones.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not recognise"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::server::cert_store::{CertStore, ClientAuth, TlsFiles};
use floe_secrets_webhook::server::connection::Peer;
use floe_secrets_webhook::server::metrics::{ReloadLabels, ReloadResult, ServerMetrics};
use floe_secrets_webhook::telemetry::logs::thread_log::ThreadLog;
use tempfile::TempDir;
use testbed::sockets::{Ca, Pem, Server, connect, served_common_name, wait_until};

/// Secret volume with the kubelet's layout: `tls.crt -> ..data/tls.crt`, `..data -> ..2026_n`.
struct Volume {
    dir: TempDir,
    generation: u32,
}

impl Volume {
    fn new(pair: &Pem) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), dir.path().join(name)).unwrap();
        }
        let mut volume = Self { dir, generation: 0 };
        volume.swap(pair);
        volume
    }

    /// New directory, link renamed over, old directory removed.
    fn swap(&mut self, pair: &Pem) {
        let root = self.dir.path();
        let old = root.join(format!("..2026_{}", self.generation));
        self.generation += 1;
        let name = format!("..2026_{}", self.generation);
        fs::create_dir(root.join(&name)).unwrap();
        fs::write(root.join(&name).join("tls.crt"), &pair.cert).unwrap();
        fs::write(root.join(&name).join("tls.key"), &pair.key).unwrap();
        symlink(&name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }

    fn files(&self) -> TlsFiles {
        let path = |name: &str| -> PathBuf { self.dir.path().join(name) };
        TlsFiles {
            pair: Some((path("tls.crt"), path("tls.key"))),
            client_ca: None,
        }
    }
}

/// Listener that reads its certificate files at a short interval.
struct Fixture {
    server: Server,
    store: Arc<CertStore>,
    metrics: ServerMetrics,
}

impl Fixture {
    async fn start(files: TlsFiles) -> Self {
        let metrics = ServerMetrics::default();
        let auth = if files.client_ca.is_some() {
            ClientAuth::Required
        } else {
            ClientAuth::None
        };
        let store = CertStore::new(auth, Clock::system(), metrics.clone());
        files.load(&store).await.unwrap();
        let watched = Arc::clone(&store);
        tokio::spawn(async move { files.watch(&watched, Duration::from_millis(10)).await });
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/who", get(client_name));
        let settings = floe_secrets_webhook::server::listener::ListenerSettings::default();
        let server =
            testbed::sockets::serve(router, settings, &metrics, Some(Arc::clone(&store))).await;
        Self {
            server,
            store,
            metrics,
        }
    }

    fn count(&self, result: ReloadResult) -> u64 {
        self.metrics
            .tls_reloads
            .get_or_create(&ReloadLabels { result })
            .get()
    }

    /// Waits until the files were rejected this many more times.
    async fn refused(&self, times: u64) {
        let before = self.count(ReloadResult::Kept);
        wait_until("refusals", async || {
            self.count(ReloadResult::Kept) >= before + times
        })
        .await;
    }
}

async fn client_name(Extension(peer): Extension<Peer>) -> String {
    format!("{} {}", peer.verified, peer.name.as_deref().unwrap_or("-"))
}

#[tokio::test]
async fn three_certificate_swaps_are_served_and_no_connection_drops() {
    let ca = Ca::new("ca");
    let mut volume = Volume::new(&ca.leaf("generation-0"));
    let watched = Fixture::start(volume.files()).await;
    let addr = watched.server.addr;
    let mut old = connect(addr, &ca, None, "http/1.1").await.unwrap();
    assert_eq!(testbed::sockets::common_name(&old), "generation-0");
    for generation in 1..=3 {
        let name = format!("generation-{generation}");
        volume.swap(&ca.leaf(&name));
        wait_until(&name, async || served_common_name(addr, &ca).await == name).await;
        assert_eq!(
            testbed::sockets::get(&mut old, "/").await.unwrap().body,
            "ok"
        );
    }
    assert_eq!(watched.count(ReloadResult::Loaded), 3);
}

#[tokio::test]
async fn key_written_before_its_certificate_waits_for_it() {
    let ca = Ca::new("ca");
    let volume = Volume::new(&ca.leaf("old"));
    let watched = Fixture::start(volume.files()).await;
    let new = ca.leaf("new");
    let data = volume.dir.path().join("..data");
    fs::write(data.join("tls.key"), &new.key).unwrap();
    watched.refused(2).await;
    assert_eq!(served_common_name(watched.server.addr, &ca).await, "old");
    fs::write(data.join("tls.crt"), &new.cert).unwrap();
    wait_until("new", async || {
        served_common_name(watched.server.addr, &ca).await == "new"
    })
    .await;
}

#[tokio::test]
async fn unusable_pair_is_rejected_with_one_warning_and_last_good_pair_stays() {
    let log = ThreadLog::start("warn").unwrap();
    let warnings = || log.lines_with("certificate rejected");

    let ca = Ca::new("ca");
    let good = ca.leaf("good");
    let mut volume = Volume::new(&good);
    let watched = Fixture::start(volume.files()).await;
    let not_after = watched.store.not_after();
    let key = good.key.clone();
    let expired = ca.leaf_with("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    let future = ca.leaf_with("future", |params| {
        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    });
    let other = ca.leaf("other");
    let bad = [
        (
            Pem {
                cert: "garbage".to_owned(),
                key: key.clone(),
            },
            "PEM block",
        ),
        (
            Pem {
                cert: good.cert.replace("MII", "MIX"),
                key: key.clone(),
            },
            "X.509",
        ),
        (
            Pem {
                cert: String::new(),
                key: String::new(),
            },
            "PEM block",
        ),
        (
            Pem {
                cert: other.cert,
                key,
            },
            "does not belong",
        ),
        (expired, "expired at 2020-02-01"),
        (future, "not valid before 4000-01-01"),
    ];
    for (n, (pair, reason)) in bad.iter().enumerate() {
        volume.swap(pair);
        // The third rejection is certain to be of the complete content, and must not be logged again.
        wait_until(reason, async || warnings().len() > n).await;
        watched.refused(3).await;
        assert_eq!(
            served_common_name(watched.server.addr, &ca).await,
            "good",
            "{reason}"
        );
        let warnings = warnings();
        assert_eq!(warnings.len(), n + 1, "{warnings:#?}");
        assert!(warnings[n].contains(reason), "{}", warnings[n]);
        assert!(!warnings[n].contains("PRIVATE KEY-"), "{}", warnings[n]);
    }
    assert_eq!(watched.store.not_after(), not_after);
    assert_eq!(watched.store.check(), Ok(()));

    fs::remove_file(volume.dir.path().join("..data")).unwrap();
    watched.refused(2).await;
    assert_eq!(served_common_name(watched.server.addr, &ca).await, "good");
    assert_eq!(watched.count(ReloadResult::Loaded), 0);
}

#[tokio::test]
async fn expired_pair_prevents_start_and_expiring_one_readiness() {
    let ca = Ca::new("ca");
    let pair = ca.leaf_with("short", |params| {
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
    });
    let now = Arc::new(Mutex::new(
        "2026-01-15T00:00:00Z".parse::<jiff::Timestamp>().unwrap(),
    ));
    let clock = Arc::clone(&now);
    let metrics = ServerMetrics::default();
    let store = CertStore::new(
        ClientAuth::None,
        Clock::new(move || *clock.lock().unwrap()),
        metrics.clone(),
    );
    assert_eq!(store.check(), Err("no certificate yet".to_owned()));
    assert!(store.server_config().is_none());
    let volume = Volume::new(&pair);
    volume.files().load(&store).await.unwrap();
    assert_eq!(store.check(), Ok(()));
    assert_eq!(
        metrics.tls_not_after.get(),
        "2026-02-01T00:00:00Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_second()
    );

    *now.lock().unwrap() = "2026-02-02T00:00:00Z".parse().unwrap();
    assert_eq!(
        store.check(),
        Err("certificate expired at 2026-02-01T00:00:00Z".to_owned())
    );
    assert!(
        store.server_config().is_some(),
        "an expired certificate is better than none"
    );

    let metrics = ServerMetrics::default();
    let store = CertStore::new(ClientAuth::None, Clock::system(), metrics);
    let error = volume.files().load(&store).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate expired at 2026-02-01T00:00:00Z"
    );
}

#[tokio::test]
async fn client_certificate_is_required_and_its_ca_can_change() {
    let ca = Ca::new("ca");
    let (first, second) = (Ca::new("first"), Ca::new("second"));
    let (alice, bob) = (first.leaf("alice"), second.leaf("bob"));
    let volume = Volume::new(&ca.leaf("server"));
    let client_ca = volume.dir.path().join("client-ca.crt");
    fs::write(&client_ca, first.pem()).unwrap();
    let watched = Fixture::start(TlsFiles {
        client_ca: Some(client_ca.clone()),
        ..volume.files()
    })
    .await;
    // With TLS 1.3 the client's handshake ends before the server has verified its certificate: only a response shows
    // it.
    let client_name = async |client: Option<&Pem>| -> Option<String> {
        let mut stream = connect(watched.server.addr, &ca, client, "http/1.1")
            .await
            .ok()?;
        testbed::sockets::get(&mut stream, "/who")
            .await
            .ok()
            .map(|response| response.body)
    };
    assert_eq!(client_name(None).await, None);
    assert_eq!(client_name(Some(&bob)).await, None);
    assert_eq!(
        client_name(Some(&alice)).await.as_deref(),
        Some("true alice")
    );

    fs::write(&client_ca, "garbage").unwrap();
    watched.refused(2).await;
    assert_eq!(
        client_name(Some(&alice)).await.as_deref(),
        Some("true alice")
    );

    fs::write(&client_ca, first.pem() + &second.pem()).unwrap();
    wait_until("both", async || client_name(Some(&bob)).await.is_some()).await;
    assert_eq!(
        client_name(Some(&alice)).await.as_deref(),
        Some("true alice")
    );

    fs::write(&client_ca, second.pem()).unwrap();
    wait_until("the second alone", async || {
        client_name(Some(&alice)).await.is_none()
    })
    .await;
    assert_eq!(client_name(Some(&bob)).await.as_deref(), Some("true bob"));
    assert_eq!(client_name(None).await, None);
}

#[tokio::test]
async fn calls_are_rejected_while_required_client_ca_is_missing() {
    let ca = Ca::new("ca");
    let pair = ca.leaf("server");
    let metrics = ServerMetrics::default();
    let store = CertStore::new(ClientAuth::Required, Clock::system(), metrics);
    store
        .load(pair.cert.as_bytes(), pair.key.as_bytes())
        .unwrap();
    assert!(store.server_config().is_none());
    assert_eq!(store.check(), Err("no client CA yet".to_owned()));
}
