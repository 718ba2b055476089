"""Fields of the adapters' credentials, as the packages themselves define them.

usage: packages.py FILE [--check]    writes FILE, or compares it

A unit test holds the table of `compile` against this file, so that it needs no Python.
"""

import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import sys
import typing
import warnings
from pathlib import Path

ADAPTERS = ["athena", "bigquery", "clickhouse", "databricks", "duckdb", "fabric", "postgres", "redshift", "snowflake",
            "spark", "sqlserver", "trino"]


def classes_of(credentials):
    """The class, or those that a factory chooses from."""
    if dataclasses.is_dataclass(credentials):
        return [credentials]
    module = sys.modules[credentials.__module__]
    found = [value for name, value in sorted(vars(module).items())
             if isinstance(value, type) and dataclasses.is_dataclass(value) and name.endswith("Credentials")]
    return [value for value in found if value.__module__ == module.__name__ and not inspect.isabstract(value)]


def is_required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def kind_of(annotation):
    """`number`, `boolean`, `text`, or `other`, for anything else and for mixtures."""
    annotation = getattr(annotation, "__supertype__", annotation)
    if isinstance(annotation, type) and issubclass(annotation, bool):
        return "boolean"
    if isinstance(annotation, type) and issubclass(annotation, (int, float)):
        return "number"
    if isinstance(annotation, type) and issubclass(annotation, str):
        return "text"
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if typing.get_origin(annotation) is typing.Annotated:
        return kind_of(parts[0])
    kinds = {kind_of(part) for part in parts}
    is_union = str(typing.get_origin(annotation)) in ("typing.Union", "<class 'types.UnionType'>")
    return kinds.pop() if is_union and len(kinds) == 1 else "other"


def printed_of(cls):
    """Fields that `dbt debug` prints. Some are printed only if they are set, and some only if others are not."""
    printed = set()
    for filler in (None, "set"):
        bare = object.__new__(cls)
        for field in dataclasses.fields(cls):
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            value = filler if default in (None, dataclasses.MISSING) else default
            object.__setattr__(bare, field.name, value)
        printed |= set(bare._connection_keys())
    return printed


def describe(adapter):
    credentials = importlib.import_module(f"dbt.adapters.{adapter}").Plugin.credentials
    fields, required, printed, aliases = {}, None, set(), {}
    for cls in classes_of(credentials):
        hints = typing.get_type_hints(cls, include_extras=True)
        own = [field for field in dataclasses.fields(cls) if not field.name.startswith("_")]
        for field in own:
            kind = kind_of(hints[field.name])
            fields[field.name] = kind if fields.get(field.name, kind) == kind else "other"
        names = {field.name for field in own if is_required(field)}
        # Of several classes: what all of them require.
        required = names if required is None else required & names
        printed |= printed_of(cls)
        aliases |= cls._ALIASES
    return {
        "version": importlib.metadata.version(f"dbt-{adapter}"),
        "fields": dict(sorted(fields.items())),
        "required": sorted(required),
        "printed": sorted(printed),
        "aliases": dict(sorted(aliases.items())),
    }


def main():
    warnings.simplefilter("ignore")
    document = {"dbt-core": importlib.metadata.version("dbt-core"),
                "adapters": {adapter: describe(adapter) for adapter in ADAPTERS}}
    text = json.dumps(document, indent=1) + "\n"
    file = Path(sys.argv[1])
    if sys.argv[2:] == ["--check"]:
        if file.read_text() != text:
            sys.exit(f"packages: {file} is not what the packages define. Run hack/adapters/test.sh update.")
    else:
        file.write_text(text)


main()
