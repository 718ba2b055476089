//! One permission, as in a rule of a role.

use k8s_openapi::api::authorization::v1::ResourceAttributes;

/// Permission for one verb on one kind of object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    pub group: String,
    pub resource: String,
    pub verb: String,
    /// Empty for all namespaces.
    pub namespace: String,
    /// Empty for all names.
    pub name: String,
}

impl Permission {
    /// Permission for all names; `kind` is as in [`Permission::kind`].
    pub fn new(verb: &str, kind: &str, namespace: &str) -> Self {
        let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
        let [group, resource, verb, namespace] =
            [group, resource, verb, namespace].map(str::to_owned);
        Self {
            group,
            resource,
            verb,
            namespace,
            name: String::new(),
        }
    }

    /// Limits the permission to one name.
    pub fn named(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// Returns the resource and its group as kubectl writes them: `deployments.apps`.
    pub fn kind(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// Describes the permission: `get secrets db in namespace jobs`.
    pub fn describe(&self) -> String {
        let name = if self.name.is_empty() {
            String::new()
        } else {
            format!(" {}", self.name)
        };
        let namespace = if self.namespace.is_empty() {
            String::new()
        } else {
            format!(" in namespace {}", self.namespace)
        };
        format!("{} {}{name}{namespace}", self.verb, self.kind())
    }

    pub fn attributes(&self) -> ResourceAttributes {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            group: some(&self.group),
            resource: some(&self.resource),
            verb: some(&self.verb),
            namespace: some(&self.namespace),
            name: some(&self.name),
            ..ResourceAttributes::default()
        }
    }
}
