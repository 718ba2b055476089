//! Programs that the webhook writes annotations for: Reloader, the Infisical operator.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::doctor::check::{Check, Id};
use crate::doctor::installation::{container, name};
use crate::kubernetes::Lookup;
use crate::kubernetes::lookup;

/// Labels by which Reloader's chart and manifests mark its Deployment, in their several versions.
const SELECTORS: [&str; 2] = [
    "app in (reloader-reloader, reloader)",
    "app.kubernetes.io/name=reloader",
];

/// Deployments that are read of each selector.
const PAGE: u32 = 20;

/// The annotation that is written for Reloader.
const RELOAD: &str = "secret.reloader.stakater.com/reload";

/// The versions of `InfisicalSecret`, newest first.
const INFISICAL: [&str; 2] = [
    "secrets.infisical.com/v1beta1",
    "secrets.infisical.com/v1alpha1",
];

/// What was found.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// Reloader's Deployments.
    pub reloader: Lookup<Vec<Deployment>>,
    /// The version in which `InfisicalSecret` is served.
    pub infisical: Lookup<String>,
}

/// Looks for them.
pub async fn look(client: &Client) -> Neighbours {
    Neighbours {
        reloader: reloader(client).await,
        infisical: infisical(client).await,
    }
}

async fn reloader(client: &Client) -> Lookup<Vec<Deployment>> {
    let deployments: Api<Deployment> = Api::all(client.clone());
    for selector in SELECTORS {
        let params = ListParams::default().labels(selector).limit(PAGE);
        let listed = async { deployments.list(&params).await.map(|list| Some(list.items)) };
        match lookup::look(listed).await {
            Lookup::Found(found) => {
                let is_it = |deployment: &Deployment| {
                    container(deployment)
                        .and_then(|container| container.image.as_deref())
                        .is_some_and(is_reloader)
                };
                let found: Vec<Deployment> = found.into_iter().filter(is_it).collect();
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

async fn infisical(client: &Client) -> Lookup<String> {
    for version in INFISICAL {
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
        match lookup::look(served).await {
            Lookup::Found(()) => return Lookup::Found(version.to_owned()),
            Lookup::NotFound => {}
            Lookup::Unknown(why) => return Lookup::Unknown(why),
        }
    }
    Lookup::NotFound
}

/// Judges them.
pub fn judge(neighbours: &Neighbours) -> Vec<Check> {
    let reloader = match &neighbours.reloader {
        Lookup::Found(found) => found.first().map_or_else(no_reloader, one_reloader),
        Lookup::NotFound => no_reloader(),
        Lookup::Unknown(why) => Check::unchecked(Id::Reloader, why.clone()),
    };
    let infisical = match &neighbours.infisical {
        Lookup::Found(version) => Check::ok(
            Id::InfisicalOperator,
            format!("InfisicalSecret is served ({version})"),
        ),
        Lookup::NotFound => {
            let says = "not installed: only workloads with `reload: infisical` or secrets from Infisical need it";
            Check::ok(Id::InfisicalOperator, says)
        }
        Lookup::Unknown(why) => Check::unchecked(Id::InfisicalOperator, why.clone()),
    };
    vec![reloader, infisical]
}

fn no_reloader() -> Check {
    let says = "not found: a changed secret restarts no workload (`reload: auto` and `reload: reloader` need it)";
    let mend = "helm install reloader reloader --repo https://stakater.github.io/stakater-charts -n reloader --create-namespace";
    Check::warning(Id::Reloader, says, mend)
}

/// What of its arguments keeps it from seeing what is written for it.
fn one_reloader(deployment: &Deployment) -> Check {
    let (namespace, name) = (
        deployment.metadata.namespace.as_deref().unwrap_or_default(),
        name(&deployment.metadata),
    );
    let this = format!("Deployment {name} in namespace {namespace}");
    let args = container(deployment)
        .and_then(|container| container.args.clone())
        .unwrap_or_default();
    let value = |flag: &str| {
        args.iter()
            .enumerate()
            .find_map(|(at, argument)| match argument.strip_prefix(flag)? {
                "" => args.get(at + 1).map(String::as_str),
                rest => rest.strip_prefix('='),
            })
    };
    let edit = format!("kubectl -n {namespace} edit deployment {name}");
    if value("--resources-to-ignore")
        .is_some_and(|ignored| ignored.to_lowercase().contains("secrets"))
    {
        return Check::warning(
            Id::Reloader,
            format!("{this} ignores Secrets (--resources-to-ignore)"),
            edit,
        );
    }
    if let Some(annotation) =
        value("--secret-annotation").filter(|annotation| *annotation != RELOAD)
    {
        let says = format!("{this} reads the annotation {annotation}, and {RELOAD} is written");
        return Check::warning(Id::Reloader, says, edit);
    }
    if deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
        == 0
    {
        let describe = format!("kubectl -n {namespace} describe deployment {name}");
        return Check::warning(
            Id::Reloader,
            format!("{this} has no available replica"),
            describe,
        );
    }
    let narrowed = [
        "--namespaces-to-ignore",
        "--namespaces",
        "--namespace-selector",
        "--resource-label-selector",
    ]
    .into_iter()
    .find_map(|flag| {
        Some(format!(
            "; it looks only where {flag} {} lets it",
            value(flag)?
        ))
    });
    Check::ok(
        Id::Reloader,
        format!("{this}{}", narrowed.unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::check::Status;

    fn found(args: &[&str], available: u32) -> (Status, String) {
        let deployment = json!({
            "metadata": {"name": "reloader-reloader", "namespace": "reloader"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{
                "name": "reloader", "image": "ghcr.io/stakater/reloader:v1.4.0", "args": args}]}}},
            "status": {"availableReplicas": available},
        });
        let deployment = serde_json::from_value(deployment).expect("a Deployment");
        let neighbours = Neighbours {
            reloader: Lookup::Found(vec![deployment]),
            infisical: Lookup::NotFound,
        };
        let check = judge(&neighbours).remove(0);
        (check.status, check.message)
    }

    #[test]
    fn reloader_has_to_look_at_what_is_written_for_it() {
        assert_eq!(
            found(&[], 1),
            (
                Status::Ok,
                "Deployment reloader-reloader in namespace reloader".to_owned()
            )
        );
        assert!(
            found(&["--namespaces-to-ignore=a"], 1)
                .1
                .ends_with("it looks only where --namespaces-to-ignore a lets it")
        );
        for args in [
            &["--resources-to-ignore=secrets"][..],
            &["--resources-to-ignore", "secrets"],
            &["--secret-annotation=x"],
        ] {
            assert_eq!(found(args, 1).0, Status::Warning, "{args:?}");
        }
        assert_eq!(found(&[], 0).0, Status::Warning);
        assert!(
            is_reloader("ghcr.io/stakater/reloader:v1@sha256:0")
                && !is_reloader("reloader/other:1")
        );
    }
}
