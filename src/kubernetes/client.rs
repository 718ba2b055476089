//! How to reach the API server, and with how much patience.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::kubernetes::proxy::{self, InvalidProxy, Proxy, ProxyVariables};

/// The user agent where none is set, for the API server's audit log.
pub const DEFAULT_USER_AGENT: &str = concat!("floe-secrets-webhook/", env!("CARGO_PKG_VERSION"));

/// A connection not made in this time will not be made in time for an admission.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The same where nobody waits in a request.
const PATIENT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence that long means a dead connection; half of an admission's time is then left for another one.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the API server is and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// This kubeconfig, whether or not we run in a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// This context of the kubeconfig, instead of its current one.
    pub context: Option<String>,
    /// Our name in the API server's audit log.
    pub user_agent: Option<String>,
    /// The proxies of the environment.
    pub proxies: ProxyVariables,
    /// Whether these count in a pod too, where no kubeconfig is used.
    pub proxies_in_pods: bool,
}

/// An API server, and the proxy on the way to it.
struct Target {
    config: Config,
    proxy: Option<Proxy>,
}

/// Why there is no client. The sentences say what to do and quote nothing from a kubeconfig, which holds
/// credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither way is open.
    #[error(
        "not running in a cluster ({in_cluster}), and {kubeconfig}; give a kubeconfig, or run in a pod with a service account token"
    )]
    NoConfiguration {
        /// What is missing in the pod.
        in_cluster: String,
        /// What is wrong with the default kubeconfig.
        kubeconfig: String,
    },
    /// The kubeconfig that was asked for cannot be used.
    #[error("{0}")]
    Kubeconfig(String),
    /// The proxy that was asked for cannot be used.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
    /// Not a header's value.
    #[error("the user agent is not printable ASCII")]
    UserAgent,
    /// The configuration was found, but makes no client.
    #[error("{0}")]
    Client(&'static str),
}

/// A client for the request path: it gives up soon and never repeats by itself, because `Retrying` does that
/// inside the review's deadline. Nothing waits in here: how much is asked at once is for `Limits` to say.
///
/// In a cluster it is the pod's service account, unless the settings name a kubeconfig or a context; else the
/// default kubeconfig.
///
/// # Errors
/// When no configuration is found, or the one found cannot be used.
pub async fn connect(settings: &ClientSettings) -> Result<Client, ConnectError> {
    let Target { config, proxy } = named(settings).await?;
    build(impatient(config), proxy.as_ref())
}

/// A client for what is not on the request path: long lists, and watches that are silent for minutes. Whoever calls
/// sets a time for each call, and how many there are: nothing waits in here, or the renewal of a leader's lease would
/// wait behind a slow list.
///
/// # Errors
/// As [`connect`].
pub async fn connect_patiently(settings: &ClientSettings) -> Result<Client, ConnectError> {
    let Target { mut config, proxy } = named(settings).await?;
    config.connect_timeout = Some(PATIENT_CONNECT_TIMEOUT);
    config.read_timeout = None;
    config.default_retry = false;
    build(config, proxy.as_ref())
}

/// The configuration, with our name in it.
async fn named(settings: &ClientSettings) -> Result<Target, ConnectError> {
    let mut target = target(settings).await?;
    let user_agent = settings.user_agent.as_deref().unwrap_or(DEFAULT_USER_AGENT);
    let user_agent = HeaderValue::from_str(user_agent).map_err(|_| ConnectError::UserAgent)?;
    target.config.headers.push((USER_AGENT, user_agent));
    Ok(target)
}

/// A client with the request path's patience and no proxy, from a configuration made elsewhere.
///
/// # Errors
/// When its certificates or credentials cannot be used.
pub fn client(config: Config) -> Result<Client, ConnectError> {
    build(impatient(config), None)
}

