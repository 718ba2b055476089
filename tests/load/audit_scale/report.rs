//! Figures of a run: durations by their ranks, CPU time, memory and bytes.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

/// Durations of one kind of call.
#[derive(Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Duration that so many of 100 do not exceed.
    pub fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        Self(durations.into_iter().collect())
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |percent| self.at(percent).as_secs_f64() * 1_000.0;
        write!(
            f,
            "p50 {:7.1} ms, p99 {:7.1} ms, max {:7.1} ms ({} calls)",
            milliseconds(50),
            milliseconds(99),
            milliseconds(100),
            self.len()
        )
    }
}

/// CPU time of this process so far.
pub fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a running process");
    // Behind the name, which may have spaces: the state is the first field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on all architectures of the program.
    Duration::from_millis(ticks * 10)
}

/// Fields of `/proc/PID/status` in KiB: resident memory, its peak, and the part that is not of files.
pub fn memory(pid: &str) -> [u64; 3] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    ["VmRSS:", "VmHWM:", "RssAnon:"].map(|name| {
        let field = status.lines().find_map(|line| line.strip_prefix(name));
        let field = field.map(|field| field.trim().trim_end_matches(" kB"));
        field
            .and_then(|field| field.parse().ok())
            .unwrap_or_default()
    })
}

/// Bytes of a store, by its tables.
pub struct Sizes {
    /// Tables and indexes, largest first: bytes, and those of them that are not used.
    pub tables: Vec<(String, u64, u64)>,
    /// Bytes of a line, on average.
    pub line: u64,
}

impl Sizes {
    pub fn of(store: &Path) -> Self {
        let connection = Connection::open(store).expect("the store");
        let sql = "SELECT name, sum(pgsize), sum(unused) FROM dbstat WHERE aggregate = TRUE
            GROUP BY name ORDER BY 2 DESC";
        let mut statement = connection.prepare(sql).expect("the table dbstat");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let rows = rows.expect("a query").collect::<rusqlite::Result<_>>();
        let sql = "SELECT CAST(avg(length(line)) AS INTEGER)
            FROM (SELECT line FROM event ORDER BY position DESC LIMIT 10000)";
        let line = connection.query_row(sql, [], |row| row.get(0));
        Self {
            tables: rows.expect("rows"),
            line: line.expect("lines"),
        }
    }
}
