//! Files of labs that change, and checks of what must not change.

use std::fmt::Write;

use crate::harness::{Host, Lab, SLACK, wait_until};

/// A file with a bridge `br0`, 10.9.0.1/16, and hosts `h0`, `h1`, ... from 10.9.1.0 on.
pub(super) fn hosts(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut text = "[bridge.br0]\naddresses = [\"10.9.0.1/16\"]\n".to_owned();
    for number in numbers {
        text += &host(number, "br0");
    }
    text
}

/// One of these hosts, on any bridge.
pub(super) fn host(number: usize, bridge: &str) -> String {
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
pub(super) fn quiet(text: &str) -> String {
    let sysctls =
        "sysctls = { \"net.ipv6.conf.all.disable_ipv6\" = 1, \"net.ipv6.conf.default.disable_ipv6\" = 1 }";
    text.replace("gateway = \"10.9.0.1\"\n", &format!("gateway = \"10.9.0.1\"\n{sysctls}\n"))
}

/// The address of a host.
pub(super) fn address(number: usize) -> String {
    format!("10.9.{}.{}", 1 + number / 200, number % 200)
}

/// Brings the lab `changing` up with this text.
#[track_caller]
pub(super) fn up<'h>(host: &'h Host, text: &str) -> Lab<'h> {
    host.lab("empty").named("changing").and(text).up()
}

/// Runs `plan` and then `up` with another text: both name the same changes, and then there is nothing to do. Returns
/// the changes.
#[track_caller]
pub(super) fn becomes(host: &Host, text: &str) -> Vec<String> {
    let file = host.lab("empty").named("changing").and(text).write();
    let planned = host.vethpath(format!("plan {file}")).ok().stdout;
    let done = host.vethpath(format!("up --json {file}")).ok().json();
    let changes: Vec<String> =
        planned.lines().filter(|line| !line.ends_with("nothing to change")).map(str::to_owned).collect();
    let kinds =
        |change: &serde_json::Value| format!("{} {}", change["action"], change["name"]).replace('"', "");
    let done: Vec<String> = done["changes"].as_array().into_iter().flatten().map(kinds).collect();
    assert_eq!(done.len(), changes.len(), "{planned}\n{done:#?}");
    for (planned, done) in changes.iter().zip(&done) {
        let (action, name) = done.split_once(' ').expect("two words");
        assert!(planned.contains(action) && planned.contains(name), "{planned}: {done}");
    }
    is_as_its_file_says(host, &file);
    changes
}

/// Checks that there is nothing to do.
#[track_caller]
pub(super) fn is_as_its_file_says(host: &Host, file: &str) {
    let _ = host.vethpath(format!("plan {file}")).ok().prints("lab changing is up: nothing to change");
    let _ = host.vethpath(format!("up {file}")).ok().says("lab changing is up: nothing to change");
}

/// The identity and the contents of a namespace, without counters and lifetimes. They must not change when other
/// namespaces do.
#[track_caller]
pub(super) fn identity(host: &Host, namespace: &str) -> String {
    let say = |command: String| host.run(command).ok().stdout;
    wait_until(SLACK, || {
        let links = say(format!("ip -n {namespace} -o link"));
        let addresses = say(format!("ip -n {namespace} -o addr"));
        // The kernel brings a link up and adds its addresses asynchronously.
        let is_done = links.lines().all(|link| link.contains("state UP") || link.contains(" lo: "))
            && addresses.lines().any(|address| address.contains("fe80::"))
            && !addresses.contains("tentative");
        if !is_done {
            return Err(format!("{namespace} is not up: {links}{addresses}"));
        }
        let inode = say(format!("stat -L -c %i /run/netns/{namespace}"));
        Ok(inode + &links + &addresses + &say(format!("ip -n {namespace} route")))
    })
}
