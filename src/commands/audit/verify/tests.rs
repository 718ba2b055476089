use super::input::MAX_FILE_BYTES;
use super::*;
use crate::audit::chain::Chain;
use crate::audit::emitter::Emitter;
use crate::audit::link::ChainId;
use crate::audit::record::{Action, Class, RecordOutcome, Service};
use crate::audit::signature::SigningKey;
use crate::audit::text::Text;
use rstest::rstest;

/// Lines of a chain from its start to its stop, with a signed checkpoint as the last but one.
fn trail(admissions: usize) -> Vec<String> {
    let emitter = Emitter {
        cluster: Text::new("prod"),
        service: Service {
            name: "serve",
            replica: Text::new("pod-1"),
            version: "0.1.0",
        },
        time: "2026-11-28T12:00:00Z".parse().unwrap(),
        id: Text::new("019acb1e-7d30-7000-8000-000000000001"),
    };
    let mut chain = Chain::new(ChainId::parse("pod-1/1").unwrap());
    let mut lines = vec![chain.append(emitter.start(None)).json];
    for _ in 0..admissions {
        let record = emitter.record(Class::Injection, Action::AdmitPod, RecordOutcome::Success);
        lines.push(chain.append(record).json);
    }
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let tip = chain.tip().clone();
    for record in emitter.checkpoints(&[tip]) {
        lines.push(chain.append_signed(record, &key).json);
    }
    lines.push(chain.append(emitter.stop()).json);
    lines
}

fn args(words: &[&str]) -> VerifyArgs {
    let command = VerifyArgs::augment_args(clap::Command::new("verify"));
    let words = [&["verify"], words].concat();
    let matches = command.try_get_matches_from(words).unwrap();
    clap::FromArgMatches::from_arg_matches(&matches).unwrap()
}

fn verified(words: &[&str], stdin: &str) -> Result<(Verdict, String), String> {
    let args = args(words);
    let (report, inputs) = verify(&args, stdin.as_bytes())?;
    let mut out = Vec::new();
    match args.output {
        ReportFormat::Text => write_text(&report, &inputs, &mut out).unwrap(),
        ReportFormat::Json => write_json(&report, &inputs, &mut out).unwrap(),
    }
    Ok((report.verdict(), String::from_utf8(out).unwrap()))
}

/// File of a temporary folder, with its path.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn key() -> String {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    key.public_key().to_string()
}

#[test]
fn intact_trail_is_reported_by_chain() {
    let (verdict, text) = verified(&[], &trail(3).join("\n")).unwrap();
    assert_eq!(verdict, Verdict::Intact, "{text}");
    assert!(
        text.contains("chain pod-1/1: 6 lines, the last has number 6; intact up to 6, confirmed by checkpoints up to 4")
            && text.contains("was trusted on first use")
            && text.ends_with("intact: 6 records in 1 chains\n"),
        "{text}"
    );
}

#[rstest]
#[case::changed(|lines: &mut Vec<String>| lines[2] = lines[2].replace("prod", "test"), "line 3 changed")]
#[case::missing(|lines: &mut Vec<String>| drop(lines.remove(2)), "line 3 missing")]
fn damage_is_named(#[case] edit: fn(&mut Vec<String>), #[case] expected: &str) {
    let mut lines = trail(3);
    edit(&mut lines);
    let (verdict, text) = verified(&["-"], &lines.join("\n")).unwrap();
    assert_eq!(verdict, Verdict::Damaged, "{text}");
    assert!(
        text.contains(&format!("damage: chain pod-1/1: {expected}")),
        "{text}"
    );
}

#[test]
fn json_report_has_verdict_inputs_and_findings() {
    let mut lines = trail(3);
    lines.remove(2);
    let (_, text) = verified(&["-o", "json"], &lines.join("\n")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["verdict"], "damaged");
    assert_eq!(report["inputs"][0]["name"], "-");
    assert_eq!(report["findings"][0]["kind"], "missing");
    assert_eq!(report["chains"][0]["intact_to"], 2);
}

#[test]
fn files_are_one_trail_and_broken_lines_have_their_file() {
    let lines = trail(3);
    let (_first, first) = file(&format!("{}\n", lines[..3].join("\n")));
    let broken = lines[3].replace("\"chain\":{", "\"chain\":");
    let (_second, second) = file(
        &[&lines[3..], &[broken + "x"], &lines[3..4]]
            .concat()
            .join("\n"),
    );
    let (verdict, text) = verified(&[&first, &second], "").unwrap();
    assert_eq!(verdict, Verdict::Damaged, "{text}");
    assert!(
        text.contains(&format!("{second}: line 4 of the input")),
        "{text}"
    );
    assert!(text.contains("7 records in 1 chains"), "{text}");
}

#[test]
fn pinned_key_and_checkpoint_are_required_to_agree() {
    let lines = trail(3);
    let (_key, right) = file(&format!("# the trail's key\n{}\n", key()));
    let (verdict, text) = verified(&["--key", &right], &lines.join("\n")).unwrap();
    assert_eq!(verdict, Verdict::Intact, "{text}");
    assert!(!text.contains("first use"), "{text}");
    let other = SigningKey::from_seed(&[2; 32]).unwrap().public_key();
    let (_other, other) = file(&other.to_string());
    let (verdict, text) = verified(&["--key", &other], &lines.join("\n")).unwrap();
    assert!(
        verdict == Verdict::Damaged && text.contains("not signed by a trusted key"),
        "{text}"
    );
    // A copy of the checkpoint knows of lines that the input lacks.
    let (_copy, copy) = file(&lines[4]);
    let (verdict, text) = verified(&["--checkpoints", &copy], &lines[..3].join("\n")).unwrap();
    assert!(
        verdict == Verdict::Damaged && text.contains("cut off the end"),
        "{text}"
    );
}

#[rstest]
#[case::no_file(&["/nonexistent"], "/nonexistent cannot be read")]
#[case::folder(&["/"], "/ cannot be read")]
#[case::twice(&["-", "-"], "standard input is named twice")]
#[case::no_key_file(&["--key", "/nonexistent"], "/nonexistent cannot be read")]
fn unreadable_input_is_an_error(#[case] words: &[&str], #[case] expected: &str) {
    let error = verified(words, "").unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn files_of_keys_and_checkpoints_are_checked() {
    let (_wrong, wrong) = file("\nkey\n");
    let error = verified(&["--key", &wrong], "").unwrap_err();
    assert!(error.contains("line 2 is not a public key"), "{error}");
    let (_many, many) = file(&format!("{}\n", key()).repeat(MAX_KEYS + 1));
    let error = verified(&["--key", &many], "").unwrap_err();
    assert!(error.contains("has 65 public keys"), "{error}");
    let (_none, none) = file("# none\n");
    assert!(
        verified(&["--key", &none], "")
            .unwrap_err()
            .contains("has 0 public keys")
    );
    let (_line, line) = file(&trail(1)[0]);
    let error = verified(&["--checkpoints", &line], "").unwrap_err();
    assert!(
        error.contains("line 1: the line is not a signed checkpoint"),
        "{error}"
    );
    let (_large, large) = file(&"x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1));
    assert!(
        verified(&["--key", &large], "")
            .unwrap_err()
            .contains("is larger than")
    );
}

#[test]
fn input_without_records_has_no_verdict() {
    assert_eq!(verified(&[], "a log line\n").unwrap().0, Verdict::NoRecords);
    assert_eq!(verified(&[], "").unwrap().0, Verdict::NoRecords);
}
