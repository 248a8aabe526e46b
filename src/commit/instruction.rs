//! `--change`: the lines of a Dockerfile that say how a container is run.
//!
//! Source: the Dockerfile reference, and moby `builder/dockerfile/dispatchers.go` for what they do
//! to a config.

use super::BadCommit;
use super::config::{list, object};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// One line of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `CMD`: what is run.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`: what runs it.
    Entrypoint(Vec<String>),
    /// `ENV`: variables of the environment.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports, with their protocols.
    Expose(Vec<String>),
    /// `LABEL`: what is noted of the image.
    Label(Vec<(String, String)>),
    /// `ONBUILD`: what a build upon the image begins with.
    OnBuild(String),
    /// `STOPSIGNAL`: how it is asked to end.
    StopSignal(String),
    /// `USER`: as whom it runs.
    User(String),
    /// `VOLUME`: directories whose content is not the container's.
    Volume(Vec<String>),
    /// `WORKDIR`: where it begins.
    WorkDir(String),
}

/// Why a text is no such line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub struct BadInstruction {
    text: String,
    why: &'static str,
}

const KNOWN: &str = "it begins with none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, \
                     STOPSIGNAL, USER, VOLUME, WORKDIR";

impl FromStr for Instruction {
    type Err = BadInstruction;

    fn from_str(text: &str) -> Result<Instruction, BadInstruction> {
        let bad = |why| BadInstruction { text: text.to_owned(), why };
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let needed = |what| if rest.is_empty() { Err(bad(what)) } else { Ok(rest.to_owned()) };
        let words = || shlex::split(rest).ok_or(bad("its quotes do not match"));
        Ok(match word.to_ascii_uppercase().as_str() {
            "CMD" => Instruction::Cmd(command(rest)),
            "ENTRYPOINT" => Instruction::Entrypoint(command(rest)),
            "ENV" => Instruction::Env(pairs(rest, words()?).map_err(bad)?),
            "LABEL" => Instruction::Label(pairs(rest, words()?).map_err(bad)?),
            "EXPOSE" => {
                let ports: Option<Vec<String>> = words()?.iter().map(|w| port(w)).collect();
                Instruction::Expose(ports.filter(|p| !p.is_empty()).ok_or(bad("no port"))?)
            }
            "ONBUILD" => Instruction::OnBuild(needed("no instruction")?),
            "STOPSIGNAL" => Instruction::StopSignal(needed("no signal")?),
            "USER" => Instruction::User(needed("no user")?),
            "WORKDIR" => Instruction::WorkDir(needed("no directory")?),
            "VOLUME" => {
                let dirs = texts(rest).map_or_else(words, Ok)?;
                if dirs.is_empty() || dirs.iter().any(String::is_empty) {
                    return Err(bad("no directory"));
                }
                Instruction::Volume(dirs)
            }
            _ => return Err(bad(KNOWN)),
        })
    }
}

impl Instruction {
    /// Does to a config what these lines say, in order.
    pub(super) fn apply_all(
        changes: &[Instruction],
        config: &mut Map<String, Value>,
    ) -> Result<(), BadCommit> {
        changes.iter().try_for_each(|change| change.apply(config))?;
        // the parent's arguments are not for this program
        let is = |f: fn(&Instruction) -> bool| changes.iter().any(f);
        if is(|i| matches!(i, Instruction::Entrypoint(_)))
            && !is(|i| matches!(i, Instruction::Cmd(_)))
        {
            config.remove("Cmd");
        }
        Ok(())
    }

    fn apply(&self, config: &mut Map<String, Value>) -> Result<(), BadCommit> {
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        match self {
            Instruction::Cmd(words) => set("Cmd", json!(words)),
            Instruction::Entrypoint(words) => set("Entrypoint", json!(words)),
            Instruction::StopSignal(signal) => set("StopSignal", json!(signal)),
            Instruction::User(user) => set("User", json!(user)),
            Instruction::WorkDir(dir) => {
                let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
                let dir = join(before, dir);
                config.insert("WorkingDir".to_owned(), json!(dir));
            }
            Instruction::Env(pairs) => {
                let all = list(config, "Env")?;
                for (key, value) in pairs {
                    let of = |v: &Value| v.as_str().is_some_and(|v| name_of(v) == key);
                    let new = json!(format!("{key}={value}"));
                    match all.iter_mut().find(|v| of(v)) {
                        Some(old) => *old = new,
                        None => all.push(new),
                    }
                }
            }
            Instruction::OnBuild(line) => list(config, "OnBuild")?.push(json!(line)),
            Instruction::Label(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (key.clone(), json!(value)));
                object(config, "Labels")?.extend(pairs);
            }
            Instruction::Expose(ports) => add_names(object(config, "ExposedPorts")?, ports),
            Instruction::Volume(dirs) => add_names(object(config, "Volumes")?, dirs),
        }
        Ok(())
    }
}

