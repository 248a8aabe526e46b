//! The progress of bringing layers into the store, as a bar on the terminal.

use super::Context;
use crate::import::Observer;
use crate::name::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::io::IsTerminal as _;

/// A bar on the terminal, or nothing.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    image: String,
    layers: usize,
    done: usize,
}

impl Progress {
    /// Makes one that shows itself on a terminal, unless the user wants silence.
    pub(super) fn new(context: &Context) -> Progress {
        let visible = std::io::stderr().is_terminal() && !context.quiet;
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Progress { bar: ProgressBar::with_draw_target(None, target), state: Mutex::default() }
    }

    /// Takes it from the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, state: &State) {
        let text = format!("{}: layer {}/{}", state.image, state.done, state.layers);
        self.bar.set_message(text);
    }
}

impl Observer for Progress {
    fn image_begins(&self, name: &str, layers: usize, shared: usize, bytes: Option<u64>) {
        let template = match bytes {
            Some(_) => "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        // the template is a constant, so it can only be right
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        let mut state = self.state.lock();
        *state = State { image: printable(name.as_bytes()), layers, done: shared };
        self.show(&state);
        match bytes {
            Some(n) => self.bar.set_length(n),
            None => self.bar.unset_length(),
        }
        self.bar.reset();
    }

    fn layer_read(&self, _number: usize, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn layer_ends(&self, _number: usize) {
        let mut state = self.state.lock();
        state.done += 1;
        self.show(&state);
    }

    fn committing(&self) {
        let state = self.state.lock();
        self.bar.set_message(format!("{}: making it durable", state.image));
    }
}
