//! Installation plans by machine.

use super::{
    super::requirements::{Need, REQUIREMENTS},
    *,
};

const DEBIAN_ROOT: Host = Host { rustup: true, apt: true, root: true };

fn named(names: &[&str]) -> Vec<&'static Requirement> {
    REQUIREMENTS.iter().filter(|one| names.contains(&one.name)).collect()
}

fn lines(plan: &Plan<'_>) -> Vec<String> {
    plan.steps.iter().map(|step| step.words.join(" ")).collect()
}

fn refusal(plan: &Plan<'_>) -> String {
    let error = plan.refusal.as_ref();
    error.map(|error| format!("{error}; {}", error.hint().unwrap_or_default())).unwrap_or_default()
}

#[test]
fn a_fresh_debian_gets_everything_in_five_commands() {
    let all: Vec<_> = REQUIREMENTS.iter().filter(|one| one.serves(&Need::USUAL)).collect();
    let plan = plan(&all, DEBIAN_ROOT);
    let [components, target, linker, update, packages] = lines(&plan).try_into().expect("five commands");
    assert_eq!(components, "rustup component add rustfmt clippy rust-src");
    assert_eq!(target, "rustup target add aarch64-unknown-linux-gnu");
    assert_eq!(linker, "cargo install bpf-linker --version 0.10.4 --locked --force");
    assert_eq!(update, "apt-get update");
    assert!(
        packages.ends_with(
            " iproute2 iputils-ping ethtool tcpdump nftables perl-base iperf3 chromium g++ gcc sockperf"
        ),
        "{packages}"
    );
    assert!(plan.refusal.is_none());
}

#[test]
fn package_lists_are_fetched_only_for_packages() {
    let plan = plan(&named(&["rust-src"]), DEBIAN_ROOT);
    assert_eq!(lines(&plan), ["rustup component add rust-src"]);
}

#[test]
fn only_the_package_lists_may_fail() {
    let plan = plan(&named(&["clippy", "bpf-linker", "tcpdump"]), DEBIAN_ROOT);
    let may: Vec<_> =
        plan.steps.iter().filter(|step| step.may_fail).map(|step| step.words.join(" ")).collect();
    assert_eq!(may, ["apt-get update"]);
}

#[test]
fn a_user_gets_the_rust_side_and_the_sudo_command() {
    let plan = plan(&named(&["bpf-linker", "tcpdump", "iperf3"]), Host { root: false, ..DEBIAN_ROOT });
    assert_eq!(lines(&plan).len(), 1);
    let said = refusal(&plan);
    assert!(said.contains("sudo apt-get update && sudo apt-get install"), "{said}");
    assert!(said.ends_with(" tcpdump iperf3"), "{said}");
}

#[test]
fn another_distribution_gets_the_list() {
    let plan = plan(&named(&["tcpdump", "nftables"]), Host { apt: false, ..DEBIAN_ROOT });
    assert!(plan.steps.is_empty());
    assert!(refusal(&plan).contains("what Debian calls tcpdump nftables"), "{}", refusal(&plan));
}

#[test]
fn a_toolchain_without_rustup_is_left_alone() {
    let plan = plan(&named(&["rust-src"]), Host { rustup: false, ..DEBIAN_ROOT });
    assert!(plan.steps.is_empty());
    assert!(refusal(&plan).contains("not managed by rustup"), "{}", refusal(&plan));
}
