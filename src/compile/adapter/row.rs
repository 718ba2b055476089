//! A row of the table of adapters.

use super::names::{is_known_secret_name, last_name};

/// Fields of one `type` of connection.
#[derive(Debug)]
pub(crate) struct Adapter {
    /// `type` in the profile.
    pub kind: &'static str,
    /// Fields without which dbt refuses the profile.
    pub required: &'static [&'static str],
    /// Fields that hold secrets, whatever the method.
    pub secret: &'static [&'static str],
    /// Ways to authenticate; the first that matches the config counts.
    pub methods: &'static [Method],
    /// Secret fields that another field stands in for, such as the path of a key file.
    pub replaced: &'static [(&'static str, &'static str)],
    /// Fields that are numbers.
    pub numbers: &'static [&'static str],
    /// Fields that are true or false.
    pub booleans: &'static [&'static str],
    /// Fields that `dbt debug` prints, and that a secret may stand in.
    pub printed: &'static [&'static str],
    /// Fields that are text and no secrets, although their names sound so, and other known fields.
    pub plain: &'static [&'static str],
    /// Other names of fields in profiles, and the names in this table.
    pub aliases: &'static [(&'static str, &'static str)],
}

/// One way to authenticate.
#[derive(Debug)]
pub(crate) struct Method {
    /// All of them have to hold.
    pub conditions: &'static [Condition],
    /// Required in addition to the fields of [`Adapter::required`].
    pub required: &'static [&'static str],
    /// Secret fields that a connection's Secret has to have.
    pub secret: &'static [&'static str],
}

/// A condition on the text of a field in `config`.
#[derive(Debug)]
pub(crate) enum Condition {
    /// One of these texts, in any case.
    Is(&'static str, &'static [&'static str]),
    /// Begins with one of these texts.
    Begins(&'static str, &'static [&'static str]),
    /// Is there, with any value but null.
    Has(&'static str),
    /// Is not there.
    Lacks(&'static str),
}

/// Plain fields that are lists or maps, or may be more than text.
const NOT_TEXT: &[&str] = &[
    "client_tags",
    "connection_parameters",
    "credential_kwargs",
    "custom_settings",
    "db_groups",
    "extensions",
    "http_headers",
    "http_scheme",
    "lf_tags_database",
    "module_paths",
    "mutual_authentication",
    "oauth_scopes",
    "roles",
    "scopes",
    "secrets",
    "seed_s3_upload_args",
    "server_side_parameters",
    "session_properties",
    "tcp_keepalive",
];

impl Adapter {
    /// Name of a field in this table.
    pub(crate) fn canonical<'a>(&self, name: &'a str) -> &'a str {
        self.aliases
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, canonical)| *canonical)
    }

    /// Whether a field is text and nothing else. Fields of maps are not known to be.
    pub(super) fn is_text(&self, path: &str) -> bool {
        let path = self.canonical(path);
        let of_methods = self.methods.iter().flat_map(|method| method.required);
        let mut known = self.required.iter().chain(self.plain).chain(of_methods);
        known.any(|field| *field == path)
            && !path.contains(['.', '['])
            && ![self.numbers, self.booleans, NOT_TEXT]
                .iter()
                .any(|other| other.contains(&path))
    }

    /// Every path of the row.
    pub(super) fn fields(&self) -> impl Iterator<Item = &'static str> {
        let methods = self.methods.iter();
        let of_methods = methods.flat_map(|method| method.required.iter().chain(method.secret));
        let lists = [
            self.required,
            self.secret,
            self.numbers,
            self.booleans,
            self.printed,
            self.plain,
        ];
        lists
            .into_iter()
            .flatten()
            .chain(of_methods)
            .chain(self.aliases.iter().map(|(alias, _)| alias))
            .chain(self.replaced.iter().map(|(_, other)| other))
            .copied()
    }

    /// Whether a path, with `[]` for every index, is that of a secret.
    pub(super) fn is_secret(&self, path: &str) -> bool {
        let path = self.canonical(path);
        if self.secret.contains(&path) {
            return true;
        }
        if self.fields().any(|field| field == path) {
            return false;
        }
        // Entries of DuckDB's secrets: everything but the fields that say which secret it is.
        if self.kind == "duckdb" && path.starts_with("secrets[]") {
            return path.contains('.');
        }
        is_known_secret_name(last_name(path))
    }
}
