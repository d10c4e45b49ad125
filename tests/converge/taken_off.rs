//! Another program, such as a network manager that matches every interface, takes a port off its bridge during `up`.

use super::labs::{address, hosts};
use crate::harness::{Host, Process, SLACK, TIMEOUT, wait_for};

/// A port of a bridge.
fn port_of(host: &Host, bridge: &str) -> String {
    let ports = host.json(format!("ip -j link show master {bridge}"));
    ports[0]["ifname"].as_str().expect("the bridge has a port").to_owned()
}

/// Runs `up`, which waits until `/run/go` exists before it adds FDB entries of hosts. Only a debug build waits.
#[track_caller]
fn up(host: &Host, file: &str) -> Process {
    let exe = std::env::var("VETHPATH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vethpath").to_owned());
    let up = host.spawn(format!("env VETHPATH_WAIT_AT=introduce VETHPATH_WAIT_FOR=/run/go {exe} up {file}"));
    wait_for(TIMEOUT, "it does not get there", || up.output().contains("waiting at introduce"));
    up
}

#[test]
fn a_port_that_was_taken_off_once_is_put_back() {
    let host = Host::new();
    let file = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    let up = up(&host, &file);
    let port = port_of(&host, "br0");
    let _ = host.run(format!("ip link set {port} nomaster")).ok();
    let _ = host.run("touch /run/go").ok();
    let done = up.wait(TIMEOUT).ok().says("3 of 3 pairs armed");
    let _ = done.says(&format!("another program took {port} off its bridge meanwhile; reattached"));
    let _ = host.run("rm /run/go").ok();
    let _ = host.run(format!("ip netns exec h0 ping -n -q -c 3 -l 3 -W 5 {}", address(1))).ok();
    let _ = host.vethpath("down changing").ok();
    host.finish();
}

#[test]
fn a_port_that_is_taken_off_again_is_an_error_that_says_so() {
    let host = Host::new();
    let file = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    let up = up(&host, &file);
    let port = port_of(&host, "br0");
    let takes_off = format!("touch /run/begun; while ip link set {port} nomaster; do :; done");
    let manager = host.spawn(["sh", "-c", &takes_off]);
    wait_for(SLACK, "nobody takes it off", || host.path("/run/begun").exists());
    let _ = host.run("touch /run/go").ok();
    let done = up.wait(TIMEOUT).fails(2).says(&format!("another program takes port {port} off bridge br0"));
    let _ = done.says("hint: have network managers leave interfaces named vp* alone");
    drop(manager);
    assert_eq!(host.namespaces(), [""; 0], "what had been done is undone");
    let _ = host.run("rm /run/go /run/begun").ok();
    host.finish();
}

#[test]
fn a_bridge_that_is_removed_meanwhile_is_named() {
    let host = Host::new();
    let file = host.lab("empty").named("changing").and(&hosts(0..3)).write();
    let up = up(&host, &file);
    let _ = host.run("ip link del br0").ok();
    let _ = host.run("touch /run/go").ok();
    let _ =
        up.wait(TIMEOUT).fails(2).says("another program has removed or renamed br0 in host while `up` ran");
    assert_eq!(host.namespaces(), [""; 0], "what had been done is undone");
    let _ = host.run("rm /run/go").ok();
    host.finish();
}
