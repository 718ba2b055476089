//! The table of adapters, as their packages for dbt 1.11 define them. docs/ADAPTERS.md has the same for readers.

use super::row::Condition::{self, Begins, Has, Is, Lacks};
use super::row::{Adapter, Method};

/// No condition: the method of an adapter that has one, or the default after others.
const ALWAYS: &[Condition] = &[];

const NO_SECRET: Method = Method {
    conditions: ALWAYS,
    required: &[],
    secret: &[],
};

const PASSWORD: Method = Method {
    conditions: ALWAYS,
    required: &[],
    secret: &["password"],
};

/// Every adapter of the table.
pub(crate) const ADAPTERS: &[Adapter] = &[
    DUCKDB, POSTGRES, REDSHIFT, SNOWFLAKE, BIGQUERY, DATABRICKS, TRINO, SPARK, CLICKHOUSE,
    SQLSERVER, FABRIC, ATHENA,
];

const DUCKDB: Adapter = Adapter {
    kind: "duckdb",
    required: &[],
    secret: &["motherduck_token"],
    methods: &[
        Method {
            conditions: &[Begins("path", &["md:", "motherduck:"])],
            required: &[],
            secret: &["motherduck_token"],
        },
        NO_SECRET,
    ],
    replaced: &[("motherduck_token", "settings.motherduck_token")],
    numbers: &[
        "timeout_seconds",
        "retries.connect_attempts",
        "retries.query_attempts",
    ],
    booleans: &["disable_transactions", "keep_open", "is_ducklake"],
    // A MotherDuck token is moved to `settings` when the profile is loaded.
    printed: &[
        "config_options",
        "settings",
        "attach",
        "filesystems",
        "remote",
        "plugins",
        "motherduck_token",
    ],
    plain: &[
        "path",
        "database",
        "schema",
        "extensions",
        "external_root",
        "use_credential_provider",
        "module_paths",
        "secrets",
        "secrets[].type",
        "secrets[].name",
        "secrets[].persistent",
        "secrets[].provider",
        "secrets[].scope",
        "secrets[].scope[]",
        "secrets[].chain",
        "secrets[].region",
        "secrets[].endpoint",
        "secrets[].url_style",
        "secrets[].use_ssl",
        "secrets[].account_id",
        "secrets[].account_name",
        "secrets[].tenant_id",
        "secrets[].client_id",
        "secrets[].profile",
        "secrets[].host",
        "secrets[].port",
        "secrets[].database",
        "secrets[].user",
        "secrets[].url_compatibility_mode",
        "secrets[].certificate_path",
        "secrets[].oauth2_scope",
        "secrets[].oauth2_server_uri",
        "secrets[].refresh",
        "secrets[].validation",
        "secrets[].session_token_duration",
        "attach[].path",
        "attach[].alias",
        "attach[].type",
        "attach[].secret",
        "attach[].read_only",
        "memory_limit",
        "access_mode",
        "settings.memory_limit",
        "settings.access_mode",
    ],
    aliases: &[],
};

const POSTGRES: Adapter = Adapter {
    kind: "postgres",
    required: &["host", "user", "port", "password", "dbname", "schema"],
    secret: &["password"],
    methods: &[PASSWORD],
    replaced: &[],
    numbers: &["port", "connect_timeout", "keepalives_idle", "retries"],
    booleans: &["autocommit"],
    printed: &[],
    plain: &[
        "role",
        "search_path",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "application_name",
    ],
    aliases: &[("database", "dbname"), ("pass", "password")],
};

const REDSHIFT: Adapter = Adapter {
    kind: "redshift",
    required: &["host", "port", "dbname", "schema"],
    secret: &["password", "access_key_id", "secret_access_key"],
    methods: &[
        Method {
            conditions: &[Is("method", &["iam"])],
            required: &[],
            secret: &["access_key_id", "secret_access_key"],
        },
        Method {
            conditions: &[Lacks("method")],
            required: &["user"],
            secret: &["password"],
        },
        Method {
            conditions: &[Is("method", &["database"])],
            required: &["user"],
            secret: &["password"],
        },
        NO_SECRET,
    ],
    replaced: &[
        ("access_key_id", "iam_profile"),
        ("secret_access_key", "iam_profile"),
    ],
    numbers: &[
        "port",
        "connect_timeout",
        "retries",
        "tcp_keepalive_idle",
        "tcp_keepalive_interval",
        "tcp_keepalive_count",
        "idp_response_timeout",
        "idp_listen_port",
    ],
    booleans: &[
        "autocreate",
        "ra3_node",
        "is_serverless",
        "tcp_keepalive",
        "autocommit",
        "retry_all",
        "allow_concurrent_drops",
        "drop_without_cascade",
        "datasharing",
    ],
    printed: &["access_key_id"],
    plain: &[
        "method",
        "user",
        "cluster_id",
        "query_group",
        "idc_region",
        "issuer_url",
        "idc_client_display_name",
        "iam_profile",
        "db_groups",
        "role",
        "sslmode",
        "region",
        "serverless_work_group",
        "serverless_acct_id",
        "token_endpoint.type",
        "token_endpoint.request_url",
    ],
    aliases: &[("database", "dbname"), ("pass", "password")],
};

