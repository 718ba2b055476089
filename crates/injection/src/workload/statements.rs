//! What authors state themselves in the object under review, so that it is never taken back as ours.
//!
//! Client-side apply leaves the whole configuration in an annotation. Server-side apply leaves the paths that each
//! manager owns (`metadata.managedFields`, entries of the operation `Apply`). Both are in the object that is reviewed.
//! Other writers (a replace, a JSON patch, an edit) leave neither, and then nobody can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::keys::{INFISICAL, PREFIX, RELOADER_LIST};
use crate::limits::{MAX_APPLYING_MANAGERS, MAX_STATEMENT_BYTES};
use crate::record::Restart;
use crate::view::container_list::ContainerList;
use crate::view::pod::ContainerView;
use crate::view::workload::{WorkloadKind, WorkloadView};

/// Where an annotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the workload itself.
    Metadata,
    /// On its pod template.
    Template,
}

/// The metadata that tell, read when they are asked for: most reviews take nothing back.
pub(crate) struct Statements<'a> {
    kind: WorkloadKind,
    now: Option<&'a str>,
    before: Option<&'a str>,
    read: OnceLock<Read>,
    /// Places of the containers and of the init containers in the configuration that was applied last.
    places: [OnceLock<BTreeMap<String, usize>>; 2],
}

#[derive(Default)]
struct Read {
    /// The configuration of the last client-side apply; `Null` when there is none.
    last_applied: Value,
    /// The fields that a server-side apply owns, one tree for each manager.
    applied: Vec<Value>,
    /// Those of them that this very update applies.
    applying: Vec<Value>,
    /// Whether this very update is an apply.
    is_apply: bool,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: Option<LastApplied>,
    #[serde(default, rename = "managedFields")]
    managed_fields: Option<Vec<ManagedFields>>,
}

#[derive(Default, Deserialize)]
struct LastApplied {
    #[serde(default, rename = "kubectl.kubernetes.io/last-applied-configuration")]
    configuration: Option<String>,
}

#[derive(Default, Deserialize)]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    time: Option<String>,
    #[serde(default, rename = "fieldsV1")]
    fields: Value,
}

impl ManagedFields {
    /// What an object has one entry for.
    fn identity(&self) -> [&str; 3] {
        [&self.manager, &self.api_version, &self.subresource]
    }

    /// Whether its manager has applied since `other`, its own entry before. Fields that others have taken from a manager
    /// leave its time as it is.
    fn applies_after(&self, other: &Self) -> bool {
        self.time != other.time || !is_within(&self.fields, &other.fields)
    }
}

/// Whether a tree of fields has nothing that the other lacks.
fn is_within(fields: &Value, others: &Value) -> bool {
    let fields = fields.as_object().into_iter().flatten();
    fields.into_iter().all(|(name, more)| {
        others
            .get(name)
            .is_some_and(|others| is_within(more, others))
    })
}

impl Metadata {
    /// Metadata that are longer than any that the API server stores are not read: then nobody can tell.
    fn read(json: Option<&str>) -> Self {
        let within = json.filter(|json| json.len() <= MAX_STATEMENT_BYTES);
        within
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }

    /// The entries of server-side applies; of too many, none.
    fn applied(&self) -> Vec<&ManagedFields> {
        let entries = self.managed_fields.iter().flatten();
        let applied: Vec<&ManagedFields> =
            entries.filter(|entry| entry.operation == "Apply").collect();
        if applied.len() > MAX_APPLYING_MANAGERS {
            Vec::new()
        } else {
            applied
        }
    }

    fn last_applied(&self) -> Option<&str> {
        self.annotations.as_ref()?.configuration.as_deref()
    }
}

impl Read {
    fn of(now: Option<&str>, before: Option<&str>) -> Self {
        let (now, before) = (Metadata::read(now), Metadata::read(before));
        let (applied, before_applied) = (now.applied(), before.applied());
        let earlier: BTreeMap<[&str; 3], &ManagedFields> = before_applied
            .into_iter()
            .map(|entry| (entry.identity(), entry))
            .collect();
        let is_new = |entry: &ManagedFields| {
            earlier
                .get(&entry.identity())
                .is_none_or(|other| entry.applies_after(other))
        };
        let applying: Vec<Value> = applied
            .iter()
            .filter(|entry| is_new(entry))
            .map(|entry| entry.fields.clone())
            .collect();
        let is_apply = now.last_applied() != before.last_applied() && now.last_applied().is_some()
            || !applying.is_empty();
        let last_applied = now
            .last_applied()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let applied = applied
            .into_iter()
            .map(|entry| entry.fields.clone())
            .collect();
        Self {
            last_applied,
            applied,
            applying,
            is_apply,
        }
    }

    /// Whether some server-side apply owns the field at `path`.
    fn owns(&self, path: &[String]) -> bool {
        self.applied.iter().any(|fields| at(fields, path).is_some())
    }

    /// Whether this very update is a server-side apply that owns the field at `path`, and so sent all of it as it
    /// stands. Later that cannot be told: what the webhook adds to a field leaves its owners as they are.
    fn sends(&self, path: &[String]) -> bool {
        self.applying
            .iter()
            .any(|fields| at(fields, path).is_some())
    }

    /// The same for a list that may be one field as a whole, as in a custom resource whose schema does not say more.
    fn sends_whole(&self, list: &[String]) -> bool {
        self.applying
            .iter()
            .filter_map(|fields| at(fields, list)?.as_object())
            .any(Map::is_empty)
    }
}

fn at<'v>(fields: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter()
        .try_fold(fields, |fields, step| fields.get(step))
}

