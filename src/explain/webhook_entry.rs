//! Entry of the webhook's configuration that handles the pods of a namespace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::core::{Selector, SelectorExt as _};

use super::limits::CONFIGURATIONS_PAGE_SIZE;
use super::reader::Explainer;
use crate::doctor::entries;
use crate::kubernetes::{ApiError, Representation};

const PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// Entry for pods of namespaces without defaults, and with them.
const POD_ENTRIES: [&str; 2] = ["pods.secrets.floe.dev", "defaults.pods.secrets.floe.dev"];

/// Entry that would handle a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryLookup {
    /// The pod is sent to the webhook.
    Handled {
        entry: &'static str,
        configuration: String,
        /// Time at which the configuration was created.
        created: Option<Timestamp>,
        fails_closed: bool,
    },
    /// There is no configuration of this webhook.
    NotInstalled,
    /// No entry matches the namespace.
    NotSelected { configuration: String },
    /// The entry's object selector does not match the pod's labels.
    ObjectNotSelected { configuration: String },
    /// The configurations may not be read, or the labels of the namespace are not known.
    Unknown(String),
}

impl EntryLookup {
    /// Sentence about the entry.
    pub fn sentence(&self, namespace: &str) -> Option<String> {
        Some(match self {
            Self::Handled { entry, configuration, fails_closed, .. } => {
                let policy = if *fails_closed { "are refused" } else { "are created without their secrets" };
                format!(
                    "pods of namespace \"{namespace}\" are sent to the webhook by entry {entry} of MutatingWebhookConfiguration \"{configuration}\"; while the webhook does not respond, they {policy}"
                )
            }
            Self::NotInstalled => {
                "no MutatingWebhookConfiguration has an entry of this webhook, so no pod is sent to it".to_owned()
            }
            Self::NotSelected { configuration } => format!(
                "no webhook entry for namespace \"{namespace}\": no entry of MutatingWebhookConfiguration \"{configuration}\" selects its labels, so its pods are not sent to the webhook"
            ),
            Self::ObjectNotSelected { configuration } => format!(
                "the object selector of MutatingWebhookConfiguration \"{configuration}\" does not select the labels of the pod, so it is not sent to the webhook"
            ),
            Self::Unknown(_) => return None,
        })
    }

    /// Whether the pods are known not to be sent to the webhook.
    pub fn is_not_sent(&self) -> bool {
        matches!(
            self,
            Self::NotInstalled | Self::NotSelected { .. } | Self::ObjectNotSelected { .. }
        )
    }
}

impl Explainer {
    /// Finds the entry for a pod with these labels, in a namespace with those.
    pub(super) async fn find_entry(
        &self,
        namespace: Option<&BTreeMap<String, String>>,
        pod: &BTreeMap<String, String>,
    ) -> Result<EntryLookup, ApiError> {
        let Some(namespace) = namespace else {
            return Ok(EntryLookup::Unknown(
                "the webhook's entry was not checked: the labels of the namespace are not known"
                    .to_owned(),
            ));
        };
        let mut pages = self
            .api
            .pages(PATH, "", Representation::Full, CONFIGURATIONS_PAGE_SIZE);
        let mut best = EntryLookup::NotInstalled;
        loop {
            let page = match pages.next().await {
                Err(error) if error.kind.is_denied() => {
                    return Ok(EntryLookup::Unknown(format!(
                        "the webhook's entry was not checked: {error}"
                    )));
                }
                page => page?,
            };
            let Some(page) = page else { return Ok(best) };
            for item in page.items {
                let Ok(configuration) =
                    serde_json::from_slice::<MutatingWebhookConfiguration>(&item)
                else {
                    continue;
                };
                match lookup(&configuration, namespace, pod) {
                    Some(handled @ EntryLookup::Handled { .. }) => return Ok(handled),
                    Some(other) => best = other,
                    None => {}
                }
            }
        }
    }
}

/// Entry of one configuration for a pod; `None` if the configuration is not this webhook's.
fn lookup(
    configuration: &MutatingWebhookConfiguration,
    namespace: &BTreeMap<String, String>,
    pod: &BTreeMap<String, String>,
) -> Option<EntryLookup> {
    let all = configuration.webhooks.as_deref().unwrap_or_default();
    if !entries::has_shipped_entry(all) {
        return None;
    }
    let name = configuration.metadata.name.clone().unwrap_or_default();
    let selected = POD_ENTRIES.into_iter().find_map(|title| {
        let entry = entries::find(all, title)?;
        entries::selects(entry, namespace).then_some((title, entry))
    });
    let Some((title, entry)) = selected else {
        return Some(EntryLookup::NotSelected {
            configuration: name,
        });
    };
    if !selects_object(entry, pod) {
        return Some(EntryLookup::ObjectNotSelected {
            configuration: name,
        });
    }
    Some(EntryLookup::Handled {
        entry: title,
        configuration: name,
        created: configuration
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
        fails_closed: entries::fails_closed(entry),
    })
}

fn selects_object(entry: &MutatingWebhook, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = &entry.object_selector else {
        return true;
    };
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn shipped() -> MutatingWebhookConfiguration {
        MutatingWebhookConfiguration {
            webhooks: Some(entries::shipped().to_vec()),
            ..MutatingWebhookConfiguration::default()
        }
    }

    fn entry(namespace: &[(&str, &str)]) -> Option<EntryLookup> {
        lookup(&shipped(), &labels(namespace), &labels(&[]))
    }

    #[test]
    fn entry_depends_on_labels_of_the_namespace() {
        let handled = |title| EntryLookup::Handled {
            entry: title,
            configuration: String::new(),
            created: None,
            fails_closed: true,
        };
        assert_eq!(
            entry(&[(entries::NAME_LABEL, "jobs")]),
            Some(handled(POD_ENTRIES[0]))
        );
        let enabled = [
            (entries::NAME_LABEL, "jobs"),
            ("secrets.floe.dev/inject", "enabled"),
        ];
        assert_eq!(entry(&enabled), Some(handled(POD_ENTRIES[1])));
        let own = entry(&[(entries::NAME_LABEL, "floe-secrets-webhook")]).unwrap();
        assert!(matches!(own, EntryLookup::NotSelected { .. }) && own.is_not_sent());
    }

    #[test]
    fn object_selector_is_compared_with_labels_of_the_pod() {
        let mut configuration = shipped();
        for entry in configuration.webhooks.iter_mut().flatten() {
            entry.object_selector = Some(LabelSelector {
                match_labels: Some(labels(&[("tier", "web")])),
                ..LabelSelector::default()
            });
        }
        let pod = |pod: &[(&str, &str)]| {
            lookup(
                &configuration,
                &labels(&[(entries::NAME_LABEL, "jobs")]),
                &labels(pod),
            )
            .unwrap()
        };
        assert!(matches!(
            pod(&[("tier", "web")]),
            EntryLookup::Handled { .. }
        ));
        assert!(matches!(pod(&[]), EntryLookup::ObjectNotSelected { .. }));
    }

    #[test]
    fn other_configurations_are_ignored() {
        let mut other = shipped();
        for entry in other.webhooks.iter_mut().flatten() {
            entry.name = "other.example.com".to_owned();
        }
        assert_eq!(lookup(&other, &labels(&[]), &labels(&[])), None);
    }
}
