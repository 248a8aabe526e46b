//! `--change`: the lines of a Dockerfile that say how a container is run.
//!
//! Source: the Dockerfile reference, and moby `builder/dockerfile/{parser,dispatchers}.go` for what
//! they do to a config.

use super::BadCommit;
use super::config::{list, object};
use super::words::{expand, split};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// One line of a Dockerfile. Quotes and variables are as they stand there: what these mean depends
/// on the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `CMD`: what is run.
    Cmd(Command),
    /// `ENTRYPOINT`: what runs it.
    Entrypoint(Command),
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

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A line for the image's shell.
    Shell(String),
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
        let line = parse(text.trim()).map_err(bad)?;
        // what no value of a variable can mend is told before an image is looked at
        match line.apply(&mut Map::new(), &|_| Some("1".to_owned())) {
            Err(BadChange::Line(why)) => Err(bad(why)),
            _ => Ok(line),
        }
    }
}

fn parse(text: &str) -> Result<Instruction, &'static str> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let needed = |what| if rest.is_empty() { Err(what) } else { Ok(rest.to_owned()) };
    Ok(match word.to_ascii_uppercase().as_str() {
        "CMD" => Instruction::Cmd(command(rest)?),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)?),
        "ENV" => Instruction::Env(pairs(rest)?),
        "LABEL" => Instruction::Label(pairs(rest)?),
        "EXPOSE" => Instruction::Expose(some(split(rest)?, "no port")?),
        "ONBUILD" => {
            let next = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if ["ONBUILD", "FROM", "MAINTAINER"].contains(&next.as_str()) {
                return Err("no build can begin with this");
            }
            Instruction::OnBuild(needed("no instruction")?)
        }
        "STOPSIGNAL" => Instruction::StopSignal(needed("no signal")?),
        "USER" => Instruction::User(needed("no user")?),
        "WORKDIR" => Instruction::WorkDir(needed("no directory")?),
        "VOLUME" => {
            let dirs = texts(rest)?.map_or_else(|| split(rest), Ok)?;
            Instruction::Volume(some(dirs, "no directory")?)
        }
        _ => return Err(KNOWN),
    })
}

/// Why a line cannot be applied to a config.
#[derive(Debug)]
enum BadChange {
    Line(&'static str),
    Config(BadCommit),
}

impl From<&'static str> for BadChange {
    fn from(why: &'static str) -> BadChange {
        BadChange::Line(why)
    }
}

impl From<BadCommit> for BadChange {
    fn from(e: BadCommit) -> BadChange {
        BadChange::Config(e)
    }
}

impl Instruction {
    /// Does to a config what these lines say, in order.
    pub(super) fn apply_all(
        changes: &[Instruction],
        config: &mut Map<String, Value>,
    ) -> Result<(), BadCommit> {
        for change in changes {
            let environment =
                config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
            let variable = |name: &str| {
                let mut all = environment.iter().filter_map(Value::as_str);
                let found = all.find(|v| name_of(v) == name)?;
                Some(found.split_once('=').map_or("", |(_, value)| value).to_owned())
            };
            change.apply(config, &variable).map_err(|e| match e {
                BadChange::Config(e) => e,
                BadChange::Line(why) => BadCommit::Change { word: change.word(), why },
            })?;
        }
        // the parent's arguments are not for this program
        let is = |f: fn(&Instruction) -> bool| changes.iter().any(f);
        if is(|i| matches!(i, Instruction::Entrypoint(_)))
            && !is(|i| matches!(i, Instruction::Cmd(_)))
        {
            config.remove("Cmd");
        }
        Ok(())
    }

