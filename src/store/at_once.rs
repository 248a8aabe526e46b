//! Several reads at a time: those of a disk wait for each other only where one thread makes them.

/// How many threads read, and how many items make another one worth while.
const THREADS: usize = 8;
const EACH: usize = 4;

/// Calls `f` for each item, in no order; returns the results in the order of the items.
pub(crate) fn at_once<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = (items.len() / EACH).clamp(1, THREADS);
    let (mine, others) = items.split_at(items.len().div_ceil(threads));
    let part = |items: &[T]| items.iter().map(&f).collect::<Vec<R>>();
    std::thread::scope(|scope| {
        let part = &part;
        let rest = others.chunks(mine.len().max(1)).map(|items| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || part(items));
            // without another thread it takes longer
            thread.map_err(|_| items)
        });
        let rest: Vec<_> = rest.collect();
        let mut out = part(mine);
        for thread in rest {
            out.extend(match thread {
                Ok(t) => t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(items) => part(items),
            });
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for n in [0, 1, 3, 4, 7, 8, 9, 31, 32, 33, 400] {
            let items: Vec<usize> = (0..n).collect();
            assert_eq!(at_once(&items, |i| i * 2), (0..n).map(|i| i * 2).collect::<Vec<_>>());
        }
    }
}
