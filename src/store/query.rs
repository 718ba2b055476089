//! Query of events: what it asks for, and the bounds of that.

pub(super) mod cursor;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use thiserror::Error;

use self::cursor::{Cursor, InvalidCursor};
use crate::audit::text::Text;

/// Events of a page, at most.
pub const MAX_PAGE: usize = 1_000;

/// Events of a page without a limit of its own.
pub const DEFAULT_PAGE: usize = 100;

/// Longest range of time of a query that names neither a secret nor an actor's uid, whose events may be all of a store.
pub const MAX_RANGE: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Range of time before its end, or before now, of a query without one.
pub const DEFAULT_RANGE: SignedDuration = SignedDuration::from_hours(24);

/// Bytes of a filter, which is compared with texts that are no longer.
pub const MAX_FILTER_BYTES: usize = 1_024;

/// Secret by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretFilter {
    pub namespace: String,
    pub name: String,
}

/// Properties of events, all of which have to be as stated. Texts are compared as they are in records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventFilter {
    pub secret: Option<SecretFilter>,
    /// Namespace of the object.
    pub namespace: Option<String>,
    /// Name of the requester.
    pub actor: Option<String>,
    pub actor_uid: Option<String>,
    pub action: Option<String>,
    pub outcome: Option<String>,
    pub class: Option<String>,
    /// Id of a chain.
    pub chain: Option<String>,
    /// Id of a record. Its parts share it.
    pub id: Option<String>,
    /// Uid of an admission's request, which pods have in `audit.floe.dev/event`.
    pub request_uid: Option<String>,
    /// Whether second passes are events of their own. They are if the filter names a record.
    pub second_passes: bool,
}

impl EventFilter {
    /// Whether few events can match, so that no range of time is needed.
    pub(super) fn names_a_record(&self) -> bool {
        self.id.is_some() || self.request_uid.is_some()
    }

    /// Whether second passes are left out, so that each use is one event.
    pub(super) fn has_uses_once(&self) -> bool {
        !self.second_passes && !self.names_a_record()
    }

    fn is_selective(&self) -> bool {
        self.secret.is_some() || self.actor_uid.is_some() || self.names_a_record()
    }

    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let secret = self.secret.as_mut();
        let secret = secret.map(|secret| [&mut secret.namespace, &mut secret.name]);
        let others = [
            &mut self.namespace,
            &mut self.actor,
            &mut self.actor_uid,
            &mut self.action,
            &mut self.outcome,
            &mut self.class,
            &mut self.chain,
            &mut self.id,
            &mut self.request_uid,
        ];
        let others = others.into_iter().flatten();
        secret.into_iter().flatten().chain(others)
    }

    /// Checks the lengths, and shortens names as records do.
    fn checked(mut self) -> Result<Self, InvalidQuery> {
        if self.texts().any(|text| text.len() > MAX_FILTER_BYTES) {
            return Err(InvalidQuery::LongFilter);
        }
        if let Some(actor) = &mut self.actor {
            Text::<256>::new(actor).as_str().clone_into(actor);
        }
        if let Some(uid) = &mut self.actor_uid {
            Text::<128>::new(uid).as_str().clone_into(uid);
        }
        if let Some(secret) = &mut self.secret {
            let name = Text::<253>::new(&secret.name);
            name.as_str().clone_into(&mut secret.name);
            let namespace = Text::<63>::new(&secret.namespace);
            namespace.as_str().clone_into(&mut secret.namespace);
        }
        Ok(self)
    }
}

/// Query as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct QueryArguments {
    pub filter: EventFilter,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Events of a page.
    pub limit: Option<usize>,
    /// Cursor that the page before returned, with all other arguments as they were.
    pub cursor: Option<String>,
}

/// Query with its bounds checked. The range has its first time and not its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    pub(super) filter: EventFilter,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) limit: usize,
    /// Time and position of the last event of the page before.
    pub(super) before: Option<(i64, u64)>,
    asked: String,
}