const SNOWFLAKE: Adapter = Adapter {
    kind: "snowflake",
    required: &["account", "database", "schema"],
    secret: &[
        "password",
        "private_key",
        "private_key_passphrase",
        "token",
        "oauth_client_secret",
    ],
    methods: &[
        Method {
            conditions: &[Is("authenticator", &["oauth"])],
            required: &[],
            secret: &["token", "oauth_client_secret"],
        },
        Method {
            conditions: &[Is("authenticator", &["jwt", "programmatic_access_token"])],
            required: &[],
            secret: &["token"],
        },
        Method {
            conditions: &[Is("authenticator", &["workload_identity"])],
            required: &[],
            secret: &[],
        },
        Method {
            conditions: &[Is("authenticator", &["externalbrowser"])],
            required: &["user"],
            secret: &[],
        },
        Method {
            conditions: &[Is("authenticator", &["snowflake_jwt"])],
            required: &["user"],
            secret: &["private_key", "private_key_passphrase"],
        },
        Method {
            conditions: &[Has("private_key")],
            required: &["user"],
            secret: &["private_key", "private_key_passphrase"],
        },
        Method {
            conditions: &[Has("private_key_path")],
            required: &["user"],
            secret: &["private_key", "private_key_passphrase"],
        },
        Method {
            conditions: ALWAYS,
            required: &["user"],
            secret: &["password"],
        },
    ],
    replaced: &[("private_key", "private_key_path")],
    numbers: &[
        "port",
        "proxy_port",
        "connect_retries",
        "connect_timeout",
        "platform_detection_timeout_seconds",
    ],
    booleans: &[
        "retry_on_database_errors",
        "retry_all",
        "client_session_keep_alive",
        "insecure_mode",
        "reuse_connections",
    ],
    printed: &[],
    plain: &[
        "user",
        "warehouse",
        "role",
        "authenticator",
        "private_key_path",
        "oauth_client_id",
        "query_tag",
        "host",
        "proxy_host",
        "protocol",
        "s3_stage_vpce_dns_name",
        "workload_identity_provider",
        "workload_identity_entra_resource",
    ],
    aliases: &[],
};

const BIGQUERY: Adapter = Adapter {
    kind: "bigquery",
    required: &["method", "project", "dataset"],
    secret: &[
        "keyfile_json",
        "keyfile_json.private_key",
        "keyfile_json.private_key_id",
        "token",
        "refresh_token",
        "client_secret",
    ],
    methods: &[
        Method {
            conditions: &[Is("method", &["service-account-json"])],
            required: &["keyfile_json.client_email"],
            secret: &["keyfile_json.private_key", "keyfile_json.private_key_id"],
        },
        Method {
            conditions: &[Is("method", &["oauth-secrets"]), Has("client_id")],
            required: &["token_uri"],
            secret: &["refresh_token", "client_secret"],
        },
        Method {
            conditions: &[Is("method", &["oauth-secrets"]), Has("refresh_token")],
            required: &["token_uri", "client_id"],
            secret: &["refresh_token", "client_secret"],
        },
        Method {
            conditions: &[Is("method", &["oauth-secrets"])],
            required: &[],
            secret: &["token"],
        },
        NO_SECRET,
    ],
    replaced: &[],
    numbers: &[
        "maximum_bytes_billed",
        "job_creation_timeout_seconds",
        "job_execution_timeout_seconds",
        "job_retries",
        "job_retry_deadline_seconds",
        "timeout_seconds",
        "retries",
    ],
    booleans: &["job_link_info_level_log"],
    printed: &["client_id", "token_uri"],
    plain: &[
        "priority",
        "location",
        "execution_project",
        "api_endpoint",
        "impersonate_service_account",
        "keyfile",
        "scopes",
        "gcs_bucket",
        "compute_region",
        "dataproc_region",
        "dataproc_cluster_name",
        "keyfile_json.type",
        "keyfile_json.project_id",
        "keyfile_json.client_id",
        "keyfile_json.auth_uri",
        "keyfile_json.token_uri",
        "keyfile_json.auth_provider_x509_cert_url",
        "keyfile_json.client_x509_cert_url",
        "quota_project",
    ],
    aliases: &[("database", "project"), ("schema", "dataset")],
};