/// The patience of the request path.
fn impatient(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Else the time a pooled connection sat idle counts against the next answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

fn build(config: Config, proxy: Option<&Proxy>) -> Result<Client, ConnectError> {
    let client = match proxy {
        Some(proxy) => proxy::client(config, proxy),
        None => ClientBuilder::try_from(config).map(ClientBuilder::build),
    };
    client.map_err(|error| unusable(&error))
}

fn unusable(error: &kube::Error) -> ConnectError {
    ConnectError::Client(match error {
        kube::Error::Auth(_) => "no credential for the API server could be obtained",
        kube::Error::RustlsTls(_) => "the API server's CA or our client certificate cannot be used",
        _ => "the configuration of the API server cannot be used",
    })
}

async fn target(settings: &ClientSettings) -> Result<Target, ConnectError> {
    let ClientSettings {
        kubeconfig,
        context,
        user_agent: _,
        proxies,
        proxies_in_pods,
    } = settings;
    if let Some(path) = kubeconfig {
        let file = async { by_kubeconfig(Kubeconfig::read_from(path)?, context.as_deref()).await };
        let found = file
            .await
            .map_err(|error| format!("the kubeconfig {} {}", path.display(), fault(&error)));
        return with_proxy(found.map_err(ConnectError::Kubeconfig)?, proxies);
    }
    let default = async {
        let found = async { by_kubeconfig(Kubeconfig::read()?, context.as_deref()).await };
        found
            .await
            .map_err(|error| format!("the default kubeconfig {}", fault(&error)))
    };
    if context.is_some() {
        return with_proxy(default.await.map_err(ConnectError::Kubeconfig)?, proxies);
    }
    match Config::incluster_env() {
        Ok(config) => in_pod(config, proxies, *proxies_in_pods),
        Err(error) => {
            let found = default
                .await
                .map_err(|kubeconfig| ConnectError::NoConfiguration {
                    in_cluster: in_cluster_fault(&error).to_owned(),
                    kubeconfig,
                });
            with_proxy(found?, proxies)
        }
    }
}

/// The configuration of a context, and the `proxy-url` of its cluster.
async fn by_kubeconfig(
    kubeconfig: Kubeconfig,
    context: Option<&str>,
) -> Result<(Config, Option<String>), KubeconfigError> {
    let proxy_url = proxy::proxy_url(&kubeconfig, context).map(ToOwned::to_owned);
    let options = KubeConfigOptions {
        context: context.map(ToOwned::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // What kube has read of the environment: not by kubectl's rules.
    config.proxy_url = None;
    Ok((config, proxy_url))
}

/// In a pod the environment is often that of an image or of a platform, for the way out of the cluster.
fn in_pod(
    config: Config,
    variables: &ProxyVariables,
    believed: bool,
) -> Result<Target, ConnectError> {
    if believed {
        with_proxy((config, None), variables)
    } else {
        Ok(Target {
            config,
            proxy: None,
        })
    }
}

fn with_proxy(
    (config, proxy_url): (Config, Option<String>),
    variables: &ProxyVariables,
) -> Result<Target, ConnectError> {
    let proxy = proxy::choose(&config.cluster_url, proxy_url.as_deref(), variables)?;
    Ok(Target { config, proxy })
}

fn in_cluster_fault(error: &InClusterError) -> &'static str {
    match error {
        InClusterError::ReadDefaultNamespace(_) => "the pod has no service account namespace",
        InClusterError::ReadEnvironmentVariable(_) => "KUBERNETES_SERVICE_HOST is not set",
        InClusterError::ReadCertificateBundle(_) | InClusterError::ParseCertificates(_) => {
            "the pod has no readable service account CA"
        }
        _ => "its service address cannot be read",
    }
}

/// What is wrong with a kubeconfig, after its name.
fn fault(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "sets no current-context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("has no cluster {name:?}"),
        KubeconfigError::FindPath => {
            "has no path: neither KUBECONFIG nor a home directory is set".to_owned()
        }
        KubeconfigError::ReadConfig(error, path) => {
            format!("cannot be read at {}: {}", path.display(), error.kind())
        }
        KubeconfigError::MissingClusterUrl => "names a cluster without a server".to_owned(),
        KubeconfigError::ParseProxyUrl(_) => {
            "names a proxy-url that is not a URL, or HTTPS_PROXY in the environment is not one"
                .to_owned()
        }
        KubeconfigError::ParseClusterUrl(_) => "names a server that is not a URL".to_owned(),
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "names a certificate authority that cannot be read".to_owned()
        }
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => {
            "names a client certificate or key that cannot be read".to_owned()
        }
        // The parser quotes the line it stumbled on, and that may be the token's.
        _ => "is not a valid kubeconfig".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(yaml: &str, context: Option<&str>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let settings = ClientSettings {
            kubeconfig: Some(file.path().to_owned()),
            context: context.map(ToOwned::to_owned),
            ..ClientSettings::default()
        };
        let error = connect(&settings).await.err().expect("a refusal");
        error
            .to_string()
            .replace(&file.path().display().to_string(), "FILE")
    }

    const CONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {token: CANARY}}]
