//! Python's literals, as `as_native`, `as_number` and `as_bool` read them (`ast.literal_eval`).

use serde_json::{Map, Number, Value};

/// Levels of lists and maps in each other.
const MAX_DEPTH: usize = 64;

/// Parses one literal; `None` for anything else. Tuples and sets become lists.
pub(super) fn literal(text: &str) -> Option<Value> {
    let text = text.trim_start_matches([' ', '\t']);
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self
            .rest
            .trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space();
        match self.rest.chars().next()? {
            '[' => self.list('[', "]", depth),
            '(' => self.list('(', ")", depth),
            '{' => self.map(depth),
            '\'' | '"' => self.strings(),
            'a'..='z' | 'A'..='Z' | '_' => self.name(),
            _ => self.number(),
        }
    }

    fn list(&mut self, open: char, close: &str, depth: usize) -> Option<Value> {
        self.rest = self.rest.strip_prefix(open)?;
        let mut items = Vec::new();
        let mut commas = 0;
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            if self.take(",") {
                commas += 1;
            } else if !self.take(close) {
                return None;
            } else {
                break;
            }
        }
        // Parentheses around one value are not a tuple.
        if open == '(' && items.len() == 1 && commas == 0 {
            return items.pop();
        }
        Some(Value::Array(items))
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.strip_prefix('{')?;
        let (mut map, mut set) = (Map::new(), Vec::new());
        while !self.take("}") {
            let key = self.value(depth + 1)?;
            if self.take(":") {
                let value = self.value(depth + 1)?;
                map.insert(key_text(&key)?, value);
            } else {
                set.push(key);
            }
            if !self.take(",") {
                if !self.take("}") {
                    return None;
                }
                break;
            }
        }
        match (map.is_empty(), set.is_empty()) {
            (_, true) => Some(Value::Object(map)),
            (true, false) => Some(Value::Array(set)),
            (false, false) => None,
        }
    }

    fn name(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if rest.starts_with(['\'', '"']) && matches!(name, "u" | "U") {
            self.rest = rest;
            return self.strings();
        }
        self.rest = rest;
        match name {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            _ => None,
        }
    }

    /// One string, or several that follow each other.
    fn strings(&mut self) -> Option<Value> {
        let mut text = String::new();
        loop {
            self.string(&mut text)?;
            self.skip_space();
            if !self.rest.starts_with(['\'', '"']) {
                return Some(Value::String(text));
            }
        }
    }

    fn string(&mut self, text: &mut String) -> Option<()> {
        let quote = self.rest.chars().next()?;
        let triple = [quote; 3].iter().collect::<String>();
        let end = if self.rest.starts_with(&triple) {
            triple
        } else {
            quote.to_string()
        };
        self.rest = self.rest.get(end.len()..)?;
        loop {
            if let Some(rest) = self.rest.strip_prefix(&*end) {
                self.rest = rest;
                return Some(());
            }
            let c = self.rest.chars().next()?;
            self.rest = self.rest.get(c.len_utf8()..)?;
            match c {
                '\\' => self.escape(text)?,
                '\n' if end.len() == 1 => return None,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..)?;
        let plain = match c {
            '\n' => return Some(()),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' => c,
            'x' => self.hex(2)?,
            'u' => self.hex(4)?,
            'U' => self.hex(8)?,
            '0'..='7' => self.octal(c)?,
            'N' => return None,
            other => {
                text.push('\\');
                other
            }
        };
        text.push(plain);
        Some(())
    }

    fn hex(&mut self, digits: usize) -> Option<char> {
        let number = u32::from_str_radix(self.rest.get(..digits)?, 16).ok()?;
        self.rest = self.rest.get(digits..)?;
        char::from_u32(number)
    }

    fn octal(&mut self, first: char) -> Option<char> {
        let mut number = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                break;
            };
            number = number * 8 + digit;
            self.rest = self.rest.get(1..)?;
        }
        char::from_u32(number)
    }

    fn number(&mut self) -> Option<Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let mut end = 0;
        let mut previous = ' ';
        for c in self.rest.chars() {
            let is_sign = matches!(c, '+' | '-') && (end == 0 || matches!(previous, 'e' | 'E'));
            if !is_part(c) && !is_sign {
                break;
            }
            end += c.len_utf8();
            previous = c;
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        number(text)
    }
}

