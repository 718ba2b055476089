//! What Stakater Reloader decides, without a cluster: which Secrets a list names, whether a workload is reloaded
//! for one, and which container is told. Written down from what the real one does; `tests/reloader.rs` compares.

use serde_json::Value;

/// Names of Secrets, on a workload's metadata or its template.
pub const LIST: &str = "secret.reloader.stakater.com/reload";
/// Whatever the workload uses.
pub const AUTO: &str = "reloader.stakater.com/auto";
/// Whatever Secrets the workload uses.
pub const SECRET_AUTO: &str = "secret.reloader.stakater.com/auto";
/// Whatever the workload uses that carries [`MATCH`].
pub const SEARCH: &str = "reloader.stakater.com/search";
/// On a Secret: [`SEARCH`] finds it.
pub const MATCH: &str = "reloader.stakater.com/match";
/// On a Secret: nothing is reloaded for it.
pub const IGNORE: &str = "reloader.stakater.com/ignore";
/// Names of Secrets, on a workload's metadata, for which it is not reloaded.
pub const EXCLUDE: &str = "secrets.exclude.reloader.stakater.com/reload";

/// Whether a workload is reloaded for a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is not.
    No,
    /// It is, whether it uses the Secret or not.
    Named,
    /// It is, if it uses the Secret.
    IfUsed,
}

/// Decides by the annotations: of the Secret, the workload's metadata and its pod template.
pub fn verdict(name: &str, secret: &Value, metadata: &Value, template: &Value) -> Verdict {
    if secret[IGNORE] == "true" {
        return Verdict::No;
    }
    // One of these here, and the template's are not looked at, not even for the others.
    let decides = [LIST, SEARCH, AUTO, SECRET_AUTO]
        .iter()
        .any(|key| metadata[*key].is_string());
    let deciding = if decides { metadata } else { template };
    let text = |key: &str| deciding[key].as_str().unwrap_or_default();
    let excluded = metadata[EXCLUDE].as_str().unwrap_or_default();
    if excluded.split(',').any(|entry| entry.trim() == name) {
        return Verdict::No;
    }
    if text(LIST)
        .split(',')
        .any(|entry| matches(entry.trim(), name) == Some(true))
    {
        return Verdict::Named;
    }
    let found = text(SEARCH) == "true" && secret[MATCH] == "true";
    let on = |key: &str| ["1", "t", "T", "TRUE", "true", "True"].contains(&text(key));
    if found || on(AUTO) || on(SECRET_AUTO) {
        Verdict::IfUsed
    } else {
        Verdict::No
    }
}

/// Whether one entry of a list means this Secret; `None` when it is no regular expression.
///
/// The entry is put between `^` and `$` without a group, so that `a|b` means «starts with a, or ends with b».
pub fn matches(entry: &str, name: &str) -> Option<bool> {
    let expression = as_rust(&format!("^{entry}$"))?;
    Some(regex::Regex::new(&expression).ok()?.is_match(name))
}

/// An expression in Go's syntax in that of the `regex` crate; `None` when Go refuses it and the crate would not.
fn as_rust(expression: &str) -> Option<String> {
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
                // Anything that is no count stands for itself.
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
        // Two repetitions in a row, but for one that is made lazy, are an error there.
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

/// The length of a valid count such as `{2}` or `{2,}`: a list's entry has no comma, so here it is `{2}` alone.
fn counted(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('{')?.split_once('}')?.0;
    let number = !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_digit());
    (number && (inside == "0" || !inside.starts_with('0'))).then_some(inside.len() + 2)
}

/// `(?:`, `(?i)`, `(?P<name>` and the like: its length, and what it is here; `None` for what Go does not know.
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

/// A backslash and what belongs to it: its length, and what it is here.
fn escape(rest: &str) -> Option<(usize, String)> {
    let escaped = rest.get(1..)?.chars().next()?;
    if escaped == 'Q' {
        let quoted = rest.get(2..)?;
        // Without an end it reaches to the end, the `$` that is put there included.
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
    // `\<` and `\>` are a word's edges in the crate.
    let piece = if "<>".contains(escaped) {
        escaped.to_string()
    } else {
        format!("\\{escaped}")
    };
    known.then_some((1 + escaped.len_utf8(), piece))
}

/// A class in brackets: its length, and the same with what only the crate takes for an operator escaped.
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
        // Between two others a hyphen makes a range, and elsewhere only an edge is its place.
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

/// A class such as `[:alpha:]` inside another one.
fn named_class(tail: &str) -> Option<(usize, String)> {
    const NAMES: &str =
        " alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit ";
    let name = tail.get(2..)?.split_once(":]")?.0;
    let known = NAMES.contains(&format!(" {} ", name.trim_start_matches('^')));
    known.then(|| (name.len() + 4, format!("[:{name}:]")))
}

/// The containers of a template, and the index of the one that gets the marker; `None` when none does.
pub fn container(spec: &Value, secret: &str, verdict: Verdict) -> Option<usize> {
    let none = Vec::new();
    let list = |key: &str| spec[key].as_array().unwrap_or(&none);
    let (containers, init) = (list("containers"), list("initContainers"));
    // Used by an init container, the marker goes to the first of the others.
    let find = |uses: &dyn Fn(&Value) -> bool| {
        containers
            .iter()
            .position(uses)
            .or_else(|| init.iter().any(uses).then_some(0))
    };
    let mounted =
        volume(spec, secret).and_then(|volume| find(&|container| mounts(container, volume)));
    let found = mounted.or_else(|| find(&|container| refers(container, secret)));
    found
        .or((verdict == Verdict::Named).then_some(0))
        .filter(|index| *index < containers.len())
}

/// The name of the first volume with this Secret.
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

fn refers(container: &Value, secret: &str) -> bool {
    let any = |key: &str, uses: &dyn Fn(&Value) -> bool| {
        container[key]
            .as_array()
            .is_some_and(|all| all.iter().any(uses))
    };
    any("env", &|one| {
        one["valueFrom"]["secretKeyRef"]["name"] == secret
    }) || any("envFrom", &|one| one["secretRef"]["name"] == secret)
}

/// The variable that makes a template differ. Names that differ in punctuation alone share one.
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
