//! Rules of Stakater Reloader, without a cluster: Secrets that a list names, whether a workload is reloaded for one,
//! and the container that gets the marker. Written down from the real one's behavior; `tests/apiserver/reloader.rs`
//! compares.

use serde_json::Value;

/// Names of Secrets, on a workload's metadata or its template.
pub const LIST: &str = "secret.reloader.stakater.com/reload";
/// Reloads for everything that the workload uses.
pub const AUTO: &str = "reloader.stakater.com/auto";
/// Reloads for all Secrets that the workload uses.
pub const SECRET_AUTO: &str = "secret.reloader.stakater.com/auto";
/// Reloads for everything that the workload uses and that has [`MATCH`].
pub const SEARCH: &str = "reloader.stakater.com/search";
/// On a Secret: [`SEARCH`] finds it.
pub const MATCH: &str = "reloader.stakater.com/match";
/// On a Secret: nothing is reloaded for it.
pub const IGNORE: &str = "reloader.stakater.com/ignore";
/// Names of Secrets, on a workload's metadata, for which it is not reloaded.
pub const EXCLUDE: &str = "secrets.exclude.reloader.stakater.com/reload";

/// Decision on the reload of a workload for a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadDecision {
    /// Not reloaded.
    No,
    /// Reloaded, whether or not it uses the Secret.
    Named,
    /// Reloaded if it uses the Secret.
    IfUsed,
}

/// Decides by the annotations of the Secret, of the workload's metadata and of its pod template.
pub fn reload_decision(
    name: &str,
    secret: &Value,
    metadata: &Value,
    template: &Value,
) -> ReloadDecision {
    if secret[IGNORE] == "true" {
        return ReloadDecision::No;
    }
    // If the metadata has one of these, the template's are ignored, including the other three.
    let decides = [LIST, SEARCH, AUTO, SECRET_AUTO]
        .iter()
        .any(|key| metadata[*key].is_string());
    let deciding = if decides { metadata } else { template };
    let text = |key: &str| deciding[key].as_str().unwrap_or_default();
    let excluded = metadata[EXCLUDE].as_str().unwrap_or_default();
    if excluded.split(',').any(|entry| entry.trim() == name) {
        return ReloadDecision::No;
    }
    if text(LIST)
        .split(',')
        .any(|entry| matches(entry.trim(), name) == Some(true))
    {
        return ReloadDecision::Named;
    }
    let found = text(SEARCH) == "true" && secret[MATCH] == "true";
    let on = |key: &str| ["1", "t", "T", "TRUE", "true", "True"].contains(&text(key));
    if found || on(AUTO) || on(SECRET_AUTO) {
        ReloadDecision::IfUsed
    } else {
        ReloadDecision::No
    }
}

/// Whether one entry of a list matches this Secret; `None` if it is not a regular expression.
///
/// The entry is put between `^` and `$` without a group, so that `a|b` matches names that start with a, or end with b.
pub fn matches(entry: &str, name: &str) -> Option<bool> {
    let expression = translate_expression(&format!("^{entry}$"))?;
    Some(regex::Regex::new(&expression).ok()?.is_match(name))
}

/// Translates an expression from Go's syntax to that of the `regex` crate; `None` if Go rejects it and the crate does
/// not.
fn translate_expression(expression: &str) -> Option<String> {
    let mut translated = String::new();
    let mut rest = expression;
    let mut repeated = false;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        let (repeats, piece) = match first {
            '\\' => {
                let (used, literal) = escape(rest)?;
                length = used;
                (false, literal)
            }
            '[' => {
                let (used, class) = class(rest)?;
                length = used;
                (false, class)
            }
            '{' => match counted(rest) {
                Some(used) => {
                    length = used;
                    let count = rest
                        .get(1..used - 1)?
                        .parse::<u32>()
                        .ok()
                        .filter(|count| *count <= 1000)?;
                    (true, format!("{{{count}}}"))
                }
                // A brace without a count is a literal.
                None => (false, "\\{".to_owned()),
            },
            '*' | '+' | '?' => (true, first.to_string()),
            '(' if rest.starts_with("(?") => {
                let (used, group) = group(rest)?;
                length = used;
                (false, group)
            }
            '}' | ']' => (false, format!("\\{first}")),
            _ => (false, first.to_string()),
        };
        // Two repetitions in a row are an error in Go, except for a lazy one.
        if repeats && repeated {
            return None;
        }
        translated.push_str(&piece);
        rest = rest.get(length..)?;
        repeated = repeats;
        if repeats && rest.starts_with('?') {
            translated.push('?');
            rest = rest.get(1..)?;
        }
    }
    Some(translated)
}

/// Length of a valid count such as `{2}` or `{2,}`. An entry of a list has no comma, so only `{2}` occurs here.
fn counted(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('{')?.split_once('}')?.0;
    let number = !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_digit());
    (number && (inside == "0" || !inside.starts_with('0'))).then_some(inside.len() + 2)
}

/// Length and translation of `(?:`, `(?i)`, `(?P<name>` and the like; `None` for groups that Go does not have.
fn group(rest: &str) -> Option<(usize, String)> {
    if let Some(name) = rest
        .strip_prefix("(?P<")
        .or_else(|| rest.strip_prefix("(?<"))
    {
        let name = name.split_once('>')?.0;
        let word = !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '_');
        return word.then_some((rest.find('>')? + 1, "(".to_owned()));
    }
    let used = rest.find([':', ')'])? + 1;
    let flags = rest.get(2..used - 1)?;
    flags
        .chars()
        .all(|flag| "imsU-".contains(flag))
        .then_some((used, rest.get(..used)?.to_owned()))
}

