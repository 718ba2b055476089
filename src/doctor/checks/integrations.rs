//! Checks the programs that the webhook writes annotations for: Reloader and the Infisical operator.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::{container, name};
use crate::kubernetes::Lookup;
use crate::kubernetes::lookup;

/// Labels of Reloader's Deployment in the versions of its chart and manifests.
const RELOADER_SELECTORS: [&str; 2] = [
    "app in (reloader-reloader, reloader)",
    "app.kubernetes.io/name=reloader",
];

/// Limit of Deployments that are read per selector.
const PAGE_SIZE: u32 = 20;

/// Annotation that the webhook writes for Reloader.
const RELOAD_ANNOTATION: &str = "secret.reloader.stakater.com/reload";

/// Arguments that limit the objects which Reloader watches.
const RELOADER_SCOPE_FLAGS: [&str; 4] = [
    "--namespaces-to-ignore",
    "--namespaces",
    "--namespace-selector",
    "--resource-label-selector",
];

/// Versions of `InfisicalSecret`, newest first.
const INFISICAL_VERSIONS: [&str; 2] = [
    "secrets.infisical.com/v1beta1",
    "secrets.infisical.com/v1alpha1",
];

/// Programs that were found.
#[derive(Clone, Debug)]
pub struct Integrations {
    /// Deployments of Reloader.
    pub reloader: Lookup<Vec<Deployment>>,
    /// Version in which `InfisicalSecret` is served.
    pub infisical: Lookup<String>,
}

/// Looks up both programs in the cluster.
pub async fn read(client: &Client) -> Integrations {
    Integrations {
        reloader: read_reloader(client).await,
        infisical: read_infisical(client).await,
    }
}

async fn read_reloader(client: &Client) -> Lookup<Vec<Deployment>> {
    let deployments: Api<Deployment> = Api::all(client.clone());
    for selector in RELOADER_SELECTORS {
        let params = ListParams::default().labels(selector).limit(PAGE_SIZE);
        let listed = async { deployments.list(&params).await.map(|list| Some(list.items)) };
        match lookup::read_optional(listed).await {
            Lookup::Found(found) => {
                let has_image = |deployment: &Deployment| {
                    container(deployment)
                        .and_then(|container| container.image.as_deref())
                        .is_some_and(is_reloader)
                };
                let found: Vec<Deployment> = found.into_iter().filter(has_image).collect();
                if !found.is_empty() {
                    return Lookup::Found(found);
                }
            }
            other => return other,
        }
    }
    Lookup::NotFound
}

fn is_reloader(image: &str) -> bool {
    image
        .rsplit('/')
        .next()
        .is_some_and(|name| name.contains("reloader"))
}

