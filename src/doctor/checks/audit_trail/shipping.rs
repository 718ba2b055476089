//! Checks what `admin` reports about itself: its store, the lag of each replica, and the age of the last checkpoint.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::{Installation, argument, name};
use crate::kubernetes::Lookup;
use crate::telemetry::metrics::PREFIX;

use super::objects::AdminObjects;

/// Lines that a replica may have before they are a problem: some seconds of a busy one.
const MAX_LAG: f64 = 5_000.0;

/// Seconds after which a replica has sent its state several times.
const REPORTED_AFTER: i64 = 60;

/// Seconds between checkpoints that are a problem, as in the alert. There is one each minute.
const MAX_CHECKPOINT_AGE: f64 = 600.0;

/// Evaluates the metrics of `admin`.
pub fn evaluate(
    installation: &Installation,
    deployment: &Deployment,
    objects: &AdminObjects,
) -> Check {
    let id = CheckId::AuditShipping;
    let metrics = match &objects.metrics {
        Lookup::Found(metrics) => metrics.as_str(),
        Lookup::NotFound => {
            return Check::unchecked(id, "there is no Service of admin with a port ops");
        }
        Lookup::Unknown(reason) => {
            let message = format!("the metrics of admin cannot be read: {reason}");
            return Check::unchecked(id, message);
        }
    };
    let logs = |component: &str| {
        format!(
            "kubectl -n {} logs -l app.kubernetes.io/component={component} --tail=50",
            installation.namespace
        )
    };
    if value(metrics, "audit_store_ready").is_some_and(|ready| ready < 1.0) {
        let message = "the store is not ready: the log of admin has the reason";
        return Check::failure(id, message, logs("admin"));
    }
    let replicas: Vec<(&str, f64)> = samples(metrics, "audit_replica_unshipped_lines")
        .filter_map(|(labels, value)| Some((label(labels, "pod")?, value)))
        .collect();
    if let Some((pod, lines)) = replicas.iter().find(|(_, lines)| *lines > MAX_LAG) {
        let message = format!("replica {pod} has {lines} lines that admin does not have");
        return Check::warning(id, message, logs("webhook"));
    }
    if let Some(pod) = silent_replica(installation, deployment, &replicas) {
        let message = format!("replica {pod} has not sent its state to admin");
        return Check::warning(id, message, logs("webhook"));
    }
    let most = replicas.iter().map(|(_, lines)| *lines).fold(0.0, f64::max);
    let lag = format!(
        "{} replicas, each at most {most} lines behind",
        replicas.len()
    );
    if argument(deployment, "--checkpoint-key").is_none() {
        return Check::ok(id, format!("{lag}; checkpoints are not signed"));
    }
    let now = installation.now.as_duration().as_secs_f64();
    match value(metrics, "audit_checkpoint_time_seconds") {
        Some(time) if time > 0.0 && now - time <= MAX_CHECKPOINT_AGE => Check::ok(
            id,
            format!("{lag}; last checkpoint {:.0} s ago", (now - time).max(0.0)),
        ),
        Some(time) if time > 0.0 => {
            let message = format!("the last checkpoint was {:.0} s ago", now - time);
            Check::warning(id, message, logs("admin"))
        }
        _ => Check::warning(id, "there is no signed checkpoint yet", logs("admin")),
    }
}

/// Name of a running replica of the webhook that is not among those that have sent their state. One of several replicas
/// of `admin` knows only the pods that send to it.
fn silent_replica<'i>(
    installation: &'i Installation,
    admin: &Deployment,
    replicas: &[(&str, f64)],
) -> Option<&'i str> {
    let count = admin.spec.as_ref().and_then(|spec| spec.replicas);
    if count.is_some_and(|count| count > 1) {
        return None;
    }
    let is_old = |pod: &&Pod| {
        let status = pod.status.as_ref();
        let is_running = status.and_then(|status| status.phase.as_deref()) == Some("Running");
        let started = status.and_then(|status| status.start_time.as_ref());
        let age = started.map(|time| installation.now.as_second() - time.0.as_second());
        is_running && age.is_some_and(|age| age > REPORTED_AFTER)
    };
    let pods = installation.pods.found()?.iter();
    let ships = installation.argument("webhook", "--audit-collector");
    let mut names = pods.filter(is_old).map(|pod| name(&pod.metadata));
    names.find(|pod| ships.is_some() && !replicas.iter().any(|(replica, _)| replica == pod))
}

/// Labels, in braces, and values of a metric.
fn samples<'m>(metrics: &'m str, metric: &str) -> impl Iterator<Item = (&'m str, f64)> {
    let metric = format!("{PREFIX}_{metric}");
    metrics.lines().filter_map(move |line| {
        let (series, value) = line.rsplit_once(' ')?;
        let labels = series.strip_prefix(metric.as_str())?;
        let is_series = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| is_series)
    })
}

fn value(metrics: &str, metric: &str) -> Option<f64> {
    samples(metrics, metric).next().map(|(_, value)| value)
}

fn label<'m>(labels: &'m str, name: &str) -> Option<&'m str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{NOW, healthy_installation};

    fn check_with(installation: &Installation, metrics: &str) -> (Status, String) {
        let deployment = installation.deployment("admin").unwrap();
        let objects = AdminObjects {
            metrics: Lookup::Found(metrics.replace("P_", "floe_secrets_webhook_")),
            ..AdminObjects::default()
        };
        let check = evaluate(installation, deployment, &objects);
        (check.status, check.message)
    }

    fn metrics(lines: u32, checkpoint: i64) -> String {
        format!(
            "# HELP P_audit_store_ready x\nP_audit_store_ready 1\n\
             P_audit_replica_unshipped_lines{{pod=\"a\"}} 3\n\
             P_audit_replica_unshipped_lines{{pod=\"b\"}} {lines}\n\
             P_audit_checkpoint_time_seconds {}\n# EOF\n",
            NOW - checkpoint
        )
    }

    #[test]
    fn lag_and_checkpoint_are_reported() {
        let installation = healthy_installation();
        let check = |text: &str| check_with(&installation, text);
        assert_eq!(
            check(&metrics(7, 41)),
            (
                Status::Ok,
                "2 replicas, each at most 7 lines behind; last checkpoint 41 s ago".to_owned()
            )
        );
        for (text, status, part) in [
            (metrics(5_001, 41), Status::Warning, "replica b has 5001"),
            (metrics(0, 700), Status::Warning, "was 700 s ago"),
            (
                metrics(0, NOW + 1),
                Status::Warning,
                "no signed checkpoint yet",
            ),
            (
                "P_audit_store_ready 0\n".to_owned(),
                Status::Failure,
                "the store is not ready",
            ),
            (
                "P_audit_store_ready 1\n".to_owned(),
                Status::Warning,
                "no signed checkpoint yet",
            ),
        ] {
            let (found, message) = check(&text);
            assert_eq!(found, status, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn replica_that_sends_nothing_is_reported() {
        let mut installation = healthy_installation();
        let pod = |name: &str, age: i64| {
            let started = jiff::Timestamp::from_second(NOW - age).unwrap();
            let status = json!({"phase": "Running", "startTime": started.to_string()});
            serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap()
        };
        installation.pods = Lookup::Found(vec![pod("a", 900), pod("new", 5), pod("c", 900)]);
        let (status, message) = check_with(&installation, &metrics(0, 10));
        assert!(
            status == Status::Warning && message.starts_with("replica c has not sent"),
            "{message}"
        );
    }
}
