#!/usr/bin/env python3
"""Checks the rules of docs/STYLE.md that a program can check: names, first words, sizes.

usage: hack/check-style.py [--longest]    (--longest prints the ten longest functions and files instead)
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400

# Names that the field has another word for, and that word. A name is looked for where it is defined. A few are
# everyday words that are right elsewhere, and are looked for only in the files named.
PRIVATE_NAMES = {
    "Absent": "MissingParents", "Answering": "Source", "Answers": "PermissionReview", "Ask": "ReadRequest",
    "Assumed": "AssumeExists", "Blind": "Inconclusive", "Bound": "BindOutcome, CachedBinding", "Carry": "Propagation",
    "Due": "RenewalReason", "Election": "LeaderElector", "Findings": "Diagnostics", "Flights": "SingleFlight",
    "Gather": "PartialObject", "Governing": "AppliedDefaults", "Held": "BudgetedBuffer", "Injection": "PodMutation",
    "Involved": "InvolvedObject", "Judgement": "Evaluation", "Keeper": "StallGuard", "Kept": "StoredPair",
    "KeysWanted": "KeyQuery", "Layered": "ClusterWithManifests", "Literal": "EnvValue", "Looked": "ScanStats",
    "Need": "KeyQuery", "Nudge": "RetryTrigger", "Offer": "LoadOutcome", "Pace": "RateLimiter", "Pair": "ServingPair",
    "Pass": "Permit", "Patience": "StallGuard", "Preparation": "WorkloadMutation", "Prospect": "Outlook",
    "Reading": "ReloaderConfig", "Recorder": "EventRecorder", "Right": "Permission", "Said": "ExistingEvent",
    "Seen": "Lookup", "Settled": "Desired", "Shown": "PublicCertificates", "Sight": "SecretState", "Sign": "CallResult",
    "Site": "AnnotationRef", "SourceReader": "DefaultsReader", "Subject": "PlanTarget, AdmissionFields, SecretPath",
    "Teller": "Reporter", "Told": "ReloadAnnotations", "Tuning": "DecoratorSettings", "Unbound": "BindFailure",
    "Waiting": "PendingOwners", "Wanted": "DesiredEnv", "Watched": "MonitoredStream", "Weight": "Severity",
    "Window": "RequestContext", "Withdrawn": "Removals", "Word": "NonEmptyString",
    "AGAIN": "…_INTERVAL", "AHEAD": "MAX_…", "EAGER": "…_INTERVAL", "EVERY": "…_INTERVAL", "FAREWELL": "LINGER",
    "GOODBYE": "SHUTDOWN_TIMEOUT", "LOOK": "…_TIMEOUT", "MOMENT": "GRACE", "NOTE": "…_INTERVAL", "OLDER": "MAX_…",
    "SILENCE": "…_TIMEOUT", "SOON": "…_THRESHOLD", "TELL": "…_INTERVAL",
    "arrive": "enqueue", "attend": "run_queue", "authored": "author_annotations", "culprit": "first_invalid_field",
    "carries": "record_matches", "farewell": "linger", "govern": "read_defaults", "judge": "evaluate",
    "lacking": "missing_entries", "learn": "record", "leads": "is_leader", "look": "lookup, read",
    "make_secret": "create_secret_command", "mend": "fix", "nudge": "trigger_retry", "offer": "load", "paced": "rate_limited",
    "prospect": "evaluate", "recall": "fresh", "revise": "reconcile", "say_once": "publish_once", "settle": "compute_desired",
    "stand_in": "stale", "strangers": "unexpected_endpoints", "survey": "run_with_progress", "tell": "report",
    "told_by_pod": "pod_reload_record", "yours": "caller_permissions",
}

# Names of that list that are right where they are, and why.
ALLOWED_NAMES = {}

# First words of a doc comment or heading without the noun that it is about. "Whether" stands before a predicate.
HEADLESS = {
    "As", "But", "How", "Nobody", "Such", "That", "What", "Whatever", "When", "Where", "Wherever", "Which", "Whichever", "Who",
    "Whoever", "Whom", "Whose", "Why",
}

# Files and functions that may be longer: tables, and nothing else.
LONG_FILES = {"src/compile/adapter/table.rs": "the table of adapters"}
LONG_FUNCTIONS = {}

DEFINITION = re.compile(r"\b(?:struct|enum|trait|type|fn|const|static|union)\s+([A-Za-z_]\w*)")
TYPE = re.compile(r"^\s*(?:pub(?:\([\w:]+\))?\s+)?(?:struct|enum|trait|union)\s+([A-Z]\w*)", re.M)
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([\w:]+\))?\s+)?(?:const\s+|async\s+|unsafe\s+)*fn\s+(\w+)")


def tracked(*patterns):
    names = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in names.stdout.splitlines() if (ROOT / name).is_file()]


def without_tests(text):
    """The text up to its test module; files of tests are empty."""
    return re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, maxsplit=1, flags=re.M)[0]


def code_of(text):
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', text, flags=re.S)


def is_test(path):
    return path.stem in ("tests", "test_support") or "tests" in path.relative_to(ROOT).parts


def private_names(path, text):
    for number, line in enumerate(code_of(text).splitlines(), 1):
        for name in DEFINITION.findall(line):
            place = f"{path.relative_to(ROOT)}:{name}"
            if name in PRIVATE_NAMES and place not in ALLOWED_NAMES:
                yield f"{path.relative_to(ROOT)}:{number}: {name} is called {PRIVATE_NAMES[name]} (docs/GLOSSARY.md)"


def headless_words(path, text):
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if path.suffix == ".md":
            found = re.match(r"#+ (\w+)", line)
        else:
            found = None if before.startswith(line[:3]) else re.match(r"//[/!] (?:# )?(\w+)", line)
        before = line if line.startswith(("///", "//!")) else ""
        if found and found.group(1) in HEADLESS:
            yield f"{path.relative_to(ROOT)}:{number}: begins with {found.group(1)!r}: begin with the noun that it is about"


def functions(text):
    """Name, first line and length of each function."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        found = FUNCTION.match(line)
        if not found:
            continue
        for end in range(start, len(lines)):
            if lines[end].rstrip() == found.group(1) + "}":
                yield found.group(2), start + 1, end - start + 1
                break
            if lines[end].rstrip().endswith((";", "{}")) and end - start < 8 and "{" not in " ".join(lines[start : end + 1])[:-2]:
                break


