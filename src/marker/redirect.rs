//! Where the layers below hold a directory that was renamed.

use crate::name::{BadName, Name, components};

/// The value of the redirect attribute (overlayfs.rst, "renaming directories").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Another name in the same directory of the layers below.
    Sibling(Box<[u8]>),
    /// A path from the root of the layers below; its components, none of them `..`.
    Absolute(Vec<Box<[u8]>>),
}

impl Redirect {
    /// Parses the attribute's value.
    ///
    /// # Errors
    /// An empty path, `..`, a name that is too long, or a relative path of several components.
    pub fn parse(value: &[u8]) -> Result<Redirect, BadName> {
        // the kernel writes no NUL, other tools have written one
        let value = value.strip_suffix(b"\0").unwrap_or(value);
        if value.first() == Some(&b'/') {
            let parts = components(value)?;
            if parts.is_empty() {
                return Err(BadName::Empty);
            }
            return Ok(Redirect::Absolute(parts.iter().map(|n| n.bytes().into()).collect()));
        }
        Ok(Redirect::Sibling(Name::new(value)?.bytes().into()))
    }

    /// Returns the attribute's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Redirect::Sibling(n) => n.to_vec(),
            Redirect::Absolute(parts) => {
                parts.iter().flat_map(|p| [b"/", &p[..]].concat()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_survive_the_round_trip() {
        for v in [&b"old name"[..], b"/a/b c/d", b"/x"] {
            assert_eq!(Redirect::parse(v).unwrap().encode(), v);
        }
        for bad in [&b""[..], b"/", b"..", b"/a/../b", b"a/b"] {
            assert!(Redirect::parse(bad).is_err());
        }
    }
}
