//! Export: lines in the order in which they became durable, and imported ones in their place in the chain.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::rows::{Parameter, integer, number};
use crate::store::query::nanoseconds;
use crate::store::{ExportRange, LinePosition, MAX_PAGE};

/// Lines of a range after a position, and the position to continue after.
pub(super) async fn export(
    client: &Client,
    range: ExportRange,
    after: LinePosition,
) -> Result<(Vec<String>, Option<LinePosition>), Error> {
    let range = (nanoseconds(range.from), nanoseconds(range.to));
    let rows = page(client, range, after).await?;
    let next = rows.last().filter(|_| rows.len() == MAX_PAGE);
    let next = next.map(|row| number(row, 0)).transpose()?;
    let mut earlier = imported_before(client, range, &rows).await?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let (position, is_exported): (i64, bool) = (row.try_get(0)?, row.try_get(2)?);
        lines.extend(earlier.remove(&position).unwrap_or_default());
        if !is_exported {
            lines.push(row.try_get(1)?);
        }
    }
    Ok((lines, next.map(LinePosition)))
}

/// Lines by their positions. An imported one is exported before the next received line of its chain, if that one became
/// durable earlier.
async fn page(client: &Client, range: (i64, i64), after: LinePosition) -> Result<Vec<Row>, Error> {
    let sql = "SELECT e.position, e.line,
            e.provenance <> 0 AND coalesce((SELECT n.position < e.position AND n.time >= $1 AND n.time < $2
                FROM event AS n WHERE n.chain = e.chain AND n.seq > e.seq AND n.provenance = 0
                ORDER BY n.seq LIMIT 1), false),
            e.provenance = 0 AND EXISTS (SELECT 1 FROM event AS i WHERE i.chain = e.chain AND i.provenance <> 0)
        FROM event AS e
        WHERE e.position > $3 AND e.time >= $1 AND e.time < $2
            AND e.position >= (SELECT min(position) FROM event WHERE time >= $1 AND time < $2)
            AND e.position <= (SELECT max(position) FROM event WHERE time >= $1 AND time < $2)
        ORDER BY e.position LIMIT $4";
    let parameters: [Parameter<'_>; 4] = [
        (&range.0, Type::INT8),
        (&range.1, Type::INT8),
        (&integer(after.0), Type::INT8),
        (&integer(MAX_PAGE as u64), Type::INT8),
    ];
    client.query_typed(sql, &parameters).await
}

/// Lines before received ones that were imported after those became durable, by the position of the received line.
async fn imported_before(
    client: &Client,
    range: (i64, i64),
    rows: &[Row],
) -> Result<HashMap<i64, Vec<String>>, Error> {
    let mut positions: Vec<i64> = Vec::new();
    for row in rows {
        if row.try_get(3)? {
            positions.push(row.try_get(0)?);
        }
    }
    let mut lines: HashMap<i64, Vec<String>> = HashMap::new();
    if positions.is_empty() {
        return Ok(lines);
    }
    let sql = "SELECT e.position, i.line FROM event AS e JOIN event AS i
            ON i.chain = e.chain AND i.seq < e.seq AND i.provenance <> 0 AND i.position > e.position
            AND i.time >= $2 AND i.time < $3
            AND i.seq > coalesce((SELECT p.seq FROM event AS p WHERE p.chain = e.chain AND p.seq < e.seq
                AND p.provenance = 0 ORDER BY p.seq DESC LIMIT 1), 0)
        WHERE e.position = ANY($1) ORDER BY e.position, i.seq";
    let parameters: [Parameter<'_>; 3] = [
        (&positions, Type::INT8_ARRAY),
        (&range.0, Type::INT8),
        (&range.1, Type::INT8),
    ];
    for row in client.query_typed(sql, &parameters).await? {
        let line = lines.entry(row.try_get(0)?).or_default();
        line.push(row.try_get(1)?);
    }
    Ok(lines)
}
