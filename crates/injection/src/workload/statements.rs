//! Statements of authors in the object under review: entries that the webhook must not remove as its own.
//!
//! Client-side apply leaves the whole configuration in an annotation. Server-side apply leaves the paths that each
//! manager owns (`metadata.managedFields`, entries of the operation `Apply`). Both are in the object that is reviewed.
//! Other writers (a replace, a JSON patch, an edit) leave neither, so their statements are unknown.

pub(crate) mod applied_fields;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::keys::{INFISICAL, PREFIX, RELOADER_LIST};
use crate::record::Restart;
use crate::view::container::ContainerView;
use crate::view::container_list::ContainerList;
use crate::view::workload::{WorkloadKind, WorkloadView};
use crate::workload::statements::applied_fields::{AppliedFields, field_at};

/// Part of an object that has annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectPart {
    /// The workload's own metadata.
    Metadata,
    /// The pod template.
    Template,
}

/// Metadata with statements. They are parsed on the first use: most reviews remove nothing.
pub(crate) struct Statements<'a> {
    kind: WorkloadKind,
    new: Option<&'a str>,
    old: Option<&'a str>,
    fields: OnceLock<AppliedFields>,
    /// Indices of the containers and of the init containers in the last applied configuration.
    indices: [OnceLock<BTreeMap<String, usize>>; 2],
}

/// Name of a field in managed fields.
fn field(name: &str) -> String {
    format!("f:{name}")
}

/// Key of a list item in managed fields, for lists that are maps by `name`.
fn list_item(name: &str) -> String {
    format!(r#"k:{{"name":{}}}"#, Value::from(name))
}

fn name_of(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// Shows the kind only: the last applied configuration has literal values.
impl fmt::Debug for Statements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statements")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<'a> Statements<'a> {
    pub fn of(kind: WorkloadKind, new: &WorkloadView<'a>, old: Option<&WorkloadView<'a>>) -> Self {
        Self {
            kind,
            new: new.metadata_json(),
            old: old.and_then(WorkloadView::metadata_json),
            fields: OnceLock::new(),
            indices: [OnceLock::new(), OnceLock::new()],
        }
    }

    fn fields(&self) -> &AppliedFields {
        self.fields
            .get_or_init(|| AppliedFields::of(self.new, self.old))
    }

    /// Whether the update under review is an apply, which has all statements of its author.
    pub fn is_apply(&self) -> bool {
        self.fields().is_apply
    }

    fn path(&self, part: ObjectPart) -> Vec<&'static str> {
        match part {
            ObjectPart::Metadata => Vec::new(),
            ObjectPart::Template => self.kind.template().to_vec(),
        }
    }

    fn last_applied(&self, part: ObjectPart) -> &Value {
        let nothing = &Value::Null;
        self.path(part)
            .into_iter()
            .fold(&self.fields().last_applied, |value, field| {
                value.get(field).unwrap_or(nothing)
            })
    }

    fn field_path(&self, part: ObjectPart, more: &[&str]) -> Vec<String> {
        self.path(part)
            .iter()
            .chain(more)
            .map(|name| field(name))
            .collect()
    }

    fn annotation(&self, part: ObjectPart, name: &str) -> Option<&str> {
        self.last_applied(part)
            .get("metadata")?
            .get("annotations")?
            .get(name)?
            .as_str()
    }

    fn owns_annotation(&self, part: ObjectPart, name: &str) -> bool {
        self.fields()
            .owns(&self.field_path(part, &["metadata", "annotations", name]))
    }

    /// Whether an author states an annotation of the contract, by the part of its name after the prefix.
    pub fn states_annotation(&self, part: ObjectPart, key: &str) -> bool {
        let name = format!("{PREFIX}{key}");
        self.annotation(part, &name).is_some() || self.owns_annotation(part, &name)
    }

    /// Removes what an author states from what was written for the program that restarts the workload.
    pub fn without_stated(&self, written: &Restart) -> Restart {
        if written.is_empty() {
            return Restart::default();
        }
        let is_stated = |name: &str| {
            self.annotation(ObjectPart::Metadata, name).is_some()
                || self.owns_annotation(ObjectPart::Metadata, name)
        };
        let list = self.annotation(ObjectPart::Metadata, RELOADER_LIST);
        let items: BTreeSet<&str> = list
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .collect();
        let path = ["metadata", "annotations", RELOADER_LIST];
        let sent = self
            .fields()
            .sends(&self.field_path(ObjectPart::Metadata, &path));
        let is_ours = |entry: &&String| !sent && !items.contains(entry.as_str());
        Restart {
            list: written.list.iter().filter(is_ours).cloned().collect(),
            promoted: written
                .promoted
                .iter()
                .filter(|(name, _)| !is_stated(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            infisical: written.infisical && !is_stated(INFISICAL),
        }
    }

    /// Entries of a container's environment that an author states. `recorded` are the sources that the webhook added.
    pub fn for_container(
        &self,
        list: ContainerList,
        container: &ContainerView<'_>,
        recorded: &[String],
    ) -> StatedEntries<'_> {
        let (fields, name) = (self.fields(), container.name.as_str());
        let stated = self.container(list, name);
        let entries = |field: &str| {
            stated
                .and_then(|stated| stated.get(field)?.as_array())
                .into_iter()
                .flatten()
        };
        let containers = self.field_path(ObjectPart::Template, &["spec", list.field()]);
        let path = |name_of_list: &str| {
            let mut path = containers.clone();
            path.extend([list_item(name), field(name_of_list)]);
            path
        };
        let sends_containers = fields.sends_atomic_list(&containers);
        let all_sources = sends_containers
            || fields.sends(&path("envFrom"))
            || fields.owns(&path("envFrom")) && is_all_recorded(container, recorded);
        let env = path("env");
        let owned = fields
            .owned
            .iter()
            .filter_map(|fields| field_at(fields, &env)?.as_object());
        StatedEntries {
            all_sources,
            sources: entries("envFrom")
                .filter_map(|source| name_of(source.get("secretRef")?))
                .collect(),
            all_variables: sends_containers,
            variables: entries("env").filter_map(name_of).collect(),
            owned: owned.flat_map(Map::keys).map(String::as_str).collect(),
        }
    }

    /// Container of the last applied configuration.
    fn container(&self, list: ContainerList, name: &str) -> Option<&Value> {
        let containers = self
            .last_applied(ObjectPart::Template)
            .get("spec")?
            .get(list.field())?
            .as_array()?;
        let [of_containers, of_init_containers] = &self.indices;
        let indices = match list {
            ContainerList::Containers => of_containers,
            ContainerList::InitContainers => of_init_containers,
        };
        let index =
            |container: (usize, &Value)| Some((name_of(container.1)?.to_owned(), container.0));
        let indices =
            indices.get_or_init(|| containers.iter().enumerate().filter_map(index).collect());
        containers.get(*indices.get(name)?)
    }
}

/// Entries of a container's environment that an author states.
#[derive(Debug)]
pub(crate) struct StatedEntries<'s> {
    all_sources: bool,
    sources: BTreeSet<&'s str>,
    all_variables: bool,
    variables: BTreeSet<&'s str>,
    /// Keys of the list of variables in managed fields.
    owned: BTreeSet<&'s str>,
}

