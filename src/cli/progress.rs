//! How far an import is, on one line of the terminal.

use super::human;
use crate::import::Observer;
use crate::name::printable;
use crate::sys;
use parking_lot::Mutex;
use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// How often the line is drawn anew at most.
const PAUSE: Duration = Duration::from_millis(100);
/// The part of the line that the bar takes at most.
const BAR: usize = 40;

/// The line, or nothing.
pub(super) struct Progress {
    state: Option<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    image: String,
    layers: usize,
    done: usize,
    read: u64,
    total: Option<u64>,
    committing: bool,
    begun: Instant,
    drawn: Option<Instant>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("visible", &self.state.is_some()).finish_non_exhaustive()
    }
}

impl Progress {
    pub(super) fn new(visible: bool) -> Progress {
        let state = || {
            Mutex::new(State {
                image: String::new(),
                layers: 0,
                done: 0,
                read: 0,
                total: None,
                committing: false,
                begun: Instant::now(),
                drawn: None,
            })
        };
        Progress { state: visible.then(state) }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if let Some(state) = &self.state
            && state.lock().drawn.is_some()
        {
            write("");
        }
    }

    fn change(&self, at_once: bool, f: impl FnOnce(&mut State)) {
        let Some(state) = &self.state else { return };
        let mut s = state.lock();
        f(&mut s);
        let now = Instant::now();
        if at_once || s.drawn.is_none_or(|then| now - then >= PAUSE) {
            s.drawn = Some(now);
            write(&s.line(now - s.begun, sys::terminal_width().unwrap_or(80).into()));
        }
    }
}

/// Puts this in the place of the line. That nobody sees it is no reason to fail.
fn write(line: &str) {
    std::io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes()).unwrap_or_default();
}

impl State {
    /// The line for a terminal of `width` columns.
    fn line(&self, time: Duration, width: usize) -> String {
        // the last column stays free: some terminals begin a new line after it
        let cut = |text: String| text.chars().take(width.saturating_sub(1)).collect();
        if self.committing {
            return cut(format!("{}: making it durable", self.image));
        }
        let head = format!("{}: layer {}/{}", self.image, self.done, self.layers);
        let speed = self.read as f64 / time.as_secs_f64().max(0.001);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "about")]
        let rate = human::size(speed as u64);
        let Some(total) = self.total else {
            return cut(format!("{head} {} {rate}/s", human::size(self.read)));
        };
        let left = total.saturating_sub(self.read);
        let mut tail = format!(" {}/{} {rate}/s", human::size(self.read), human::size(total));
        if self.read > 0 && left > 0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "about")]
            let seconds = (left as f64 / speed).ceil() as u64;
            tail.push_str(&format!(" {}:{:02} left", seconds / 60, seconds % 60));
        }
        let room = width.saturating_sub(head.chars().count() + tail.len() + 4).min(BAR);
        if room < 5 {
            return cut(format!("{head}{tail}"));
        }
        let share = u128::from(self.read.min(total)) * room as u128 / u128::from(total.max(1));
        let full = usize::try_from(share).unwrap_or(room);
        let bar = if full < room { "=".repeat(full) + ">" } else { "=".repeat(full) };
        cut(format!("{head} [{bar:room$}]{tail}"))
    }
}

impl Observer for Progress {
    fn image_begins(&self, name: &str, layers: usize, shared: usize, bytes: Option<u64>) {
        self.change(true, |s| {
            s.image = printable(name.as_bytes());
            (s.layers, s.done, s.read, s.total) = (layers, shared, 0, bytes);
            s.committing = false;
            s.begun = Instant::now();
        });
    }

    fn layer_read(&self, _number: usize, bytes: u64) {
        self.change(false, |s| s.read += bytes);
    }

    fn layer_ends(&self, _number: usize) {
        self.change(true, |s| s.done += 1);
    }

    fn committing(&self) {
        self.change(true, |s| s.committing = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_its_terminal() {
        let mut s = Progress::new(true).state.unwrap().into_inner();
        s.image = "nginx:latest".to_owned();
        (s.layers, s.done, s.read, s.total) = (7, 2, 25_000_000, Some(100_000_000));
        let at = |s: &State, width| s.line(Duration::from_secs(2), width);
        let wide = "nginx:latest: layer 2/7 [==========>                             ] \
                    25MB/100MB 12.5MB/s 0:06 left";
        assert_eq!(at(&s, 200), wide);
        let narrow = "nginx:latest: layer 2/7 [==>        ] 25MB/100MB 12.5MB/s 0:06 left";
        assert_eq!(at(&s, 68), narrow);
        assert_eq!(at(&s, 20), "nginx:latest: layer");
        s.read = 100_000_000;
        assert!(at(&s, 200).ends_with("====] 100MB/100MB 50MB/s"));
        // a blob may be longer than it was said to be
        s.read += 1;
        assert!(at(&s, 200).contains("====] "));
        s.total = None;
        assert_eq!(at(&s, 200), "nginx:latest: layer 2/7 100MB 50MB/s");
        s.committing = true;
        assert_eq!(at(&s, 200), "nginx:latest: making it durable");
        assert_eq!(at(&s, 0), "");
    }
}
