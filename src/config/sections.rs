//! Sections of the configuration file. The rows are in the order of the documentation.

use super::setting::{Section, Setting};
use super::types::{
    Address, AuditFailurePolicy, AuditOutputName, Boolean, Duration, FilePath, LogFormatName,
    NamePolicy, Ratio, Size, Text, TextList, UnavailablePolicy, WorkerThreads,
};

/// Group of the settings that name the source of the serving certificate.
const CERTIFICATE_SOURCE: &str = "certificate source";

/// Form of durations that are measured again and again.
const INTERVAL: &str = "a duration of at least 1s, as in 10s or 1m30s";

/// Form of label selectors.
const SELECTOR: &str = "a label selector of at most 4096 bytes, as in \"team in (a,b),!legacy\"";

/// Form of the list of sidecars.
const SIDECARS: &str = "a list of names or globs of containers, each with or without @LABEL, as in [istio-proxy, wait@example.com/job]";

/// Form of a convention for names of Secrets.
const NAME_PATTERN: &str = "floe, or a glob of lower-case letters, digits, '-', '.', '*', '?' and words in braces, \
    as short as the name of a Secret, as in \"{service}-*\"";

/// Form of the list of ServiceAccounts that send lines of the audit trail.
const SENDERS: &str =
    "a list of ServiceAccounts, as in [floe-secrets-webhook/floe-secrets-webhook]";

/// Form of log filters.
const FILTER: &str = "a level or directives, as in \"info\" or \"info,floe_secrets_webhook=debug\"";

/// Form of a collector's address.
const COLLECTOR: &str = "the base address of a collector for OTLP over HTTP, as in \"http://collector:4318\", without user, query or fragment";

/// Form of the address of the audit trail's collector.
const AUDIT_COLLECTOR: &str =
    "the address of the collector, as in \"https://HOST:9444\", without user, path or query";

/// Form of the store of the audit trail.
const AUDIT_STORE: &str = "the path of a file, or the URL of a PostgreSQL database without a password, as in \"postgres://USER@HOST:5432/DATABASE\"";

/// Whether a subcommand has an argument that the file can set.
pub(crate) fn has_settings(subcommand: &clap::Command) -> bool {
    let mut settings = SECTIONS.iter().flat_map(|section| section.settings);
    settings.any(|setting| setting.argument_of(subcommand).is_some())
}

