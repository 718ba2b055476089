#!/usr/bin/env python3
"""Writes the table of values into the chart's README.md, from the comments of its values.yaml.

    values-table.py          writes it
    values-table.py --check  fails when it is not what it would write

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


def main():
    readme = CHART / "README.md"
    before = readme.read_text()
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{readme}: the lines {BEGIN} and {END} are missing")
    after = f"{head}{BEGIN}\n{table((CHART / 'values.yaml').read_text())}\n{END}{tail}"
    if sys.argv[1:] == ["--check"]:
        if after != before:
            sys.stderr.writelines(difflib.unified_diff(
                before.splitlines(True), after.splitlines(True), "README.md", "README.md by hack/values-table.py", n=0))
            sys.exit("the table of values is out of date; run: hack/values-table.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        readme.write_text(after)


if __name__ == "__main__":
    main()