/// A number by Python's rules: no leading zeros, underscores between digits, `0x`, `0o`, `0b`.
fn number(text: &str) -> Option<Value> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = without_underscores(digits)?;
    let lower = digits.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            let number = i64::from_str_radix(digits, radix).ok()?;
            return Some(Value::from(if is_negative { -number } else { number }));
        }
    }
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let is_zero = digits.bytes().all(|b| b == b'0');
        if digits.len() > 1 && digits.starts_with('0') && !is_zero {
            return None;
        }
        let sign = if is_negative { "-" } else { "" };
        let text = format!("{sign}{digits}");
        return text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .ok()
            .or_else(|| float(&text));
    }
    let is_float = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.bytes().any(|b| b.is_ascii_digit())
        && !digits.starts_with(['e', 'E']);
    let sign = if is_negative { "-" } else { "" };
    is_float
        .then(|| float(&format!("{sign}{digits}")))
        .flatten()
}

fn float(text: &str) -> Option<Value> {
    text.parse()
        .ok()
        .and_then(Number::from_f64)
        .map(Value::Number)
}

/// Removes underscores, each of which has to be between two digits.
fn without_underscores(text: &str) -> Option<String> {
    let is_misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!is_misplaced).then(|| text.replace('_', ""))
}

/// Text of a map's key. Profiles have text alone.
fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `str()` of a value.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr()` of a value, for text without special characters.
fn repr(value: &Value) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(repr).collect())),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}: {}", repr(&Value::String(key.clone())), repr(value))
            };
            format!("{{{}}}", joined(map.iter().map(entry).collect()))
        }
    }
}

/// `int(text)` as Jinja's filter: a number with a fraction is cut, and anything else is the default.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = without_underscores(text.trim())?;
    text.parse::<i64>().ok().or_else(|| {
        let number = text
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "int() cuts the fraction as well"
        )]
        Some(number.trunc() as i64)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[rstest::rstest]
    #[case("5432", Some(json!(5432)))]
    #[case(" 5432", Some(json!(5432)))]
    #[case("5432\n", Some(json!(5432)))]
    #[case("-1", Some(json!(-1)))]
    #[case("1_000", Some(json!(1000)))]
    #[case("0x10", Some(json!(16)))]
    #[case("1.5", Some(json!(1.5)))]
    #[case("1e3", Some(json!(1000.0)))]
    #[case("000", Some(json!(0)))]
    #[case("007", None)]
    #[case("5432abc", None)]
    #[case("e3", None)]
    #[case("", None)]
    #[case("True", Some(json!(true)))]
    #[case("true", None)]
    #[case("None", Some(json!(null)))]
    #[case("'a' \"b\"", Some(json!("ab")))]
    #[case(r"'\n\x41\u00e9\/'", Some(json!("\nA\u{e9}\\/")))]
    #[case("[1, 'a', (2, 3), (4)]", Some(json!([1, "a", [2, 3], 4])))]
    #[case("[1,, 2]", None)]
    #[case("{'a': {\"b\": 1}, 'c': [],}", Some(json!({"a": {"b": 1}, "c": []})))]
    #[case("{\"a\": true}", None)]
    #[case("f(1)", None)]
    #[case("1 2", None)]
    #[case("$$$x", None)]
    fn literals_are_those_of_python(#[case] text: &str, #[case] expected: Option<Value>) {
        assert_eq!(literal(text), expected);
    }

    #[test]
    fn nested_literals_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(literal(&nested(MAX_DEPTH)).is_some());
        assert!(literal(&nested(MAX_DEPTH + 2)).is_none());
        assert!(literal(&nested(1_000_000)).is_none());
    }
}
