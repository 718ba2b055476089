//! The Service, and whether anybody is behind it. Pure.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::doctor::check::{Check, Id};
use crate::doctor::installation::{Installation, container, includes, name};
use crate::kubernetes::Lookup;

/// The port of a Service when an entry names none.
const HTTPS: i32 = 443;

/// Judges them.
pub fn judge(seen: &Installation) -> Vec<Check> {
    let Some(name) = &seen.service_name else {
        let url = seen
            .entries()
            .iter()
            .find_map(|entry| entry.client_config.url.as_deref())
            .unwrap_or_default();
        return vec![Check::ok(
            Id::Service,
            format!("none is used: the API server calls {url}"),
        )];
    };
    let namespace = &seen.namespace;
    let service = match &seen.service {
        Lookup::Found(service) => service,
        Lookup::NotFound => {
            let says = format!(
                "Service {name} not found in namespace {namespace}: the webhook cannot be called"
            );
            return vec![Check::failure(Id::Service, says, seen.origin().again())];
        }
        Lookup::Unknown(why) => return vec![Check::unchecked(Id::Service, why.clone())],
    };
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let host = spec.external_name.unwrap_or_default();
        return vec![Check::ok(
            Id::Service,
            format!("Service {name} leads out of the cluster, to {host}"),
        )];
    }
    let Some(port) = port(service, seen) else {
        let wanted = wanted(seen);
        let says =
            format!("Service {name} has no port {wanted}, which the webhook configuration names");
        return vec![Check::failure(Id::Service, says, seen.origin().again())];
    };
    if let Some(says) = strangers(seen, service, port) {
        return vec![
            Check::failure(Id::Service, says, seen.origin().again()),
            endpoints(seen, name),
        ];
    }
    let target = match &port.target_port {
        Some(IntOrString::String(name)) => name.clone(),
        Some(IntOrString::Int(number)) => number.to_string(),
        None => port.port.to_string(),
    };
    let ok = Check::ok(
        Id::Service,
        format!("Service {name}, port {}, leads to port {target}", port.port),
    );
    vec![ok, endpoints(seen, name)]
}

fn wanted(seen: &Installation) -> i32 {
    let service = seen
        .entries()
        .iter()
        .find_map(|entry| entry.client_config.service.as_ref());
    service.and_then(|service| service.port).unwrap_or(HTTPS)
}

fn port<'s>(service: &'s Service, seen: &Installation) -> Option<&'s ServicePort> {
    let wanted = wanted(seen);
    service
        .spec
        .as_ref()?
        .ports
        .as_ref()?
        .iter()
        .find(|port| port.port == wanted)
}

