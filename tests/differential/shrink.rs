//! Makes a failing case small.

use crate::case::Case;

/// Leaves out what the failure does not need, with at most `budget` runs.
pub fn shrink(mut case: Case, mut budget: usize, fails: impl Fn(&Case) -> bool) -> Case {
    let mut still = |case: &Case| {
        budget = budget.saturating_sub(1);
        budget > 0 && fails(case)
    };
    // twice: an entry may become needless when another has gone
    for _ in 0..2 {
        let layers = case.layers.clone();
        case.steps = fewer(&case.steps, |steps| {
            still(&Case { layers: layers.clone(), steps: steps.to_vec() })
        });
        let steps = case.steps.clone();
        case.layers = fewer(&case.layers, |layers| {
            !layers.is_empty() && still(&Case { layers: layers.to_vec(), steps: steps.clone() })
        });
        for i in 0..case.layers.len() {
            let whole = case.clone();
            case.layers[i] = fewer(&case.layers[i], |entries| {
                let mut c = whole.clone();
                c.layers[i] = entries.to_vec();
                still(&c)
            });
        }
    }
    plainer(case, still)
}

/// Takes out halves, quarters and so on, then single items.
fn fewer<T: Clone>(items: &[T], mut still: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    let mut chunk = items.len().div_ceil(2);
    while chunk > 0 && !items.is_empty() {
        let mut at = items.len();
        while at > 0 {
            let from = at.saturating_sub(chunk);
            let mut without = items.clone();
            without.drain(from..at);
            if still(&without) {
                items = without;
            }
            at = from;
        }
        chunk /= 2;
    }
    items
}

/// Takes the oddities off what is left.
fn plainer(mut case: Case, mut still: impl FnMut(&Case) -> bool) -> Case {
    for i in 0..case.layers.len() {
        for j in 0..case.layers[i].len() {
            let mut c = case.clone();
            let e = &mut c.layers[i][j];
            (e.mode, e.owner, e.group, e.xattr) = (0o755, 0, 0, None);
            if c != case && still(&c) {
                case = c;
            }
        }
    }
    for i in 0..case.steps.len() {
        let mut c = case.clone();
        c.steps[i].0 = 0;
        if c != case && still(&c) {
            case = c;
        }
    }
    case
}
