//! The small words: items, escapes, values.

use super::BadOption;
use crate::name::printable;
use crate::overlay::IdRange;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

/// A colon that was escaped twice.
const TWICE: &[u8] = br"\\:";

#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) key: &'a str,
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Item<'a> {
    pub(super) fn value(self) -> Result<&'a [u8], BadOption> {
        self.value
            .filter(|v| !v.is_empty())
            .ok_or_else(|| BadOption::NeedsValue(self.key.to_owned()))
    }

    pub(super) fn flag(self, on: bool) -> Result<Option<bool>, BadOption> {
        match self.value {
            None => Ok(Some(on)),
            Some(_) => Err(BadOption::TakesNoValue(self.key.to_owned())),
        }
    }

    fn bad(self, wanted: &'static str) -> BadOption {
        let value = printable(self.value.unwrap_or_default());
        BadOption::BadValue { option: self.key.to_owned(), value, wanted }
    }

    fn text(self) -> Result<&'a str, BadOption> {
        std::str::from_utf8(self.value()?).map_err(|_| self.bad("text"))
    }

    pub(super) fn one_of(self, words: &[&'static str]) -> Result<&'static str, BadOption> {
        let text = self.text()?;
        words.iter().find(|w| **w == text).copied().ok_or_else(|| self.bad("a known value"))
    }

    pub(super) fn seconds(self) -> Result<Duration, BadOption> {
        let wanted = "a number of seconds";
        let seconds: f64 = self.text()?.parse().map_err(|_| self.bad(wanted))?;
        // longer than a century is for ever, and for ever fits the kernel's arithmetic
        Duration::try_from_secs_f64(seconds.min(4e9)).map_err(|_| self.bad(wanted))
    }

    pub(super) fn number_as_bool(self) -> Result<bool, BadOption> {
        match self.text()? {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.bad("0 or 1")),
        }
    }

    pub(super) fn on_or_off(self) -> Result<bool, BadOption> {
        match self.text()? {
            "0" | "off" => Ok(false),
            "1" | "on" => Ok(true),
            _ => Err(self.bad("on, off, 1 or 0")),
        }
    }

    pub(super) fn id(self) -> Result<u32, BadOption> {
        self.text()?.parse().map_err(|_| self.bad("the number of a user or group"))
    }

    pub(super) fn bytes(self) -> Result<u32, BadOption> {
        self.text()?.parse().map_err(|_| self.bad("a number of bytes"))
    }

    pub(super) fn count(self) -> Result<usize, BadOption> {
        self.text()?.parse().map_err(|_| self.bad("a number"))
    }

    pub(super) fn threads(self) -> Result<usize, BadOption> {
        let n: usize = self.text()?.parse().unwrap_or(0);
        if (1..=64).contains(&n) { Ok(n) } else { Err(self.bad("a number from 1 to 64")) }
    }
}

pub(super) fn path(raw: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(raw)))
}

/// A security context: text that the kernel gets between quotes, which may stand here as well.
pub(super) fn label(option: Item<'_>) -> Result<OsString, BadOption> {
    let raw = option.value()?;
    let bare = raw.strip_prefix(b"\"").and_then(|r| r.strip_suffix(b"\"")).unwrap_or(raw);
    if bare.contains(&b'"') {
        return Err(option.bad("a security context"));
    }
    Ok(OsString::from_vec(unescape(bare)))
}

/// `STORED:SHOWN:COUNT[:STORED:SHOWN:COUNT..]`; empty fields mean nothing.
pub(super) fn ranges(option: Item<'_>) -> Result<Vec<IdRange>, BadOption> {
    let wanted = "a list of ids, STORED:SHOWN:COUNT";
    let numbers = option
        .text()?
        .split(':')
        .filter(|n| !n.is_empty())
        .map(|n| n.parse::<u32>().map_err(|_| option.bad(wanted)))
        .collect::<Result<Vec<u32>, BadOption>>()?;
    let (triples, rest) = numbers.as_chunks::<3>();
    if !rest.is_empty() {
        return Err(option.bad(wanted));
    }
    Ok(triples.iter().map(|&[stored, shown, count]| IdRange { stored, shown, count }).collect())
}

/// Lower directories, and those behind `::`, which only hold data. A colon too many at either
/// end means nothing, as in fuse-overlayfs.
pub(super) fn directories(option: Item<'_>) -> Result<(Vec<PathBuf>, Vec<PathBuf>), BadOption> {
    let bad = || option.bad("a list of directories separated by colons");
    let mut text = option.value()?;
    text = text.strip_prefix(b":").unwrap_or(text);
    text = text.strip_suffix(b":").filter(|t| !t.ends_with(b"\\")).unwrap_or(text);
    let (mut lowers, mut data_only) = (Vec::new(), Vec::new());
    let (mut only_data, mut gap) = (false, false);
    for part in split(text, b':') {
        if part.is_empty() {
            if gap || lowers.is_empty() {
                return Err(bad());
            }
            (only_data, gap) = (true, true);
            continue;
        }
        gap = false;
        if only_data { &mut data_only } else { &mut lowers }.push(path(part));
    }
    if gap || lowers.is_empty() { Err(bad()) } else { Ok((lowers, data_only)) }
}

/// Options whose value is quoted, so that it may hold commas.
const QUOTED: [&[u8]; 4] = [b"context=\"", b"fscontext=\"", b"defcontext=\"", b"rootcontext=\""];

/// Splits the value of `-o` into items. Escapes and quotes stay, empty items do not.
pub(super) fn items(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let quoted = QUOTED.iter().find(|q| text.starts_with(q)).and_then(|q| {
            let end = q.len() + text[q.len()..].iter().position(|b| *b == b'"')? + 1;
            (text.len() == end || text[end] == b',').then_some(end)
        });
        let end = quoted.unwrap_or_else(|| split(text, b',').next().map_or(0, <[u8]>::len));
        rest = text.get(end + 1..);
        Some(&text[..end])
    })
    .filter(|item| !item.is_empty())
}

/// Splits at every `separator` that has no backslash before it. Escapes stay.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut i = 0;
        while i < text.len() {
            match text[i] {
                b'\\' if text[i..].starts_with(TWICE) => i += TWICE.len(),
                b'\\' if i + 1 < text.len() => i += 2,
                b if b == separator => {
                    rest = Some(&text[i + 1..]);
                    return Some(&text[..i]);
                }
                _ => i += 1,
            }
        }
        rest = None;
        Some(text)
    })
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        let b;
        (b, rest) = match more {
            _ if rest.starts_with(TWICE) => (&b':', &rest[TWICE.len()..]),
            [next @ (b',' | b':' | b'\\'), more @ ..] if *first == b'\\' => (next, more),
            _ => (first, more),
        };
        out.push(*b);
    }
    out
}
