//! Sizes, times and ids as Docker's tables show them.

use crate::store::parse_time;
use crate::sys::Time;

/// A size in decimal units with three digits: `7.05MB`, `142MB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if unit == 0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// How long ago: `3 weeks ago`.
pub(super) fn age(then: Time, now: Time) -> String {
    let s = now.sec.saturating_sub(then.sec).max(0);
    let (minutes, hours) = (s / 60, s / 3600);
    let text = match hours {
        _ if s < 1 => "Less than a second".to_owned(),
        _ if s == 1 => "1 second".to_owned(),
        _ if s < 60 => format!("{s} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        1 => "About an hour".to_owned(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17_520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    };
    format!("{text} ago")
}

/// Parses RFC 3339, in any time zone.
pub(super) fn time(text: &str) -> Option<Time> {
    let text = text.trim();
    if text.ends_with('Z') {
        return parse_time(text);
    }
    let cut = text.len().checked_sub(6)?;
    let (local, zone) = (text.get(..cut)?, text.get(cut..)?);
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    let t = parse_time(&format!("{local}Z"))?;
    match zone.as_bytes()[0] {
        b'+' => Some(Time { sec: t.sec - seconds, ..t }),
        b'-' => Some(Time { sec: t.sec + seconds, ..t }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (n, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_049_000, "7.05MB"),
            (80_500_000, "80.5MB"),
            (141_600_000, "142MB"),
            (1_240_000_000, "1.24GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(n), text);
        }
    }

    #[test]
    fn ages_round_down_like_dockers() {
        let at = |sec| age(Time { sec: 0, nsec: 0 }, Time { sec, nsec: 0 });
        assert_eq!(at(0), "Less than a second ago");
        assert_eq!(at(59), "59 seconds ago");
        assert_eq!(at(61), "About a minute ago");
        assert_eq!(at(47 * 3600), "47 hours ago");
        assert_eq!(at(15 * 86_400), "2 weeks ago");
        assert_eq!(at(100 * 86_400), "3 months ago");
        assert_eq!(at(-5), "Less than a second ago");
    }

    #[test]
    fn time_zones_count() {
        assert_eq!(time("1970-01-01T02:00:00+02:00").unwrap().sec, 0);
        assert_eq!(time("1969-12-31T23:30:00.5-00:30").unwrap().sec, 0);
        for bad in ["", "x", "1970-01-01T02:00:00+aa:00", "é-01-01T02:00:00+02:00", "+02:00"] {
            assert!(time(bad).is_none(), "{bad}");
        }
    }
}
