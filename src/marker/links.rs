//! How many links a copied-up file shows, when other names of it exist than the upper's.

/// The value of `overlay.nlink` (fs/overlayfs/util.c, `ovl_get_nlink`): the link count of the file
/// on disk and what is to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Of the lower file.
    Lower(i32),
    /// Of the upper's.
    Upper(i32),
}

impl Links {
    /// Parses the attribute's value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Links> {
        let (of, number) = value.split_first()?;
        let sign = number.first().filter(|c| matches!(c, b'+' | b'-'));
        let more = std::str::from_utf8(sign.and(Some(number))?).ok()?.parse().ok()?;
        match of {
            b'L' => Some(Links::Lower(more)),
            b'U' => Some(Links::Upper(more)),
            _ => None,
        }
    }

    /// Returns the attribute's value.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Links::Lower(n) => format!("L{n:+}"),
            Links::Upper(n) => format!("U{n:+}"),
        }
        .into_bytes()
    }

    /// Returns how many names more than the upper's file there are.
    #[must_use]
    pub fn beside_upper(self, lower: u32, upper: u32) -> i64 {
        match self {
            Links::Lower(n) => i64::from(lower) + i64::from(n) - i64::from(upper),
            Links::Upper(n) => i64::from(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_the_round_trip() {
        for text in ["L+0", "L-2", "U+3", "U-1"] {
            assert_eq!(Links::parse(text.as_bytes()).unwrap().encode(), text.as_bytes());
        }
        for bad in ["", "U", "U1", "X+1", "U+", "U+x", "U+99999999999"] {
            assert_eq!(Links::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Links::Lower(1).beside_upper(3, 2), 2);
        assert_eq!(Links::Upper(-1).beside_upper(3, 2), -1);
    }
}