contexts: [{name: here, context: {cluster: c, user: u}}, {name: lost, context: {cluster: gone, user: u}}]
current-context: here
";

    #[tokio::test]
    async fn a_kubeconfig_and_its_contexts_are_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), CONFIG).unwrap();
        for context in [None, Some("here".to_owned())] {
            let kubeconfig = Some(file.path().to_owned());
            assert!(
                connect(&ClientSettings {
                    kubeconfig,
                    context,
                    ..ClientSettings::default()
                })
                .await
                .is_ok()
            );
        }
    }

    #[rstest::rstest]
    #[case(
        CONFIG,
        Some("elsewhere"),
        "the kubeconfig FILE has no context \"elsewhere\""
    )]
    #[case(CONFIG, Some("lost"), "the kubeconfig FILE has no cluster \"gone\"")]
    #[case(
        "users: [{name: u, user: {token: CANARY",
        None,
        "the kubeconfig FILE is not a valid kubeconfig"
    )]
    #[case("users: CANARY", None, "the kubeconfig FILE is not a valid kubeconfig")]
    #[tokio::test]
    async fn a_refusal_says_what_is_wrong_and_quotes_nothing(
        #[case] yaml: &str,
        #[case] context: Option<&str>,
        #[case] sentence: &str,
    ) {
        assert_eq!(refusal(yaml, context).await, sentence);
    }

    #[rstest::rstest]
    #[case(
        "http://proxy",
        "ftp://user:CANARY@proxy",
        "the proxy-url of the cluster in the kubeconfig cannot be used: "
    )]
    #[case(
        "http://pro xy:CANARY",
        "",
        "HTTPS_PROXY in the environment cannot be used: "
    )]
    #[tokio::test]
    async fn wrong_proxies_are_named(
        #[case] variable: &str,
        #[case] proxy_url: &str,
        #[case] sentence: &str,
    ) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cluster = format!("server: 'https://kubernetes.example.com', proxy-url: '{proxy_url}'");
        std::fs::write(
            file.path(),
            CONFIG.replace("server: 'http://127.0.0.1:1'", &cluster),
        )
        .unwrap();
        let proxies =
            ProxyVariables::read(|name| (name == "HTTPS_PROXY").then(|| variable.to_owned()));
        let kubeconfig = Some(file.path().to_owned());
        let settings = ClientSettings {
            kubeconfig,
            proxies,
            ..ClientSettings::default()
        };
        let error = connect(&settings)
            .await
            .err()
            .expect("a refusal")
            .to_string();
        assert!(
            error.starts_with(sentence) && !error.contains("CANARY"),
            "{error}"
        );
        assert!(!format!("{settings:?}").contains("CANARY"));
    }

    #[test]
    fn pods_use_a_proxy_when_told() {
        let config = || Config::new("https://10.0.0.1".parse().unwrap());
        let set =
            ProxyVariables::read(|name| (name == "HTTPS_PROXY").then(|| "proxy:3128".to_owned()));
        assert!(in_pod(config(), &set, false).unwrap().proxy.is_none());
        assert!(in_pod(config(), &set, true).unwrap().proxy.is_some());
        assert!(
            in_pod(config(), &ProxyVariables::default(), true)
                .unwrap()
                .proxy
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let settings = ClientSettings {
            kubeconfig: Some("/nowhere/config".into()),
            ..ClientSettings::default()
        };
        let sentence = connect(&settings).await.err().unwrap().to_string();
        assert_eq!(
            sentence,
            "the kubeconfig /nowhere/config cannot be read at /nowhere/config: entity not found"
        );
    }
}