/// Reason why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidQuery {
    #[error("the range of time is empty: its end has to be later than its start")]
    EmptyRange,
    #[error(
        "the range of time is longer than {} days: shorten it, or name a secret, the uid of an actor or the id of a record",
        MAX_RANGE.as_hours() / 24
    )]
    LongRange,
    #[error(
        "a page has from 1 to {MAX_PAGE} events, and {limit} were asked for: correct the limit"
    )]
    Limit { limit: usize },
    #[error("a filter is longer than {MAX_FILTER_BYTES} bytes: shorten it")]
    LongFilter,
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
}

impl EventQuery {
    /// Checks a query. `now` is the end of a range without one, as far as lengths are concerned: events of a clock that is
    /// ahead are in a range without an end.
    ///
    /// # Errors
    ///
    /// A bound is exceeded, or the cursor is not one of this query.
    pub fn new(arguments: QueryArguments, now: Timestamp) -> Result<Self, InvalidQuery> {
        let QueryArguments {
            filter,
            from,
            to,
            limit,
            cursor,
        } = arguments;
        let limit = limit.unwrap_or(DEFAULT_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(InvalidQuery::Limit { limit });
        }
        let filter = filter.checked()?;
        let asked = serde_json::to_string(&(&filter, from, to)).unwrap_or_default();
        if let Some(cursor) = cursor {
            let cursor = Cursor::parse(&cursor, &asked)?;
            return Ok(Self {
                filter,
                from: cursor.from,
                to: cursor.to,
                limit,
                before: Some((cursor.time, cursor.position)),
                asked,
            });
        }
        let end = to.unwrap_or(now);
        let default = || end.checked_sub(DEFAULT_RANGE).unwrap_or(Timestamp::MIN);
        let start = match from {
            Some(from) => from,
            None if filter.names_a_record() => Timestamp::MIN,
            None => default(),
        };
        if to.is_some_and(|to| to <= start) {
            return Err(InvalidQuery::EmptyRange);
        }
        if !filter.is_selective() && end.duration_since(start) > MAX_RANGE {
            return Err(InvalidQuery::LongRange);
        }
        Ok(Self {
            filter,
            from: nanoseconds(start),
            to: to.map_or(i64::MAX, nanoseconds),
            limit,
            before: None,
            asked,
        })
    }

    /// Cursor of the events after one.
    pub(super) fn cursor_after(&self, time: i64, position: u64) -> String {
        Cursor {
            from: self.from,
            to: self.to,
            time,
            position,
        }
        .to_text(&self.asked)
    }
}

