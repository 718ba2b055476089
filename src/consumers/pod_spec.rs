//! References to a Secret in the spec of a pod or of a pod template: a partial view of its JSON.

use serde::Deserialize;

use super::found::{ConsumerUse, UseKind};
use injection::CowStr;

/// Fields of a pod's spec that may refer to a Secret. Literal values of variables are not read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SpecReferences<'a> {
    #[serde(borrow)]
    containers: Option<Vec<ContainerReferences<'a>>>,
    #[serde(borrow)]
    init_containers: Option<Vec<ContainerReferences<'a>>>,
    #[serde(borrow)]
    ephemeral_containers: Option<Vec<ContainerReferences<'a>>>,
    #[serde(borrow)]
    volumes: Option<Vec<VolumeReferences<'a>>>,
    #[serde(borrow)]
    image_pull_secrets: Option<Vec<Named<'a>>>,
    #[serde(borrow)]
    service_account_name: Option<CowStr<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerReferences<'a> {
    #[serde(borrow)]
    name: CowStr<'a>,
    #[serde(borrow)]
    env: Option<Vec<VariableReference<'a>>>,
    #[serde(borrow)]
    env_from: Option<Vec<SourceReference<'a>>>,
    #[serde(borrow)]
    volume_mounts: Option<Vec<MountReference<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VariableReference<'a> {
    #[serde(borrow)]
    value_from: Option<ValueReference<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueReference<'a> {
    #[serde(borrow)]
    secret_key_ref: Option<Named<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SourceReference<'a> {
    #[serde(borrow)]
    secret_ref: Option<Named<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MountReference<'a> {
    #[serde(borrow)]
    name: CowStr<'a>,
    #[serde(borrow)]
    sub_path: Option<CowStr<'a>>,
    #[serde(borrow)]
    sub_path_expr: Option<CowStr<'a>>,
}

impl MountReference<'_> {
    /// Whether one file is mounted, which the kubelet does not update while the container runs.
    fn is_of_one_file(&self) -> bool {
        [&self.sub_path, &self.sub_path_expr]
            .into_iter()
            .flatten()
            .any(|path| !path.as_str().is_empty())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeReferences<'a> {
    #[serde(borrow)]
    name: CowStr<'a>,
    #[serde(borrow)]
    secret: Option<SecretVolume<'a>>,
    #[serde(borrow)]
    projected: Option<ProjectedVolume<'a>>,
    #[serde(borrow)]
    csi: Option<DriverVolume<'a>>,
    #[serde(borrow)]
    flex_volume: Option<DriverVolume<'a>>,
    #[serde(borrow)]
    cephfs: Option<DriverVolume<'a>>,
    #[serde(borrow)]
    rbd: Option<DriverVolume<'a>>,
    #[serde(borrow)]
    iscsi: Option<DriverVolume<'a>>,
    #[serde(borrow)]
    azure_file: Option<SecretVolume<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume<'a> {
    #[serde(borrow)]
    secret_name: CowStr<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProjectedVolume<'a> {
    #[serde(borrow)]
    sources: Option<Vec<ProjectedSource<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProjectedSource<'a> {
    #[serde(borrow)]
    secret: Option<Named<'a>>,
}

/// Volume of a driver that reads a Secret when it mounts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DriverVolume<'a> {
    #[serde(borrow)]
    secret_ref: Option<Named<'a>>,
    #[serde(borrow)]
    node_publish_secret_ref: Option<Named<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    name: CowStr<'a>,
}

impl Named<'_> {
    fn is(reference: Option<&Self>, secret: &str) -> bool {
        reference.is_some_and(|named| named.name.as_str() == secret)
    }
}

impl VolumeReferences<'_> {
    fn has(&self, secret: &str) -> bool {
        let projected = self.projected.iter().flat_map(|volume| &volume.sources);
        self.secret
            .as_ref()
            .is_some_and(|volume| volume.secret_name.as_str() == secret)
            || projected
                .flatten()
                .any(|source| Named::is(source.secret.as_ref(), secret))
    }

    fn is_mounted_with(&self, secret: &str) -> bool {
        let drivers = [
            &self.csi,
            &self.flex_volume,
            &self.cephfs,
            &self.rbd,
            &self.iscsi,
        ];
        let azure = self.azure_file.as_ref();
        drivers.into_iter().flatten().any(|driver| {
            Named::is(driver.secret_ref.as_ref(), secret)
                || Named::is(driver.node_publish_secret_ref.as_ref(), secret)
        }) || azure.is_some_and(|volume| volume.secret_name.as_str() == secret)
    }
}