    fn word(&self) -> &'static str {
        match self {
            Instruction::Cmd(_) => "CMD",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Env(_) => "ENV",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Label(_) => "LABEL",
            Instruction::OnBuild(_) => "ONBUILD",
            Instruction::StopSignal(_) => "STOPSIGNAL",
            Instruction::User(_) => "USER",
            Instruction::Volume(_) => "VOLUME",
            Instruction::WorkDir(_) => "WORKDIR",
        }
    }

    fn apply(
        &self,
        config: &mut Map<String, Value>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), BadChange> {
        let word = |text: &str| expand(text, variable);
        let words = |texts: &[String]| texts.iter().map(|t| word(t)).collect::<Result<Vec<_>, _>>();
        let mut set = |key: &str, value: Value| {
            config.insert(key.to_owned(), value);
        };
        match self {
            Instruction::Cmd(command) => {
                let command = command.arguments(config)?;
                config.insert("Cmd".to_owned(), command);
            }
            Instruction::Entrypoint(command) => {
                let command = command.arguments(config)?;
                config.insert("Entrypoint".to_owned(), command);
            }
            Instruction::StopSignal(signal) => set("StopSignal", json!(word(signal)?)),
            Instruction::User(user) => set("User", json!(word(user)?)),
            Instruction::WorkDir(dir) => {
                let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
                let dir = join(before, &word(dir)?);
                config.insert("WorkingDir".to_owned(), json!(dir));
            }
            Instruction::Env(pairs) => {
                for (key, value) in pairs {
                    let (key, value) = (word(key)?, word(value)?);
                    let all = list(config, "Env")?;
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
                for (key, value) in pairs {
                    object(config, "Labels")?.insert(word(key)?, json!(word(value)?));
                }
            }
            Instruction::Expose(texts) => {
                for text in words(texts)? {
                    add_names(object(config, "ExposedPorts")?, ports(&text)?);
                }
            }
            Instruction::Volume(dirs) => {
                let dirs = words(dirs)?;
                if dirs.iter().any(String::is_empty) {
                    return Err("a volume has no name".into());
                }
                add_names(object(config, "Volumes")?, dirs);
            }
        }
        Ok(())
    }
}

impl Command {
    /// The list that a config holds.
    fn arguments(&self, config: &mut Map<String, Value>) -> Result<Value, BadCommit> {
        Ok(match self {
            Command::Exec(words) => json!(words),
            Command::Shell(line) if line.is_empty() => json!([]),
            Command::Shell(line) => {
                let mut words = match config.get("Shell") {
                    None | Some(Value::Null) => vec![json!("/bin/sh"), json!("-c")],
                    Some(_) => list(config, "Shell")?.clone(),
                };
                words.push(json!(line));
                Value::Array(words)
            }
        })
    }
}

fn command(text: &str) -> Result<Command, &'static str> {
    Ok(texts(text)?.map_or_else(|| Command::Shell(text.to_owned()), Command::Exec))
}

/// Adds to a set, which Go writes as an object of empty objects.
fn add_names(set: &mut Map<String, Value>, names: Vec<String>) {
    set.extend(names.into_iter().map(|n| (n, json!({}))));
}

/// Returns a list of texts in JSON, the form of arguments that no shell sees; `None` for what is no
/// list.
fn texts(text: &str) -> Result<Option<Vec<String>>, &'static str> {
    match serde_json::from_str(text) {
        Ok(Value::Array(all)) => {
            let texts = all.into_iter().map(|v| match v {
                Value::String(text) => Some(text),
                _ => None,
            });
            texts.collect::<Option<_>>().map(Some).ok_or("its list is not one of texts alone")
        }
        _ => Ok(None),
    }
}

fn some(words: Vec<String>, what: &'static str) -> Result<Vec<String>, &'static str> {
    if words.is_empty() { Err(what) } else { Ok(words) }
}

/// `KEY=VALUE …`, or in the old form `KEY VALUE`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let words = split(text)?;
    let first = words.first().ok_or("no KEY=VALUE")?;
    let pair = |w: &String| w.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    let pairs = if first.contains('=') {
        words.iter().map(pair).collect()
    } else {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("no value")?;
        Some(vec![(key.to_owned(), value.trim().to_owned())])
    };
    match pairs {
        Some(all) if all.iter().all(|(k, _)| !k.is_empty()) => Ok(all),
        _ => Err("each is to be KEY=VALUE"),
    }
}

