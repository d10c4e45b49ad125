//! The CPU time of processes.

use std::{fs, thread, time::Duration};

/// Clock ticks per second (USER_HZ).
const TICKS: f64 = 100.0;

/// The pid of a lab's agent.
pub(crate) fn agent(lab: &str) -> String {
    fs::read_to_string(format!("/run/vethpath/{lab}/agent.lock")).unwrap()
}

/// The CPU time that processes use for so long, each in percent of one CPU.
pub(crate) fn percent<const N: usize>(pids: [&str; N], time: Duration) -> [f64; N] {
    let before = pids.map(ticks);
    thread::sleep(time);
    let after = pids.map(ticks);
    std::array::from_fn(|number| (after[number] - before[number]) / TICKS / time.as_secs_f64() * 100.0)
}

/// The CPU time that a process has used, in ticks.
fn ticks(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Its name, in parentheses, may have spaces.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}