async fn read_infisical(client: &Client) -> Lookup<String> {
    for version in INFISICAL_VERSIONS {
        let served = async {
            match client.list_api_group_resources(version).await {
                Ok(list) => Ok(list
                    .resources
                    .iter()
                    .any(|kind| kind.kind == "InfisicalSecret")
                    .then_some(())),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        };
        match lookup::read_optional(served).await {
            Lookup::Found(()) => return Lookup::Found(version.to_owned()),
            Lookup::NotFound => {}
            Lookup::Unknown(reason) => return Lookup::Unknown(reason),
        }
    }
    Lookup::NotFound
}

/// Evaluates both programs.
pub fn evaluate(integrations: &Integrations) -> Vec<Check> {
    let reloader = match &integrations.reloader {
        Lookup::Found(found) => found.first().map_or_else(no_reloader, reloader),
        Lookup::NotFound => no_reloader(),
        Lookup::Unknown(reason) => Check::unchecked(CheckId::Reloader, reason.clone()),
    };
    let infisical = match &integrations.infisical {
        Lookup::Found(version) => Check::ok(
            CheckId::InfisicalOperator,
            format!("InfisicalSecret is served ({version})"),
        ),
        Lookup::NotFound => {
            let message = "not installed: only workloads with `reload: infisical` or secrets from Infisical need it";
            Check::ok(CheckId::InfisicalOperator, message)
        }
        Lookup::Unknown(reason) => Check::unchecked(CheckId::InfisicalOperator, reason.clone()),
    };
    vec![reloader, infisical]
}

fn no_reloader() -> Check {
    let message = "not found: a changed secret restarts no workload (`reload: auto` and `reload: reloader` need it)";
    let fix = "helm install reloader reloader --repo https://stakater.github.io/stakater-charts -n reloader --create-namespace";
    Check::warning(CheckId::Reloader, message, fix)
}

/// Evaluates whether Reloader runs, and whether its arguments keep it from reading the annotations that the webhook
/// writes.
fn reloader(deployment: &Deployment) -> Check {
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let name = name(&deployment.metadata);
    let this = format!("Deployment {name} in namespace {namespace}");
    let edit = format!("kubectl -n {namespace} edit deployment {name}");
    let value = |flag: &str| argument(deployment, flag);
    if value("--resources-to-ignore")
        .is_some_and(|ignored| ignored.to_lowercase().contains("secrets"))
    {
        let message = format!("{this} ignores Secrets (--resources-to-ignore)");
        return Check::warning(CheckId::Reloader, message, edit);
    }
    if let Some(annotation) =
        value("--secret-annotation").filter(|annotation| *annotation != RELOAD_ANNOTATION)
    {
        let message =
            format!("{this} reads the annotation {annotation}, and {RELOAD_ANNOTATION} is written");
        return Check::warning(CheckId::Reloader, message, edit);
    }
    let status = deployment.status.as_ref();
    let available = status.and_then(|status| status.available_replicas);
    if available.unwrap_or(0) == 0 {
        let message = format!("{this} has no available replica");
        let describe = format!("kubectl -n {namespace} describe deployment {name}");
        return Check::warning(CheckId::Reloader, message, describe);
    }
    let scope = RELOADER_SCOPE_FLAGS.into_iter().find_map(|flag| {
        let value = value(flag)?;
        Some(format!("; it looks only where {flag} {value} lets it"))
    });
    Check::ok(
        CheckId::Reloader,
        format!("{this}{}", scope.unwrap_or_default()),
    )
}

/// Returns the value of `--FLAG=VALUE` or `--FLAG VALUE`.
fn argument<'d>(deployment: &'d Deployment, flag: &str) -> Option<&'d str> {
    let args = container(deployment)?.args.as_ref()?;
    args.iter()
        .enumerate()
        .find_map(|(index, argument)| match argument.strip_prefix(flag)? {
            "" => args.get(index + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::check::Status;

    fn check_of(args: &[&str], available: u32) -> (Status, String) {
        let deployment = json!({
            "metadata": {"name": "reloader-reloader", "namespace": "reloader"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{
                "name": "reloader", "image": "ghcr.io/stakater/reloader:v1.4.0", "args": args}]}}},
            "status": {"availableReplicas": available},
        });
        let deployment = serde_json::from_value(deployment).expect("a Deployment");
        let integrations = Integrations {
            reloader: Lookup::Found(vec![deployment]),
            infisical: Lookup::NotFound,
        };
        let check = evaluate(&integrations).remove(0);
        (check.status, check.message)
    }

    #[test]
    fn reloader_is_evaluated_by_its_arguments_and_replicas() {
        assert_eq!(
            check_of(&[], 1),
            (
                Status::Ok,
                "Deployment reloader-reloader in namespace reloader".to_owned()
            )
        );
        assert!(
            check_of(&["--namespaces-to-ignore=a"], 1)
                .1
                .ends_with("it looks only where --namespaces-to-ignore a lets it")
        );
        for args in [
            &["--resources-to-ignore=secrets"][..],
            &["--resources-to-ignore", "secrets"],
            &["--secret-annotation=x"],
        ] {
            assert_eq!(check_of(args, 1).0, Status::Warning, "{args:?}");
        }
        assert_eq!(check_of(&[], 0).0, Status::Warning);
        assert!(
            is_reloader("ghcr.io/stakater/reloader:v1@sha256:0")
                && !is_reloader("reloader/other:1")
        );
    }
}
