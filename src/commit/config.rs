//! The config of the new image: its parent's, with one step more.
//!
//! Source: OCI image-spec `config.md`; which members a child does not inherit, and that the others
//! are sorted by name: moby `daemon/internal/image/image.go` (`NewChildImage`, `MarshalJSON`).

use super::Instruction;
use crate::id::DiffId;
use crate::image::{History, rfc3339};
use crate::name::printable;
use crate::sys::Time;
use serde_json::{Map, Value, json};

/// What a commit adds to an image.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// When it is made.
    pub created: Time,
    /// What made it.
    pub created_by: String,
    /// Who made it.
    pub author: Option<String>,
    /// A remark.
    pub message: Option<String>,
    /// Changes of how a container of it is run.
    pub changes: Vec<Instruction>,
}

/// Why there can be no such config.
#[derive(Debug, thiserror::Error)]
pub enum BadCommit {
    /// The parent's is none.
    #[error("the config of its image is not valid: {0}")]
    Parent(String),
    /// A line of a Dockerfile does not fit it.
    #[error("--change {word}: {why}")]
    Change {
        /// With what it begins.
        word: &'static str,
        /// Why not.
        why: &'static str,
    },
}

impl BadCommit {
    fn kind(key: &str, kind: &str) -> BadCommit {
        BadCommit::Parent(format!("its member '{key}' is no {kind}"))
    }
}

/// What belongs to the parent alone.
const NOT_INHERITED: [&str; 7] =
    ["author", "comment", "container", "container_config", "docker_version", "id", "parent"];

/// Returns the config of an image made of `parent` by `step`, which added `layer` or changed no
/// file.
pub(super) fn child(
    parent: &[u8],
    step: &NewStep,
    layer: Option<DiffId>,
) -> Result<Vec<u8>, BadCommit> {
    let mut all: Map<String, Value> = serde_json::from_slice(parent)
        .map_err(|e| BadCommit::Parent(printable(e.to_string().as_bytes())))?;
    for key in NOT_INHERITED {
        all.remove(key);
    }
    let created = rfc3339(step.created);
    if let Some(diff) = layer {
        let rootfs = object(&mut all, "rootfs")?;
        list(rootfs, "diff_ids")?.push(json!(diff));
    }
    let entry = History {
        created: Some(created.clone()),
        created_by: Some(step.created_by.clone()),
        author: step.author.clone(),
        comment: step.message.clone(),
        empty_layer: layer.is_none(),
    };
    list(&mut all, "history")?.push(json!(entry));
    all.insert("created".to_owned(), json!(created));
    if let Some(author) = &step.author {
        all.insert("author".to_owned(), json!(author));
    }
    if !step.changes.is_empty() {
        Instruction::apply_all(&step.changes, object(&mut all, "config")?)?;
    }
    all.sort_keys();
    Ok(Value::Object(all).to_string().into_bytes())
}

/// Returns the member `key`, a list. What is not there, and the null that Go writes, is empty.
pub(super) fn list<'a>(
    of: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Vec<Value>, BadCommit> {
    let empty = || json!([]);
    member(of, key, empty).as_array_mut().ok_or_else(|| BadCommit::kind(key, "list"))
}

/// Returns the member `key`, an object; an empty one as [`list`] does.
pub(super) fn object<'a>(
    of: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, BadCommit> {
    let empty = || json!({});
    member(of, key, empty).as_object_mut().ok_or_else(|| BadCommit::kind(key, "object"))
}

fn member<'a>(
    of: &'a mut Map<String, Value>,
    key: &str,
    empty: impl Fn() -> Value,
) -> &'a mut Value {
    let value = of.entry(key).or_insert_with(&empty);
    if value.is_null() {
        *value = empty();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    const D: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    fn step() -> NewStep {
        NewStep {
            created: Time { sec: 0, nsec: 0 },
            created_by: "stratafs commit box".to_owned(),
            author: None,
            message: None,
            changes: Vec::new(),
        }
    }

    #[test]
    fn a_layer_is_one_step_more() {
        let parent = format!(
            r#"{{"os":"linux","architecture":"arm64","variant":"v8","author":"a","container":"x",
                "config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{D}"]}},
                "history":[{{"created_by":"a"}}],"os.version":"1"}}"#
        );
        let step = NewStep { message: Some("why".to_owned()), ..step() };
        let bytes = child(parent.as_bytes(), &step, Some(D.parse().unwrap())).unwrap();
        let c = ImageConfig::parse(&bytes, "child").unwrap();
        assert_eq!((c.diff_ids.len(), c.variant.as_str(), c.author), (2, "v8", None));
        let last = c.history.last().unwrap();
        assert_eq!(last.created_by.as_deref(), Some("stratafs commit box"));
        assert_eq!((last.comment.as_deref(), last.empty_layer), (Some("why"), false));
        let all: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
        let keys: Vec<&str> = all.keys().map(String::as_str).collect();
        assert!(keys.is_sorted() && keys.contains(&"os.version"), "{keys:?}");
        assert!(!keys.contains(&"container") && all["config"]["Cmd"] == json!(["sh"]));
    }

    #[test]
    fn who_changed_no_file_adds_no_layer() {
        let parent = br#"{"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let c = ImageConfig::parse(&child(parent, &step(), None).unwrap(), "child").unwrap();
        assert!(c.diff_ids.is_empty() && c.history[0].empty_layer);
    }

    #[test]
    fn configs_that_are_none_are_refused() {
        for bad in ["", "[]", r#"{"rootfs":[]}"#, r#"{"rootfs":{"diff_ids":{}}}"#] {
            assert!(child(bad.as_bytes(), &step(), Some(D.parse().unwrap())).is_err(), "{bad}");
        }
    }
}
