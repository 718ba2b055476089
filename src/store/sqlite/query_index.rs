//! Index that drives a query: of those that its filter has, the one with the fewest entries in the range of time.
//!
//! An order of indexes alone would be wrong by a factor of a thousand: a controller creates most pods of the cluster, and
//! few of them in one namespace, while a user creates few pods.

use crate::store::EventFilter;

/// Columns with one text in most records. Their indexes have the other texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordColumn {
    Action,
    Class,
    Outcome,
}

impl WordColumn {
    /// Condition of the column's index, which a query has to repeat.
    pub(super) fn condition(self) -> &'static str {
        match self {
            Self::Action => "e.action <> 'pod.admit'",
            Self::Class => "e.class <> 'injection'",
            Self::Outcome => "e.outcome <> 'success'",
        }
    }

    /// Whether the index has the text of a filter.
    pub(super) fn is_indexed(self, text: Option<&String>) -> bool {
        let usual = match self {
            Self::Action => "pod.admit",
            Self::Class => "injection",
            Self::Outcome => "success",
        };
        text.is_some_and(|text| text != usual)
    }
}

/// Index that can find the events of a filter, the usually shortest one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryIndex {
    Id,
    RequestUid,
    Secret,
    ActorUid,
    Actor,
    RareAction,
    RareClass,
    Refused,
    Namespace,
    Chain,
    Time,
}

impl QueryIndex {
    /// Name of the index of events; none for the table of their secrets.
    pub(super) fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Id => "event_id",
            Self::RequestUid => "event_request_uid",
            Self::Secret => return None,
            Self::ActorUid => "event_actor_uid",
            Self::Actor => "event_actor",
            Self::RareAction => "event_rare_action",
            Self::RareClass => "event_rare_class",
            Self::Refused => "event_refused",
            Self::Namespace => "event_namespace",
            Self::Chain => "event_chain_time",
            Self::Time => "event_time",
        })
    }

    /// Part of a filter that the index has.
    pub(super) fn part_of(self, filter: &EventFilter) -> EventFilter {
        let mut part = EventFilter {
            second_passes: true,
            ..EventFilter::default()
        };
        match self {
            Self::Id => part.id.clone_from(&filter.id),
            Self::RequestUid => part.request_uid.clone_from(&filter.request_uid),
            Self::Secret => part.secret.clone_from(&filter.secret),
            Self::ActorUid => part.actor_uid.clone_from(&filter.actor_uid),
            Self::Actor => part.actor.clone_from(&filter.actor),
            Self::RareAction => part.action.clone_from(&filter.action),
            Self::RareClass => part.class.clone_from(&filter.class),
            Self::Refused => part.outcome.clone_from(&filter.outcome),
            Self::Namespace => part.namespace.clone_from(&filter.namespace),
            Self::Chain => part.chain.clone_from(&filter.chain),
            Self::Time => {}
        }
        part
    }
}

/// Indexes of a filter. One of a record's id or of a request's uid needs no other.
pub(super) fn indexes(filter: &EventFilter) -> Vec<QueryIndex> {
    let by_record = [
        (filter.id.is_some(), QueryIndex::Id),
        (filter.request_uid.is_some(), QueryIndex::RequestUid),
    ];
    if let Some((_, index)) = by_record.iter().find(|(has, _)| *has) {
        return vec![*index];
    }
    let indexes = [
        (filter.secret.is_some(), QueryIndex::Secret),
        (filter.actor_uid.is_some(), QueryIndex::ActorUid),
        (filter.actor.is_some(), QueryIndex::Actor),
        (
            WordColumn::Action.is_indexed(filter.action.as_ref()),
            QueryIndex::RareAction,
        ),
        (
            WordColumn::Class.is_indexed(filter.class.as_ref()),
            QueryIndex::RareClass,
        ),
        (
            WordColumn::Outcome.is_indexed(filter.outcome.as_ref()),
            QueryIndex::Refused,
        ),
        (filter.namespace.is_some(), QueryIndex::Namespace),
        (filter.chain.is_some(), QueryIndex::Chain),
    ];
    let found = indexes.iter().filter(|(has, _)| *has);
    let mut found: Vec<_> = found.map(|(_, index)| *index).collect();
    if found.is_empty() {
        found.push(QueryIndex::Time);
    }
    found
}
