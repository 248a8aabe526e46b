//! Points in time as Docker writes them: RFC 3339 in UTC with up to nine digits of a second.

use crate::sys::Time;

/// Returns the text, with trailing zeros of the fraction left out as Go does.
pub(super) fn format(t: Time) -> String {
    let (days, second) = (t.sec.div_euclid(86_400), t.sec.rem_euclid(86_400));
    let (y, m, d) = civil(days);
    let (h, min, s) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!(".{:09}", t.nsec);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}{fraction}Z")
}

/// Parses a time as Docker writes it, RFC 3339 in UTC; other forms and time zones are `None`.
#[must_use]
pub fn parse(text: &str) -> Option<Time> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |t: &str, max: i64| {
        let digits = !t.is_empty() && t.len() <= 9 && t.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| t.parse::<i64>().ok()).flatten().filter(|n| *n <= max)
    };
    let mut date = date.splitn(3, '-');
    let y = number(date.next()?, 9999)?;
    let (m, d) = (number(date.next()?, 12)?, number(date.next()?, 31)?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':');
    let (h, min, s) =
        (number(time.next()?, 23)?, number(time.next()?, 59)?, number(time.next()?, 60)?);
    if m < 1 || d < 1 {
        return None;
    }
    number(fraction, 999_999_999)?;
    let nsec = format!("{fraction:0<9}").parse().ok()?;
    Some(Time { sec: days(y, m, d) * 86_400 + h * 3600 + min * 60 + s, nsec })
}

/// Days since 1970-01-01 of a date in the Gregorian calendar. Years begin in March here, so that
/// the leap day comes last.
fn days(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468
}

/// The date of a day since 1970-01-01: the inverse of [`days`].
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, in_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let march = (5 * in_year + 2) / 153;
    let m = if march < 10 { march + 3 } else { march - 9 };
    let d = in_year - (153 * march + 2) / 5 + 1;
    (year + era * 400 + i64::from(m <= 2), m, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_gos_form() {
        let t = |sec, nsec| format(Time { sec, nsec });
        assert_eq!(t(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(t(951_782_400, 0), "2000-02-29T00:00:00Z");
        assert_eq!(t(1_795_224_922, 344_538_289), "2026-11-21T01:35:22.344538289Z");
        assert_eq!(t(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
    }

    #[test]
    fn parsing_is_the_inverse() {
        for sec in (-70_000_000_000..200_000_000_000).step_by(86_399 * 997) {
            let t = Time { sec, nsec: (sec.unsigned_abs() % 1_000_000_000) as u32 };
            if (0..=9999).contains(&civil(sec.div_euclid(86_400)).0) {
                assert_eq!(parse(&format(t)), Some(t), "{}", format(t));
            }
        }
        for bad in ["", "Z", "T", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "-1-1-1T1:1:1Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
