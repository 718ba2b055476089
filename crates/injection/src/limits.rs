//! Bounds on what one object may ask for and on what one answer may add, each with its reason.
//!
//! Admission comes before the API server validates an object: only its limit of 3 MB for a request holds here. So
//! everything that is derived from an author's text is bounded by the numbers below, whoever sent it. All of them stand
//! in docs/ANNOTATIONS.md.

/// Annotations of ours that are read for one object, defaults included, and items in one list.
pub const MAX_ITEMS: usize = 256;

/// Bytes of one annotation's value. A list of 256 of the longest references is as long.
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// Bytes of all annotations of ours that govern one object: the API server stores 256 KiB of annotations for an object,
/// and a workload's are written once more on its template and in its record.
pub const MAX_TOTAL_BYTES: usize = 128 << 10;

/// Different secrets that one object may ask for: each of them may be a read of its own at the API server.
pub const MAX_SECRETS: usize = 64;

/// Patterns in `containers` and in `init-containers`. More name nothing that `*` or a glob would not.
pub const MAX_PATTERNS: usize = 32;

/// Entries of `env` and `envFrom` that are added to all containers of an object together.
pub const MAX_ENTRIES: usize = 2_000;

/// Bytes of a JSON patch. The answer carries it in base64, which adds a third, and stays below the 1.5 MiB that the API
/// server's store takes of an object.
pub const MAX_PATCH_BYTES: usize = 1 << 20;

/// The longest name of a container: a DNS-1123 label.
pub const MAX_CONTAINER_NAME: usize = 63;

/// Bytes of a pod's record. It names what was added; a pod's annotations are for its author in the first place.
pub const MAX_RECORD_BYTES: usize = 16 << 10;

/// Bytes of a record that is read. Templates have longer ones than pods; none that was written here is longer.
pub const MAX_READ_RECORD_BYTES: usize = 256 << 10;

/// Bytes of an annotation for Reloader that are merged with ours.
pub const MAX_RELOAD_BYTES: usize = 64 << 10;

/// Bytes of all annotations of an object, names and values: what the API server takes (`TotalAnnotationSizeLimitB`).
pub const MAX_ANNOTATION_BYTES: usize = 256 << 10;

/// Bytes of a workload's metadata in which it is looked up what authors state: annotations of as many bytes as the API
/// server takes, and as much for the fields that managers own. In longer ones nobody can tell.
pub const MAX_STATEMENT_BYTES: usize = 512 << 10;

/// Managers that apply an object at the server. Of more, nobody can tell what they state.
pub const MAX_APPLYING_MANAGERS: usize = 32;

/// Names that one sentence lists of those that there are.
pub const MAX_LISTED: usize = 10;

/// Labels of a pod by which entries of the operator's list of sidecars count, the first of them in the object's order.
pub const MAX_LABELS: usize = 1_000;

/// The longest name of a label: a domain of 253 characters, a slash and 63 more.
pub const MAX_LABEL_KEY: usize = 317;

/// Bytes of a document in which the field of a wrong type is looked for, to name it: more than any object that is
/// written by hand. Of a longer one, only the place is reported.
pub const MAX_LOCATED_BYTES: usize = 256 << 10;

/// Elements of a template's JSON that are compared one by one. Two larger templates that differ in their text count as
/// different.
pub const MAX_COMPARED_ELEMENTS: usize = 20_000;

/// Bytes of a template's JSON that is compared so.
pub const MAX_COMPARED_BYTES: usize = 256 << 10;

/// Whether a list may have so many items.
///
/// # Errors
/// What is wrong with it, to follow the annotation's name.
pub(crate) fn check_count(items: usize, most: usize) -> Result<(), String> {
    match items {
        0 => Err("is empty; name at least one, or remove the annotation".to_owned()),
        many if many > most => Err(format!("lists {many} items; at most {most} are allowed")),
        _ => Ok(()),
    }
}
