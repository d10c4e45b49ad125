//! Labs that another version of vethpath has brought up. `formats/` has files of each format.

use std::{fs, path::Path};

use aya::maps::{Array, Map, MapData};
use vethpath_common::{ABI_VERSION, Config};

use crate::harness::{Host, Lab};

/// A file of the previous format.
fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/2").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const JOURNAL: &str = "/run/vethpath/former/journal";

/// A lab with the journal that the previous version wrote, and its record of the machine's settings. Devices, their names,
/// marks and pins are as they were then: `up` finds the journal, and keeps the names in it.
fn former(host: &Host) -> Lab<'_> {
    let file = host.topology("former", &data("lab.toml"));
    let _ = host.run("install -d -m 700 /run/vethpath /run/vethpath/former").ok();
    fs::write(host.path(JOURNAL), data("journal")).expect("it can be written");
    let _ = host.vethpath(format!("up {file}")).ok();
    let pins = host.run(["sh", "-c", "cd /sys/fs/bpf/vethpath/former && find . -type f"]).ok().stdout;
    let mut pins: Vec<_> = pins.lines().map(|pin| pin.trim_start_matches("./")).collect();
    pins.sort_unstable();
    assert_eq!(pins, data("pins").lines().collect::<Vec<_>>(), "pins of another format");
    fs::write(host.path(JOURNAL), data("journal")).expect("it can be written");
    let state = fs::read_dir(host.path("/run/vethpath")).expect("a lab is up").flatten();
    let mut memories = state.filter(|entry| entry.file_name().to_string_lossy().starts_with(".host-sysctls"));
    fs::remove_file(memories.next().expect("nat is on").path()).expect("it can be removed");
    fs::write(host.path("/run/vethpath/.host-sysctls"), data("host-sysctls")).expect("it can be written");
    Lab::existing(host, "former", file)
}

#[test]
fn a_lab_of_the_format_before_can_be_used_and_taken_down() {
    let host = Host::new();
    let lab = former(&host);
    let _ = host
        .vethpath("list")
        .ok()
        .stdout_has("former: 5 namespaces, 3 bridges, 3 of 4 pairs armed, agent alive");
    let shown = host.vethpath("show --json").ok().json();
    assert_eq!(shown["bridges"].as_array().map(Vec::len), Some(3), "{shown:#}");
    assert_eq!(lab.stats().pairs.len(), 4);
    let _ = host.vethpath("exec h0 -- ping -n -q -c 1 -W 5 10.1.0.11").ok();
    let _ = host.vethpath("exec --lab former h1 -- ping -n -q -c 1 -W 5 10.2.0.1").ok();
    lab.down();
    host.assert_restored("down");

    // Without the agent, nothing records in which namespaces the lab was brought up.
    let lab = former(&host);
    let agent = lab.pid();
    let _ = host.run(format!("kill -KILL {agent}")).ok();
    host.wait_for_exit(agent);
    let _ = host.vethpath("list").ok().stdout_has("former: 5 namespaces");
    lab.down();
    host.finish();
}

#[test]
fn up_takes_over_a_lab_of_the_format_before() {
    let host = Host::new();
    let lab = former(&host);
    let agent = lab.pid();
    let ports = |host: &Host| host.run("ip -o link show master br0").ok().stdout;
    let before = ports(&host);
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("+ create agent former");
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("fast path: 3 of 4 pairs armed");
    // The old agent may not know everything that a journal of this version has.
    assert_ne!(lab.pid(), agent);
    assert_eq!(ports(&host), before, "what was there stays");
    assert!(fs::read_to_string(host.path(JOURNAL)).expect("it is up").contains("\"home\""));
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    lab.is_fast("h0:eth0", "10.1.0.11");
    lab.down();
    host.finish();
}

/// The contents of a record of a newer version, or of one before the last, are unknown.
#[test]
fn a_lab_of_an_unknown_format_is_reported_and_removed_by_its_marks() {
    let host = Host::new();
    for (format, age) in [(3, "a newer"), (1, "an older")] {
        let file = host.topology("former", &data("lab.toml"));
        let _ = host.vethpath(format!("up {file}")).ok();
        let journal = fs::read_to_string(host.path(JOURNAL)).expect("it is up");
        let other = journal.replace("{\"version\":2,", &format!("{{\"version\":{format},\"more\":[],"));
        assert_ne!(other, journal);
        fs::write(host.path(JOURNAL), other).expect("it can be written");
        let written =
            format!("{age} version of vethpath has written it (format {format}, and this one reads 2)");
        let _ = host.vethpath("list").ok().stdout_has(&format!("former: cannot read {JOURNAL}: {written}"));
        for command in [format!("up {file}"), format!("plan {file}"), "show former".to_owned()] {
            let _ = host
                .vethpath(command)
                .fails(2)
                .stderr_has(&written)
                .stderr_has("hint: `vethpath down former` removes");
        }
        let _ = host
            .vethpath("down former")
            .ok()
            .stderr_has(&written)
            .stderr_has("objects with the mark of lab")
            .stderr_has("lab former is down");
        host.assert_restored(age);
    }
    host.finish();
}

/// Programs and maps of another version are not mixed with those of this one.
#[test]
fn maps_of_another_version_are_left_alone_until_the_lab_is_down() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let agent = lab.pid();
    let _ = host.run(format!("kill -KILL {agent}")).ok();
    host.wait_for_exit(agent);
    let config =
        MapData::from_pin(host.path("/sys/fs/bpf/vethpath/three-hosts/CONFIG")).expect("it is pinned");
    let mut config = Array::<_, Config>::try_from(Map::Array(config)).expect("it is an array");
    let found = config.get(&0, 0).expect("it can be read");
    config.set(0, Config { abi: 153, ..found }, 0).expect("it can be written");
    for verb in ["plan", "up"] {
        let output = host.vethpath(format!("{verb} {}", lab.file)).fails(2);
        let _ = output
            .stderr_has(&format!("its maps are of ABI version 153, not {ABI_VERSION}"))
            .stderr_has("hint: take the lab down with `vethpath down`");
    }
    let _ = host.vethpath("list").ok().stdout_has("three-hosts: 3 namespaces");
    let _ = host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.102").ok();
    lab.down();
    host.finish();
}
