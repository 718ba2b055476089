use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::state::ACKNOWLEDGED;
use super::*;

fn line(number: usize) -> Vec<u8> {
    format!("{{\"n\":{number},\"x\":\"{}\"}}\n", "x".repeat(1_000)).into_bytes()
}

/// All lines from a position on, in reads of at most `max` bytes.
fn lines_from(spool: &Spool, from: SpoolPosition, max: usize) -> Vec<Vec<u8>> {
    let (mut position, mut lines) = (from, Vec::new());
    loop {
        let (read, next) = spool.reader().read(position, max).unwrap();
        if read.is_empty() {
            return lines;
        }
        lines.extend(
            read.split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec),
        );
        position = next;
    }
}

#[test]
fn spool_keeps_lines_in_order_across_segments_and_processes() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..10_000).map(line).collect();
    let mut spool = Spool::open(folder.path()).unwrap();
    for line in &lines[..6_000] {
        spool.append(line).unwrap();
    }
    drop(spool);
    let mut spool = Spool::open(folder.path()).unwrap();
    for line in &lines[6_000..] {
        spool.append(line).unwrap();
    }
    assert!(
        spool.state.segments().len() > 2,
        "{}",
        spool.state.segments().len()
    );
    let mut segments = spool.state.segments().clone().into_iter();
    assert!(segments.all(|segment| segment.length() <= MAX_SEGMENT_BYTES));
    assert_eq!(
        spool
            .reader()
            .lines_behind(SpoolPosition::default())
            .unwrap(),
        10_000
    );
    for max in [1, 5_000, 1 << 20] {
        assert_eq!(
            lines_from(&spool, spool.reader().acknowledged(), max),
            lines,
            "{max}"
        );
    }
    let last = spool.last_line().unwrap().unwrap();
    assert_eq!([&last[..], b"\n"].concat(), lines[9_999]);
}

#[test]
fn acknowledged_segments_are_deleted_and_stay_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    for number in 0..10_000 {
        spool.append(&line(number)).unwrap();
    }
    let before = spool.bytes();
    let (lines, position) = spool
        .reader()
        .read(spool.reader().acknowledged(), 5 << 20)
        .unwrap();
    spool.reader().acknowledge(position).unwrap();
    assert_eq!(spool.bytes(), before - lines.len() as u64);
    let rest = lines_from(&spool, spool.reader().acknowledged(), 1 << 20);
    let (_, position) = spool
        .reader()
        .read(spool.reader().acknowledged(), 5_000)
        .unwrap();
    spool.reader().acknowledge(position).unwrap();
    drop(spool);
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(spool.reader().acknowledged(), position);
    assert_eq!(
        lines_from(&spool, spool.reader().acknowledged(), 1 << 20),
        rest[4..]
    );
    // A position of an earlier answer changes nothing.
    spool
        .reader()
        .acknowledge(SpoolPosition::default())
        .unwrap();
    assert_eq!(spool.reader().acknowledged(), position);
    // Neither does one that the spool does not have.
    let beyond = SpoolPosition {
        segment: 99,
        offset: 0,
    };
    spool.reader().acknowledge(beyond).unwrap();
    assert_eq!(spool.reader().acknowledged(), spool.reader().end());
    assert!(lines_from(&spool, spool.reader().acknowledged(), 1 << 20).is_empty());
}

#[test]
fn numbers_of_segments_are_not_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    spool.append(b"1\n").unwrap();
    spool.reader().acknowledge(spool.reader().end()).unwrap();
    let acknowledged = spool.reader().acknowledged();
    drop(spool);
    std::fs::remove_file(folder.path().join("00000000000000000001.jsonl")).unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    spool.append(b"2\n").unwrap();
    assert!(spool.reader().end() > acknowledged);
    assert_eq!(lines_from(&spool, acknowledged, 10), [b"2\n"]);
}

#[test]
fn full_spool_takes_nothing_until_lines_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    let group = line(0).repeat(1_000);
    let full = loop {
        if let Err(error) = spool.append(&group) {
            break error;
        }
    };
    assert!(matches!(full, SpoolError::Full), "{full}");
    assert!(spool.bytes() <= MAX_SPOOL_BYTES);
    assert!(spool.bytes() + group.len() as u64 > MAX_SPOOL_BYTES);
    let (_, position) = spool
        .reader()
        .read(spool.reader().acknowledged(), 5 << 20)
        .unwrap();
    spool.reader().acknowledge(position).unwrap();
    spool.append(&group).unwrap();
}

