//! Warnings of holes in the routing.

use super::warnings;

/// a - (br0) - router - (br1) - b. `forward` is the router's setting, `of_b` is b's route back.
fn two_subnets(forward: &str, of_b: &str) -> String {
    format!(
        "[bridge.br0]\n[bridge.br1]\n[namespace.a]\ngateway = '10.0.0.254'\n[namespace.a.interface.e]\nlink = 'br0'\naddresses = ['10.0.0.2/24']\n\
         [namespace.router]\n{forward}\n\
         [namespace.router.interface.e0]\nlink = 'br0'\naddresses = ['10.0.0.254/24']\n\
         [namespace.router.interface.e1]\nlink = 'br1'\naddresses = ['10.1.0.254/24']\n\
         [namespace.b]\n{of_b}\n[namespace.b.interface.e]\nlink = 'br1'\naddresses = ['10.1.0.2/24']\n"
    )
}

const FORWARD: &str = "sysctls = { 'net.ipv4.ip_forward' = 1 }";
const BACK: &str = "gateway = '10.1.0.254'";
const SILENT: [&str; 0] = [];

#[test]
fn a_router_that_does_not_forward() {
    let message = "4:11 `a` sends to 10.1.0.0/24 via `router`, which does not forward IPv4";
    // Reported once, though b has the same problem.
    assert_eq!(warnings(&two_subnets("", BACK)), [message]);
    for forwards in [
        FORWARD,
        "sysctls = { 'net/ipv4/conf/all/forwarding' = true }",
        "sysctls = { 'net.ipv4.conf.default.forwarding' = 1 }",
    ] {
        assert_eq!(warnings(&two_subnets(forwards, BACK)), SILENT, "{forwards}");
    }
    for does_not in
        ["sysctls = { 'net.ipv4.ip_forward' = 0 }", "sysctls = { 'net.ipv6.conf.all.forwarding' = 1 }"]
    {
        assert_eq!(warnings(&two_subnets(does_not, BACK)).len(), 1, "{does_not}");
    }
}

#[test]
fn a_host_without_a_return_route() {
    let message = "4:11 `b` has no route back to 10.0.0.0/24: packets from `a` to `b:e` get no reply";
    assert_eq!(warnings(&two_subnets(FORWARD, "")), [message]);
    let more = two_subnets(FORWARD, "") + "[group.c]\ncount = 5\nbridge = 'br1'\nsubnet = '10.1.0.0/24'\n";
    assert_eq!(warnings(&more), [format!("{message}, nor do those to 5 more hosts there")]);
    // A route is as good as a gateway. A router that masquerades needs neither.
    let route = "routes = [{ to = '10.0.0.0/16', via = '10.1.0.254' }]";
    assert_eq!(warnings(&two_subnets(FORWARD, route)), SILENT);
    let nat = two_subnets("", "").replace(
        "[bridge.br0]",
        "[bridge.br0]\nnamespace = 'router'\naddresses = ['10.0.0.253/24']\nnat = true",
    );
    let nat =
        nat.replace("[namespace.router.interface.e0]\nlink = 'br0'\naddresses = ['10.0.0.254/24']\n", "");
    let nat = nat.replace("10.0.0.254", "10.0.0.253");
    assert_eq!(warnings(&nat), SILENT);
}

#[test]
fn a_route_to_a_router_without_an_onward_route() {
    let far = "[namespace.far.interface.e]\nlink = 'router:x'\naddresses = ['10.9.0.2/24']\n[namespace.router.interface.x]\nlink = 'far:e'\n";
    let default = two_subnets(FORWARD, BACK) + far;
    assert_eq!(warnings(&default), SILENT, "a default route claims nothing");
    let route =
        default.replace("gateway = '10.0.0.254'", "routes = [{ to = '10.0.0.0/8', via = '10.0.0.254' }]");
    assert_eq!(
        warnings(&route),
        ["4:38 `router` has no route to 10.9.0.0/24, to which `a` sends via 10.0.0.254"]
    );
}

#[test]
fn who_is_not_in_the_file_is_not_judged() {
    for unknown in
        ["adopt = { pid = 1 }", "adopt = { pid = 1 }\nroutes = [{ to = '10.7.0.0/16', via = '10.1.0.2' }]"]
    {
        assert_eq!(warnings(&two_subnets(unknown, "")), SILENT, "{unknown}");
    }
    assert_eq!(warnings(&two_subnets(FORWARD, "adopt = { pid = 1 }")), SILENT);
    let host = "[bridge.b0]\naddresses = ['10.0.0.1/24']\n[bridge.b1]\naddresses = ['10.1.0.1/24']\n\
                [group.g]\ncount = 2\nbridge = 'b0'\nsubnet = '10.0.0.0/24'\n[group.h]\ncount = 2\nbridge = 'b1'\nsubnet = '10.1.0.0/24'\ngateway = []\n";
    assert_eq!(warnings(host), SILENT);
}

#[test]
fn routes_in_a_circle_end() {
    let circle = two_subnets("gateway = '10.0.0.2'", BACK);
    let circle = circle
        .replace("gateway = '10.0.0.254'", "gateway = '10.0.0.254'\nsysctls = { 'net.ipv4.ip_forward' = 1 }");
    let circle = circle + "[namespace.far.interface.e]\nlink = 'host:v'\naddresses = ['10.9.0.2/24']\n";
    assert_eq!(warnings(&circle).len(), 1, "the router does not forward to b: {:?}", warnings(&circle));
}

#[test]
fn very_many_routes_are_looked_at_in_part() {
    let start = super::cpu_time();
    let routes: String = (0..900)
        .map(|n| format!("{{ to = '10.{}.{}.0/24', via = '10.0.0.254' }},", n / 250 + 1, n % 250))
        .collect();
    let mut text = two_subnets(FORWARD, BACK) + "[mesh.m]\ncount = 60\nsubnet = '10.128.0.0/9'\n";
    text += &format!(
        "[group.g]\ncount = 3000\nbridges = ['br0', 'br1', 'br2', 'br3']\nsubnet = '10.0.0.0/16'\nfirst = '10.0.8.1'\nroutes = [{routes}]\n[bridge.br2]\ntrunks = ['br0']\n[bridge.br3]\ntrunks = ['br0']\n"
    );
    let text = text.replace("[bridge.br1]", "[bridge.br1]\ntrunks = ['br0']");
    let _ = super::parse(&text);
    let taken = super::cpu_time() - start;
    assert!(taken.as_secs() < 60, "{taken:?}");
}
