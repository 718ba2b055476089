"""Profiles to compile and load: each adapter of the table with each of its methods."""

from dataclasses import dataclass, field

# Values that YAML, Jinja or dbt could read as something else, and that have to stay as they are.
DIGITS = "007"
QUOTES = "a'b\"c\\d {{ x }} #e: %f% $(g)"
PEM = ("-----BEGIN " + "PRIVATE KEY-----\n" + "\n".join(f"bWFkZSB1cCBmb3IgYSB0ZXN0IG9ubHkg{i:04}" for i in range(4)) +
       "\n-----END " + "PRIVATE KEY-----\n")


@dataclass(frozen=True)
class Secret:
    """A value that comes from a Secret, and what dbt has to make of it."""

    value: str
    expected: object = None

    def loaded(self):
        return self.value if self.expected is None else self.expected


@dataclass
class Case:
    adapter: str
    name: str
    config: dict
    # Fields of `connection_secret_ref`, in place of references in `config`.
    connection: dict = field(default_factory=dict)
    # Where dbt has a field in its credentials, if not at the same path.
    moved: dict = field(default_factory=dict)
    flags: list = field(default_factory=list)

    def __str__(self):
        return f"{self.adapter} {self.name}"


def text(value):
    return Secret(value)


def number(value):
    return Secret(str(value), value)


def boolean(value):
    return Secret("true" if value else "False", value)


def canary(name):
    """A text that is found wherever it is printed."""
    return Secret(f"canary-{name}-Zm9v")


KEYFILE = {
    "type": "service_account",
    "project_id": "data",
    "private_key_id": canary("private-key-id"),
    "private_key": text(PEM),
    "client_email": "loader@data.iam.gserviceaccount.com",
    "client_id": "1234567890",
    "token_uri": "https://oauth2.example.com/token",
}
POSTGRES = {"host": "db.example.com", "user": "loader", "port": 5432, "dbname": "dev", "schema": "public"}
REDSHIFT = {"host": "x.redshift.example.com", "port": 5439, "dbname": "dev", "schema": "public"}
SNOWFLAKE = {"account": "ab12345", "database": "RAW", "schema": "PUBLIC", "warehouse": "COMPUTE_WH"}
BIGQUERY = {"project": "data", "dataset": "raw"}
DATABRICKS = {"host": "dbc.example.com", "http_path": "/sql/1.0/warehouses/1", "schema": "raw"}
TRINO = {"host": "trino.example.com", "port": 443, "user": "loader", "catalog": "lake", "schema": "raw"}
SPARK = {"host": "spark.example.com", "schema": "raw"}
SQLSERVER = {"server": "sql.example.com", "database": "raw", "schema": "dbo", "driver": "ODBC Driver 18 for SQL Server"}
FABRIC = {"server": "x.datawarehouse.example.com", "database": "raw", "schema": "dbo"}
ATHENA = {"region_name": "eu-west-1", "s3_staging_dir": "s3://bucket/staging/", "database": "awsdatacatalog", "schema": "raw"}

