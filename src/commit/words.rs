//! The words of a Dockerfile's line: quotes, escapes and variables.
//!
//! Source: the Dockerfile reference, "Environment replacement", and buildkit
//! `frontend/dockerfile/shell/lex.go` for what it leaves open.

use std::iter::Peekable;
use std::str::Chars;

const OPEN_QUOTE: &str = "its quotes do not match";

/// Splits at blanks that are neither quoted nor escaped. Quotes and escapes stay for [`expand`].
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            ('\\', None | Some('"')) => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if quote.is_some() {
        return Err(OPEN_QUOTE);
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Takes quotes and escapes away, and puts in what variables hold; nothing for those that are not
/// set.
pub(super) fn expand(
    word: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, &'static str> {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next().ok_or(OPEN_QUOTE)? {
                    '\'' => break,
                    c => out.push(c),
                }
            },
            '"' => loop {
                match chars.next().ok_or(OPEN_QUOTE)? {
                    '"' => break,
                    '$' => out.push_str(&value(&mut chars, variable)?),
                    '\\' => match chars.next().ok_or(OPEN_QUOTE)? {
                        c @ ('"' | '$' | '\\') => out.push(c),
                        c => out.extend(['\\', c]),
                    },
                    c => out.push(c),
                }
            },
            '\\' => out.push(chars.next().unwrap_or('\\')),
            '$' => out.push_str(&value(&mut chars, variable)?),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// What stands for a variable, of which the dollar sign was read.
fn value(
    chars: &mut Peekable<Chars<'_>>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, &'static str> {
    if chars.next_if_eq(&'{').is_none() {
        let name = name(chars);
        // no name, no variable
        return Ok(if name.is_empty() {
            "$".to_owned()
        } else {
            variable(&name).unwrap_or_default()
        });
    }
    let name = name(chars);
    let mut rest = String::new();
    let mut depth = 0;
    loop {
        match chars.next().ok_or("a variable's '}' is missing")? {
            '}' if depth == 0 => break,
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                rest.push(c);
            }
        }
    }
    let set = variable(&name);
    // with a colon an empty value counts as none
    let (set, how) = match rest.strip_prefix(':') {
        Some(how) => (set.filter(|v| !v.is_empty()), how),
        None => (set, rest.as_str()),
    };
    match (how.chars().next(), rest.is_empty()) {
        _ if name.is_empty() => Err("a variable has no name"),
        (None, true) => Ok(set.unwrap_or_default()),
        (Some('-'), _) => set.map_or_else(|| expand(&how[1..], variable), Ok),
        (Some('+'), _) => set.map_or_else(|| Ok(String::new()), |_| expand(&how[1..], variable)),
        _ => Err("of a variable only ${X}, ${X:-WORD} and ${X:+WORD} are known"),
    }
}

fn name(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_bare_blanks() {
        let split = |t: &str| split(t).unwrap();
        assert_eq!(
            split(r#" a  b="c d"  e\ f 'g "h' "#),
            ["a", r#"b="c d""#, r"e\ f", r#"'g "h'"#]
        );
        assert_eq!(split(""), [""; 0]);
        assert!(super::split("a \"b").is_err());
    }

    #[test]
    fn variables_are_put_in_where_no_quote_protects_them() {
        let variable = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (word, expected) in [
            ("$A:/x", "1:/x"),
            ("${A}b$A", "1b1"),
            ("$NONE-", "-"),
            ("'$A'\"$A\"", "$A1"),
            (r#"\$A "\$A \n""#, r"$A $A \n"),
            ("${NONE:-d$A}", "d1"),
            ("${A:-d}", "1"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${A:+y}${NONE:+y}${EMPTY+z}", "yz"),
            ("${NONE:-${A}}", "1"),
            ("100$", "100$"),
        ] {
            assert_eq!(expand(word, &variable).as_deref(), Ok(expected), "{word}");
        }
        for bad in ["${A", "${}", "${A:?x}", "${A/x}", "'a", "\"a"] {
            assert!(expand(bad, &variable).is_err(), "{bad}");
        }
    }
}
