//! Every example of the documentation is brought up, and taken down.

use std::{fs, path::Path};

use vethpath::topology::{Place, Source, Topology, read};

use crate::harness::{Host, SLACK, in_parallel, wait_for, wait_until};

/// The size here of groups that have thousands: nothing depends on the number, and `scale` tests large groups.
const COUNT: u32 = 20;

/// Number of hosts, on each of which examples are brought up one after the other.
const LANES: usize = 4;

/// A block of a document, or a file of `examples/`.
struct Example {
    title: String,
    text: String,
}

fn examples() -> Vec<Example> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut examples = Vec::new();
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "examples"] {
        let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        documents.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    documents.sort();
    for path in documents {
        let title = path.file_name().expect("a name").to_string_lossy().into_owned();
        let extension = path.extension().unwrap_or_default();
        let text = || fs::read_to_string(&path).unwrap_or_else(|error| panic!("{title}: {error}"));
        if extension == "toml" {
            examples.push(Example { text: text(), title });
        } else if extension == "md" {
            for (n, block) in text().split("```toml\n").skip(1).enumerate() {
                let block = block.split("```").next().expect("a closed block");
                let line = text().split(block).next().map_or(0, |before| before.lines().count() + 1);
                examples.push(Example {
                    title: format!("{title}, block {} in line {line}", n + 1),
                    text: block.to_owned(),
                });
            }
        }
    }
    assert!(examples.len() > 40, "{} examples", examples.len());
    examples
}

#[test]
fn every_example_of_every_document_comes_up() {
    let examples = examples();
    let _ = in_parallel(0..LANES, |lane| {
        let mut host = Host::new();
        for (n, example) in examples.iter().enumerate().skip(lane).step_by(LANES) {
            check_example(&mut host, n, example);
        }
        host.finish();
    });
}

#[track_caller]
fn check_example(host: &mut Host, n: usize, example: &Example) {
    let text = without_engines(&with_small_groups(&example.text));
    let source = Source { path: &example.title, text: &text };
    let name = format!("example-{n}");
    let topology =
        read(source, Some(&name)).unwrap_or_else(|faults| panic!("{}", faults.render(source, false)));
    let guests = make_adopted(host, &topology);
    host.set_baseline();
    let file = host.topology(&name, &text);
    let output = host.vethpath(format!("up {file}"));
    let filters = topology.bridges.iter().any(|bridge| bridge.vlan_filtering);
    if filters && !host.run("ip link add probe type bridge vlan_filtering 1").succeeded() {
        // As documented under limits: a kernel without VLAN filtering is reported.
        let _ = output.fails(2).stderr_has("hint:");
    } else {
        assert!(output.succeeded(), "{}: {output}\n{text}", example.title);
        let plan = host.vethpath(format!("plan {file}")).ok();
        assert!(plan.stdout.contains("nothing to change"), "{}: {plan}", example.title);
        if !topology.expectations.is_empty() {
            // On a busy machine a second may be too short for a reply.
            wait_until(SLACK, || {
                let tested = host.vethpath(format!("test {file}"));
                if tested.succeeded() { Ok(()) } else { Err(format!("{}: {tested}", example.title)) }
            });
        }
        let down = host.vethpath(format!("down {file}"));
        assert!(down.succeeded(), "{}: {down}", example.title);
    }
    let _ = host.run("ip link del probe");
    host.assert_restored(&example.title);
    for guest in &guests {
        let _ = host.run(guest.as_str()).ok();
        if let Some(pid) = guest.strip_prefix("kill ") {
            host.wait_for_exit(pid.parse().expect("a number"));
        }
    }
}

/// The same text with small groups.
fn with_small_groups(text: &str) -> String {
    let line =
        |line: &str| match line.strip_prefix("count = ").and_then(|count| count.trim().parse::<u32>().ok()) {
            Some(count) if count > COUNT => format!("count = {COUNT}\n"),
            _ => format!("{line}\n"),
        };
    text.lines().map(line).collect()
}

/// The same text with a namespace in place of each container. `engines` tests containers.
fn without_engines(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("adopt = { container = \"") {
        Some(rest) => {
            let (name, _) = rest.split_once('"').expect("a closed string");
            format!("adopt = {{ path = \"/run/netns/container-{name}\" }}\n")
        }
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Makes the namespaces and bridges that an example adopts, and returns the commands that remove them.
fn make_adopted(host: &Host, topology: &Topology) -> Vec<String> {
    let mut removals = Vec::new();
    for adopt in topology.namespaces.iter().filter_map(|namespace| namespace.adopt.as_ref()) {
        let path = adopt.to_string();
        if let Some(name) = path.strip_prefix("/run/netns/") {
            let _ = host.run(format!("ip netns add {name}")).ok();
            removals.push(format!("ip netns del {name}"));
        } else if let Some(pid) = path.strip_prefix("/proc/").and_then(|path| path.strip_suffix("/ns/net")) {
            // The next process inside gets the pid after `ns_last_pid`.
            let pid: u32 = pid.parse().expect("a number");
            let script = format!(
                "echo {} > /proc/sys/kernel/ns_last_pid; unshare -n sleep infinity >&- 2>&- & echo $!",
                pid - 1
            );
            let output = host.run(["bash", "-c", &script]).ok();
            assert_eq!(output.stdout.trim(), pid.to_string(), "{output}");
            wait_for(SLACK, "it is not yet in a namespace of its own", || {
                let own = |pid: &str| host.run(format!("readlink /proc/{pid}/ns/net")).stdout;
                own(&pid.to_string()) != own("1")
            });
            removals.push(format!("kill {pid}"));
        } else {
            panic!("nobody knows how to make {path}");
        }
    }
    for bridge in &topology.adopted {
        let at = match &bridge.place {
            Place::Host => String::new(),
            Place::Namespace(name) => format!("-n {name} "),
        };
        let _ = host.run(format!("ip {at}link add {} type bridge", bridge.name)).ok();
        removals.insert(0, format!("ip {at}link del {}", bridge.name));
    }
    removals
}