#[test]
fn torn_line_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    spool.append(&[line(1), line(2)].concat()).unwrap();
    drop(spool);
    let path = folder.path().join("00000000000000000001.jsonl");
    let whole = std::fs::read(&path).unwrap();
    for torn in [
        &whole[..whole.len() - 1],
        &whole[..=line(1).len()],
        b"{",
        b"",
    ] {
        std::fs::write(&path, torn).unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let expected = if torn.len() > line(1).len() {
            vec![line(1)]
        } else {
            Vec::new()
        };
        assert_eq!(
            lines_from(&spool, spool.reader().acknowledged(), 10_000),
            expected
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), spool.bytes());
    }
}

#[test]
fn position_that_cannot_be_read_sends_all_lines_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    spool.append(b"1\n2\n").unwrap();
    spool.reader().acknowledge(spool.reader().end()).unwrap();
    drop(spool);
    for garbage in [&b"x"[..], b"", b"1", b"1 x", b"\xff\xff"] {
        std::fs::write(folder.path().join(ACKNOWLEDGED), garbage).unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        assert_eq!(
            lines_from(&spool, spool.reader().acknowledged(), 10).concat(),
            b"1\n2\n"
        );
    }
}

#[test]
fn folder_that_cannot_be_used_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Spool::open(&file).unwrap_err();
    assert!(matches!(error, SpoolError::Io { .. }), "{error}");
    assert!(error.to_string().contains("Check the volume"), "{error}");
}

/// Program that the test below kills: appends numbered lines to the spool in the folder that standard input names, and
/// prints each number when its line is in the spool.
#[test]
#[ignore = "a process of the test below"]
fn appending_process() {
    let mut folder = String::new();
    std::io::stdin().read_line(&mut folder).unwrap();
    let mut spool = Spool::open(Path::new(folder.trim_end())).unwrap();
    let last = spool.last_line().unwrap();
    let next = last.map_or(0, |line| number_of(&line) + 1);
    let mut out = std::io::stdout().lock();
    for number in next.. {
        spool.append(&line(number)).unwrap();
        writeln!(out, "#{number}").unwrap();
        out.flush().unwrap();
    }
}

fn number_of(line: &[u8]) -> usize {
    let value: serde_json::Value = serde_json::from_slice(line).unwrap();
    usize::try_from(value["n"].as_u64().unwrap()).unwrap()
}

#[test]
fn killed_process_loses_no_line_that_it_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let mut confirmed = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recorder::spool::tests::appending_process"])
            .args(["--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}", folder.path().display()).unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut numbers = output.by_ref().filter_map(|line| {
            let line = line.unwrap();
            line.rsplit_once('#')
                .and_then(|(_, number)| number.parse::<usize>().ok())
        });
        // Killed after another number of lines in each round.
        let last = numbers.by_ref().nth(37 * round + 5).unwrap();
        child.kill().unwrap();
        confirmed = numbers.last().unwrap_or(last);
        child.wait().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let lines = lines_from(&spool, SpoolPosition::default(), 1 << 20);
        assert!(lines.len() > confirmed, "{} of {confirmed}", lines.len());
        for (number, written) in lines.iter().enumerate() {
            assert_eq!(*written, line(number));
        }
    }
    assert!(confirmed > 1_000, "{confirmed}");
}

#[test]
fn lines_are_read_while_others_are_appended() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    let reader = spool.reader();
    let reading = std::thread::spawn(move || {
        let (mut position, mut count) = (reader.acknowledged(), 0);
        while count < 20_000 {
            let (lines, next) = reader.read(position, 100_000).unwrap();
            for read in lines.split_inclusive(|byte| *byte == b'\n') {
                assert_eq!(read, line(count));
                count += 1;
            }
            reader.acknowledge(next).unwrap();
            position = next;
        }
        (reader.bytes(), reader.bytes_behind(position))
    });
    for number in 0..20_000 {
        spool.append(&line(number)).unwrap();
    }
    let (bytes, unread) = reading.join().unwrap();
    assert!(bytes <= MAX_SEGMENT_BYTES, "{bytes}");
    assert_eq!(unread, 0);
}

#[test]
fn last_line_stays_when_all_lines_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    for number in 0..5_000 {
        spool.append(&line(number)).unwrap();
    }
    spool.reader().acknowledge(spool.reader().end()).unwrap();
    drop(spool);
    let spool = Spool::open(folder.path()).unwrap();
    assert_eq!(spool.state.segments().len(), 1);
    assert_eq!(number_of(&spool.last_line().unwrap().unwrap()), 4_999);
}

#[test]
fn probe_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path()).unwrap();
    spool.append(b"1\n").unwrap();
    spool.probe(10_000).unwrap();
    spool.append(b"2\n").unwrap();
    let written = std::fs::read(folder.path().join("00000000000000000001.jsonl")).unwrap();
    assert_eq!(written, b"1\n2\n");
}
