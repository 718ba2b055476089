//! Checks the Service and its endpoints.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::{
    Installation, container, includes, is_component, name, pod_labels,
};
use crate::kubernetes::Lookup;

/// Port of the Service if an entry names none.
const DEFAULT_SERVICE_PORT: i32 = 443;

/// Evaluates the Service and, unless it leads out of the cluster, its endpoints.
pub fn evaluate(installation: &Installation) -> Vec<Check> {
    let Some(name) = &installation.service_name else {
        return vec![url_instead_of_service(installation)];
    };
    let reinstall = || installation.install_method().reinstall_command();
    let service = match &installation.service {
        Lookup::Found(service) => service,
        Lookup::NotFound => {
            let message = format!(
                "Service {name} not found in namespace {}: the webhook cannot be called",
                installation.namespace
            );
            return vec![Check::failure(CheckId::Service, message, reinstall())];
        }
        Lookup::Unknown(reason) => return vec![Check::unchecked(CheckId::Service, reason.clone())],
    };
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let host = spec.external_name.unwrap_or_default();
        return vec![Check::ok(
            CheckId::Service,
            format!("Service {name} leads out of the cluster, to {host}"),
        )];
    }
    let number = entry_port(installation);
    let Some(port) = spec.ports.iter().flatten().find(|port| port.port == number) else {
        let message =
            format!("Service {name} has no port {number}, which the webhook configuration names");
        return vec![Check::failure(CheckId::Service, message, reinstall())];
    };
    let check = match unexpected_endpoints(installation, service, port) {
        Some(message) => Check::failure(CheckId::Service, message, reinstall()),
        None => Check::ok(
            CheckId::Service,
            format!(
                "Service {name}, port {number}, leads to port {}",
                target_port(port)
            ),
        ),
    };
    vec![check, endpoints(installation, name)]
}

fn url_instead_of_service(installation: &Installation) -> Check {
    let url = installation
        .entries()
        .iter()
        .find_map(|entry| entry.client_config.url.as_deref())
        .unwrap_or_default();
    Check::ok(
        CheckId::Service,
        format!("none is used: the API server calls {url}"),
    )
}

/// Returns the port that the entries name.
fn entry_port(installation: &Installation) -> i32 {
    let service = installation
        .entries()
        .iter()
        .find_map(|entry| entry.client_config.service.as_ref());
    service
        .and_then(|service| service.port)
        .unwrap_or(DEFAULT_SERVICE_PORT)
}

fn target_port(port: &ServicePort) -> String {
    match &port.target_port {
        Some(IntOrString::String(name)) => name.clone(),
        Some(IntOrString::Int(number)) => number.to_string(),
        None => port.port.to_string(),
    }
}

/// Returns how the Service's selector or target port differ from the Deployment; `None` if they match.
fn unexpected_endpoints(
    installation: &Installation,
    service: &Service,
    port: &ServicePort,
) -> Option<String> {
    // Not `Installation::deployment`, which requires a match with the selector.
    let deployments = installation.deployments.found()?;
    let (deployment, labels) = deployments.iter().find_map(|deployment| {
        let labels = pod_labels(deployment)?;
        is_component(labels, "webhook").then_some((deployment, labels))
    })?;
    let deployment_name = name(&deployment.metadata);
    if !includes(labels, service.spec.as_ref()?.selector.as_ref()) {
        return Some(format!(
            "the Service's selector does not fit the pods of Deployment {deployment_name}"
        ));
    }
    let ports = container(deployment)?.ports.as_ref()?;
    let fits = match port.target_port.as_ref()? {
        IntOrString::String(name) => ports.iter().any(|port| port.name.as_deref() == Some(name)),
        IntOrString::Int(number) => ports.iter().any(|port| port.container_port == *number),
    };
    (!fits)
        .then(|| format!("the Service's target port is none of the container's ports in Deployment {deployment_name}"))
}

fn endpoints(installation: &Installation, service: &str) -> Check {
    let slices = match &installation.slices {
        Lookup::Found(slices) => slices.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(reason) => return Check::unchecked(CheckId::Endpoints, reason.clone()),
    };
    let all: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
    let ready: usize = slices.iter().map(count_ready).sum();
    let fix = describe_command(installation, service);
    if ready == 0 {
        let message = if all == 0 {
            format!("Service {service} has no endpoints: no pod with its labels runs")
        } else {
            format!(
                "none of the {all} endpoints of Service {service} is ready; the pods' readiness events say why"
            )
        };
        return Check::failure(CheckId::Endpoints, message, fix);
    }
    if ready < all {
        let message = format!("{ready} of {all} endpoints are ready");
        return Check::warning(CheckId::Endpoints, message, fix);
    }
    Check::ok(
        CheckId::Endpoints,
        if ready == 1 {
            "one, ready".to_owned()
        } else {
            format!("{ready}, all ready")
        },
    )
}

