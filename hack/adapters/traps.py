"""Behaviour of dbt and its adapters that the rules of `compile` exist for. If one changes, its rule can go."""

from dataclasses import dataclass, field

DUCKDB = {"type": "duckdb", "path": ":memory:"}
POSTGRES = {"type": "postgres", "host": "db.example.com", "user": "loader", "password": "p", "dbname": "dev",
            "schema": "public", "port": 5432}
BIGQUERY = {"type": "bigquery", "method": "service-account-json", "project": "data", "dataset": "raw"}
KEYFILE = '{"type": "service_account", "private_key": "canary-first-line\\ncanary-second-line"}'
CANARY = "canary-value-Zm9v"


def var(name, filters=""):
    return "{{ env_var('" + name + "')" + filters + " }}"


@dataclass(frozen=True)
class Trap:
    name: str
    output: dict
    environment: dict
    # Text of dbt's error; None if dbt accepts the profile.
    error: str | None = None
    expected: list = field(default_factory=list)
    # Texts that have to be in dbt's output, and that must not be.
    printed: tuple = ()
    hidden: tuple = ()
    debug: bool = False

    def verdict(self, result):
        """Difference to what is written here; None if there is none."""
        error = result["error"] or ""
        if self.error is None and error:
            return f"dbt fails: {error}"
        if self.error is not None and (not error or self.error not in error):
            return f"expected an error with {self.error!r}: {error or 'there is none'}"
        if result["differences"]:
            return "; ".join(result["differences"])
        text = result["printed"] + error
        for word in self.printed:
            if word not in text:
                return f"{word!r} is not printed"
        for word in self.hidden:
            if word in text:
                return f"{word!r} is printed"
        return None


TRAPS = [
    Trap("a missing variable is refused by name", POSTGRES | {"user": var("ABSENT")}, {},
         error="Env var required but not provided: 'ABSENT'"),
    Trap("a missing password is not refused, and is the expression itself", POSTGRES | {"password": var("ABSENT")}, {},
         expected=[["password", "{{ env_var('ABSENT') }}"]]),
    Trap("a number without a filter stays text and is refused", POSTGRES | {"port": var("PORT")}, {"PORT": "5432"},
         error="'5432' is not of type 'integer'"),
    Trap("as_number gives a number", POSTGRES | {"port": var("PORT", " | as_number")}, {"PORT": "6432"},
         expected=[["port", 6432]]),
    Trap("int turns rubbish into 0", POSTGRES | {"port": var("PORT", " | int")}, {"PORT": "rubbish"},
         expected=[["port", 0]]),
    Trap("as_number refuses rubbish", POSTGRES | {"port": var("PORT", " | as_number")}, {"PORT": "rubbish"}, error=""),
    Trap("as_bool refuses true", DUCKDB | {"keep_open": var("OPEN", " | as_bool")}, {"OPEN": "true"}, error=""),
    Trap("as_bool takes True", DUCKDB | {"keep_open": var("OPEN", " | as_bool")}, {"OPEN": "True"},
         expected=[["keep_open", True]]),
    Trap("a comparison takes true", DUCKDB | {"keep_open": var("OPEN", " | lower == 'true'")}, {"OPEN": "true"},
         expected=[["keep_open", True]]),
    Trap("a comparison takes False", DUCKDB | {"keep_open": var("OPEN", " | lower == 'true'")}, {"OPEN": "False"},
         expected=[["keep_open", False]]),
    Trap("a setting is printed", DUCKDB | {"settings": {"http_proxy_password": var("PROXY")}}, {"PROXY": CANARY},
         debug=True, printed=(CANARY,)),
    Trap("a masked setting is hidden", DUCKDB | {"settings": {"http_proxy_password": var("DBT_ENV_SECRET_PROXY")}},
         {"DBT_ENV_SECRET_PROXY": CANARY}, debug=True, printed=("'http_proxy_password': '*****'",), hidden=(CANARY,)),
    Trap("an entry of secrets is not printed", DUCKDB | {"secrets": [{"type": "http", "bearer_token": var("TOKEN")}]},
         {"TOKEN": CANARY}, debug=True, hidden=(CANARY,)),
    Trap("two masked variables in one value crash",
         DUCKDB | {"path": var("DBT_ENV_SECRET_A") + "-" + var("DBT_ENV_SECRET_B")},
         {"DBT_ENV_SECRET_A": "a1b2c3d4", "DBT_ENV_SECRET_B": "e5f6g7h8"}, error="KeyError"),
    Trap("as_number fails on a masked variable", POSTGRES | {"port": var("DBT_ENV_SECRET_PORT", " | as_number")},
         {"DBT_ENV_SECRET_PORT": "6432"}, error=""),
    Trap("int makes 0 of a masked variable", POSTGRES | {"port": var("DBT_ENV_SECRET_PORT", " | int")},
         {"DBT_ENV_SECRET_PORT": "6432"}, expected=[["port", 0]]),
    Trap("a short masked value is blotted out everywhere",
         DUCKDB | {"settings": {"http_proxy_password": var("DBT_ENV_SECRET_A")}}, {"DBT_ENV_SECRET_A": "a"},
         debug=True, printed=("p*****th:",)),
    Trap("a key file as text is refused and printed", BIGQUERY | {"keyfile_json": var("KEYFILE")}, {"KEYFILE": KEYFILE},
         error="", printed=("canary-first-line", "canary-second-line")),
    Trap("a masked key file as text is printed all the same", BIGQUERY | {"keyfile_json": var("DBT_ENV_SECRET_KEYFILE")},
         {"DBT_ENV_SECRET_KEYFILE": KEYFILE}, error="", printed=("canary-first-line", "canary-second-line")),
    Trap("a key file as a native value is a map", BIGQUERY | {"keyfile_json": var("KEYFILE", " | as_native")},
         {"KEYFILE": KEYFILE}, expected=[["keyfile_json.private_key", "canary-first-line\ncanary-second-line"]]),
    Trap("text of digits stays text", POSTGRES | {"password": var("PASSWORD")}, {"PASSWORD": "007"},
         expected=[["password", "007"]]),
]
