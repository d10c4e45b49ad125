//! `up` makes a lab what its file says, whatever its state was, and touches nothing else.

mod changes;
mod clsact;
mod counts;
mod datapaths;
mod drift;
mod failures;
mod killed;
mod owners;
mod random;

use std::fmt::Write;

use crate::harness::{Host, Lab, SLACK, wait_until};

/// A file with a bridge `br0`, 10.9.0.1/16, and hosts `h0`, `h1`, ... from 10.9.1.0 on.
fn hosts(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut text = "[bridge.br0]\naddresses = [\"10.9.0.1/16\"]\n".to_owned();
    for number in numbers {
        text += &host_on(number, "br0");
    }
    text
}

/// One of these hosts, on any bridge.
fn host_on(number: usize, bridge: &str) -> String {
    let address = address(number);
    let mut text = String::new();
    write!(
        text,
        "[namespace.h{number}]\ngateway = \"10.9.0.1\"\n\
         [namespace.h{number}.interface.eth0]\nlink = \"{bridge}\"\naddresses = [\"{address}/16\"]\n"
    )
    .expect("a string takes anything");
    text
}

/// The same hosts without IPv6. With IPv6, many hosts send to all others all the time, and their counters would never
/// be still.
fn without_ipv6(text: &str) -> String {
    let sysctls =
        "sysctls = { \"net.ipv6.conf.all.disable_ipv6\" = 1, \"net.ipv6.conf.default.disable_ipv6\" = 1 }";
    text.replace("gateway = \"10.9.0.1\"\n", &format!("gateway = \"10.9.0.1\"\n{sysctls}\n"))
}

/// The address of a host.
fn address(number: usize) -> String {
    format!("10.9.{}.{}", 1 + number / 200, number % 200)
}

/// Bridges `b0`, `b1`, ... in a row that trunks join. `h0` is on the first and `h1` on the second.
fn chain(bridges: usize) -> String {
    let trunk =
        |n: usize| if n + 1 < bridges { format!("trunks = [\"b{}\"]\n", n + 1) } else { String::new() };
    let hosts = (host_on(0, "b0") + &host_on(1, "b1")).replace("gateway = \"10.9.0.1\"\n", "");
    (0..bridges).map(|n| format!("[bridge.b{n}]\n{}", trunk(n))).collect::<String>() + &hosts
}

/// Writes the file of the lab `changing` with this text, and returns its path.
fn lab_file(host: &Host, text: &str) -> String {
    host.lab("empty").named("changing").and(text).write()
}

/// Brings the lab `changing` up with this text.
#[track_caller]
fn up<'h>(host: &'h Host, text: &str) -> Lab<'h> {
    host.lab("empty").named("changing").and(text).up()
}

/// Runs `plan` and then `up` with another text: both name the same changes, and then there is nothing to do. Returns
/// the changes.
#[track_caller]
fn change_to(host: &Host, text: &str) -> Vec<String> {
    let file = lab_file(host, text);
    let planned = host.vethpath(format!("plan {file}")).ok().stdout;
    let applied = host.vethpath(format!("up --json {file}")).ok().json();
    let changes: Vec<String> =
        planned.lines().filter(|line| !line.ends_with("nothing to change")).map(str::to_owned).collect();
    let kinds =
        |change: &serde_json::Value| format!("{} {}", change["action"], change["name"]).replace('"', "");
    let applied: Vec<String> = applied["changes"].as_array().into_iter().flatten().map(kinds).collect();
    assert_eq!(applied.len(), changes.len(), "{planned}\n{applied:#?}");
    for (planned, applied) in changes.iter().zip(&applied) {
        let (action, name) = applied.split_once(' ').expect("two words");
        assert!(planned.contains(action) && planned.contains(name), "{planned}: {applied}");
    }
    assert_up_to_date(host, &file);
    changes
}

/// Checks that there is nothing to do.
#[track_caller]
fn assert_up_to_date(host: &Host, file: &str) {
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("lab changing is up: nothing to change");
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has("lab changing is up: nothing to change");
}

/// The identity and the contents of a namespace, without counters and lifetimes. They must not change when other
/// namespaces do.
#[track_caller]
fn identity(host: &Host, namespace: &str) -> String {
    let run = |command: String| host.run(command).ok().stdout;
    wait_until(SLACK, || {
        let links = run(format!("ip -n {namespace} -o link"));
        let addresses = run(format!("ip -n {namespace} -o addr"));
        // The kernel brings a link up and adds its addresses asynchronously.
        let is_done = links.lines().all(|link| link.contains("state UP") || link.contains(" lo: "))
            && addresses.lines().any(|address| address.contains("fe80::"))
            && !addresses.contains("tentative");
        if !is_done {
            return Err(format!("{namespace} is not up: {links}{addresses}"));
        }
        let inode = run(format!("stat -L -c %i /run/netns/{namespace}"));
        Ok(inode + &links + &addresses + &run(format!("ip -n {namespace} route")))
    })
}