const DATABRICKS: Adapter = Adapter {
    kind: "databricks",
    required: &["host", "http_path", "schema"],
    secret: &["token", "client_id", "client_secret", "azure_client_secret"],
    methods: &[
        Method {
            conditions: &[Is("auth_type", &["oauth"]), Has("azure_client_id")],
            required: &[],
            secret: &["azure_client_secret"],
        },
        Method {
            conditions: &[Is("auth_type", &["oauth"])],
            required: &[],
            secret: &["client_id", "client_secret"],
        },
        Method {
            conditions: ALWAYS,
            required: &[],
            secret: &["token"],
        },
    ],
    replaced: &[],
    numbers: &["connect_retries", "connect_timeout", "connect_max_idle"],
    booleans: &["retry_all"],
    printed: &["session_properties"],
    plain: &[
        "catalog",
        "auth_type",
        "azure_client_id",
        "oauth_redirect_url",
        "oauth_scopes",
        "connection_parameters",
    ],
    aliases: &[("database", "catalog")],
};

const TRINO: Adapter = Adapter {
    kind: "trino",
    required: &["method", "host", "port", "catalog", "schema"],
    secret: &["password", "jwt_token"],
    methods: &[
        Method {
            conditions: &[Is("method", &["ldap"])],
            required: &["user"],
            secret: &["password"],
        },
        Method {
            conditions: &[Is("method", &["jwt"])],
            required: &[],
            secret: &["jwt_token"],
        },
        Method {
            conditions: &[Is("method", &["certificate", "oauth", "oauth_console"])],
            required: &[],
            secret: &[],
        },
        Method {
            conditions: ALWAYS,
            required: &["user"],
            secret: &[],
        },
    ],
    replaced: &[],
    numbers: &["port", "retries"],
    booleans: &[
        "prepared_statements_enabled",
        "suppress_cert_warning",
        "force_preemptive",
        "sanitize_mutual_error_response",
        "delegate",
    ],
    printed: &["cert"],
    plain: &[
        "http_scheme",
        "client_certificate",
        "client_private_key",
        "keytab",
        "krb5_config",
        "principal",
        "impersonation_user",
        "roles",
        "timezone",
        "session_properties",
        "http_headers",
        "service_name",
        "client_tags",
        "hostname_override",
        "mutual_authentication",
    ],
    aliases: &[("database", "catalog")],
};

const SPARK: Adapter = Adapter {
    kind: "spark",
    required: &["method", "host", "schema"],
    secret: &["token", "password"],
    methods: &[
        Method {
            conditions: &[Is("method", &["http", "odbc"])],
            required: &[],
            secret: &["token"],
        },
        Method {
            conditions: &[Is("method", &["thrift"]), Is("auth", &["ldap", "custom"])],
            required: &[],
            secret: &["password"],
        },
        NO_SECRET,
    ],
    replaced: &[],
    numbers: &[
        "port",
        "connect_retries",
        "connect_timeout",
        "query_timeout",
        "query_retries",
        "poll_interval",
    ],
    booleans: &["use_ssl", "retry_all"],
    printed: &[],
    plain: &[
        "user",
        "auth",
        "cluster",
        "endpoint",
        "driver",
        "organization",
        "kerberos_service_name",
        "connection_string_suffix",
        "server_side_parameters",
    ],
    aliases: &[],
};

const CLICKHOUSE: Adapter = Adapter {
    kind: "clickhouse",
    required: &["schema"],
    secret: &["password"],
    methods: &[PASSWORD],
    replaced: &[],
    numbers: &[
        "port",
        "retries",
        "connect_timeout",
        "send_receive_timeout",
        "sync_request_timeout",
        "compress_block_size",
    ],
    booleans: &[
        "secure",
        "verify",
        "use_lw_deletes",
        "check_exchange",
        "allow_automatic_deduplication",
        "cluster_mode",
        "reuse_connections",
    ],
    printed: &[],
    plain: &[
        "host",
        "user",
        "driver",
        "cluster",
        "database_engine",
        "compression",
        "client_cert",
        "client_cert_key",
        "custom_settings",
        "local_suffix",
        "local_db_prefix",
        "tcp_keepalive",
        "server_host_name",
    ],
    aliases: &[],
};