/// Every section.
pub(crate) static SECTIONS: &[Section] = &[
    Section {
        name: "kubernetes",
        summary: "Connection to Kubernetes.",
        settings: &[
            Setting::new::<FilePath>("kubeconfig", "kubeconfig"),
            Setting::new::<Text>("context", "context"),
            Setting::new::<Boolean>("proxyFromEnvironment", "proxy_from_environment"),
        ],
    },
    Section {
        name: "injection",
        summary: "Objects and containers that secrets are injected into, for all commands.",
        settings: &[
            Setting::new::<TextList>("sidecarContainers", "sidecar_containers")
                .live(&["serve"])
                .expecting(SIDECARS),
            Setting::new::<TextList>("exemptNamespaces", "exempt_namespaces").live(&["serve"]),
            Setting::new::<TextList>("namespaces", "namespaces"),
            Setting::new::<Text>("namespaceSelector", "namespace_selector").expecting(SELECTOR),
            Setting::new::<Text>("objectSelector", "object_selector").expecting(SELECTOR),
            Setting::new::<Boolean>("intoTemplates", "workloads_inject_template").live(&["serve"]),
            Setting::new::<UnavailablePolicy>("onUnavailable", "on_unavailable").live(&["serve"]),
            Setting::new::<Text>("secretNamePattern", "secret_name_pattern")
                .live(&["serve"])
                .expecting(NAME_PATTERN),
            Setting::new::<NamePolicy>("secretNameMode", "secret_name_mode").live(&["serve"]),
        ],
    },
    Section {
        name: "installation",
        summary: "Names of the installation in the cluster.",
        settings: &[
            Setting::new::<Text>("ownNamespace", "own_namespace"),
            Setting::new::<Text>("podName", "pod_name"),
            Setting::new::<Text>("podUid", "pod_uid"),
            Setting::new::<Text>("webhookNamespace", "webhook_namespace"),
            Setting::new::<Text>("webhookConfiguration", "webhook_configuration"),
        ],
    },
    Section {
        name: "serve",
        summary: "Listeners and shutdown of the webhook.",
        settings: &[
            Setting::new::<Address>("listen", "listen"),
            Setting::new::<Address>("opsListen", "ops_listen").only("serve"),
            Setting::new::<Boolean>("trustedCallers", "trusted_callers"),
            Setting::new::<Duration>("shutdownDelay", "shutdown_delay"),
            Setting::new::<Duration>("drainTimeout", "drain_timeout"),
            Setting::new::<WorkerThreads>("workerThreads", "worker_threads"),
        ],
    },
    Section {
        name: "audit",
        summary: "Audit trail of the webhook, and its store.",
        settings: &[
            Setting::new::<AuditOutputName>("output", "audit"),
            Setting::new::<Text>("clusterName", "audit_cluster_name"),
            Setting::new::<AuditFailurePolicy>("onFailure", "audit_on_failure"),
            Setting::new::<Text>("collector", "audit_collector").expecting(AUDIT_COLLECTOR),
            Setting::new::<FilePath>("collectorCA", "audit_collector_ca"),
            Setting::new::<FilePath>("token", "audit_token"),
            Setting::new::<FilePath>("spool", "audit_spool"),
            Setting::new::<Text>("store", "audit_store").expecting(AUDIT_STORE),
            Setting::new::<FilePath>("storePasswordFile", "audit_store_password_file"),
            Setting::new::<FilePath>("storeCA", "audit_store_ca_file"),
            Setting::new::<Size>("maxSize", "audit_max_size"),
            Setting::new::<Duration>("retention", "audit_retention"),
            Setting::new::<Duration>("minAge", "audit_min_age"),
            Setting::new::<Text>("checkpointKey", "audit_key_secret"),
            Setting::new::<TextList>("senders", "audit_senders").expecting(SENDERS),
            Setting::new::<TextList>("controllers", "audit_controllers"),
        ],
    },
    Section {
        name: "admin",
        summary: "Listeners of the program that keeps the audit trail.",
        settings: &[
            Setting::new::<Address>("collectorListen", "collector_listen"),
            Setting::new::<Address>("opsListen", "ops_listen").only("admin"),
        ],
    },
    Section {
        name: "tls",
        summary: "Serving certificate of the webhook.",
        settings: &[
            Setting::new::<FilePath>("cert", "tls_cert").grouped(CERTIFICATE_SOURCE),
            Setting::new::<FilePath>("key", "tls_key").grouped(CERTIFICATE_SOURCE),
            Setting::new::<Text>("certificate", "tls_certificate").grouped(CERTIFICATE_SOURCE),
            Setting::new::<Text>("secret", "tls_secret").grouped(CERTIFICATE_SOURCE),
            Setting::new::<FilePath>("clientCA", "tls_client_ca"),
            Setting::new::<Duration>("poll", "tls_poll").expecting(INTERVAL),
            Setting::new::<TextList>("names", "tls_names"),
            Setting::new::<Text>("adminSecret", "admin_tls_secret"),
            Setting::new::<TextList>("adminNames", "admin_dns_names"),
            Setting::new::<Duration>("validity", "tls_validity").expecting(INTERVAL),
            Setting::new::<Duration>("caGrace", "ca_grace").expecting(INTERVAL),
        ],
    },
    Section {
        name: "controller",
        summary: "Work of the controller, and its lease.",
        settings: &[
            Setting::new::<Address>("opsListen", "ops_listen").only("controller"),
            Setting::new::<Duration>("driftInterval", "drift_interval").expecting(INTERVAL),
            Setting::new::<Boolean>("retryOwners", "retry_owners"),
            Setting::new::<Text>("leaseName", "lease_name"),
            Setting::new::<Duration>("leaseDuration", "lease_duration")
                .expecting("whole seconds from 3s to 1h, as in 15s"),
            Setting::new::<Text>("identity", "identity"),
        ],
    },
    Section {
        name: "log",
        summary: "Log of servers.",
        settings: &[
            Setting::new::<LogFormatName>("format", "log_format"),
            Setting::new::<Text>("filter", "log")
                .live(&["serve", "controller", "admin"])
                .expecting(FILTER),
        ],
    },
    Section {
        name: "tracing",
        summary: "Export of traces by OTLP.",
        settings: &[
            Setting::new::<Text>("endpoint", "otlp_endpoint").expecting(COLLECTOR),
            Setting::new::<FilePath>("ca", "otlp_ca"),
            Setting::new::<Ratio>("ratio", "trace_ratio"),
        ],
    },
];
