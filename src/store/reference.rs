//! Names of images as Docker keys them: the familiar form, without `docker.io/library/`.

use super::StoreError;
use crate::id::Digest;

/// `NAME[:TAG][@DIGEST]`, with the name in its familiar form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<Digest>,
}

impl Reference {
    /// Parses what a user types.
    pub(super) fn parse(text: &str) -> Result<Reference, StoreError> {
        let bad = |why| StoreError::bad_reference(text, why);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, d)) => {
                (rest, Some(d.parse().map_err(|_| bad("what follows '@' is no digest"))?))
            }
            None => (text, None),
        };
        // a colon before the last slash is that of a port
        let after_slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(i) => {
                let (name, tag) = rest.split_at(after_slash + i);
                (name, Some(&tag[1..]))
            }
            None => (rest, None),
        };
        let name = familiar_name(name).map_err(bad)?;
        if let Some(t) = tag {
            check_tag(t).map_err(bad)?;
        }
        Ok(Reference { name, tag: tag.map(str::to_owned), digest })
    }

    /// Returns the key in `repositories.json`: a digest wins over a tag.
    pub(super) fn key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(d), _) => format!("{}@{d}", self.name),
            (None, tag) => format!("{}:{}", self.name, tag.as_deref().unwrap_or("latest")),
        }
    }
}

/// Checks a repository's name and returns it without Docker's default registry and library.
pub(super) fn familiar_name(name: &str) -> Result<String, &'static str> {
    let (host, path) = match name.split_once('/') {
        // the first part is a host if it can be nothing else
        Some((h, p))
            if h.contains(['.', ':'])
                || h == "localhost"
                || h.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(h), p)
        }
        _ => (None, name),
    };
    if let Some(h) = host
        && !is_host(h)
    {
        return Err("the registry's name is malformed");
    }
    if path.is_empty() {
        return Err("the name is empty");
    }
    if !path.split('/').all(is_path_part) {
        return Err("the parts of a name are lower-case letters and digits, with single '.', \
                    single or double '_', or any number of '-' between them");
    }
    let familiar = match host {
        None | Some("docker.io" | "index.docker.io") => match path.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => path.to_owned(),
        },
        Some(h) => format!("{h}/{path}"),
    };
    if name.len() > 255 {
        return Err("the name is longer than 255 bytes");
    }
    if familiar == "sha256" || crate::id::Hash::from_hex(&familiar).is_some() {
        return Err("it would look like a digest");
    }
    Ok(familiar)
}

/// Checks a tag.
pub(super) fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    let ok = bytes.first().is_some_and(|b| word(*b))
        && bytes.len() <= 128
        && bytes.iter().all(|b| word(*b) || *b == b'.' || *b == b'-');
    if ok { Ok(()) } else { Err("a tag is 1 to 128 letters, digits, '_', '.' and '-'") }
}

fn is_host(host: &str) -> bool {
    if let Some((v6, port)) = host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        let digits = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        return !v6.is_empty()
            && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(digits));
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.split('.').all(label)
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_path_part(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(|b| alnum(*b)) && bytes.last().is_some_and(|b| alnum(*b));
    ends && part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_their_familiar_form() {
        for (text, key) in [
            ("debian", "debian:latest"),
            ("docker.io/library/debian:12", "debian:12"),
            ("index.docker.io/library/debian", "debian:latest"),
            ("library/debian", "debian:latest"),
            ("docker.io/a/b", "a/b:latest"),
            ("127.0.0.1:5000/core", "127.0.0.1:5000/core:latest"),
            ("localhost/x:Y_1.2-3", "localhost/x:Y_1.2-3"),
            ("quay.io/library/x", "quay.io/library/x:latest"),
            ("a__b/c--d.e", "a__b/c--d.e:latest"),
            ("[::1]:80/x", "[::1]:80/x:latest"),
            ("Upper/x", "Upper/x:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().key(), key, "{text}");
        }
        let d = format!("sha256:{}", "0".repeat(64));
        assert_eq!(Reference::parse(&format!("x:1@{d}")).unwrap().key(), format!("x@{d}"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let hex = "a".repeat(64);
        let long = "a/".repeat(127) + "aa";
        for bad in [
            "",
            ":",
            "@",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a:",
            "a:-x",
            "a@sha256:1",
            "../x",
            "a/../b",
            "a___b",
            "a..b",
            "-a",
            "a-",
            "sha256",
            "sha256:x",
            "x y",
            "x\n",
            "a:b:c",
            "é",
            &hex,
            &long,
            "bad-.io/x",
            "h:port/x",
            "[::1/x",
            "[]/x",
            "[::1]x/y",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
