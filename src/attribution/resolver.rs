//! Resolution of one record: follows the owners of its object, and reads their records.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::asking_record::{AskingOrigin, AskingRecord};
use super::controllers::Controllers;
use super::owners::{DefaultsKind, LiveOwner, MAX_OWNERS, OwnerReference, Owners};
use super::rules::{AskingHistory, Moment, earliest_record};
use crate::audit::asked_by::UnknownReason;
use crate::audit::stored::AuthorObject;
use crate::store::{AskedBy, AuditStore, StoreError, StoredEvent, UnattributedEvent};

/// Askers of the secrets of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Askers in the order of the record's targets; `None` if the requester asked.
    pub targets: Vec<Option<AskedBy>>,
}

impl Resolution {
    /// Whether a later attempt may find more.
    pub(super) fn may_change(&self) -> bool {
        let may_change = |asked_by: &Option<AskedBy>| match asked_by {
            Some(AskedBy::Unknown(reason)) => reason.may_change(),
            Some(AskedBy::Requester { .. }) | None => false,
        };
        self.targets.iter().any(may_change)
    }
}

/// Finder of who asked.
#[derive(Debug)]
pub(super) struct Resolver {
    pub store: Arc<dyn AuditStore>,
    pub owners: Owners,
    pub controllers: Controllers,
}

/// Askers by the index of a target.
type Askers = BTreeMap<usize, AskedBy>;

impl Resolver {
    /// Finds out who asked for the secrets of a record.
    pub(super) async fn resolve(
        &self,
        event: &UnattributedEvent,
    ) -> Result<Resolution, StoreError> {
        let record = AskingRecord::of(event);
        let indexes = |origin: AskingOrigin| -> Vec<usize> {
            let targets = record.targets.iter().enumerate();
            let of_origin = targets.filter(|(_, (_, of))| *of == origin);
            of_origin.map(|(index, _)| index).collect()
        };
        let mut askers = Askers::new();
        if self.controllers.contains(&record.requester.username) {
            let indexes = indexes(AskingOrigin::Object);
            self.follow_owners(&record, indexes, &mut askers).await?;
        }
        for (origin, kind, name) in [
            (
                AskingOrigin::Namespace,
                DefaultsKind::Namespace,
                &record.namespace,
            ),
            (
                AskingOrigin::ServiceAccount,
                DefaultsKind::ServiceAccount,
                &record.service_account,
            ),
        ] {
            let indexes = indexes(origin);
            if !indexes.is_empty() {
                let found = self.authors_of_defaults(&record, kind, name, &indexes);
                askers.extend(found.await?);
            }
        }
        let targets = 0..record.targets.len();
        Ok(Resolution {
            targets: targets.map(|index| askers.remove(&index)).collect(),
        })
    }

    /// Follows the owners until each secret has an asker that is not a controller.
    async fn follow_owners(
        &self,
        record: &AskingRecord,
        mut indexes: Vec<usize>,
        askers: &mut Askers,
    ) -> Result<(), StoreError> {
        let mut next = record.owner.clone();
        let mut moment = Moment::of_record(record.time);
        let mut reason = UnknownReason::TooManyOwners;
        for _ in 0..MAX_OWNERS {
            if indexes.is_empty() {
                return Ok(());
            }
            let Some(reference) = next.take() else {
                reason = UnknownReason::NoOwner;
                break;
            };
            let owner = match self.owners.owner(&record.namespace, &reference).await {
                Ok(owner) => owner,
                Err(unknown) => {
                    reason = unknown;
                    break;
                }
            };
            if reference
                .kind
                .is_some_and(super::owners::OwningKind::is_recorded)
            {
                let history = self.history_of_owner(record, &reference, &owner, moment);
                let history = history.await?;
                indexes.retain(|index| match self.asker(record, *index, &history, moment) {
                    Some(asked_by) => {
                        askers.insert(*index, asked_by);
                        false
                    }
                    None => true,
                });
            }
            moment = Moment::of_creation(owner.created, record.time);
            next.clone_from(&owner.controller);
        }
        let unknown = |index| (index, AskedBy::Unknown(reason));
        askers.extend(indexes.into_iter().map(unknown));
        Ok(())
    }