/// What of the Service does not fit the Deployment.
fn strangers(seen: &Installation, service: &Service, port: &ServicePort) -> Option<String> {
    // With no Deployment that fits its selector, whatever Deployment the webhook has.
    let deployments = seen.deployments.there()?;
    let of_component = |labels: &&std::collections::BTreeMap<String, String>| {
        labels
            .get("app.kubernetes.io/component")
            .is_some_and(|component| component == "webhook")
    };
    let (deployment, labels) = deployments.iter().find_map(|deployment| {
        let labels = deployment
            .spec
            .as_ref()?
            .template
            .metadata
            .as_ref()?
            .labels
            .as_ref()?;
        Some((deployment, labels)).filter(|(_, labels)| of_component(labels))
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

/// Who is behind it, as far as the cluster knows.
fn endpoints(seen: &Installation, service: &str) -> Check {
    let namespace = &seen.namespace;
    let slices = match &seen.slices {
        Lookup::Found(slices) => slices.as_slice(),
        Lookup::NotFound => &[],
        Lookup::Unknown(why) => return Check::unchecked(Id::Endpoints, why.clone()),
    };
    let (ready, all) = slices.iter().fold((0, 0), |(ready, all), slice| {
        let (more_ready, more) = count(slice);
        (ready + more_ready, all + more)
    });
    let labels = seen.selector().map(|selector| {
        selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    });
    let describe = labels.map_or_else(
        || format!("kubectl -n {namespace} describe service {service}"),
        |labels| format!("kubectl -n {namespace} describe pods -l {labels}"),
    );
    if ready == 0 {
        let says = if all == 0 {
            format!("Service {service} has no endpoints: no pod with its labels runs")
        } else {
            format!(
                "none of the {all} endpoints of Service {service} is ready; the pods' readiness events say why"
            )
        };
        return Check::failure(Id::Endpoints, says, describe);
    }
    if ready < all {
        return Check::warning(
            Id::Endpoints,
            format!("{ready} of {all} endpoints are ready"),
            describe,
        );
    }
    Check::ok(
        Id::Endpoints,
        if ready == 1 {
            "one, ready".to_owned()
        } else {
            format!("{ready}, all ready")
        },
    )
}

fn count(slice: &EndpointSlice) -> (usize, usize) {
    // Nothing said counts as ready.
    let is_ready = |ready: Option<bool>| ready.unwrap_or(true);
    let endpoints = slice.endpoints.iter();
    let ready = endpoints.filter(|endpoint| {
        is_ready(
            endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready),
        )
    });
    (ready.count(), slice.endpoints.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{installation, slice};

    fn found(change: impl FnOnce(&mut Installation)) -> Vec<(Id, Status, String)> {
        let mut seen = installation();
        change(&mut seen);
        judge(&seen)
            .into_iter()
            .map(|check| (check.check, check.status, check.message))
            .collect()
    }

    fn with_port(seen: &mut Installation, change: &Value) {
        if let Lookup::Found(service) = &mut seen.service {
            let mut object = serde_json::to_value(&*service).expect("a Service");
            json_patch::merge(&mut object["spec"], change);
            *service = serde_json::from_value(object).expect("a Service");
        }
    }

    #[test]
    fn a_service_with_endpoints_is_well() {
        let all = found(|_| {});
        assert_eq!(
            all,
            [
                (
                    Id::Service,
                    Status::Ok,
                    "Service floe-secrets-webhook, port 443, leads to port admission".to_owned()
                ),
                (Id::Endpoints, Status::Ok, "2, all ready".to_owned()),
            ]
        );
    }

    #[test]
    fn who_is_missing_is_told() {
        let only = |found: Vec<(Id, Status, String)>| -> (Id, Status, String) {
            let bad = found
                .into_iter()
                .filter(|(_, status, _)| *status != Status::Ok)
                .collect::<Vec<_>>();
            let [one]: [_; 1] = bad.try_into().unwrap_or_else(|all| panic!("{all:?}"));
            one
        };
        let (id, status, says) = only(found(|seen| seen.slices = Lookup::Found(Vec::new())));
        assert!(
            id == Id::Endpoints && status == Status::Failure && says.contains("has no endpoints"),
            "{says}"
        );
        let (_, status, says) = only(found(|seen| {
            seen.slices = Lookup::Found(vec![slice(&[false, false])]);
        }));
        assert!(
            status == Status::Failure && says.starts_with("none of the 2 endpoints"),
            "{says}"
        );
        let (_, status, says) = only(found(|seen| {
            seen.slices = Lookup::Found(vec![slice(&[true, false])]);
        }));
        assert_eq!(
            (status, says.as_str()),
            (Status::Warning, "1 of 2 endpoints are ready")
        );
        let (id, status, _) = only(found(|seen| seen.service = Lookup::NotFound));
        assert_eq!((id, status), (Id::Service, Status::Failure));
        let (_, _, says) = only(found(|seen| {
            with_port(seen, &json!({"ports": [{"port": 8443}]}));
        }));
        assert!(says.contains("has no port 443"), "{says}");
        let other = json!({"ports": [{"name": "admission", "port": 443, "targetPort": "https"}]});
        let (_, _, says) = only(found(|seen| with_port(seen, &other)));
        assert!(says.contains("none of the container's ports"), "{says}");
        let (_, _, says) = only(found(|seen| {
            with_port(seen, &json!({"selector": {"app.kubernetes.io/name": "x"}}));
        }));
        assert!(says.contains("selector does not fit"), "{says}");
        let (_, status, _) = only(found(|seen| {
            seen.slices = Lookup::Unknown("forbidden".to_owned());
        }));
        assert_eq!(status, Status::NotChecked);
    }

    #[test]
    fn what_leads_out_of_the_cluster_has_no_endpoints() {
        let external = json!({"type": "ExternalName", "externalName": "webhook.example.com"});
        let [(_, status, says)]: [_; 1] = found(|seen| with_port(seen, &external))
            .try_into()
            .expect("one");
        assert!(
            status == Status::Ok && says.ends_with("to webhook.example.com"),
            "{says}"
        );
    }
}
