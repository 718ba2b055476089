//! `audit query`: prints events of a store.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use super::events::{EventView, Events, write_csv, write_json, write_table};
use super::store::{StoreArgs, StoreExitStatus};
use crate::cli::output::print_result;
use crate::cli::values::duration;
use crate::clock::Clock;
use crate::commands::process::run_command;
use crate::store::{
    AuditStore, EventFilter, EventQuery, MAX_PAGE, QueryArguments, RecordAttribution, SecretFilter,
    StoredEvent,
};
use crate::telemetry::console::print_message;

/// Examples of the help.
pub(super) const EXAMPLES: &str = "Examples:
  # Uses of a secret in the last two hours
  floe-secrets-webhook audit query --store audit.db --since 2h --secret jobs/db

  # A week of one requester
  floe-secrets-webhook audit query --store audit.db --actor alice --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z

  # Refusals of a day, for a spreadsheet
  floe-secrets-webhook audit query --store audit.db --since 24h --outcome denied -o csv > refusals.csv

  # The record of a pod, by its annotation audit.floe.dev/event
  floe-secrets-webhook audit query --store audit.db --request-uid 705ab4f5-6393-11e8-b7cc-42010a800002 -o json

Exit codes: 0 printed; 2 the arguments or the store cannot be read.";

/// Events that are printed without a limit of the user's.
const DEFAULT_LIMIT: usize = 100;

/// Most events that are printed: they are kept in memory, with at most 8 KiB each.
const MAX_EVENTS: usize = 10_000;

#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Events of this last time, as in 2h. Default: 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["from", "to"])]
    pub since: Option<Duration>,
    /// First time, in the format of RFC 3339. Default: 24 hours before the end.
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// First time that is not included. Default: no end.
    #[arg(long, value_name = "TIME")]
    pub to: Option<Timestamp>,
    /// Secret that events are about.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = secret)]
    pub secret: Option<SecretFilter>,
    /// Namespace of the object.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Name of the requester, such as alice or system:serviceaccount:jobs:dbt.
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Uid of the requester.
    #[arg(long, value_name = "UID")]
    pub actor_uid: Option<String>,
    /// Action, such as pod.admit.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Outcome: success, denied, failure, error or unknown.
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// Class, such as injection or policy.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Id of a chain.
    #[arg(long, value_name = "ID")]
    pub chain: Option<String>,
    /// Id of a record.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Uid of the admission's request, which a pod has in audit.floe.dev/event.
    #[arg(long, value_name = "UID")]
    pub request_uid: Option<String>,
    /// Print second passes as well. The API server sends a pod again that another webhook changed later; both records are
    /// one use of its secrets.
    #[arg(long)]
    pub second_passes: bool,
    /// Most events to print, the newest ones.
    #[arg(long, value_name = "COUNT", value_parser = limit, default_value_t = DEFAULT_LIMIT)]
    pub limit: usize,
    /// Form of an event: the record, or the flat event of floe for each secret.
    #[arg(long, value_enum, value_name = "VIEW", default_value = "record")]
    pub view: EventView,
    /// Output format.
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub output: EventFormat,
}

/// Format of printed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventFormat {
    /// Columns, for people.
    Table,
    /// One JSON object, for programs.
    Json,
    /// All columns, for spreadsheets. Texts that a spreadsheet would run begin with a quote.
    Csv,
}

