//! Image references: `name[:tag][@digest]`, in the full form and in the familiar one.
//!
//! Grammar: the `reference` package of the distribution project. The familiar form is the one
//! that people type and that Docker's `repositories.json` holds: `docker.io/library/` is left out.

use crate::id::Digest;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A parsed reference. Its domain and path are always the full ones.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image name: {why}")]
pub struct BadReference {
    text: String,
    why: &'static str,
}

impl Reference {
    /// Returns the name as people know it, without tag and digest: `nginx`, `user/app`,
    /// `localhost:5000/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.full_name();
        }
        match self.path.strip_prefix("library/") {
            // docker.io/library/a/b is not a/b, which would be read as docker.io/a/b
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns the name with its registry: `docker.io/library/nginx`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the registry's host, with its port if it has one.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository's path within the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag, if the reference has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the manifest's digest, if the reference has one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns this reference with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// Returns repository and reference as Docker's `repositories.json` keys them: the familiar
    /// name, and `NAME@DIGEST` if there is a digest, else `NAME:TAG` (`latest` without a tag).
    #[must_use]
    pub fn repository_key(&self) -> (String, String) {
        let name = self.familiar_name();
        let key = match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{name}@{digest}"),
            (None, tag) => format!("{name}:{}", tag.as_deref().unwrap_or("latest")),
        };
        (name, key)
    }

    /// Returns this name with another tag and no digest.
    ///
    /// # Errors
    /// `tag` is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, BadReference> {
        if !is_tag(tag) {
            return Err(BadReference { text: tag.to_owned(), why: BAD_TAG });
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns this name with its tag alone.
    #[must_use]
    pub fn without_digest(&self) -> Reference {
        Reference { digest: None, ..self.clone() }
    }

    /// Returns this name with a manifest's digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }
}

const BAD_TAG: &str =
    "a tag is up to 128 letters, digits, '_', '.' and '-', and begins with none of the last two";

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Reference, BadReference> {
        let bad = |why| BadReference { text: text.to_owned(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| {
                    bad("behind '@' belongs sha256: and 64, or sha512: and 128 hex digits")
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // a colon before the last slash belongs to a port
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[slash..].find(':') {
            Some(i) => (&rest[..slash + i], Some(&rest[slash + i + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(bad(BAD_TAG));
        }
        let (domain, path) = split_name(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("the name must be lower case"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(bad(
                "the name is made of a-z and 0-9, joined by '.', '_', '__' or dashes, \
                            and its parts by '/'",
            ));
        }
        if !is_domain(domain) {
            return Err(bad("the part before the first '/' is no host name"));
        }
        let full = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}/{path}")
        } else {
            path.to_owned()
        };
        if domain.len() + 1 + full.len() > NAME_MAX {
            return Err(bad("the name is longer than 255 characters"));
        }
        let all = Reference {
            domain: domain.to_owned(),
            path: full,
            tag: tag.map(str::to_owned),
            digest,
        };
        let familiar = all.familiar_name();
        if is_bare_id(&familiar) {
            return Err(bad("64 hex digits are an image id, not a name"));
        }
        if familiar == "sha256" {
            return Err(bad("sha256 is no name, it begins a digest"));
        }
        Ok(all)
    }
}

fn split_name(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if first == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn is_bare_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= TAG_MAX
        && bytes.first().is_some_and(word)
        && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = |c: Option<char>| c.is_some_and(alnum);
    ends(text.chars().next())
        && ends(text.chars().next_back())
        && text
            .split(alnum)
            .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, rest)) => {
                if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                    return false;
                }
                return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for Reference {
    /// Writes the familiar form with tag and digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({self})")
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    #[test]
    fn names_become_full_and_familiar() {
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx", "nginx"),
            ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
            ("user/app:1.2", "docker.io/user/app", "user/app:1.2"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("127.0.0.1:5000/core", "127.0.0.1:5000/core", "127.0.0.1:5000/core"),
            ("h:5000/a/b-c__d:T", "h:5000/a/b-c__d", "h:5000/a/b-c__d:T"),
            ("[::1]:80/x", "[::1]:80/x", "[::1]:80/x"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("Upper/x", "Upper/x", "Upper/x"),
            ("quay.io/library/x", "quay.io/library/x", "quay.io/library/x"),
            ("library/debian", "docker.io/library/debian", "debian"),
        ] {
            let r: Reference = text.parse().unwrap();
            assert_eq!(r.full_name(), full);
            assert_eq!(r.to_string(), familiar);
            assert_eq!(r.to_string().parse::<Reference>().unwrap(), r);
        }
        let both: Reference = format!("a:t@{HEX}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().is_some()), (Some("t"), true));
        assert_eq!("a".parse::<Reference>().unwrap().or_latest().to_string(), "a:latest");
        let key = |text: &str| text.parse::<Reference>().unwrap().repository_key().1;
        assert_eq!(key(&format!("docker.io/library/a:t@{HEX}")), format!("a@{HEX}"));
        assert_eq!((key("a:t"), key("h.x/a")), ("a:t".to_owned(), "h.x/a:latest".to_owned()));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a/".repeat(130) + "a";
        for bad in [
            "",
            ":t",
            "a:",
            "a:-t",
            "a:.t",
            "Nginx",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a@",
            "a@sha256:12",
            "a@md5:00",
            "a b",
            "a\n",
            "../a",
            "h:x/a",
            "-h.x/a",
            "é",
            "[::1/x",
            "[]/x",
            "[::1]x/y",
            "bad-.io/x",
            "a:b:c",
            &HEX[7..],
            "sha256",
            "sha256:1",
            "docker.io/library/sha256:1",
            &format!("{}:1", &HEX[7..]),
            &long,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!("a-----b".parse::<Reference>().is_ok());
    }
}
