//! Clients of the API server, with the timeouts of the request path or of long calls.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::kubernetes::proxy::{self, InvalidProxy, Proxy, ProxyVariables};

/// Default user agent, for the API server's audit log.
pub const DEFAULT_USER_AGENT: &str = concat!("floe-secrets-webhook/", env!("CARGO_PKG_VERSION"));

/// Connect timeout on the request path. A slower connection is too late for an admission.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connect timeout of calls for which no request waits.
const LONG_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Read timeout on the request path. Afterwards, half of an admission's time is left for another connection.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Location of the API server, and the client's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Kubeconfig file; also used in a cluster if set.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of its current one.
    pub context: Option<String>,
    /// Name in the API server's audit log; [`DEFAULT_USER_AGENT`] by default.
    pub user_agent: Option<String>,
    /// Proxies of the environment.
    pub proxies: ProxyVariables,
    /// Whether `proxies` also apply in a pod, where no kubeconfig is used.
    pub proxies_in_pods: bool,
}

/// Configuration of an API server, and the proxy on the way to it.
struct Target {
    config: Config,
    proxy: Option<Proxy>,
}

/// Reason why no client could be built. The messages name the fix, and quote nothing from a kubeconfig, which has
/// credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither the pod nor the default kubeconfig has a configuration.
    #[error(
        "not running in a cluster ({in_cluster}), and {kubeconfig}; give a kubeconfig, or run in a pod with a service account token"
    )]
    NoConfiguration {
        /// Problem of the pod's configuration.
        in_cluster: String,
        /// Problem of the default kubeconfig.
        kubeconfig: String,
    },
    /// The kubeconfig from the settings cannot be used.
    #[error("{0}")]
    Kubeconfig(String),
    /// The configured proxy cannot be used.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
    /// The user agent is not a valid header value.
    #[error("the user agent is not printable ASCII")]
    UserAgent,
    /// The configuration was found, but no client can be built from it.
    #[error("{0}")]
    Client(&'static str),
}

/// Connects for the request path: short timeouts and no retries, because `Retrying` retries inside the review's
/// deadline. The client does not queue requests; `Limits` bounds their number.
///
/// In a cluster, the client uses the pod's service account unless the settings name a kubeconfig or a context.
/// Elsewhere it uses the default kubeconfig.
///
/// # Errors
/// No configuration is found, or it cannot be used.
pub async fn connect(settings: &ClientSettings) -> Result<Client, ConnectError> {
    let Target { config, proxy } = target_with_user_agent(settings).await?;
    build(with_request_timeouts(config), proxy.as_ref())
}

/// Connects for calls outside of the request path: long lists, and watches without an event for minutes. The caller
/// sets a timeout for each call and bounds their number. The client does not queue requests, because the renewal of a
/// leader's lease must not wait behind a slow list.
///
/// # Errors
/// Errors of [`connect`].
pub async fn connect_for_long_calls(settings: &ClientSettings) -> Result<Client, ConnectError> {
    let Target { mut config, proxy } = target_with_user_agent(settings).await?;
    config.connect_timeout = Some(LONG_CONNECT_TIMEOUT);
    config.read_timeout = None;
    config.default_retry = false;
    build(config, proxy.as_ref())
}

async fn target_with_user_agent(settings: &ClientSettings) -> Result<Target, ConnectError> {
    let mut target = target(settings).await?;
    let user_agent = settings.user_agent.as_deref().unwrap_or(DEFAULT_USER_AGENT);
    let user_agent = HeaderValue::from_str(user_agent).map_err(|_| ConnectError::UserAgent)?;
    target.config.headers.push((USER_AGENT, user_agent));
    Ok(target)
}

/// Builds a client with the timeouts of the request path and without a proxy.
///
/// # Errors
/// The certificates or credentials of the configuration cannot be used.
pub fn client(config: Config) -> Result<Client, ConnectError> {
    build(with_request_timeouts(config), None)
}

fn with_request_timeouts(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Otherwise the idle time of a pooled connection counts against the next response.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

fn build(config: Config, proxy: Option<&Proxy>) -> Result<Client, ConnectError> {
    let client = match proxy {
        Some(proxy) => proxy::client(config, proxy),
        None => ClientBuilder::try_from(config).map(ClientBuilder::build),
    };
    client.map_err(|error| client_error(&error))
}

fn client_error(error: &kube::Error) -> ConnectError {
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
        let file =
            async { from_kubeconfig(Kubeconfig::read_from(path)?, context.as_deref()).await };
        let found = file.await.map_err(|error| {
            format!(
                "the kubeconfig {} {}",
                path.display(),
                kubeconfig_problem(&error)
            )
        });
        return with_proxy(found.map_err(ConnectError::Kubeconfig)?, proxies);
    }
    let default = async {
        let found = async { from_kubeconfig(Kubeconfig::read()?, context.as_deref()).await };
        found
            .await
            .map_err(|error| format!("the default kubeconfig {}", kubeconfig_problem(&error)))
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
                    in_cluster: in_cluster_problem(&error).to_owned(),
                    kubeconfig,
                });
            with_proxy(found?, proxies)
        }
    }
}

/// Configuration of a context, and the `proxy-url` of its cluster.
async fn from_kubeconfig(
    kubeconfig: Kubeconfig,
    context: Option<&str>,
) -> Result<(Config, Option<String>), KubeconfigError> {
    let proxy_url = proxy::proxy_url(&kubeconfig, context).map(ToOwned::to_owned);
    let options = KubeConfigOptions {
        context: context.map(ToOwned::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // kube sets it from the environment, but not by kubectl's rules.
    config.proxy_url = None;
    Ok((config, proxy_url))
}

/// In a pod, the proxy variables often come from an image or a platform and are meant for traffic out of the cluster.
fn in_pod(
    config: Config,
    variables: &ProxyVariables,
    use_proxies: bool,
) -> Result<Target, ConnectError> {
    if use_proxies {
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

fn in_cluster_problem(error: &InClusterError) -> &'static str {
    match error {
        InClusterError::ReadDefaultNamespace(_) => "the pod has no service account namespace",
        InClusterError::ReadEnvironmentVariable(_) => "KUBERNETES_SERVICE_HOST is not set",
        InClusterError::ReadCertificateBundle(_) | InClusterError::ParseCertificates(_) => {
            "the pod has no readable service account CA"
        }
        _ => "its service address cannot be read",
    }
}

/// Problem of a kubeconfig, as the predicate of a sentence about it.
fn kubeconfig_problem(error: &KubeconfigError) -> String {
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
        // The parser quotes the line that it rejects, which may have the token.
        _ => "is not a valid kubeconfig".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connect_error(yaml: &str, context: Option<&str>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let settings = ClientSettings {
            kubeconfig: Some(file.path().to_owned()),
            context: context.map(ToOwned::to_owned),
            ..ClientSettings::default()
        };
        let error = connect(&settings).await.err().expect("an error");
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
    async fn kubeconfig_contexts_are_found() {
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
    async fn kubeconfig_error_names_the_problem_and_quotes_nothing(
        #[case] yaml: &str,
        #[case] context: Option<&str>,
        #[case] sentence: &str,
    ) {
        assert_eq!(connect_error(yaml, context).await, sentence);
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
    async fn invalid_proxy_error_names_its_source(
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
            .expect("an error")
            .to_string();
        assert!(
            error.starts_with(sentence) && !error.contains("CANARY"),
            "{error}"
        );
        assert!(!format!("{settings:?}").contains("CANARY"));
    }

    #[test]
    fn pods_use_a_proxy_only_if_enabled() {
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
    async fn missing_kubeconfig_is_named() {
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