    /// Asker of a secret by the records of an owner; `None` if a controller asked, so that its owner has to be followed.
    fn asker(
        &self,
        record: &AskingRecord,
        index: usize,
        history: &Result<AskingHistory, UnknownReason>,
        moment: Moment,
    ) -> Option<AskedBy> {
        let asked_by = asked_by(record, index, history, moment);
        match &asked_by {
            AskedBy::Requester { requester, .. }
                if self.controllers.contains(&requester.username) =>
            {
                None
            }
            AskedBy::Requester { .. } | AskedBy::Unknown(_) => Some(asked_by),
        }
    }

    async fn history_of_owner(
        &self,
        record: &AskingRecord,
        reference: &OwnerReference,
        owner: &LiveOwner,
        moment: Moment,
    ) -> Result<Result<AskingHistory, UnknownReason>, StoreError> {
        let object = |name: String| AuthorObject {
            namespace: record.namespace.clone(),
            kind: reference.kind.map_or("", |kind| kind.as_str()).to_owned(),
            name,
        };
        let (since, until) = (earliest_record(owner.created), moment.latest());
        let named = object(reference.name.clone());
        let named = self.records(&named, since, until).await?;
        let generated = match &owner.generate_name {
            Some(prefix) => {
                let until = Moment::of_creation(owner.created, record.time).latest();
                let object = object(format!("{prefix}*"));
                self.records(&object, since, until).await?
            }
            None => Vec::new(),
        };
        Ok(AskingHistory::new(named, generated, owner.created))
    }

    /// Authors of the defaults of a Namespace or `ServiceAccount`.
    async fn authors_of_defaults(
        &self,
        record: &AskingRecord,
        kind: DefaultsKind,
        name: &str,
        indexes: &[usize],
    ) -> Result<Askers, StoreError> {
        let moment = Moment::of_record(record.time);
        let owner = self.owners.defaults(kind, &record.namespace, name).await;
        let history = match owner {
            // Another object with the name that the record is about.
            Ok(owner) if owner.created > moment.latest() => Err(UnknownReason::OwnerGone),
            Ok(owner) => {
                let object = AuthorObject {
                    namespace: record.namespace.clone(),
                    kind: kind.as_str().to_owned(),
                    name: name.to_owned(),
                };
                let since = earliest_record(owner.created);
                let records = self.records(&object, since, moment.latest()).await?;
                AskingHistory::new(records, Vec::new(), owner.created)
            }
            Err(reason) => Err(reason),
        };
        let asker = |index: &usize| (*index, asked_by(record, *index, &history, moment));
        Ok(indexes.iter().map(asker).collect())
    }

    async fn records(
        &self,
        object: &AuthorObject,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<AskingRecord>, StoreError> {
        let events: Vec<StoredEvent> = self.store.object_records(object, since, until).await?;
        Ok(events.iter().map(AskingRecord::of_stored).collect())
    }
}

/// Asker of a secret by the records of an object.
fn asked_by(
    record: &AskingRecord,
    index: usize,
    history: &Result<AskingHistory, UnknownReason>,
    moment: Moment,
) -> AskedBy {
    let secret = record.targets.get(index).map(|(secret, _)| secret);
    let found = match (history, secret) {
        (Ok(history), Some(secret)) => history.asker(secret, moment),
        (Err(reason), _) => Err(*reason),
        (Ok(_), None) => Err(UnknownReason::NotNamed),
    };
    match found {
        Ok(found) => AskedBy::Requester {
            requester: found.requester.clone(),
            source: found.position,
        },
        Err(reason) => AskedBy::Unknown(reason),
    }
}

#[cfg(test)]
mod tests;
