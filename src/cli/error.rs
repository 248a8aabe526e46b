//! What a command says when it fails.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// Whether a command could not be done or was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was tried and failed: exit status 1.
    Failed,
    /// The command line makes no sense: exit status 2.
    Usage,
}

/// An error for the user: what failed, why, and what may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    status: Option<u8>,
}

impl CliError {
    /// Something failed, for this reason. `why` is printed with all its causes.
    pub fn failed(what: impl fmt::Display, why: &dyn std::error::Error) -> CliError {
        CliError::message(format!("{what}: {}", chain(why)))
    }

    /// Something failed, and the text says what and why.
    pub fn message(text: impl Into<String>) -> CliError {
        CliError { kind: Kind::Failed, message: text.into(), hints: Vec::new(), status: None }
    }

    /// The command line makes no sense.
    pub fn usage(text: impl Into<String>) -> CliError {
        CliError { kind: Kind::Usage, ..CliError::message(text) }
    }

    /// Adds a line about what may help.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> CliError {
        self.hints.push(text.into());
        self
    }

    /// Adds such a line if there is one.
    #[must_use]
    pub fn maybe_hint(self, text: Option<String>) -> CliError {
        match text {
            Some(t) => self.hint(t),
            None => self,
        }
    }

    /// Gives it other exit statuses than usual: of a failure, and of wrong usage.
    #[must_use]
    pub fn with_statuses(mut self, failed: u8, usage: u8) -> CliError {
        self.status = Some(match self.kind {
            Kind::Failed => failed,
            Kind::Usage => usage,
        });
        self
    }

    /// Returns the exit status that belongs to it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status.unwrap_or(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
        }))
    }

    /// Prints it to standard error.
    pub fn print(&self) {
        let mut err = std::io::stderr().lock();
        // with standard error gone there is nobody to tell
        write!(err, "{self}").unwrap_or_default();
    }

    /// Packs it for the pipe between a daemon and the process that started it.
    #[must_use]
    pub fn pack(&self) -> String {
        let kind = match self.kind {
            Kind::Failed => "failed",
            Kind::Usage => "usage",
        };
        let mut lines = vec![kind.to_owned(), self.message.replace('\n', " ")];
        lines.extend(self.hints.iter().map(|h| h.replace('\n', " ")));
        lines.join("\n")
    }

    /// Undoes [`CliError::pack`].
    #[must_use]
    pub fn unpack(text: &str) -> CliError {
        let mut lines = text.lines();
        let kind = lines.next();
        let message = lines.next();
        let error = match (kind, message) {
            (Some("usage"), Some(m)) => CliError::usage(m),
            (Some("failed"), Some(m)) => CliError::message(m),
            // not packed: the words of who noticed that the daemon is gone
            _ => CliError::message(text.trim()),
        };
        lines.fold(error, |e, hint| e.hint(hint))
    }
}

/// Returns the message of an error and of all its causes, except those that it repeats.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stratafs: {}", self.message)?;
        self.hints.iter().try_for_each(|h| writeln!(f, "hint: {h}"))
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipe_keeps_message_and_hints() {
        let e = CliError::message("mount /x: no\nway").hint("a").hint("b");
        assert_eq!(CliError::unpack(&e.pack()).to_string(), e.to_string().replace("no\nw", "no w"));
        let e = CliError::usage("x");
        assert_eq!(CliError::unpack(&e.pack()), e);
        assert_eq!(CliError::unpack("it died"), CliError::message("it died"));
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] std::io::Error);
        let e = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&e), "outer: inner");
    }
}
