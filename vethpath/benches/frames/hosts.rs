//! A lab of many hosts on one bridge.

use std::{
    env,
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The command that is measured.
pub(crate) const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");

/// A bridge notifies the state of each port again when its forward delay of 15 s expires
/// (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c). The agent is not idle before.
const FORWARD_DELAY: Duration = Duration::from_secs(20);

/// The numbers of hosts on the command line, or these.
pub(crate) fn numbers(otherwise: &[usize]) -> Vec<usize> {
    let numbers: Vec<usize> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    if numbers.is_empty() { otherwise.to_vec() } else { numbers }
}

/// The address of a host.
pub(crate) fn address(number: usize) -> String {
    format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200)
}

/// Brings a lab up, with these further lines at the top of its file, and returns its file and how long that took.
pub(crate) fn up(lab: &str, top: &str, hosts: usize) -> (String, Duration) {
    let mut text = format!("name = \"{lab}\"\n{top}[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n");
    for number in 0..hosts {
        let address = address(number);
        writeln!(
            text,
            "[namespace.h{number}]\ngateway = \"10.77.0.1\"\n[namespace.h{number}.interface.eth0]\n\
             link = \"br0\"\naddresses = [\"{address}/16\"]"
        )
        .unwrap();
    }
    // It is private, and ends with the benchmark.
    let file = format!("/run/{lab}.toml");
    fs::write(&file, text).unwrap();
    let took = timed(&[VETHPATH, "up", &file]);
    (file, took)
}

/// Waits until the agent of a lab that has just come up is idle.
pub(crate) fn settle() {
    thread::sleep(FORWARD_DELAY);
}

/// Runs a command, and returns how long that took.
pub(crate) fn timed(command: &[&str]) -> Duration {
    let began = Instant::now();
    let mut run = Command::new(command[0]);
    let done = run.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let (done, took) = (done.unwrap(), began.elapsed());
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    took
}