/// Time as stores have it. Times before 1677 and after 2262 are the first and the last one.
pub(super) fn nanoseconds(time: Timestamp) -> i64 {
    let nanoseconds = time.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

/// Time of a store.
pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn query(arguments: QueryArguments) -> Result<EventQuery, InvalidQuery> {
        EventQuery::new(arguments, at("2026-11-28T12:00:00Z"))
    }

    fn range(from: Option<&str>, to: Option<&str>) -> QueryArguments {
        QueryArguments {
            from: from.map(at),
            to: to.map(at),
            ..QueryArguments::default()
        }
    }

    #[test]
    fn range_is_a_day_by_default() {
        let times = |arguments| {
            query(arguments)
                .map(|query| (query.from, query.to))
                .unwrap()
        };
        let nano = |text| nanoseconds(at(text));
        let day = (nano("2026-11-27T12:00:00Z"), i64::MAX);
        assert_eq!(times(range(None, None)), day);
        let before = (nano("2026-11-01T00:00:00Z"), nano("2026-11-02T00:00:00Z"));
        assert_eq!(times(range(None, Some("2026-11-02T00:00:00Z"))), before);
        let mut named = range(None, None);
        named.filter.id = Some("x".to_owned());
        assert_eq!(times(named), (i64::MIN, i64::MAX));
    }

    #[test]
    fn range_is_at_most_31_days_unless_the_filter_is_selective() {
        let longest = range(Some("2026-10-01T00:00:00Z"), Some("2026-11-01T00:00:00Z"));
        assert!(query(longest.clone()).is_ok());
        let longer = range(Some("2026-09-30T23:59:59Z"), Some("2026-11-01T00:00:00Z"));
        assert_eq!(query(longer.clone()), Err(InvalidQuery::LongRange));
        assert_eq!(
            query(range(Some("2026-10-01T00:00:00Z"), None)),
            Err(InvalidQuery::LongRange)
        );
        let secret = SecretFilter {
            namespace: "jobs".to_owned(),
            name: "db".to_owned(),
        };
        let text = || Some("x".to_owned());
        let selective: [&dyn Fn(&mut EventFilter); 4] = [
            &|filter| filter.secret = Some(secret.clone()),
            &|filter| filter.actor_uid = text(),
            &|filter| filter.id = text(),
            &|filter| filter.request_uid = text(),
        ];
        for change in selective {
            let mut arguments = longer.clone();
            change(&mut arguments.filter);
            assert!(query(arguments).is_ok());
        }
        let mut actor = longer;
        actor.filter.actor = text();
        assert_eq!(query(actor), Err(InvalidQuery::LongRange));
    }

    #[test]
    fn range_limit_and_filter_are_checked() {
        let empty = range(Some("2026-11-01T00:00:00Z"), Some("2026-11-01T00:00:00Z"));
        assert_eq!(query(empty), Err(InvalidQuery::EmptyRange));
        for (limit, is_valid) in [
            (0, false),
            (1, true),
            (MAX_PAGE, true),
            (MAX_PAGE + 1, false),
        ] {
            let limited = QueryArguments {
                limit: Some(limit),
                ..QueryArguments::default()
            };
            assert_eq!(query(limited).is_ok(), is_valid, "{limit}");
        }
        let mut long = QueryArguments::default();
        long.filter.action = Some("x".repeat(MAX_FILTER_BYTES));
        assert!(query(long.clone()).is_ok());
        long.filter.action = Some("x".repeat(MAX_FILTER_BYTES + 1));
        assert_eq!(query(long), Err(InvalidQuery::LongFilter));
    }

    #[test]
    fn long_actor_is_compared_as_records_have_it() {
        let mut arguments = QueryArguments::default();
        arguments.filter.actor = Some("x".repeat(300));
        let kept = query(arguments).unwrap().filter.actor.unwrap();
        assert_eq!(kept, Text::<256>::new(&"x".repeat(300)).as_str());
    }

    #[test]
    fn cursor_continues_only_its_own_query() {
        let mut arguments = range(Some("2026-11-27T00:00:00Z"), None);
        arguments.filter.actor = Some("alice".to_owned());
        let cursor = query(arguments.clone()).unwrap().cursor_after(7, 3);
        let with = |change: &dyn Fn(&mut QueryArguments)| {
            let mut arguments = arguments.clone();
            arguments.cursor = Some(cursor.clone());
            change(&mut arguments);
            query(arguments)
        };
        let next = with(&|arguments| arguments.limit = Some(5)).unwrap();
        assert_eq!(
            (next.before, next.limit, next.to),
            (Some((7, 3)), 5, i64::MAX)
        );
        let changed: [&dyn Fn(&mut QueryArguments); 4] = [
            &|arguments| arguments.filter.actor = Some("bob".to_owned()),
            &|arguments| arguments.filter.action = Some("pod.admit".to_owned()),
            &|arguments| arguments.from = Some(at("2026-11-26T00:00:00Z")),
            &|arguments| arguments.to = Some(at("2026-11-28T00:00:00Z")),
        ];
        for change in changed {
            assert!(matches!(with(change), Err(InvalidQuery::Cursor(_))));
        }
        for wrong in [
            "",
            "x",
            &cursor[1..],
            &cursor.replace(&cursor[9..11], "zz"),
            &"A".repeat(9_999),
        ] {
            let forged = with(&|arguments| arguments.cursor = Some(wrong.to_owned()));
            assert!(matches!(forged, Err(InvalidQuery::Cursor(_))), "{wrong}");
        }
    }

    #[test]
    fn times_out_of_range_are_the_first_and_the_last() {
        assert_eq!(nanoseconds(Timestamp::MIN), i64::MIN);
        assert_eq!(nanoseconds(Timestamp::MAX), i64::MAX);
        let time = at("2026-11-28T12:00:00.123456789Z");
        assert_eq!(timestamp(nanoseconds(time)), time);
    }
}
