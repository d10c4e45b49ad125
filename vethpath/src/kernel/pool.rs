//! Work on many namespaces at once.
//!
//! Much of the kernel's work for a namespace sleeps without a lock that other namespaces need. The rest is bound by
//! the number of CPUs.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Threads for work that mostly waits for the kernel.
const WAITING: usize = 16;

/// Maximum number of threads for CPU-bound work.
const WORKING: usize = 4;

/// Runs `work` on each item, on as many threads as there are CPUs (4 at most). The threads are temporary, so that
/// `work` may move them into namespaces. The results are in the order of the items.
pub fn cpu_bound<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    run(items, cpus.clamp(1, WORKING), work)
}

/// As [`cpu_bound`], but on 16 threads, for work that mostly waits.
pub fn io_bound<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    run(items, WAITING, work)
}

fn run<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return done };
            done.push((number, work(item)));
        }
    };
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let mut done = Vec::with_capacity(items.len());
        for worker in workers {
            match worker.join() {
                Ok(results) => done.extend(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..1000).collect();
        let doubled = |items: &[u64]| io_bound(items, |item| item * 2);
        assert_eq!(doubled(&items), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(doubled(&[]).is_empty());
        assert_eq!(cpu_bound(&items, |item| *item), items);
    }
}
