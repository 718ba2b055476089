//! A second JSON Patch implementation, written from RFC 6902 and RFC 6901 only. It supports `add`.

use serde_json::Value;

/// Applies a patch document of `add` operations.
pub fn apply(document: &mut Value, patch: &Value) -> Result<(), String> {
    for operation in patch.as_array().ok_or("a patch is an array")? {
        let text = |member: &str| {
            operation[member]
                .as_str()
                .ok_or(format!("{operation} has no {member}"))
        };
        if text("op")? != "add" {
            return Err(format!("{operation} is not an add"));
        }
        let value = operation
            .get("value")
            .ok_or(format!("{operation} has no value"))?;
        add(document, text("path")?, value.clone())?;
    }
    Ok(())
}

/// RFC 6902 section 4.1.
fn add(document: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        if !pointer.is_empty() {
            return Err(format!("{pointer} does not start with a slash"));
        }
        *document = value;
        return Ok(());
    };
    let mut at = document;
    for token in parent.split('/').skip(1) {
        let token = unescape(token)?;
        let next = match at {
            Value::Object(map) => map.get_mut(&token),
            Value::Array(items) => items.get_mut(index(&token)?),
            _ => None,
        };
        at = next.ok_or(format!("{pointer}: {token:?} does not exist"))?;
    }
    let last = unescape(last)?;
    match at {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index = index(&last)?;
            if index > items.len() {
                return Err(format!("{pointer} is past the end of the list"));
            }
            items.insert(index, value);
        }
        _ => {
            return Err(format!(
                "{pointer}: the parent is neither an object nor a list"
            ));
        }
    }
    Ok(())
}

/// RFC 6901 section 4: `~1` first, then `~0`; a lone `~` is an error.
fn unescape(token: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = token.chars();
    while let Some(c) = rest.next() {
        text.push(match (c, c == '~') {
            (_, true) => match rest.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(format!("{token:?} has a lone ~")),
            },
            (c, false) => c,
        });
    }
    Ok(text)
}

/// RFC 6901 section 4: digits, without leading zeros.
fn index(token: &str) -> Result<usize, String> {
    let canonical =
        token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    token
        .parse()
        .ok()
        .filter(|_| canonical)
        .ok_or(format!("{token:?} is not an index"))
}