/// Adds to a set, which Go writes as an object of empty objects.
fn add_names(set: &mut Map<String, Value>, names: &[String]) {
    set.extend(names.iter().map(|n| (n.clone(), json!({}))));
}

/// Returns a list of texts in JSON, the form of arguments that no shell sees.
fn texts(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A command as a list, or for the shell.
fn command(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    texts(text).unwrap_or_else(|| ["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

/// `KEY=VALUE …`, or in the old form `KEY VALUE`.
fn pairs(text: &str, words: Vec<String>) -> Result<Vec<(String, String)>, &'static str> {
    let split = |w: &String| w.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    let pairs = match words.first() {
        None => return Err("no KEY=VALUE"),
        Some(first) if first.contains('=') => words.iter().map(split).collect(),
        Some(_) => text
            .split_once(char::is_whitespace)
            .map(|(k, v)| vec![(k.to_owned(), v.trim().to_owned())]),
    };
    match pairs {
        Some(all) if all.iter().all(|(k, _)| !k.is_empty()) => Ok(all),
        _ => Err("each is to be KEY=VALUE"),
    }
}

/// `PORT[-PORT][/PROTOCOL]`, with the protocol that is meant.
fn port(text: &str) -> Option<String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let known = ["tcp", "udp", "sctp"].contains(&protocol.as_str());
    let range = first.parse::<u16>().ok()? <= last.parse::<u16>().ok()?;
    (known && range).then(|| format!("{ports}/{protocol}"))
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// A working directory, which may be told from the one before it.
fn join(before: &str, dir: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let before = if dir.starts_with('/') { "" } else { before };
    for part in before.split('/').chain(dir.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(lines: &[&str], config: Value) -> Value {
        let changes: Vec<Instruction> = lines.iter().map(|l| l.parse().unwrap()).collect();
        let Value::Object(mut config) = config else { panic!("no object") };
        Instruction::apply_all(&changes, &mut config).unwrap();
        Value::Object(config)
    }

    #[test]
    fn lines_do_what_a_build_does() {
        let before = json!({
            "Cmd": ["old"], "Env": ["PATH=/bin", "A=1"], "WorkingDir": "/srv/app", "Volumes": null
        });
        let after = apply(
            &[
                r#"ENTRYPOINT ["/init", "-x"]"#,
                r#"ENV A=2 B="two words""#,
                "env C a b",
                "EXPOSE 80 53/UDP 8000-8010",
                r#"LABEL a.b="c d" e=f"#,
                "USER www:www",
                "WORKDIR ../data",
                r#"VOLUME ["/a b"]"#,
                "VOLUME /v /w",
                "STOPSIGNAL SIGQUIT",
                "ONBUILD RUN make",
            ],
            before,
        );
        assert_eq!(
            after,
            json!({
                "Entrypoint": ["/init", "-x"],
                "Env": ["PATH=/bin", "A=2", "B=two words", "C=a b"],
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000-8010/tcp": {}},
                "Labels": {"a.b": "c d", "e": "f"},
                "User": "www:www",
                "WorkingDir": "/srv/data",
                "Volumes": {"/a b": {}, "/v": {}, "/w": {}},
                "StopSignal": "SIGQUIT",
                "OnBuild": ["RUN make"],
            })
        );
    }

    #[test]
    fn a_command_is_a_list_or_for_the_shell() {
        let entry = apply(&["CMD echo $HOME"], json!({ "Entrypoint": ["e"] }));
        assert_eq!(entry, json!({ "Entrypoint": ["e"], "Cmd": ["/bin/sh", "-c", "echo $HOME"] }));
        let both = apply(&["CMD [\"a\"]", "ENTRYPOINT [\"b\"]"], json!({}));
        assert_eq!(both, json!({ "Cmd": ["a"], "Entrypoint": ["b"] }));
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in [
            "",
            "RUN make",
            "ENV",
            "ENV A",
            "ENV =x",
            "EXPOSE",
            "EXPOSE x",
            "EXPOSE 70000",
            "EXPOSE 9-8",
            "USER",
            "WORKDIR ",
            "VOLUME",
            "VOLUME [\"\"]",
            "LABEL a=\"b",
        ] {
            assert!(bad.parse::<Instruction>().is_err(), "{bad}");
        }
    }
}