/// Length and translation of a backslash and its argument.
fn escape(rest: &str) -> Option<(usize, String)> {
    let escaped = rest.get(1..)?.chars().next()?;
    if escaped == 'Q' {
        let quoted = rest.get(2..)?;
        // Without an end it reaches to the end of the expression, the added `$` included.
        let (inside, used) = match quoted.split_once("\\E") {
            Some((inside, _)) => (inside, inside.len() + 4),
            None => (quoted, rest.len()),
        };
        return Some((used, regex::escape(inside)));
    }
    let octal: String = rest
        .get(1..)?
        .chars()
        .take(3)
        .take_while(|digit| ('0'..='7').contains(digit))
        .collect();
    if escaped == '0' || octal.len() > 1 {
        return Some((
            1 + octal.len(),
            format!("\\x{{{:x}}}", u32::from_str_radix(&octal, 8).ok()?),
        ));
    }
    if matches!(escaped, 'p' | 'P') && rest.get(2..)?.starts_with('{') {
        let used = rest.find('}')? + 1;
        return Some((used, rest.get(..used)?.to_owned()));
    }
    let known = !escaped.is_ascii_alphanumeric() && escaped.is_ascii()
        || "AzbBdDsSwWpPxafnrtv".contains(escaped);
    // `\<` and `\>` are word boundaries in the crate.
    let piece = if "<>".contains(escaped) {
        escaped.to_string()
    } else {
        format!("\\{escaped}")
    };
    known.then_some((1 + escaped.len_utf8(), piece))
}

/// Length and translation of a class in brackets: operators of the crate alone are escaped.
fn class(rest: &str) -> Option<(usize, String)> {
    let mut translated = String::from("[");
    let mut at = 1;
    if rest.get(at..)?.starts_with('^') {
        translated.push('^');
        at += 1;
    }
    let (first, mut ranging) = (at, false);
    loop {
        let tail = rest.get(at..)?;
        let character = tail.chars().next()?;
        // A hyphen between two others is a range; elsewhere it is valid only at an edge.
        let range = character == '-' && at > first && !ranging && !tail.starts_with("-]");
        let (used, piece) = match character {
            ']' if at > first => return Some((at + 1, translated + "]")),
            '[' if tail.starts_with("[:") && tail.contains(":]") => named_class(tail)?,
            '\\' => escape(tail)?,
            '-' if range => (1, "-".to_owned()),
            _ if character.is_ascii_punctuation() => (1, format!("\\{character}")),
            _ => (character.len_utf8(), character.to_string()),
        };
        translated.push_str(&piece);
        at += used;
        ranging = range;
    }
}

/// Class such as `[:alpha:]` inside another one.
fn named_class(tail: &str) -> Option<(usize, String)> {
    const NAMES: &str =
        " alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit ";
    let name = tail.get(2..)?.split_once(":]")?.0;
    let known = NAMES.contains(&format!(" {} ", name.trim_start_matches('^')));
    known.then(|| (name.len() + 4, format!("[:{name}:]")))
}

/// Index of the container that gets the marker; `None` if none does.
pub fn container(spec: &Value, secret: &str, reload_decision: ReloadDecision) -> Option<usize> {
    let none = Vec::new();
    let list = |key: &str| spec[key].as_array().unwrap_or(&none);
    let (containers, init) = (list("containers"), list("initContainers"));
    // If an init container uses the Secret, the first of the other containers gets the marker.
    let find = |uses: &dyn Fn(&Value) -> bool| {
        containers
            .iter()
            .position(uses)
            .or_else(|| init.iter().any(uses).then_some(0))
    };
    let mounting =
        volume(spec, secret).and_then(|volume| find(&|container| mounts(container, volume)));
    let found = mounting.or_else(|| find(&|container| references(container, secret)));
    found
        .or((reload_decision == ReloadDecision::Named).then_some(0))
        .filter(|index| *index < containers.len())
}

/// Name of the first volume with this Secret.
fn volume<'a>(spec: &'a Value, secret: &str) -> Option<&'a str> {
    let projected = |volume: &Value| {
        volume["projected"]["sources"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["secret"]["name"] == secret))
    };
    let mut volumes = spec["volumes"].as_array()?.iter();
    volumes.find(|volume| volume["secret"]["secretName"] == secret || projected(volume))?["name"]
        .as_str()
}

fn mounts(container: &Value, volume: &str) -> bool {
    container["volumeMounts"]
        .as_array()
        .is_some_and(|mounts| mounts.iter().any(|mount| mount["name"] == volume))
}

fn references(container: &Value, secret: &str) -> bool {
    let any = |key: &str, uses: &dyn Fn(&Value) -> bool| {
        container[key]
            .as_array()
            .is_some_and(|all| all.iter().any(uses))
    };
    any("env", &|one| {
        one["valueFrom"]["secretKeyRef"]["name"] == secret
    }) || any("envFrom", &|one| one["secretRef"]["name"] == secret)
}

/// Name of the variable that changes the template. Names that differ only in punctuation share one.
pub fn marker(secret: &str) -> String {
    let mut name = String::from("STAKATER_");
    let mut separated = true;
    for character in secret
        .chars()
        .map(|character| character.to_ascii_uppercase())
    {
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !separated {
            name.push('_');
        }
        separated = !character.is_ascii_alphanumeric();
    }
    name + "_SECRET"
}

/// SHA-1 of `key=value;key=value`, in order.
pub fn hash<'a>(data: impl Iterator<Item = (&'a String, &'a [u8])>) -> String {
    let mut pairs: Vec<Vec<u8>> = data
        .map(|(key, value)| [key.as_bytes(), b"=", value].concat())
        .collect();
    pairs.sort();
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        &pairs.join(&b';'),
    );
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
