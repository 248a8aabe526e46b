//! The identifiers of the store and of images, each a type of its own.
//!
//! Formulas and forms: OCI image-spec `config.md` (DiffID, ChainID), Docker's layer store.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Hashes `data`.
    #[must_use]
    pub fn of(data: &[u8]) -> Hash {
        Hash(Sha256::digest(data).into())
    }

    /// Returns 64 lower-case hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Parses 64 lower-case hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Hash> {
        let mut out = [0; 32];
        unhex(text, &mut out).then_some(Hash(out))
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        // writing to a String cannot fail
        write!(s, "{b:02x}").unwrap_or_default();
        s
    })
}

fn unhex(text: &str, out: &mut [u8]) -> bool {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != out.len() * 2 {
        return false;
    }
    out.iter_mut().zip(text.chunks_exact(2)).all(|(o, pair)| {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(hi), Some(lo)) => {
                *o = hi << 4 | lo;
                true
            }
            _ => false,
        }
    })
}

/// Why a text is no identifier.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct BadId(pub String, pub &'static str);

macro_rules! sha256_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Hash);

        impl $name {
            /// Wraps a hash.
            #[must_use]
            pub fn new(hash: Hash) -> Self {
                $name(hash)
            }

            /// Returns the hash without its prefix.
            #[must_use]
            pub fn hash(&self) -> Hash {
                self.0
            }

            /// Returns the 64 hex digits, without `sha256:`.
            #[must_use]
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.0.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0.hex()[..12])
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix("sha256:")
                    .and_then(Hash::from_hex)
                    .map($name)
                    .ok_or_else(|| BadId(text.to_owned(), "sha256: and 64 hex digits"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

sha256_id! {
    /// SHA-256 of a layer's uncompressed tar stream, every byte of it.
    DiffId
}
sha256_id! {
    /// Identity of a layer upon the layers below it.
    ChainId
}
sha256_id! {
    /// SHA-256 of an image's config, byte for byte.
    ImageId
}

impl ChainId {
    /// Returns the ChainID of a layer upon `parent`, or of a bottom layer.
    #[must_use]
    pub fn next(parent: Option<&ChainId>, diff: &DiffId) -> ChainId {
        match parent {
            None => ChainId(diff.0),
            Some(p) => ChainId(self::Hash::of(format!("{p} {diff}").as_bytes())),
        }
    }

    /// Returns the ChainIDs of a whole stack, bottom first.
    #[must_use]
    pub fn of_stack(diffs: &[DiffId]) -> Vec<ChainId> {
        let mut out: Vec<ChainId> = Vec::with_capacity(diffs.len());
        for d in diffs {
            out.push(ChainId::next(out.last(), d));
        }
        out
    }
}

/// The digest of a blob as an OCI descriptor gives it: `sha256:` or `sha512:`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256.
    Sha256(Hash),
    /// SHA-512.
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// Returns the algorithm's name as it stands before the colon and in blob paths.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// Returns the hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> String {
        match self {
            Digest::Sha256(h) => h.hex(),
            Digest::Sha512(h) => hex(&h[..]),
        }
    }

    /// Returns a hasher for this digest's algorithm.
    #[must_use]
    pub fn hasher(&self) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::Sha512(_) => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Returns whether `data` has this digest.
    #[must_use]
    pub fn matches(&self, data: &[u8]) -> bool {
        let mut h = self.hasher();
        h.update(data);
        h.finish() == *self
    }
}