impl StatedEntries<'_> {
    /// Whether an author states the whole Secret as a source.
    pub fn has_source(&self, secret: &str) -> bool {
        self.all_sources || self.sources.contains(secret)
    }

    /// Whether an author states the variable.
    pub fn has_variable(&self, name: &str) -> bool {
        self.all_variables
            || self.variables.contains(name)
            || self.owned.contains(list_item(name).as_str())
    }
}

/// Whether all sources of the container are recorded ones: an owner of such a list sent all of it.
fn is_all_recorded(container: &ContainerView<'_>, recorded: &[String]) -> bool {
    let sources = container.whole_secrets();
    let recorded: BTreeSet<&str> = recorded.iter().map(String::as_str).collect();
    container
        .env_from
        .as_ref()
        .is_some_and(|list| list.len() == sources.len())
        && sources.keys().all(|source| recorded.contains(*source))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::limits::{MAX_APPLYING_MANAGERS, MAX_STATEMENT_BYTES};

    /// Whether an object with these managers, and so many bytes of other metadata, states `env-from` on its template.
    fn states(managers: usize, filling: usize) -> bool {
        let fields = json!({"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:secrets.floe.dev/env-from": {}}}}}});
        let managed: Vec<Value> = (0..managers)
            .map(|n| json!({"manager": format!("m{n}"), "operation": "Apply", "fieldsV1": fields}))
            .collect();
        let metadata =
            json!({"annotations": {"filling": "x".repeat(filling)}, "managedFields": managed});
        let object = json!({"metadata": metadata}).to_string();
        let view: WorkloadView<'_> = serde_json::from_str(&object).unwrap();
        Statements::of(WorkloadKind::Deployment, &view, None)
            .states_annotation(ObjectPart::Template, "env-from")
    }

    #[test]
    fn statements_of_too_many_managers_are_not_read() {
        assert!(states(MAX_APPLYING_MANAGERS, 0));
        assert!(!states(MAX_APPLYING_MANAGERS + 1, 0));
        assert!(!states(0, 0));
    }

    #[test]
    fn statements_in_metadata_that_are_too_long_are_not_read() {
        assert!(states(1, MAX_STATEMENT_BYTES - 1_000));
        assert!(!states(1, MAX_STATEMENT_BYTES));
    }

    #[test]
    fn literal_values_of_the_last_applied_configuration_are_not_shown() {
        let applied = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "c", "env": [{"name": "A", "value": "canary"}]},
        ]}}}});
        let metadata = json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()}});
        let object =
            json!({"metadata": metadata, "spec": {"template": applied["spec"]["template"]}})
                .to_string();
        let view: WorkloadView<'_> = serde_json::from_str(&object).unwrap();
        let statements = Statements::of(WorkloadKind::Deployment, &view, None);
        assert!(statements.is_apply(), "it was read");
        assert!(
            !format!("{statements:?}").contains("canary"),
            "{statements:?}"
        );
        assert!(!format!("{view:?}").contains("canary"), "{view:?}");
    }
}