impl SpecReferences<'_> {
    /// Service account of the pod.
    pub fn service_account(&self) -> &str {
        let name = self.service_account_name.as_ref().map(CowStr::as_str);
        name.filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Uses of a Secret, at most one of each kind for each container.
    pub fn uses_of(&self, secret: &str) -> Vec<ConsumerUse> {
        let volumes = || self.volumes.iter().flatten();
        let mounted: Vec<&str> = volumes()
            .filter(|volume| volume.has(secret))
            .map(|volume| volume.name.as_str())
            .collect();
        let lists = [
            &self.containers,
            &self.init_containers,
            &self.ephemeral_containers,
        ];
        let containers = lists.into_iter().flat_map(|list| list.iter().flatten());
        let mut uses: Vec<ConsumerUse> = containers
            .flat_map(|container| container.uses_of(secret, &mounted))
            .collect();
        if volumes().any(|volume| volume.is_mounted_with(secret)) {
            uses.push(ConsumerUse::of_pod(UseKind::VolumeDriver));
        }
        if self
            .image_pull_secrets
            .iter()
            .flatten()
            .any(|named| named.name.as_str() == secret)
        {
            uses.push(ConsumerUse::of_pod(UseKind::ImagePull));
        }
        uses
    }
}

impl ContainerReferences<'_> {
    fn uses_of(&self, secret: &str, mounted: &[&str]) -> Vec<ConsumerUse> {
        let mut kinds = Vec::new();
        let by_key = |variable: &VariableReference<'_>| {
            let value = variable.value_from.as_ref();
            Named::is(
                value.and_then(|value| value.secret_key_ref.as_ref()),
                secret,
            )
        };
        if self.env.iter().flatten().any(by_key) {
            kinds.push(UseKind::Env);
        }
        let mut sources = self.env_from.iter().flatten();
        if sources.any(|source| Named::is(source.secret_ref.as_ref(), secret)) {
            kinds.push(UseKind::EnvFrom);
        }
        let mounts = || {
            let mounts = self.volume_mounts.iter().flatten();
            mounts.filter(|mount| mounted.contains(&mount.name.as_str()))
        };
        if mounts().any(|mount| !mount.is_of_one_file()) {
            kinds.push(UseKind::Volume);
        }
        if mounts().any(MountReference::is_of_one_file) {
            kinds.push(UseKind::SubPath);
        }
        let of_container = |kind| ConsumerUse {
            kind,
            container: Some(self.name.as_str().to_owned()),
            annotation: None,
        };
        kinds.into_iter().map(of_container).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn uses(spec: &Value) -> Vec<(UseKind, Option<String>)> {
        let text = spec.to_string();
        let spec: SpecReferences<'_> = serde_json::from_str(&text).unwrap();
        let uses = spec.uses_of("db").into_iter();
        uses.map(|used| (used.kind, used.container)).collect()
    }

    #[rstest::rstest]
    #[case::env(json!({"name": "c", "env": [{"name": "A", "value": "x"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}), Some(UseKind::Env))]
    #[case::env_of_another(json!({"name": "c", "env": [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "db2", "key": "k"}}}]}), None)]
    #[case::env_of_a_config_map(json!({"name": "c", "env": [{"name": "B", "valueFrom": {"configMapKeyRef": {"name": "db", "key": "k"}}}]}), None)]
    #[case::env_from(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "db"}}, {"prefix": "P_", "secretRef": {"name": "db"}}]}), Some(UseKind::EnvFrom))]
    #[case::volume(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}), Some(UseKind::Volume))]
    #[case::projected(json!({"name": "c", "volumeMounts": [{"name": "p", "mountPath": "/v"}]}), Some(UseKind::Volume))]
    #[case::one_file(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "k"}]}), Some(UseKind::SubPath))]
    #[case::one_file_by_expression(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}]}), Some(UseKind::SubPath))]
    #[case::other_volume(json!({"name": "c", "volumeMounts": [{"name": "o", "mountPath": "/v"}]}), None)]
    #[case::nulls(json!({"name": "c", "env": null, "envFrom": null, "volumeMounts": null}), None)]
    fn container_uses_are_found(#[case] container: Value, #[case] expected: Option<UseKind>) {
        let volumes = json!([
            {"name": "v", "secret": {"secretName": "db"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "db"}}, {"secret": {"name": "db"}}]}},
            {"name": "o", "configMap": {"name": "db"}},
        ]);
        let expected: Vec<_> = expected
            .map(|kind| (kind, Some("c".to_owned())))
            .into_iter()
            .collect();
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            assert_eq!(
                uses(&json!({list: [container], "volumes": volumes})),
                expected
            );
        }
    }

    #[rstest::rstest]
    #[case(json!({"imagePullSecrets": [{"name": "a"}, {"name": "db"}]}), UseKind::ImagePull)]
    #[case(json!({"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "db"}}}]}), UseKind::VolumeDriver)]
    #[case(json!({"volumes": [{"name": "v", "azureFile": {"secretName": "db"}}]}), UseKind::VolumeDriver)]
    fn pod_uses_are_found(#[case] spec: Value, #[case] expected: UseKind) {
        assert_eq!(uses(&spec), [(expected, None)]);
    }
}
