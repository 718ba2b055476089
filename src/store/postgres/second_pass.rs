//! Pairs of a use and its second pass, whichever of the two lines is stored first.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::rows::{Parameter, integer, number, text};
use crate::audit::CLOCK_TOLERANCE;
use crate::audit::second_pass::{MAX_PASS_DELAY, is_second_pass};
use crate::audit::stored::StoredLine;
use crate::store::query::nanoseconds;
use crate::store::{LinePosition, MAX_PASSES};

/// Lines with a request, for each of some requests.
const FIRST_PASSES: &str = "SELECT e.position, e.line FROM unnest($1) AS r (request_uid) CROSS JOIN LATERAL
    (SELECT position, line FROM event WHERE event.request_uid = r.request_uid ORDER BY position LIMIT $2) AS e";

/// Lines that name the request of a use, for each of some uses, the earliest first.
const SECOND_PASSES: &str = "SELECT r.first_position, f.position, e.line
    FROM unnest($1, $2, $3, $4) AS r (first_position, request_uid, since, until) CROSS JOIN LATERAL
        (SELECT position, time FROM found_event
            WHERE found_event.request_uid = r.request_uid AND time BETWEEN r.since AND r.until
            ORDER BY time, position LIMIT $5) AS f
    JOIN event AS e ON e.position = f.position ORDER BY r.first_position, f.time, f.position";

/// Uses, by their positions.
type Uses = BTreeMap<i64, StoredLine>;

/// Pairs lines that were stored with their other passes, if those are stored. A use is paired with the earliest of the
/// lines that can be its second pass.
pub(super) async fn pair<'l>(
    client: &Client,
    lines: impl Iterator<Item = (&'l StoredLine, LinePosition)>,
) -> Result<(), Error> {
    let (mut uses, mut found) = (Uses::new(), Vec::new());
    for (line, position) in lines.filter(|(line, _)| line.is_use()) {
        if line.found_event.is_empty() {
            uses.insert(integer(position.0), line.clone());
        } else {
            found.push(text(&line.found_event));
        }
    }
    read_first_passes(client, &found, &mut uses).await?;
    let candidates = candidates(client, &uses).await?;
    if candidates.is_empty() {
        return Ok(());
    }
    let seconds = candidates.values().flatten().map(|(position, _)| *position);
    let mut pairs = pairs(client, &seconds.collect::<Vec<_>>()).await?;
    for (first, seconds) in candidates {
        let Some(line) = uses.get(&first) else {
            continue;
        };
        let second = seconds.iter().find(|(position, second)| {
            let is_free = pairs.get(position).is_none_or(|of| *of == first);
            is_free && is_second_pass(line, second)
        });
        if let Some((second, _)) = second
            && pairs.get(second) != Some(&first)
        {
            pairs.retain(|_, of| *of != first);
            pairs.insert(*second, first);
            write_pair(client, *second, first).await?;
        }
    }
    Ok(())
}

/// Adds the uses with the requests that second passes name.
async fn read_first_passes(
    client: &Client,
    requests: &[String],
    uses: &mut Uses,
) -> Result<(), Error> {
    if requests.is_empty() {
        return Ok(());
    }
    let parameters: [Parameter<'_>; 2] = [
        (&requests, Type::TEXT_ARRAY),
        (&integer(MAX_PASSES as u64), Type::INT8),
    ];
    for row in client.query_typed(FIRST_PASSES, &parameters).await? {
        let line: &str = row.try_get(1)?;
        // Only lines that can be read are stored.
        if let Ok(line) = StoredLine::parse(line.as_bytes())
            && line.is_use()
            && line.found_event.is_empty()
        {
            uses.insert(row.try_get(0)?, line);
        }
    }
    Ok(())
}

/// Lines that name the request of a use, by the position of the use, the earliest first.
async fn candidates(
    client: &Client,
    uses: &Uses,
) -> Result<BTreeMap<i64, Vec<(i64, StoredLine)>>, Error> {
    let mut candidates: BTreeMap<i64, Vec<(i64, StoredLine)>> = BTreeMap::new();
    if uses.is_empty() {
        return Ok(candidates);
    }
    let (mut positions, mut requests) = (Vec::new(), Vec::new());
    let (mut since, mut until) = (Vec::new(), Vec::new());
    for (position, line) in uses {
        let from = line.time.checked_sub(CLOCK_TOLERANCE);
        let to = line.time.checked_add(MAX_PASS_DELAY);
        positions.push(*position);
        requests.push(text(&line.request_uid));
        since.push(nanoseconds(from.unwrap_or(Timestamp::MIN)));
        until.push(nanoseconds(to.unwrap_or(Timestamp::MAX)));
    }
    let parameters: [Parameter<'_>; 5] = [
        (&positions, Type::INT8_ARRAY),
        (&requests, Type::TEXT_ARRAY),
        (&since, Type::INT8_ARRAY),
        (&until, Type::INT8_ARRAY),
        (&integer(MAX_PASSES as u64), Type::INT8),
    ];
    for row in client.query_typed(SECOND_PASSES, &parameters).await? {
        let line: &str = row.try_get(2)?;
        if let Ok(line) = StoredLine::parse(line.as_bytes()) {
            let of_use = candidates.entry(row.try_get(0)?).or_default();
            of_use.push((row.try_get(1)?, line));
        }
    }
    Ok(candidates)
}

/// Uses of second passes that are paired.
async fn pairs(client: &Client, seconds: &[i64]) -> Result<HashMap<i64, i64>, Error> {
    let sql = "SELECT position, first_position FROM second_pass WHERE position = ANY($1)";
    let parameters: [Parameter<'_>; 1] = [(&seconds, Type::INT8_ARRAY)];
    let rows = client.query_typed(sql, &parameters).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, integer(number(row, 1)?))))
        .collect()
}

async fn write_pair(client: &Client, second: i64, first: i64) -> Result<(), Error> {
    let sql = "DELETE FROM second_pass WHERE first_position = $1";
    client.execute_typed(sql, &[(&first, Type::INT8)]).await?;
    let sql = "INSERT INTO second_pass (position, first_position) VALUES ($1, $2)";
    let parameters: [Parameter<'_>; 2] = [(&second, Type::INT8), (&first, Type::INT8)];
    client.execute_typed(sql, &parameters).await.map(drop)
}
