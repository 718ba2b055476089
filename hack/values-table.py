#!/usr/bin/env python3
"""Writes what is made from the chart's values.yaml: the table of values in its README.md, from the comments, and
files/defaults.yaml, by which templates complete the values that the release of an older chart does not have.

    values-table.py          writes both
    values-table.py --check  fails when one is not what it would write

It understands the part of YAML that our values.yaml is written in: sections by indentation, every value on one line,
and above each value a comment that says what it does.
"""

import difflib
import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parent.parent / "charts/floe-secrets-webhook"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
ENTRY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?: (?P<value>.+))?$")


def entries(text):
    """Every value: its path, its default as YAML, and what the comment above it says."""
    sections, comment = [], []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        if not stripped:
            comment = []
            continue
        entry = ENTRY.match(line)
        if not entry or len(entry["indent"]) % 2 or len(entry["indent"]) // 2 > len(sections):
            sys.exit(f"values.yaml:{number}: not understood: {line}")
        del sections[len(entry["indent"]) // 2:]
        path = ".".join([*sections, entry["key"]])
        if entry["value"] is None:
            sections.append(entry["key"])
        elif not comment:
            sys.exit(f"values.yaml:{number}: {path} has no comment that says what it does")
        else:
            yield path, entry["value"], " ".join(comment)
        comment = []


def table(text):
    rows = ["| Value | Default | What it does |", "|---|---|---|"]
    for path, default, comment in entries(text):
        # A vertical bar would end the cell.
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{path}`", f"`{default}`", comment)) + " |")
    return "\n".join(rows)


def with_table(readme, text):
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md: the lines {BEGIN} and {END} are missing")
    return f"{head}{BEGIN}\n{table(text)}\n{END}{tail}"


def defaults(text):
    lines = ["# Made from values.yaml by hack/values-table.py: change it there."]
    return "\n".join([*lines, *(f"{path}: {default}" for path, default, _ in entries(text))]) + "\n"


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    values = (CHART / "values.yaml").read_text()
    readme, complete = CHART / "README.md", CHART / "files/defaults.yaml"
    made = {readme: with_table(readme.read_text(), values), complete: defaults(values)}
    for path, after in made.items():
        before = path.read_text() if path.exists() else ""
        if not sys.argv[1:]:
            path.write_text(after)
        elif after != before:
            sys.stderr.writelines(difflib.unified_diff(
                before.splitlines(True), after.splitlines(True), path.name, f"{path.name} by hack/values-table.py", n=0))
            sys.exit(f"{path.name} is out of date; run: hack/values-table.py")


if __name__ == "__main__":
    main()