fn field(name: &str) -> String {
    format!("f:{name}")
}

fn name_of(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// An element of a list that is a map by names.
fn named(name: &str) -> String {
    format!(r#"k:{{"name":{}}}"#, Value::from(name))
}

/// Literal values stand in the configuration that was applied last.
impl fmt::Debug for Statements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statements")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<'a> Statements<'a> {
    pub fn of(
        kind: WorkloadKind,
        now: &WorkloadView<'a>,
        before: Option<&WorkloadView<'a>>,
    ) -> Self {
        Self {
            kind,
            now: now.metadata_json(),
            before: before.and_then(WorkloadView::metadata_json),
            read: OnceLock::new(),
            places: [OnceLock::new(), OnceLock::new()],
        }
    }

    fn read(&self) -> &Read {
        self.read.get_or_init(|| Read::of(self.now, self.before))
    }

    /// Whether the update itself says what its author states.
    pub fn is_apply(&self) -> bool {
        self.read().is_apply
    }

    fn path(&self, place: Place) -> Vec<&'static str> {
        match place {
            Place::Metadata => Vec::new(),
            Place::Template => self.kind.template().to_vec(),
        }
    }

    fn last_applied(&self, place: Place) -> &Value {
        let nothing = &Value::Null;
        self.path(place)
            .into_iter()
            .fold(&self.read().last_applied, |value, field| {
                value.get(field).unwrap_or(nothing)
            })
    }

    fn fields(&self, place: Place, more: &[&str]) -> Vec<String> {
        self.path(place)
            .iter()
            .chain(more)
            .map(|name| field(name))
            .collect()
    }

    fn annotation(&self, place: Place, name: &str) -> Option<&str> {
        self.last_applied(place)
            .get("metadata")?
            .get("annotations")?
            .get(name)?
            .as_str()
    }

    fn owns_annotation(&self, place: Place, name: &str) -> bool {
        self.read()
            .owns(&self.fields(place, &["metadata", "annotations", name]))
    }

    /// Whether an author states an annotation of the contract, by the part of its name after the prefix.
    pub fn states_annotation(&self, place: Place, key: &str) -> bool {
        let name = format!("{PREFIX}{key}");
        self.annotation(place, &name).is_some() || self.owns_annotation(place, &name)
    }

    /// What was written for the program that restarts the workload, less what its author states.
    pub fn less_stated(&self, written: &Restart) -> Restart {
        if written.is_empty() {
            return Restart::default();
        }
        let stated = |name: &str| {
            self.annotation(Place::Metadata, name).is_some()
                || self.owns_annotation(Place::Metadata, name)
        };
        let list = self.annotation(Place::Metadata, RELOADER_LIST);
        let items: BTreeSet<&str> = list
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .collect();
        let sent = self
            .read()
            .sends(&self.fields(Place::Metadata, &["metadata", "annotations", RELOADER_LIST]));
        let is_ours = |entry: &&String| !sent && !items.contains(entry.as_str());
        Restart {
            list: written.list.iter().filter(is_ours).cloned().collect(),
            promoted: written
                .promoted
                .iter()
                .filter(|(name, _)| !stated(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            infisical: written.infisical && !stated(INFISICAL),
        }
    }

    /// What an author states of a container's environment, beside what is recorded for it.
    pub fn of_container(
        &self,
        list: ContainerList,
        container: &ContainerView<'_>,
        recorded: &[String],
    ) -> StatedEntries<'_> {
        let (read, name) = (self.read(), container.name.as_str());
        let stated = self.container(list, name);
        let entries = |field: &str| {
            stated
                .and_then(|stated| stated.get(field)?.as_array())
                .into_iter()
                .flatten()
        };
        let path = |more: &str| {
            let mut path = self.fields(Place::Template, &["spec", list.field()]);
            path.extend([named(name), field(more)]);
            path
        };
        let sends_containers =
            read.sends_whole(&self.fields(Place::Template, &["spec", list.field()]));
        let all_sources = sends_containers
            || read.sends(&path("envFrom"))
            || read.owns(&path("envFrom")) && is_all_recorded(container, recorded);
        let env = path("env");
        let owned = read
            .applied
            .iter()
            .filter_map(|fields| at(fields, &env)?.as_object());
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

    /// A container of the configuration that was applied last.
    fn container(&self, list: ContainerList, name: &str) -> Option<&Value> {
        let containers = self
            .last_applied(Place::Template)
            .get("spec")?
            .get(list.field())?
            .as_array()?;
        let [of_containers, of_init_containers] = &self.places;
        let places = match list {
            ContainerList::Containers => of_containers,
            ContainerList::InitContainers => of_init_containers,
        };
        let index =
            |container: (usize, &Value)| Some((name_of(container.1)?.to_owned(), container.0));
        let places =
            places.get_or_init(|| containers.iter().enumerate().filter_map(index).collect());
        containers.get(*places.get(name)?)
    }
}

/// What an author states of a container's environment.
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
    /// Whether the container gets the whole Secret by its author.
    pub fn has_source(&self, secret: &str) -> bool {
        self.all_sources || self.sources.contains(secret)
    }

    /// Whether the variable is the author's.
    pub fn has_variable(&self, name: &str) -> bool {
        self.all_variables
            || self.variables.contains(name)
            || self.owned.contains(named(name).as_str())
    }
}

/// Whether there is nothing but what the webhook recorded: whoever owns such a list sent all of it.
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
            .states_annotation(Place::Template, "env-from")
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
    fn literal_values_of_the_last_applied_configuration_are_never_shown() {
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
