//! The image config: what is read of it. Its bytes are kept as they came, for their hash is the
//! image's id; nothing here writes a received config again.
//!
//! Source: OCI image-spec `config.md`.

use super::manifest::{LAYERS_MAX, or_default};
use super::{ImageError, Platform};
use crate::id::DiffId;
use crate::sys::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest config in bytes.
pub const CONFIG_MAX: u64 = 8 << 20;

/// What is known of an image from its config.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// When it was made, RFC 3339, as it stands there.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Operating system, empty if not said.
    pub os: String,
    /// Architecture, empty if not said.
    pub architecture: String,
    /// Variant of the architecture, empty for none.
    pub variant: String,
    /// How a container of it is run: `Cmd`, `Env` and so on, an object or null.
    pub config: Value,
    /// The layers, bottom first.
    pub diff_ids: Vec<DiffId>,
    /// How it was made, oldest first.
    pub history: Vec<History>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether this step made no layer.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    author: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    variant: String,
    #[serde(default)]
    config: Value,
    rootfs: RawRootfs,
    #[serde(default, deserialize_with = "or_default")]
    history: Vec<History>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<DiffId>,
}

impl ImageConfig {
    /// Parses a config and checks that it is consistent in itself. `what` names it in errors.
    ///
    /// # Errors
    /// It is no JSON, has no rootfs of layers, too many layers, or a history that does not fit.
    pub fn parse(bytes: &[u8], what: &str) -> Result<ImageConfig, ImageError> {
        if bytes.len() as u64 > CONFIG_MAX {
            return Err(ImageError::TooLarge { what: what.to_owned(), limit: CONFIG_MAX });
        }
        let bad = |why: String| ImageError::document(what, why);
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        // old builders leave the type out
        if !matches!(raw.rootfs.kind.as_str(), "layers" | "") {
            return Err(bad(format!("a rootfs of type {:?}, not layers", raw.rootfs.kind)));
        }
        if !matches!(raw.config, Value::Null | Value::Object(_)) {
            return Err(bad("its member 'config' is no object".to_owned()));
        }
        let layers = raw.rootfs.diff_ids.len();
        if layers > LAYERS_MAX {
            return Err(ImageError::TooMany { what: "layers", limit: LAYERS_MAX });
        }
        let steps = raw.history.iter().filter(|h| !h.empty_layer).count();
        if steps > layers {
            return Err(bad(format!(
                "its history names {steps} layers, but there are only {layers}"
            )));
        }
        Ok(ImageConfig {
            created: raw.created,
            author: raw.author,
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant,
            config: raw.config,
            diff_ids: raw.rootfs.diff_ids,
            history: raw.history,
        })
    }

    /// Returns the history entry of the layer `index`, counted from the bottom.
    #[must_use]
    pub fn history_of(&self, index: usize) -> Option<&History> {
        self.history.iter().filter(|h| !h.empty_layer).nth(index)
    }

    /// Returns the platform that the config names.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

/// What the config of an image says that is made here, from a plain tree.
#[derive(Clone, Debug)]
pub struct NewConfig {
    /// The platform that its programs are for.
    pub platform: Platform,
    /// The time of making.
    pub created: Time,
    /// For each layer, bottom first, what its history says.
    pub created_by: Vec<String>,
}

impl NewConfig {
    /// Returns the config's bytes for these layers, bottom first.
    #[must_use]
    pub fn encode(&self, diff_ids: &[DiffId]) -> Vec<u8> {
        let created = rfc3339(self.created);
        let history: Vec<History> = self
            .created_by
            .iter()
            .map(|by| History {
                created: Some(created.clone()),
                created_by: Some(by.clone()),
                ..History::default()
            })
            .collect();
        let mut all = json!({
            "architecture": self.platform.architecture,
            "config": {},
            "created": created,
            "history": history,
            "os": self.platform.os,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        if !self.platform.variant.is_empty() {
            all["variant"] = json!(self.platform.variant);
        }
        all.to_string().into_bytes()
    }
}

/// Returns a time in UTC as RFC 3339 writes it, with nanoseconds if there are any.
#[must_use]
pub fn rfc3339(time: Time) -> String {
    let days = time.sec.div_euclid(86_400);
    let second = time.sec.rem_euclid(86_400);
    // days to a date of the proleptic Gregorian calendar, in eras of 400 years from March 0000
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = match time.nsec {
        0 => String::new(),
        n => format!(".{n:09}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    fn parse(json: &str) -> Result<ImageConfig, ImageError> {
        ImageConfig::parse(json.as_bytes(), "config")
    }

    #[test]
    fn nulls_of_go_are_nothing() {
        let c =
            parse(r#"{"config":null,"rootfs":{"type":"layers","diff_ids":null},"history":null}"#);
        assert!(c.unwrap().diff_ids.is_empty());
    }

    #[test]
    fn history_counts_only_steps_that_made_a_layer() {
        let c = parse(&format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{D}","{D}"]}},
                "history":[{{"created_by":"a"}},{{"created_by":"env","empty_layer":true}},{{"created_by":"b"}}]}}"#
        ))
        .unwrap();
        assert_eq!(c.history_of(1).unwrap().created_by.as_deref(), Some("b"));
        assert!(c.history_of(2).is_none());
    }

    #[test]
    fn inconsistent_configs_are_refused() {
        let rootfs = format!(r#""rootfs":{{"type":"layers","diff_ids":["{D}"]}}"#);
        for bad in [
            "{}".to_owned(),
            r#"{"rootfs":null}"#.to_owned(),
            r#"{"rootfs":{"type":"layers+base","diff_ids":[]}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers","diff_ids":[]},"history":[{}]}"#.to_owned(),
            format!(r#"{{{rootfs},{rootfs}}}"#),
            format!(r#"{{{rootfs},"config":[]}}"#),
            format!(r#"{{{rootfs},"history":[{{}},{{}}]}}"#),
            format!(
                r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
                vec![format!("\"{D}\""); LAYERS_MAX + 1].join(",")
            ),
        ] {
            assert!(parse(&bad).is_err(), "{}", &bad[..bad.len().min(80)]);
        }
    }

    #[test]
    fn a_config_made_here_parses() {
        let new = NewConfig {
            platform: Platform::new("linux", "arm", "v7"),
            created: Time { sec: 0, nsec: 0 },
            created_by: vec!["x".to_owned()],
        };
        let c = ImageConfig::parse(&new.encode(&[D.parse().unwrap()]), "made").unwrap();
        assert_eq!((c.diff_ids.len(), c.variant.as_str()), (1, "v7"));
        assert_eq!(c.created.as_deref(), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |sec, nsec| rfc3339(Time { sec, nsec });
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_224_922, 344_538_289), "2026-11-21T01:35:22.344538289Z");
        assert_eq!(at(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59Z");
    }
}
