//! SQL of queries: each is driven by one index, which is named, so that no query reads a whole table.

use rusqlite::types::Value;

use super::names::{SECRET_KEY, compact_id, has_name};
use crate::store::{EventFilter, EventQuery};

const COLUMNS: &str = "SELECT e.position, e.provenance, e.time, e.line";

/// SQL with the values of its parameters.
#[derive(Debug)]
pub(super) struct Select {
    pub sql: String,
    pub values: Vec<Value>,
}

impl Select {
    fn new(from: &str) -> Self {
        Self {
            sql: format!("{COLUMNS} {from} WHERE true"),
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

    /// Adds the columns that a filter compares. What the driving index or table has is left out by the caller.
    fn filter(&mut self, filter: &EventFilter) {
        self.text(&has_name("namespace"), filter.namespace.as_ref());
        self.text(&has_name("actor"), filter.actor.as_ref());
        self.text(&has_name("actor_uid"), filter.actor_uid.as_ref());
        self.text("e.action = ?", filter.action.as_ref());
        self.text("e.class = ?", filter.class.as_ref());
        if let Some(id) = &filter.id {
            self.add("e.id = ?", [compact_id(id)]);
        }
        if let Some(uid) = &filter.request_uid {
            self.add("e.request_uid = ?", [compact_id(uid)]);
        }
        if let Some(outcome) = &filter.outcome {
            if is_refusal(outcome) {
                self.sql.push_str(" AND e.outcome <> 'success'");
            }
            self.text("e.outcome = ?", Some(outcome));
        }
        self.text(
            "e.chain = (SELECT key FROM chain WHERE id = ?)",
            filter.chain.as_ref(),
        );
    }
}

fn is_refusal(outcome: &str) -> bool {
    outcome != "success"
}

/// Most selective index of a filter that names no secret.
fn index(filter: &EventFilter) -> &'static str {
    match filter {
        EventFilter { id: Some(_), .. } => "event_id",
        EventFilter {
            request_uid: Some(_),
            ..
        } => "event_request_uid",
        EventFilter {
            actor_uid: Some(_), ..
        } => "event_actor_uid",
        EventFilter { actor: Some(_), .. } => "event_actor",
        EventFilter { chain: Some(_), .. } => "event_chain_time",
        EventFilter {
            outcome: Some(outcome),
            ..
        } if is_refusal(outcome) => "event_refused",
        EventFilter {
            namespace: Some(_), ..
        } => "event_namespace",
        _ => "event_time",
    }
}

/// Events of a query, newest first, and one more than the page has.
pub(super) fn page(query: &EventQuery) -> Select {
    let filter = &query.filter;
    let (from, alias) = match &filter.secret {
        // CROSS JOIN: the table on its left is read first.
        Some(_) if !filter.names_a_record() => (
            "FROM event_secret AS s CROSS JOIN event AS e ON e.position = s.position".to_owned(),
            "s",
        ),
        _ => (format!("FROM event AS e INDEXED BY {}", index(filter)), "e"),
    };
    let mut select = Select::new(&from);
    if let Some(secret) = &filter.secret {
        let values = [&secret.namespace, &secret.name].map(|text| Value::Text(text.clone()));
        if alias == "s" {
            select.add(&format!("s.secret = {SECRET_KEY}"), values);
        } else {
            select.add(&has_secret(), values);
        }
    }
    select.filter(filter);
    select.add(&format!("{alias}.time >= ?"), [Value::Integer(query.from)]);
    match query.before {
        Some((time, position)) => select.add(
            &format!("({alias}.time, {alias}.position) < (?, ?)"),
            [Value::Integer(time), integer(position)],
        ),
        None => select.add(&format!("{alias}.time < ?"), [Value::Integer(query.to)]),
    }
    let order = format!(" ORDER BY {alias}.time DESC, {alias}.position DESC LIMIT ?");
    select.sql.push_str(&order);
    select.values.push(integer(query.limit as u64 + 1));
    select
}

fn has_secret() -> String {
    format!(
        "EXISTS (SELECT 1 FROM event_secret AS s WHERE s.secret = {SECRET_KEY} AND s.time = e.time
            AND s.position = e.position)"
    )
}

/// Events of a range of positions, oldest first: those after the first and up to the last.
pub(super) fn follow(filter: &EventFilter, (after, to): (u64, u64), limit: usize) -> Select {
    let mut select = Select::new("FROM event AS e NOT INDEXED");
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
