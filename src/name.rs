//! File names and paths as bytes, checked once.

use std::fmt;

/// Why some bytes are no file name or path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// No bytes at all.
    #[error("the name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("'.' and '..' name no entry")]
    Dots,
    /// A slash or a NUL byte.
    #[error("the name holds a slash or a NUL byte")]
    Separator,
    /// More than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    TooLong,
}

/// The longest name in bytes.
pub const NAME_MAX: usize = 255;

/// One component of a path: 1 to 255 bytes, no slash, no NUL, not `.` or `..`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>, BadName> {
        if bytes.is_empty() {
            Err(BadName::Empty)
        } else if bytes == b"." || bytes == b".." {
            Err(BadName::Dots)
        } else if bytes.iter().any(|b| *b == b'/' || *b == 0) {
            Err(BadName::Separator)
        } else if bytes.len() > NAME_MAX {
            Err(BadName::TooLong)
        } else {
            Ok(Name(bytes))
        }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printable(self.0).fmt(f)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Splits a path into its components. Leading, doubled and trailing slashes and `.` mean nothing;
/// `..` is refused.
pub fn components(path: &[u8]) -> Result<Vec<Name<'_>>, BadName> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").map(Name::new).collect()
}

/// Returns `bytes` as text for people: control characters, backslashes and what is not UTF-8 are
/// escaped, so that a hostile name cannot drive a terminal.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() || is_direction_mark(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            // writing to a String cannot fail
            write!(out, "\\x{b:02x}").unwrap_or_default();
        }
    }
    out
}

/// Characters that reorder the text around them (Unicode bidirectional controls).
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_components() {
        assert_eq!(Name::new(b""), Err(BadName::Empty));
        assert_eq!(Name::new(b".."), Err(BadName::Dots));
        assert_eq!(Name::new(b"a/b"), Err(BadName::Separator));
        assert_eq!(Name::new(b"a\0"), Err(BadName::Separator));
        assert_eq!(Name::new(&[b'n'; 256]), Err(BadName::TooLong));
        assert!(Name::new(&[b'n'; 255]).is_ok());
        assert!(Name::new(b"\xff...").is_ok());
    }

    #[test]
    fn slashes_and_dots_mean_nothing_in_paths() {
        let parts = |p: &'static [u8]| components(p).map(|c| c.iter().map(|n| n.bytes()).collect());
        assert_eq!(parts(b"//a/./b/"), Ok(vec![&b"a"[..], b"b"]));
        assert_eq!(parts(b"/"), Ok(vec![]));
        assert_eq!(parts(b"a/../b"), Err(BadName::Dots));
    }

    #[test]
    fn printable_text_cannot_drive_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n\xff\\"), "a\\u{1b}[2Jb\\n\\xff\\\\");
        assert_eq!(printable("é中".as_bytes()), "é中");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
