//! The core as a library: injects into a pod that it reads from standard input, and prints the pod.
//!
//! ```sh
//! kubectl create deployment x --image=x --dry-run=client -o json | jq .spec.template \
//!   | cargo run -p injection --example inject_pod
//! ```
//!
//! Every secret that the annotations name is taken to exist, with keys that are not known.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read as _, Write as _};

use injection::{
    AnnotationLayers, BindOutcome, Decision, PlanInput, PlanTarget, PodView, SecretBinding, parse,
    plan, render,
};
use serde::Deserialize as _;
use serde_json::Value;

/// The patched pod; the pod itself if it asks for nothing.
fn inject(mut pod: Value, namespace: &str) -> Result<Value, Box<dyn Error>> {
    let before = pod.clone();
    let view = PodView::deserialize(&before)?;
    let layers = AnnotationLayers {
        object: view.annotations(),
        service_account: None,
        namespace: None,
    };
    let sentences = |lines: Vec<String>| lines.join("\n");
    let request = match parse(&layers) {
        Ok(Decision::Inject(request)) => request,
        Ok(Decision::Skip(_)) => return Ok(pod),
        Err(mistakes) => {
            return Err(sentences(mistakes.iter().map(ToString::to_string).collect()).into());
        }
    };
    // A program with a backend asks it here for the key names of each secret.
    let bindings = request.key_queries().into_keys().map(|secret| {
        let binding = SecretBinding {
            secret_name: secret.name.to_string(),
            keys: None,
        };
        (secret.clone(), BindOutcome::Found(binding))
    });
    let bindings: BTreeMap<_, _> = bindings.collect();
    let input = PlanInput {
        target: PlanTarget::Pod,
        pod: &view,
        namespace,
        request: &request,
        bindings: &bindings,
        sidecars: &[],
        discloses: true,
    };
    let plan = plan(&input)
        .map_err(|errors| sentences(errors.iter().map(ToString::to_string).collect()))?;
    json_patch::patch(&mut pod, &json_patch::Patch::from(render(&plan, &[])))?;
    Ok(pod)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let pod = inject(serde_json::from_str(&text)?, "default")?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &pod)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_injects_a_named_secret() {
        let pod = serde_json::json!({
            "metadata": { "annotations": { "secrets.floe.dev/env-from": "snowflake-credentials" } },
            "spec": { "containers": [{ "name": "dbt", "image": "dbt" }] }
        });
        let injected = inject(pod, "jobs").unwrap();
        assert_eq!(
            injected.pointer("/spec/containers/0/envFrom/0/secretRef/name"),
            Some(&Value::from("snowflake-credentials"))
        );
    }
}
