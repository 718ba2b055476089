//! SQL of queries. Each has the order of an index, so that no query reads and sorts a whole table.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::rows::{Parameter, integer, text};
use crate::store::{EventFilter, EventQuery, SecretFilter};

const COLUMNS: &str = "SELECT e.position, e.provenance, e.time, e.line, p.first_position";

const SECOND_PASS: &str = "LEFT JOIN second_pass AS p ON p.position = e.position";

/// SQL with the values of its parameters.
#[derive(Debug)]
pub(super) struct EventSelect {
    pub sql: String,
    values: Vec<SelectValue>,
}

#[derive(Debug)]
enum SelectValue {
    Text(String),
    Number(i64),
}

impl SelectValue {
    fn parameter(&self) -> Parameter<'_> {
        let (value, of): (&(dyn ToSql + Sync), Type) = match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Number(number) => (number, Type::INT8),
        };
        (value, of)
    }
}

impl EventSelect {
    fn new(from: &str) -> Self {
        Self {
            sql: format!("{COLUMNS} {from} {SECOND_PASS} WHERE true"),
            values: Vec::new(),
        }
    }

    /// Adds a condition, whose last operator has the value on its right.
    fn add(&mut self, condition: &str, value: SelectValue) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.push(value);
    }

    /// Adds the parameter of a value.
    fn push(&mut self, value: SelectValue) {
        self.values.push(value);
        self.sql.push_str(" $");
        self.sql.push_str(&self.values.len().to_string());
    }

    fn text(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(&format!("{column} ="), SelectValue::Text(text(value)));
        }
    }

    fn number(&mut self, condition: &str, value: i64) {
        self.add(condition, SelectValue::Number(value));
    }

    /// Ends the statement with an order and a limit.
    fn order(&mut self, order: &str, limit: u64) {
        self.sql.push_str(" ORDER BY ");
        self.sql.push_str(order);
        self.sql.push_str(" LIMIT");
        self.push(SelectValue::Number(integer(limit)));
    }

    /// Adds the condition that an event has a secret. As the value of a subquery, it is looked up for each event: a join
    /// could read all events of the secret.
    fn secret(&mut self, secret: &SecretFilter) {
        let by_name =
            "(SELECT true FROM event_secret AS s WHERE s.time = e.time AND s.position = e.position
            AND s.namespace =";
        self.add(by_name, SelectValue::Text(text(&secret.namespace)));
        self.text("s.name", Some(&secret.name));
        self.sql.push(')');
    }

    /// Adds the columns that a filter compares, other than the secret.
    fn filter(&mut self, filter: &EventFilter) {
        self.text("e.namespace", filter.namespace.as_ref());
        self.text("e.actor", filter.actor.as_ref());
        self.text("e.actor_uid", filter.actor_uid.as_ref());
        self.text("e.action", filter.action.as_ref());
        self.text("e.class", filter.class.as_ref());
        self.text("e.id", filter.id.as_ref());
        self.text("e.request_uid", filter.request_uid.as_ref());
        if let Some(outcome) = &filter.outcome {
            if outcome != "success" {
                self.sql.push_str(" AND e.outcome <> 'success'");
            }
            self.text("e.outcome", Some(outcome));
        }
        if let Some(chain) = &filter.chain {
            self.add(
                "e.chain = (SELECT key FROM chain WHERE id =",
                SelectValue::Text(text(chain)),
            );
            self.sql.push(')');
        }
        if filter.has_uses_once() {
            self.sql.push_str(" AND p.position IS NULL");
        }
    }

    pub(super) async fn run(&self, client: &Client) -> Result<Vec<Row>, Error> {
        let parameters: Vec<_> = self.values.iter().map(SelectValue::parameter).collect();
        client.query_typed(&self.sql, &parameters).await
    }
}

/// Events of a secret in the order of its own table. The event is looked up for each row, in this order.
const BY_SECRET: &str = "FROM event_secret AS s
    CROSS JOIN LATERAL (SELECT * FROM event WHERE event.position = s.position OFFSET 0) AS e";

/// Events of a query, newest first, and one more than the page has.
pub(super) fn page(query: &EventQuery) -> EventSelect {
    let filter = &query.filter;
    let by_secret = filter.secret.as_ref();
    let by_secret = by_secret.filter(|_| !filter.names_a_record());
    let (mut select, table) = match by_secret {
        Some(secret) => {
            let mut select = EventSelect::new(BY_SECRET);
            select.text("s.namespace", Some(&secret.namespace));
            select.text("s.name", Some(&secret.name));
            (select, "s")
        }
        None => (EventSelect::new("FROM event AS e"), "e"),
    };
    if let Some(secret) = filter.secret.as_ref().filter(|_| by_secret.is_none()) {
        select.secret(secret);
    }
    select.filter(filter);
    select.number(&format!("{table}.time >="), query.from);
    match query.before {
        Some((time, position)) => {
            select.number(&format!("({table}.time, {table}.position) < ("), time);
            select.sql.push(',');
            select.push(SelectValue::Number(integer(position)));
            select.sql.push(')');
        }
        None => select.number(&format!("{table}.time <"), query.to),
    }
    let order = format!("{table}.time DESC, {table}.position DESC");
    select.order(&order, query.limit as u64 + 1);
    select
}

/// Events of a range of positions, oldest first: those after the first and up to the last.
pub(super) fn follow(filter: &EventFilter, (after, to): (u64, u64), limit: usize) -> EventSelect {
    let mut select = EventSelect::new("FROM event AS e");
    select.number("e.position >", integer(after));
    select.number("e.position <=", integer(to));
    if let Some(secret) = &filter.secret {
        select.secret(secret);
    }
    select.filter(filter);
    select.order("e.position", limit as u64);
    select
}
