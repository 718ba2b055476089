//! How many items one annotation, and all annotations together, may have.

/// The most annotations that are read, and the most items of one list. Admission comes before the API server's
/// own limit on annotations, so without this one pod could ask a backend for a hundred thousand secrets.
pub(super) const MAX_ITEMS: usize = 256;

/// Whether a list may have so many items.
///
/// # Errors
/// What is wrong with it, to follow the annotation's name.
pub(super) fn check_count(items: usize) -> Result<(), String> {
    match items {
        0 => Err("is empty; name at least one, or remove the annotation".to_owned()),
        1..=MAX_ITEMS => Ok(()),
        many => Err(format!("lists {many} items; at most {MAX_ITEMS} are allowed")),
    }
}