def duplicate_types(paths):
    defined = {}
    for path in paths:
        for name in TYPE.findall(code_of(without_tests(path.read_text()))):
            defined.setdefault(name, []).append(str(path.relative_to(ROOT)))
    for name, places in sorted(defined.items()):
        if len(places) > 1:
            yield f"{name} is defined {len(places)} times: {', '.join(places)}"


def sizes(paths):
    """Length, kind and place of every function and file."""
    for path in paths:
        text = without_tests(path.read_text())
        place = str(path.relative_to(ROOT))
        yield len(text.splitlines()), "file", place
        for name, line, length in functions(text):
            yield length, "function", f"{place}:{line} {name}"


def main():
    sources = [path for path in tracked("src/**.rs", "crates/injection/src/**.rs") if not is_test(path)]
    if "--longest" in sys.argv[1:]:
        for kind in ("function", "file"):
            longest = sorted((entry for entry in sizes(sources) if entry[1] == kind), reverse=True)[:10]
            print("\n".join(f"{length:5} {place}" for length, _, place in longest))
        return 0

    problems = []
    for path in tracked("*.rs"):
        text = path.read_text()
        problems += private_names(path, text)
        problems += headless_words(path, text)
    for path in tracked("*.md"):
        problems += headless_words(path, path.read_text())
    problems += duplicate_types([path for path in sources if path.is_relative_to(ROOT / "src")])
    for length, kind, place in sizes(sources):
        if kind == "function" and length > MAX_FUNCTION_LINES and place.split(" ")[-1] not in LONG_FUNCTIONS:
            problems.append(f"{place}: {length} lines; a function has at most {MAX_FUNCTION_LINES}")
        if kind == "file" and length > MAX_FILE_LINES and place not in LONG_FILES:
            problems.append(f"{place}: {length} lines without tests; a file has at most {MAX_FILE_LINES}")
    for problem in problems:
        print(f"style: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
