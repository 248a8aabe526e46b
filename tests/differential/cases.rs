//! Cases that once failed, as the shrinker printed them.

use crate::case::Case;

pub fn all() -> Vec<(&'static str, Case)> {
    Vec::new()
}