CASES = [
    Case("duckdb", "secrets", {"path": ":memory:", "secrets": [
        {"type": "s3", "key_id": canary("key-id"), "secret": text(QUOTES), "session_token": canary("session")},
        {"type": "http", "bearer_token": canary("bearer"), "scope": "https://data.example.com"}]}),
    Case("duckdb", "settings", {"path": ":memory:", "settings": {"http_proxy_password": canary("proxy")}}),
    Case("duckdb", "attach", {"path": ":memory:", "attach": [
        {"path": Secret("postgres://loader:canary-attach@db.example.com/dev"), "alias": "dev", "type": "postgres"}]}),
    Case("duckdb", "filesystems", {"path": ":memory:", "filesystems": [
        {"fs": "memory", "key": canary("fs-key"), "secret": canary("fs-secret")}]}),
    Case("duckdb", "motherduck", {"path": "md:lake", "motherduck_token": canary("motherduck")},
         moved={"motherduck_token": "settings.motherduck_token"}),
    Case("duckdb", "types", {"path": ":memory:", "disable_transactions": boolean(True), "keep_open": boolean(False),
                             "is_ducklake": boolean(False)}),
    Case("postgres", "password", POSTGRES | {"password": text(DIGITS)}),
    Case("postgres", "types", POSTGRES | {"password": text(QUOTES), "port": number(6432), "connect_timeout": number(11),
                                          "keepalives_idle": number(12), "retries": number(13),
                                          "autocommit": boolean(True), "role": text("012345")}),
    Case("postgres", "connection", {"schema": "public"}, connection={
        "host": text("db.example.com"), "user": text("0123"), "port": number(6432), "password": text(DIGITS),
        "dbname": text("dev")}),
    Case("postgres", "connection by field", {"schema": "public"}, flags=["--connection-keys", "field"], connection={
        "host": text("db.example.com"), "user": text("0123"), "port": number(6432), "password": text(DIGITS),
        "dbname": text("dev")}),
    Case("postgres", "connection by envFrom", {"schema": "public"}, flags=["--env-from"], connection={
        "host": text("db.example.com"), "user": text("0123"), "port": number(6432), "password": text(DIGITS),
        "dbname": text("dev")}),
    Case("redshift", "database", REDSHIFT | {"method": "database", "user": "loader", "password": canary("password")}),
    Case("redshift", "iam", REDSHIFT | {"method": "iam", "region": "eu-west-1", "user": "loader", "cluster_id": "x",
                                        "access_key_id": canary("key-id"), "secret_access_key": text(QUOTES)}),
    Case("redshift", "iam with a profile, none", REDSHIFT | {"method": "iam", "region": "eu-west-1", "user": "loader",
                                                            "cluster_id": "x", "iam_profile": "loader"}),
    Case("redshift", "types", REDSHIFT | {
        "user": "loader", "password": text(DIGITS), "port": number(5440), "autocreate": boolean(True),
        "ra3_node": boolean(False), "connect_timeout": number(11), "retries": number(12), "is_serverless": boolean(False),
        "tcp_keepalive": boolean(True), "tcp_keepalive_idle": number(13), "tcp_keepalive_interval": number(14),
        "tcp_keepalive_count": number(15)}),
    Case("redshift", "connection", {"schema": "public"}, connection={
        "host": text("x.redshift.example.com"), "port": number(5439), "dbname": text("dev"), "user": text("loader"),
        "password": text(DIGITS)}),
    Case("snowflake", "password", SNOWFLAKE | {"user": "loader", "password": text(DIGITS)}),
    Case("snowflake", "key pair", SNOWFLAKE | {"user": "loader", "authenticator": "snowflake_jwt",
                                               "private_key": text(PEM), "private_key_passphrase": canary("passphrase")}),
    Case("snowflake", "oauth", SNOWFLAKE | {"authenticator": "oauth", "oauth_client_id": "client", "token": canary("token"),
                                            "oauth_client_secret": canary("client-secret")}),
    Case("snowflake", "jwt", SNOWFLAKE | {"authenticator": "jwt", "token": canary("token")}),
    Case("snowflake", "programmatic access token", SNOWFLAKE | {"authenticator": "programmatic_access_token",
                                                                "token": canary("token")}),
    Case("snowflake", "key file", SNOWFLAKE | {"user": "loader", "private_key_path": "/keys/loader.p8",
                                               "private_key_passphrase": canary("passphrase")}),
    Case("snowflake", "key without an authenticator", SNOWFLAKE | {"user": "loader", "private_key": text(PEM)}),
    Case("snowflake", "browser, none", SNOWFLAKE | {"user": "loader", "authenticator": "externalbrowser"}),
    Case("snowflake", "workload identity, none", SNOWFLAKE | {"authenticator": "workload_identity",
                                                              "workload_identity_provider": "AWS"}),
    Case("snowflake", "types", SNOWFLAKE | {
        "user": "loader", "password": text(QUOTES), "port": number(444), "proxy_port": number(3128),
        "connect_retries": number(2), "connect_timeout": number(30), "retry_on_database_errors": boolean(True),
        "retry_all": boolean(False), "client_session_keep_alive": boolean(True), "insecure_mode": boolean(False),
        "reuse_connections": boolean(True)}),
    Case("snowflake", "connection", {"warehouse": "COMPUTE_WH", "database": "RAW"}, connection={
        "account": text("ab12345"), "user": text("loader"), "password": text(DIGITS), "schema": text("PUBLIC")}),
    Case("bigquery", "service account, field by field", BIGQUERY | {"method": "service-account-json",
                                                                     "keyfile_json": KEYFILE}),
    Case("bigquery", "oauth token", BIGQUERY | {"method": "oauth-secrets", "token": canary("token")}),
    Case("bigquery", "oauth refresh token", BIGQUERY | {
        "method": "oauth-secrets", "refresh_token": canary("refresh"), "client_id": "client",
        "client_secret": canary("client-secret"), "token_uri": "https://oauth2.example.com/token"}),
    Case("bigquery", "types", BIGQUERY | {
        "method": "oauth", "maximum_bytes_billed": number(1000000), "job_retries": number(3),
        "job_retry_deadline_seconds": number(60), "job_creation_timeout_seconds": number(30),
        "job_execution_timeout_seconds": number(600)}),
    Case("databricks", "token", DATABRICKS | {"token": canary("token")}),
    Case("databricks", "oauth", DATABRICKS | {"auth_type": "oauth", "client_id": canary("client-id"),
                                              "client_secret": canary("client-secret")}),
    Case("databricks", "azure", DATABRICKS | {"auth_type": "oauth", "azure_client_id": "client",
                                              "azure_client_secret": canary("client-secret")}),
    Case("databricks", "types", DATABRICKS | {"token": text(DIGITS), "connect_retries": number(2),
                                              "connect_timeout": number(30), "retry_all": boolean(True)}),
    Case("databricks", "connection", {"schema": "raw"}, connection={
        "host": text("dbc.example.com"), "http_path": text("/sql/1.0/warehouses/1"), "token": text(DIGITS)}),
    Case("trino", "none", TRINO | {"method": "none"}),
    Case("trino", "ldap", TRINO | {"method": "ldap", "password": canary("password")}),
    Case("trino", "jwt", TRINO | {"method": "jwt", "jwt_token": canary("jwt")}),
    Case("trino", "certificate, none", TRINO | {"method": "certificate", "client_certificate": "/tls/tls.crt",
                                                "client_private_key": "/tls/tls.key"}),
    Case("trino", "oauth, none", TRINO | {"method": "oauth"}),
    Case("trino", "oauth on a console, none", TRINO | {"method": "oauth_console"}),
    Case("trino", "types", TRINO | {"method": "ldap", "password": text(DIGITS), "port": number(8443), "retries": number(2),
                                    "prepared_statements_enabled": boolean(False)}),
    Case("spark", "http", SPARK | {"method": "http", "cluster": "c-1", "token": canary("token"), "user": "loader"}),
    Case("spark", "thrift with a custom authentication", SPARK | {"method": "thrift", "auth": "CUSTOM", "user": "loader",
                                                                  "password": canary("password")}),
    Case("spark", "thrift with ldap", SPARK | {"method": "thrift", "auth": "LDAP", "user": "loader",
                                               "password": canary("password")}),
    Case("spark", "types", SPARK | {"method": "thrift", "port": number(10001), "connect_retries": number(2),
                                    "connect_timeout": number(30), "use_ssl": boolean(True)}),
    Case("clickhouse", "password", {"schema": "raw", "host": "ch.example.com", "user": "loader",
                                    "password": canary("password")}),
    Case("clickhouse", "types", {"schema": "raw", "host": "ch.example.com", "password": text(DIGITS), "port": number(8443),
                                 "secure": boolean(True), "verify": boolean(False), "retries": number(2),
                                 "connect_timeout": number(11), "send_receive_timeout": number(12),
                                 "sync_request_timeout": number(13)}),
    Case("sqlserver", "sql", SQLSERVER | {"user": "loader", "password": canary("password")}),
    Case("sqlserver", "service principal", SQLSERVER | {
        "authentication": "serviceprincipal", "tenant_id": "tenant", "client_id": "client",
        "client_secret": canary("client-secret")}),
    Case("sqlserver", "access token", SQLSERVER | {"authentication": "ActiveDirectoryAccessToken",
                                                   "access_token": canary("access-token"),
                                                   "access_token_expires_on": 2000000000}),
    Case("sqlserver", "service principal of Active Directory", SQLSERVER | {
        "authentication": "ActiveDirectoryServicePrincipal", "tenant_id": "tenant", "client_id": "client",
        "client_secret": canary("client-secret")}),
    Case("sqlserver", "password of Active Directory", SQLSERVER | {
        "authentication": "ActiveDirectoryPassword", "user": "loader", "password": canary("password")}),
    Case("sqlserver", "sql by name", SQLSERVER | {"authentication": "sql", "user": "loader", "password": canary("password")}),
    Case("sqlserver", "Windows, none", SQLSERVER | {"windows_login": True}),
    Case("sqlserver", "types", SQLSERVER | {"user": "loader", "password": text(DIGITS), "port": number(1444),
                                            "encrypt": boolean(True), "trust_cert": boolean(False), "retries": number(2),
                                            "login_timeout": number(11), "query_timeout": number(12)}),
    Case("fabric", "service principal", FABRIC | {
        "authentication": "ServicePrincipal", "tenant_id": "tenant", "client_id": "client",
        "client_secret": canary("client-secret")}),
    Case("fabric", "access token", FABRIC | {"authentication": "ActiveDirectoryAccessToken",
                                             "access_token": canary("access-token")}),
    Case("fabric", "service principal of Active Directory", FABRIC | {
        "authentication": "ActiveDirectoryServicePrincipal", "tenant_id": "tenant", "client_id": "client",
        "client_secret": canary("client-secret")}),
    Case("fabric", "service principal without a name", FABRIC | {
        "tenant_id": "tenant", "client_id": "client", "client_secret": canary("client-secret")}),
    Case("fabric", "password of Active Directory", FABRIC | {
        "authentication": "ActiveDirectoryPassword", "user": "loader", "password": canary("password")}),
    Case("fabric", "sql", FABRIC | {"authentication": "sql", "user": "loader", "password": canary("password")}),
    Case("fabric", "types", FABRIC | {"authentication": "CLI", "encrypt": boolean(True), "trust_cert": boolean(False),
                                      "retries": number(2), "login_timeout": number(11), "query_timeout": number(12)}),
    Case("athena", "keys", ATHENA | {"aws_access_key_id": canary("key-id"), "aws_secret_access_key": text(QUOTES),
                                     "aws_session_token": canary("session")}),
    Case("athena", "profile, none", ATHENA | {"aws_profile_name": "loader"}),
    Case("athena", "types", ATHENA | {"num_retries": number(2), "num_boto3_retries": number(3),
                                      "num_iceberg_retries": number(4)}),
    Case("athena", "connection", {"region_name": "eu-west-1", "s3_staging_dir": "s3://bucket/staging/", "schema": "raw",
                                  "database": "awsdatacatalog"}, connection={
        "aws_access_key_id": canary("key-id"), "aws_secret_access_key": text(DIGITS), "aws_session_token": canary("session")}),
]

# A whole key file in one value is read by `as_native`, which masks nothing: it is not among the masked cases.
WHOLE_KEYFILE = Case("bigquery", "service account, whole file", BIGQUERY | {
    "method": "service-account-json",
    "keyfile_json": Secret('{"type": "service_account", "private_key_id": "007", "private_key": "a\\nb"}',
                           {"type": "service_account", "private_key_id": "007", "private_key": "a\nb"})})
