//! SQL of queries: each is driven by one index, which is named, so that no query reads a whole table.

use rusqlite::types::Value;

use super::names::{SECRET_KEY, compact_id, has_name};
use super::query_index::{QueryIndex, WordColumn, indexes};
use crate::store::{EventFilter, EventQuery};

const COLUMNS: &str = "e.position, e.provenance, e.time, e.line, p.first_position";

const SECOND_PASS: &str = "LEFT JOIN second_pass AS p ON p.position = e.position";

/// SQL with the values of its parameters.
#[derive(Debug)]
pub(super) struct Select {
    pub sql: String,
    pub values: Vec<Value>,
}

impl Select {
    /// Selects whole events.
    fn events(from: &str) -> Self {
        Self {
            sql: format!("SELECT {COLUMNS} FROM {from} {SECOND_PASS} WHERE true"),
            values: Vec::new(),
        }
    }

    /// Selects rows that are only counted.
    fn rows(from: &str) -> Self {
        Self {
            sql: format!("SELECT 1 FROM {from} WHERE true"),
            values: Vec::new(),
        }
    }

    /// Adds a condition, with a `?` for each value.
    fn add<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    fn text(&mut self, condition: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(condition, [Value::Text(value.clone())]);
        }
    }

    fn word(&mut self, column: WordColumn, condition: &str, value: Option<&String>) {
        if column.is_indexed(value) {
            self.sql.push_str(" AND ");
            self.sql.push_str(column.condition());
        }
        self.text(condition, value);
    }

    /// Adds the columns that a filter compares. What the driving index or table has is left out by the caller.
    fn filter(&mut self, filter: &EventFilter) {
        self.text(&has_name("namespace"), filter.namespace.as_ref());
        self.text(&has_name("actor"), filter.actor.as_ref());
        self.text(&has_name("actor_uid"), filter.actor_uid.as_ref());
        self.word(WordColumn::Action, "e.action = ?", filter.action.as_ref());
        self.word(WordColumn::Class, "e.class = ?", filter.class.as_ref());
        if let Some(id) = &filter.id {
            self.add("e.id = ?", [compact_id(id)]);
        }
        if let Some(uid) = &filter.request_uid {
            self.add("e.request_uid = ?", [compact_id(uid)]);
        }
        self.word(
            WordColumn::Outcome,
            "e.outcome = ?",
            filter.outcome.as_ref(),
        );
        self.text(
            "e.chain = (SELECT key FROM chain WHERE id = ?)",
            filter.chain.as_ref(),
        );
        if filter.has_uses_once() {
            self.sql.push_str(" AND p.position IS NULL");
        }
    }

    /// Adds that the other indexes of a filter have the events of a secret, whose lines are read only then.
    fn with_other_indexes(&mut self, filter: &EventFilter) {
        for index in indexes(filter) {
            let Some(name) = index.name() else { continue };
            let mut other = Self::rows(&format!("event AS e INDEXED BY {name}"));
            other.filter(&index.part_of(filter));
            let sql = &other.sql;
            // Not EXISTS, which SQLite makes a join behind the lines.
            let sql = format!("({sql} AND e.time = s.time AND e.position = s.position) = 1");
            self.sql.push_str(" AND ");
            self.sql.push_str(&sql);
            self.values.extend(other.values);
        }
    }

    /// Adds a filter and the range of a query, as its index has them.
    fn driven(&mut self, query: &EventQuery, index: QueryIndex, filter: &EventFilter) {
        if let Some(secret) = &filter.secret {
            let values = [&secret.namespace, &secret.name].map(|text| Value::Text(text.clone()));
            if index == QueryIndex::Secret {
                self.add(&format!("s.secret = {SECRET_KEY}"), values);
            } else {
                self.add(&has_secret(), values);
            }
        }
        self.filter(filter);
        let alias = alias(index);
        self.add(&format!("{alias}.time >= ?"), [Value::Integer(query.from)]);
        match query.before {
            Some((time, position)) => self.add(
                &format!("({alias}.time, {alias}.position) < (?, ?)"),
                [Value::Integer(time), integer(position)],
            ),
            None => self.add(&format!("{alias}.time < ?"), [Value::Integer(query.to)]),
        }
    }
}

/// Events of a query, newest first, and one more than the page has.
pub(super) fn page(query: &EventQuery, index: QueryIndex) -> Select {
    let mut select = match index.name() {
        Some(index) => Select::events(&format!("event AS e INDEXED BY {index}")),
        // CROSS JOIN: the table on its left is read first.
        None => {
            Select::events("event_secret AS s CROSS JOIN event AS e ON e.position = s.position")
        }
    };
    select.driven(query, index, &query.filter);
    if index == QueryIndex::Secret {
        select.with_other_indexes(&query.filter);
    }
    let alias = alias(index);
    let order = format!(" ORDER BY {alias}.time DESC, {alias}.position DESC LIMIT ?");
    select.sql.push_str(&order);
    select.values.push(integer(query.limit as u64 + 1));
    select
}

/// Number of entries of an index in the range of a query, up to a limit.
pub(super) fn count(query: &EventQuery, index: QueryIndex, limit: u64) -> Select {
    let mut select = match index.name() {
        Some(index) => Select::rows(&format!("event AS e INDEXED BY {index}")),
        None => Select::rows("event_secret AS s"),
    };
    select.driven(query, index, &index.part_of(&query.filter));
    select.sql = format!("SELECT count(*) FROM ({} LIMIT ?)", select.sql);
    select.values.push(integer(limit));
    select
}

/// Table that has the time of an index's entries.
fn alias(index: QueryIndex) -> &'static str {
    if index == QueryIndex::Secret {
        "s"
    } else {
        "e"
    }
}

fn has_secret() -> String {
    format!(
        "EXISTS (SELECT 1 FROM event_secret AS s WHERE s.secret = {SECRET_KEY} AND s.time = e.time
            AND s.position = e.position)"
    )
}

/// Events of a range of positions, oldest first: those after the first and up to the last.
pub(super) fn follow(filter: &EventFilter, (after, to): (u64, u64), limit: usize) -> Select {
    let mut select = Select::events("event AS e NOT INDEXED");
    select.add(
        "e.position > ? AND e.position <= ?",
        [integer(after), integer(to)],
    );
    if let Some(secret) = &filter.secret {
        let values = [&secret.namespace, &secret.name].map(|text| Value::Text(text.clone()));
        select.add(&has_secret(), values);
    }
    select.filter(filter);
    select.sql.push_str(" ORDER BY e.position LIMIT ?");
    select.values.push(integer(limit as u64));
    select
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