/// Parses `NAMESPACE/NAME`.
fn secret(text: &str) -> Result<SecretFilter, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(SecretFilter {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err("a secret is named by its namespace and its name, as in jobs/db".to_owned()),
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok();
    let limit = limit.filter(|limit| (1..=MAX_EVENTS).contains(limit));
    limit.ok_or_else(|| format!("a limit is a number from 1 to {MAX_EVENTS}"))
}

#[must_use]
pub(super) fn run(args: QueryArgs) -> ExitCode {
    run_command(query(args, Clock::system()), StoreExitStatus::Failed)
}

async fn query(args: QueryArgs, clock: Clock) -> Result<StoreExitStatus, String> {
    let (view, format, limit) = (args.view, args.output, args.limit);
    let store = args.store.open_read_only().await?;
    let store = store.as_ref();
    let (events, is_more) = read(store, args.arguments(clock.now()), limit, &clock).await?;
    let attributions = attributions(store, &events).await?;
    let events = Events::new(&events, &attributions, is_more, view);
    print_result(|out| match format {
        EventFormat::Table => write_table(&events, out),
        EventFormat::Json => write_json(&events, out),
        EventFormat::Csv => write_csv(&events, out),
    })?;
    if is_more && format != EventFormat::Json {
        print_message(&format!(
            "Only the newest {limit} events are printed. For older ones, raise --limit or set --to.\n"
        ));
    }
    Ok(StoreExitStatus::Done)
}

/// Askers of the secrets of each event.
async fn attributions(
    store: &dyn AuditStore,
    events: &[StoredEvent],
) -> Result<Vec<RecordAttribution>, String> {
    let mut attributions = Vec::with_capacity(events.len());
    for page in events.chunks(MAX_PAGE) {
        let positions: Vec<_> = page.iter().map(|event| event.position).collect();
        let found = store.attributions(&positions).await;
        attributions.extend(found.map_err(|error| error.to_string())?);
    }
    Ok(attributions)
}

/// Newest events of a query, and whether there are more.
async fn read(
    store: &dyn AuditStore,
    mut arguments: QueryArguments,
    limit: usize,
    clock: &Clock,
) -> Result<(Vec<StoredEvent>, bool), String> {
    let mut events = Vec::new();
    loop {
        arguments.limit = Some((limit - events.len()).min(MAX_PAGE));
        let query = EventQuery::new(arguments.clone(), clock.now());
        let query = query.map_err(|error| error.to_string())?;
        let page = store
            .query(&query)
            .await
            .map_err(|error| error.to_string())?;
        events.extend(page.events);
        match page.next {
            Some(next) if events.len() < limit => arguments.cursor = Some(next),
            next => return Ok((events, next.is_some())),
        }
    }
}

impl QueryArgs {
    fn arguments(self, now: Timestamp) -> QueryArguments {
        let since = self.since.map(|since| {
            let since = SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX);
            now.checked_sub(since).unwrap_or(Timestamp::MIN)
        });
        QueryArguments {
            filter: EventFilter {
                secret: self.secret,
                namespace: self.namespace,
                actor: self.actor,
                actor_uid: self.actor_uid,
                action: self.action,
                outcome: self.outcome,
                class: self.class,
                chain: self.chain,
                id: self.id,
                request_uid: self.request_uid,
                second_passes: self.second_passes,
            },
            from: since.or(self.from),
            to: self.to,
            limit: None,
            cursor: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Trail, second, start};
    use crate::store::sqlite::{SqliteSettings, SqliteStore};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        query: QueryArgs,
    }

    fn parse(args: &[&str]) -> Result<QueryArgs, clap::Error> {
        let args = ["query", "--store", "audit.db"].iter().chain(args);
        Arguments::try_parse_from(args).map(|arguments| arguments.query)
    }

    #[test]
    fn arguments_are_checked() {
        let args = parse(&["--since", "2h", "--secret", "jobs/db"]).unwrap();
        let arguments = args.arguments(second(7_200));
        assert_eq!((arguments.from, arguments.to), (Some(start()), None));
        assert_eq!(arguments.filter.secret.unwrap().name, "db");
        let time = "2026-11-28T12:00:00Z";
        assert!(parse(&["--since", "2h", "--from", time]).is_err());
        for wrong in ["db", "/db", "jobs/"] {
            assert!(parse(&["--secret", wrong]).is_err(), "{wrong}");
        }
        for (limit, is_valid) in [("0", false), ("1", true), ("10000", true), ("10001", false)] {
            assert_eq!(parse(&["--limit", limit]).is_ok(), is_valid, "{limit}");
        }
    }

    #[test]
    fn docs_contain_the_limit_of_events() {
        let row = format!("| Events that `audit query` prints | {MAX_EVENTS} |");
        assert!(
            include_str!("../../../docs/AUDIT.md").contains(&row),
            "{row}"
        );
    }

    #[tokio::test]
    async fn events_of_several_pages_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SqliteSettings {
            create: true,
            ..SqliteSettings::new(folder.path().join("audit.db"))
        };
        let store = SqliteStore::open(&settings).unwrap();
        let mut trail = Trail::new("a");
        let lines = trail.lines(2_500);
        store.append(trail.batch(&lines)).await.unwrap();
        let clock = Clock::new(|| second(3_600));
        for (limit, expected) in [
            (7, (7, true)),
            (2_500, (2_500, false)),
            (9_000, (2_500, false)),
        ] {
            let arguments = QueryArguments {
                from: Some(start()),
                ..QueryArguments::default()
            };
            let (events, is_more) = read(&store, arguments, limit, &clock).await.unwrap();
            assert_eq!((events.len(), is_more), expected);
            let known = attributions(&store, &events).await.unwrap();
            let positions = known.iter().map(|known| known.position);
            assert!(positions.eq(events.iter().map(|event| event.position)));
        }
    }
}