/// Methods that both adapters by ODBC have, and those of one.
macro_rules! odbc_methods {
    ($($own:expr),+ $(,)?) => {
        &[
            Method {
                conditions: &[Is(
                    "authentication",
                    &["serviceprincipal", "activedirectoryserviceprincipal"],
                )],
                required: &["client_id", "tenant_id"],
                secret: &["client_secret"],
            },
            Method {
                conditions: &[Is("authentication", &["activedirectoryaccesstoken"])],
                required: &[],
                secret: &["access_token"],
            },
            Method {
                conditions: &[Is("authentication", &["sql", "activedirectorypassword"])],
                required: &["user"],
                secret: &["password"],
            },
            $($own),+
        ]
    };
}

const ODBC_ALIASES: &[(&str, &str)] = &[
    ("username", "user"),
    ("UID", "user"),
    ("pass", "password"),
    ("PWD", "password"),
    ("app_id", "client_id"),
    ("app_secret", "client_secret"),
    ("TrustServerCertificate", "trust_cert"),
    ("schema_auth", "schema_authorization"),
    ("host", "server"),
    ("trusted_connection", "windows_login"),
    ("auth", "authentication"),
];

const SQLSERVER: Adapter = Adapter {
    kind: "sqlserver",
    required: &["server", "database", "schema"],
    secret: &["password", "client_secret", "access_token"],
    methods: odbc_methods!(
        Method {
            conditions: &[Has("authentication")],
            required: &[],
            secret: &[]
        },
        Method {
            conditions: &[Is("windows_login", &["true"])],
            required: &[],
            secret: &[]
        },
        Method {
            conditions: ALWAYS,
            required: &["user"],
            secret: &["password"]
        },
    ),
    replaced: &[],
    numbers: &[
        "port",
        "retries",
        "login_timeout",
        "query_timeout",
        "access_token_expires_on",
    ],
    booleans: &[
        "encrypt",
        "trust_cert",
        "windows_login",
        "trace_flag",
        "xact_abort",
    ],
    printed: &[],
    plain: &[
        "driver",
        "backend",
        "user",
        "authentication",
        "tenant_id",
        "client_id",
        "schema_authorization",
    ],
    aliases: ODBC_ALIASES,
};

const FABRIC: Adapter = Adapter {
    kind: "fabric",
    required: &["server", "database", "schema"],
    secret: &["password", "client_secret", "access_token"],
    methods: odbc_methods!(
        Method {
            conditions: &[Lacks("authentication"), Has("client_id")],
            required: &[],
            secret: &["client_secret"],
        },
        NO_SECRET,
    ),
    replaced: &[],
    numbers: &["retries", "login_timeout", "query_timeout", "lock_timeout"],
    booleans: &["encrypt", "trust_cert", "windows_login", "trace_flag"],
    printed: &[],
    plain: &[
        "user",
        "authentication",
        "tenant_id",
        "client_id",
        "token_scope",
        "workspace_id",
        "workspace_name",
        "fabric_base_api_uri",
        "powerbi_base_api_uri",
        "purview_endpoint",
        "credential_class",
        "credential_kwargs",
        "federated_token_url",
        "federated_token_header",
        "federated_token_file",
        "schema_authorization",
    ],
    aliases: ODBC_ALIASES,
};

const ATHENA: Adapter = Adapter {
    kind: "athena",
    required: &["region_name", "s3_staging_dir", "database", "schema"],
    secret: &[
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
    ],
    methods: &[Method {
        conditions: ALWAYS,
        required: &[],
        secret: &[
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
        ],
    }],
    replaced: &[
        ("aws_access_key_id", "aws_profile_name"),
        ("aws_secret_access_key", "aws_profile_name"),
        ("aws_session_token", "aws_profile_name"),
    ],
    numbers: &[
        "poll_interval",
        "num_retries",
        "assume_role_duration_seconds",
        "num_boto3_retries",
        "num_iceberg_retries",
    ],
    booleans: &["skip_workgroup_check", "debug_query_state"],
    printed: &["aws_access_key_id"],
    plain: &[
        "work_group",
        "assume_role_arn",
        "assume_role_external_id",
        "assume_role_session_name",
        "connection_manager",
        "aws_profile_name",
        "s3_data_dir",
        "s3_data_naming",
        "s3_tmp_table_dir",
        "spark_work_group",
        "seed_s3_upload_args",
        "lf_tags_database",
        "endpoint_url",
    ],
    aliases: &[("catalog", "database")],
};
