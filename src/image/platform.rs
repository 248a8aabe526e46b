//! Platforms: operating system, architecture and its variant, and which of several fits best.
//!
//! Source: OCI image-spec `image-index.md` (Go's GOOS and GOARCH words).

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A platform as an image index or `--platform` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Platform {
    /// Operating system, in Go's words (`linux`).
    #[serde(default)]
    pub os: String,
    /// Architecture, in Go's words (`amd64`).
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture (`v8`), empty for none.
    #[serde(default)]
    pub variant: String,
}

/// Why a text is no platform.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{0:?} is no platform; write it as OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, like linux/arm64"
)]
pub struct BadPlatform(String);

impl Platform {
    /// Returns the platform whose images this machine can run. On macOS too that is a Linux.
    #[must_use]
    pub fn host() -> Platform {
        let os = if cfg!(target_os = "macos") { "linux" } else { std::env::consts::OS };
        Platform::new(os, std::env::consts::ARCH, "")
    }

    /// Makes a platform, in normal form: `x86_64` is `amd64`, `arm64` has no `v8`.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("x86" | "i386" | "i486" | "i586" | "i686", _) => ("386", ""),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64", v) => ("arm64", v),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64", v) => {
                (if cfg!(target_endian = "little") { "ppc64le" } else { "ppc64" }, v)
            }
            ("loongarch64", v) => ("loong64", v),
            (a, v) => (a, v),
        };
        let os = os.to_ascii_lowercase();
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        Platform { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// Returns how well an image of platform `offered` fits one who wants this platform: 0 is
    /// best, `None` means not at all. Older variants of the same family fit, newer ones fit last.
    #[must_use]
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        let want = Platform::new(&self.os, &self.architecture, &self.variant);
        let have = Platform::new(&offered.os, &offered.architecture, &offered.variant);
        if want.os != have.os {
            return None;
        }
        let level = |p: &Platform| match (p.architecture.as_str(), p.variant.as_str()) {
            ("arm64", "") => Some(8),
            ("amd64", "") => Some(1),
            (_, v) => v.strip_prefix('v').and_then(|n| n.split('.').next()?.parse::<u32>().ok()),
        };
        if want.architecture == have.architecture {
            if want.variant == have.variant {
                return Some(0);
            }
            return match (level(&want), level(&have)) {
                (Some(w), Some(h)) if h <= w => Some(1 + (w - h).min(98)),
                // a mount only reads the files, so too new an image is better than none
                (Some(w), Some(h)) => Some(1000 + (h - w).min(98)),
                _ => Some(500),
            };
        }
        match (want.architecture.as_str(), have.architecture.as_str()) {
            ("arm64", "arm") => Some(100 + 8u32.saturating_sub(level(&have).unwrap_or(0))),
            ("amd64", "386") => Some(100),
            _ => None,
        }
    }

    /// Returns whether this is what attestations carry instead of a platform.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl FromStr for Platform {
    type Err = BadPlatform;

    fn from_str(text: &str) -> Result<Platform, BadPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |p: &&str| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match parts[..] {
            [os, arch] if parts.iter().all(word) => Ok(Platform::new(os, arch, "")),
            [os, arch, variant] if parts.iter().all(word) => Ok(Platform::new(os, arch, variant)),
            _ => Err(BadPlatform(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn other_words_mean_the_same() {
        assert_eq!(p("linux/x86_64"), p("Linux/amd64/v1"));
        assert_eq!(p("linux/aarch64"), p("linux/arm64/v8"));
        assert_eq!(p("linux/arm"), p("linux/arm/v7"));
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_best_variant_comes_first() {
        let best = |want: &str, offered: &[&str]| {
            let mut fits: Vec<_> =
                offered.iter().filter_map(|o| Some((p(want).rank(&p(o))?, *o))).collect();
            fits.sort();
            fits.into_iter().map(|(_, o)| o.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            best("linux/arm64", &["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/amd64"]),
            ["linux/arm64/v8", "linux/arm/v7", "linux/arm/v6"]
        );
        assert_eq!(
            best("linux/amd64/v3", &["linux/amd64", "linux/amd64/v4", "linux/amd64/v2"]),
            ["linux/amd64/v2", "linux/amd64", "linux/amd64/v4"]
        );
        assert_eq!(best("linux/riscv64", &["windows/riscv64", "linux/amd64"]), [""; 0]);
    }
}