/// Counts the ready endpoints; one without the condition counts as ready.
fn count_ready(slice: &EndpointSlice) -> usize {
    let endpoints = slice.endpoints.iter();
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    });
    ready.count()
}

/// Command that shows the pods of the Service, or the Service if its selector is unknown.
fn describe_command(installation: &Installation, service: &str) -> String {
    let namespace = &installation.namespace;
    let Some(selector) = installation.selector() else {
        return format!("kubectl -n {namespace} describe service {service}");
    };
    let labels: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!(
        "kubectl -n {namespace} describe pods -l {}",
        labels.join(",")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{healthy_installation, slice};

    fn checks_of(change: impl FnOnce(&mut Installation)) -> Vec<(CheckId, Status, String)> {
        let mut installation = healthy_installation();
        change(&mut installation);
        evaluate(&installation)
            .into_iter()
            .map(|check| (check.check, check.status, check.message))
            .collect()
    }

    fn change_service(installation: &mut Installation, change: &Value) {
        if let Lookup::Found(service) = &mut installation.service {
            let mut object = serde_json::to_value(&*service).expect("a Service");
            json_patch::merge(&mut object["spec"], change);
            *service = serde_json::from_value(object).expect("a Service");
        }
    }

    #[test]
    fn service_with_endpoints_is_ok() {
        let all = checks_of(|_| {});
        assert_eq!(
            all,
            [
                (
                    CheckId::Service,
                    Status::Ok,
                    "Service floe-secrets-webhook, port 443, leads to port admission".to_owned()
                ),
                (CheckId::Endpoints, Status::Ok, "2, all ready".to_owned()),
            ]
        );
    }

    #[test]
    fn missing_endpoints_and_ports_are_reported() {
        let problem_of = |checks: Vec<(CheckId, Status, String)>| -> (CheckId, Status, String) {
            let problems = checks
                .into_iter()
                .filter(|(_, status, _)| *status != Status::Ok)
                .collect::<Vec<_>>();
            let [problem]: [_; 1] = problems.try_into().unwrap_or_else(|all| panic!("{all:?}"));
            problem
        };
        let (id, status, message) = problem_of(checks_of(|installation| {
            installation.slices = Lookup::Found(Vec::new());
        }));
        assert!(
            id == CheckId::Endpoints
                && status == Status::Failure
                && message.contains("has no endpoints"),
            "{message}"
        );
        let (_, status, message) = problem_of(checks_of(|installation| {
            installation.slices = Lookup::Found(vec![slice(&[false, false])]);
        }));
        assert!(
            status == Status::Failure && message.starts_with("none of the 2 endpoints"),
            "{message}"
        );
        let (_, status, message) = problem_of(checks_of(|installation| {
            installation.slices = Lookup::Found(vec![slice(&[true, false])]);
        }));
        assert_eq!(
            (status, message.as_str()),
            (Status::Warning, "1 of 2 endpoints are ready")
        );
        let (id, status, _) = problem_of(checks_of(|installation| {
            installation.service = Lookup::NotFound;
        }));
        assert_eq!((id, status), (CheckId::Service, Status::Failure));
        let (_, _, message) = problem_of(checks_of(|installation| {
            change_service(installation, &json!({"ports": [{"port": 8443}]}));
        }));
        assert!(message.contains("has no port 443"), "{message}");
        let other = json!({"ports": [{"name": "admission", "port": 443, "targetPort": "https"}]});
        let (_, _, message) = problem_of(checks_of(|installation| {
            change_service(installation, &other);
        }));
        assert!(
            message.contains("none of the container's ports"),
            "{message}"
        );
        let (_, _, message) = problem_of(checks_of(|installation| {
            change_service(
                installation,
                &json!({"selector": {"app.kubernetes.io/name": "x"}}),
            );
        }));
        assert!(message.contains("selector does not fit"), "{message}");
        let (_, status, _) = problem_of(checks_of(|installation| {
            installation.slices = Lookup::Unknown("forbidden".to_owned());
        }));
        assert_eq!(status, Status::NotChecked);
    }

    #[test]
    fn external_service_has_no_endpoints() {
        let external = json!({"type": "ExternalName", "externalName": "webhook.example.com"});
        let [(_, status, message)]: [_; 1] =
            checks_of(|installation| change_service(installation, &external))
                .try_into()
                .expect("one");
        assert!(
            status == Status::Ok && message.ends_with("to webhook.example.com"),
            "{message}"
        );
    }
}
