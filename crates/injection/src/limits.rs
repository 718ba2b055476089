//! Limits of what one object may request and of what one response may add, each with its reason.
//!
//! Admission comes before the API server's validation; only its limit of 3 MB per request applies. So everything that
//! is derived from an author's text is limited by these numbers, whoever sent it. All of them are in
//! docs/ANNOTATIONS.md.

/// Limit of annotations of the contract that are read for one object, defaults included, and of items in one list.
pub const MAX_ITEMS: usize = 256;

/// Bytes of one annotation's value: the length of a list of 256 of the longest references.
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// Bytes of all annotations of the contract that apply to one object. The API server stores 256 KiB of annotations per
/// object, and a workload's are written once more on its template and in its record.
pub const MAX_TOTAL_BYTES: usize = 128 << 10;

/// Different secrets that one object may request: each may cost a read at the API server.
pub const MAX_SECRETS: usize = 64;

/// Patterns in `containers` and in `init-containers`. More select nothing that `*` or a glob would not.
pub const MAX_PATTERNS: usize = 32;

/// Entries of `env` and `envFrom` that are added to one object, all containers together.
pub const MAX_ENTRIES: usize = 2_000;

/// Bytes of a JSON patch. The response carries it in base64, which adds a third, and stays below the 1.5 MiB that etcd
/// stores of an object.
pub const MAX_PATCH_BYTES: usize = 1 << 20;

/// Limit of Kubernetes for the name of a container: a DNS-1123 label.
pub const MAX_CONTAINER_NAME: usize = 63;

/// Bytes of a pod's record. It lists what was added; a pod's annotations are mainly for its author.
pub const MAX_RECORD_BYTES: usize = 16 << 10;

/// Bytes of a record that is read. The records of templates are longer than those of pods; the webhook writes none that
/// is longer than this.
pub const MAX_READ_RECORD_BYTES: usize = 256 << 10;

/// Bytes of an object's reload annotations that are merged with the webhook's entries.
pub const MAX_RELOAD_BYTES: usize = 64 << 10;

/// Bytes of all annotations of an object, names and values: limit of the API server (`TotalAnnotationSizeLimitB`).
pub const MAX_ANNOTATION_BYTES: usize = 256 << 10;

/// Bytes of a workload's metadata in which statements of authors are looked up: as many bytes of annotations as the API
/// server stores, and as many of managed fields. Statements in longer metadata are unknown.
pub const MAX_STATEMENT_BYTES: usize = 512 << 10;

/// Managers with server-side applies on one object. Statements of more managers are unknown.
pub const MAX_APPLYING_MANAGERS: usize = 32;

/// Names that one sentence lists.
pub const MAX_LISTED: usize = 10;

/// Labels of a pod that are compared with the operator's list of sidecars: the first ones in the object's order.
pub const MAX_LABELS: usize = 1_000;

/// Limit of Kubernetes for the name of a label: a domain of 253 characters, a slash and 63 more.
pub const MAX_LABEL_KEY: usize = 317;

/// Bytes of a document in which the field of a wrong type is located: more than any manifest written by hand. For a
/// longer one, only the position is reported.
pub const MAX_LOCATED_BYTES: usize = 256 << 10;

/// Elements of a template's JSON that are compared one by one. Two larger templates with different text count as
/// different.
pub const MAX_COMPARED_ELEMENTS: usize = 20_000;

/// Bytes of a template's JSON that is compared element by element.
pub const MAX_COMPARED_BYTES: usize = 256 << 10;

/// Checks the number of items in a list.
///
/// # Errors
/// The problem, to follow the annotation's name.
pub(crate) fn check_count(items: usize, most: usize) -> Result<(), String> {
    match items {
        0 => Err("is empty; name at least one, or remove the annotation".to_owned()),
        many if many > most => Err(format!("lists {many} items; at most {most} are allowed")),
        _ => Ok(()),
    }
}