/// `PORT[-PORT][/PROTOCOL]`: each of these ports, with the protocol that is meant.
fn ports(text: &str) -> Result<Vec<String>, &'static str> {
    const BAD: &str = "a port is to be PORT[-PORT][/tcp|/udp|/sctp]";
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |t: &str| {
        let digits = t.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| t.parse::<u16>().ok()).flatten().ok_or(BAD)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(BAD);
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
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

    // what dockerd 20.10 makes of the same lines
    #[test]
    fn lines_do_what_docker_commit_does() {
        let before = json!({
            "Cmd": ["old"], "Env": ["PATH=/bin", "A=1"], "WorkingDir": "/srv/app", "Volumes": null
        });
        let after = apply(
            &[
                r#"ENTRYPOINT ["/init", "-x"]"#,
                r#"ENV A=2 B="two words" D=$A"#,
                "env C a b",
                r#"ENV E "x y""#,
                "ENV PATH=$PATH:/opt/bin F='$A' G=${NONE:-d}",
                "EXPOSE 80 53/UDP 8000-8002",
                r#"LABEL a.b="c d" e=$A"#,
                "USER www:www",
                r#"WORKDIR "../a b""#,
                r#"VOLUME ["/a b"]"#,
                "VOLUME /v $A",
                "STOPSIGNAL SIGQUIT",
                "ONBUILD RUN make",
            ],
            before,
        );
        assert_eq!(
            after,
            json!({
                "Entrypoint": ["/init", "-x"],
                "Env": ["PATH=/bin:/opt/bin", "A=2", "B=two words", "D=1", "C=a b", "E=x y",
                        "F=$A", "G=d"],
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {},
                                 "8002/tcp": {}},
                "Labels": {"a.b": "c d", "e": "2"},
                "User": "www:www",
                "WorkingDir": "/srv/a b",
                "Volumes": {"/a b": {}, "/v": {}, "2": {}},
                "StopSignal": "SIGQUIT",
                "OnBuild": ["RUN make"],
            })
        );
    }

    #[test]
    fn a_command_is_a_list_or_for_the_shell() {
        let of = |lines: &[&str], config: Value| {
            let after = apply(lines, config);
            (after["Entrypoint"].clone(), after["Cmd"].clone())
        };
        let shell = json!(["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(of(&["CMD echo $HOME"], json!({ "Entrypoint": ["e"] })), (json!(["e"]), shell));
        let both = of(&["CMD [\"a\"]", "ENTRYPOINT [\"b\"]"], json!({}));
        assert_eq!(both, (json!(["b"]), json!(["a"])));
        let other = of(&["CMD x"], json!({ "Shell": ["/bin/bash", "-c"] }));
        assert_eq!(other.1, json!(["/bin/bash", "-c", "x"]));
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
            "EXPOSE +80",
            "USER",
            "WORKDIR ",
            "VOLUME",
            "VOLUME [\"\"]",
            "LABEL a=\"b",
            "LABEL a=1 #x",
            "CMD [\"a\", 1]",
            "ONBUILD FROM x",
            "ENV A=${B:?}",
        ] {
            assert!(bad.parse::<Instruction>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_variable_makes_of_a_line_must_fit_too() {
        let line: Instruction = "EXPOSE $PORT".parse().unwrap();
        let mut config = Map::new();
        assert!(Instruction::apply_all(std::slice::from_ref(&line), &mut config).is_err());
        config.insert("Env".to_owned(), json!(["PORT=81"]));
        Instruction::apply_all(&[line], &mut config).unwrap();
        assert_eq!(config["ExposedPorts"], json!({ "81/tcp": {} }));
    }
}