/// A running hash of the algorithm that a [`Digest`] names.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(data),
            Hasher::Sha512(h) => h.update(data),
        }
    }

    /// Returns the digest of everything taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(h) => Digest::Sha256(Hash(h.finalize().into())),
            Hasher::Sha512(h) => Digest::Sha512(Box::new(h.finalize().into())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Digest, BadId> {
        let bad = || BadId(text.to_owned(), "a sha256 or sha512 digest");
        let (algorithm, digits) = text.split_once(':').ok_or_else(bad)?;
        match algorithm {
            "sha256" => Hash::from_hex(digits).map(Digest::Sha256).ok_or_else(bad),
            "sha512" => {
                let mut out = Box::new([0; 64]);
                unhex(digits, &mut out[..]).then_some(Digest::Sha512(out)).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl From<DiffId> for Digest {
    fn from(d: DiffId) -> Digest {
        Digest::Sha256(d.0)
    }
}

/// The name of a layer's directory under `overlay2/`: 64 hex digits, with `-init` behind them
/// for a container's init layer.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CacheId(String);

impl CacheId {
    /// Draws a new random one. As in Docker, the first 12 characters are never all digits.
    #[must_use]
    pub fn random() -> CacheId {
        loop {
            let id = hex(&crate::sys::random_bytes::<32>());
            if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
                return CacheId(id);
            }
        }
    }

    /// Returns a value that tells this layer directory from every other: the SHA-256 of its name.
    #[must_use]
    pub fn mark(&self) -> [u8; 32] {
        self::Hash::of(self.0.as_bytes()).0
    }

    /// Returns the id of this container layer's init layer.
    #[must_use]
    pub fn init(&self) -> CacheId {
        CacheId(format!("{}-init", self.0))
    }

    /// Returns the text, a single path component.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CacheId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<CacheId, BadId> {
        let ok = !text.is_empty()
            && text.len() <= 255
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if ok { Ok(CacheId(text.to_owned())) } else { Err(BadId(text.to_owned(), "a cache id")) }
    }
}

impl fmt::Display for CacheId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CacheId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheId({})", self.0.get(..12).unwrap_or(&self.0))
    }
}

/// A layer's place among the lowers of a stack, counted from the bottom: 0 is the lowest, so that
/// adding layers on top changes no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct LayerIndex(pub u32);

impl LayerIndex {
    /// Returns the number that people see: 1 for the bottom layer.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_worked_example() {
        // store-format.md section 5, image `core`, as Docker's own layerdb had them
        let d: Vec<DiffId> = [
            "sha256:9deb20ae713688390b2a87c19d8db87860effe3e579104b3fbc3c2b63f212753",
            "sha256:6d630075821ae7fc760e57af37ef227ee6187dff3b094ed82e3bf03b8be2a021",
            "sha256:c856a5e2141cc74d6f659da69557e8e5d4416fc6296b02b1f9964b7ad61b3be7",
        ]
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
        let c = ChainId::of_stack(&d);
        assert_eq!(c[0].hash(), d[0].hash());
        assert_eq!(
            c[1].to_string(),
            "sha256:df57c2adc6cecc520dee7094879224bbec4d1ef341ab7bc7d0fb292a110919ee"
        );
        assert_eq!(
            c[2].to_string(),
            "sha256:901ee1bdf1f1fff79bbb46a1548f9b6f9c3ce93d7bc48dffebb117f8383ce535"
        );
    }

    #[test]
    fn only_whole_lower_case_digests_parse() {
        let good = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        assert_eq!(good.parse::<DiffId>().unwrap().to_string(), good);
        assert_eq!(
            good.parse::<Digest>().unwrap(),
            Hasher::finish({
                let mut h = good.parse::<Digest>().unwrap().hasher();
                h.update(&[0; 1024]);
                h
            })
        );
        for bad in ["", "sha256:", &good[..70], &good.to_uppercase(), "md5:00", "sha256:../../etc"]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
            assert!(bad.parse::<DiffId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cache_ids_are_single_path_components() {
        for bad in ["", ".", "..", "a/b", ".x", "a\0"] {
            assert!(bad.parse::<CacheId>().is_err(), "{bad:?}");
        }
        let c = CacheId::random();
        assert_eq!(c.as_str().parse::<CacheId>().unwrap(), c);
        assert!(c.init().as_str().ends_with("-init"));
    }
}
