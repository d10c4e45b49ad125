//! Streams of JSON lines: `stats --json --interval` and `events --json --follow`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::harness::{Host, Lab, SLACK, TIMEOUT, wait_until};

/// A JSON Schema of the documents.
fn schema(name: &str) -> jsonschema::Validator {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let schema: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Expects that each line is what the schema says, and returns them.
#[track_caller]
fn lines(text: &str, schema: &jsonschema::Validator) -> Vec<Value> {
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let faults: Vec<_> =
            schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:#?}: {value:#}");
        value
    };
    text.lines().map(parse).collect()
}

/// Waits until the process that has these words in its command line is blocked in a write to a pipe, and returns its
/// pid.
#[track_caller]
fn blocked(host: &Host, words: &str) -> i32 {
    wait_until(TIMEOUT, || {
        let found = host.run(["pgrep", "-f", "-x", words]).stdout;
        let pid: i32 = found.trim().parse().map_err(|_| format!("processes: {found:?}"))?;
        let threads =
            host.run(["sh", "-c", &format!("cat /proc/{pid}/task/*/wchan /proc/{pid}/task/*/syscall")]);
        // 1 is write(2) on x86-64, and 64 on arm64.
        let is_writing = threads.stdout.contains("pipe_write")
            || threads.stdout.lines().any(|line| line.starts_with("1 0x") || line.starts_with("64 0x"));
        if is_writing { Ok(pid) } else { Err(threads.stdout) }
    })
}

#[test]
fn each_line_is_an_account_as_the_schema_says() {
    let host = Host::new();
    let lab = host.lab("trunk").up();
    lab.reaches("ns0", "10.3.0.12");
    let schema = schema("stats.schema.json");
    let stream = host.spawn_vethpath("stats trunk --json --interval 100ms");
    wait_until(TIMEOUT, || {
        let printed = stream.output();
        if printed.lines().count() > 3 { Ok(()) } else { Err(printed) }
    });
    stream.interrupt();
    let output = stream.wait(TIMEOUT).ok();
    let accounts = lines(&output.stdout, &schema);
    let times: Vec<_> = accounts.iter().filter_map(|account| account["time"].as_str()).collect();
    assert!(times.len() == accounts.len() && times.is_sorted(), "{times:?}");
    assert_eq!(accounts[0]["pairs"].as_array().map(Vec::len), Some(3));
    assert_eq!(accounts[0]["trunks"].as_array().map(Vec::len), Some(2));
    let one = host.vethpath("stats trunk --json --pair ns1").ok();
    let one = lines(&serde_json::to_string(&one.json()).expect("a value"), &schema);
    assert_eq!(one[0]["pairs"].as_array().map(Vec::len), Some(1));
    lab.down();
    host.finish();
}

#[test]
fn each_event_is_as_the_schema_says() {
    let host = Host::new();
    let lab = host.lab("trunk").up();
    let schema = schema("event.schema.json");
    let stream = host.spawn_vethpath("events trunk --json --follow");
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("ip link set {port} down")).ok();
    wait_until(TIMEOUT, || {
        let printed = stream.output();
        if printed.contains("the port is down") { Ok(()) } else { Err(printed) }
    });
    lab.down();
    let output = stream.wait(TIMEOUT).ok();
    let events = lines(&output.stdout, &schema);
    assert!(events.iter().any(|event| event["kind"] == "lab-down"), "{output}");
    host.finish();
}

/// The agent neither waits for a reader nor notices it, and an interrupt ends a stream that nobody reads.
#[test]
fn a_reader_that_does_not_read_blocks_only_its_stream() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let words = format!("{} stats three-hosts --json --interval 100ms", host.exe());
    // The shell ends with the exit code of the first command.
    let script = format!("set -o pipefail; {words} | sleep 1000");
    let pipeline = host.spawn(["bash", "-c", &script]);
    let stream = blocked(&host, &words);
    assert_agent_lives(&host, &lab, pid);
    assert!(lab.stats().agent.alive);
    let _ = host.run(format!("kill -INT {stream}")).ok();
    host.wait_for_exit(stream);
    drop(pipeline);

    // Events come until the pipe is full.
    let words = format!("{} events three-hosts --json --follow", host.exe());
    let script = format!("{words} | sleep 1000");
    let pipeline = host.spawn(["bash", "-c", &script]);
    let port = lab.port("ns0:eth0");
    let flap = format!("while :; do ip link set {port} down; ip link set {port} up; sleep 0.02; done");
    let flapping = host.spawn(["sh", "-c", &flap]);
    let stream = blocked(&host, &words);
    drop(flapping);
    assert_agent_lives(&host, &lab, pid);
    let _ = host.run(format!("kill -INT {stream}")).ok();
    host.wait_for_exit(stream);
    drop(pipeline);
    lab.down();
    host.finish();
}

/// The agent is the one that it was, and renews its lease: less of it has passed than the lease is long.
#[track_caller]
fn assert_agent_lives(host: &Host, lab: &Lab<'_>, pid: i32) {
    assert_eq!(lab.pid(), pid);
    wait_until(SLACK, || {
        let stats = host.vethpath(format!("stats {} --json", lab.name)).ok();
        match stats.json()["agent"]["lease_left_ms"].as_u64() {
            Some(1_001..) => Ok(()),
            _ => Err(format!("the lease is not renewed: {stats}")),
        }
    });
}

#[test]
fn a_reader_that_has_ended_ends_its_stream() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for command in ["stats three-hosts --json --interval 100ms", "stats three-hosts --interval 100ms"] {
        let script = format!("{} {command} | head -n 2; echo ended with ${{PIPESTATUS[0]}}", host.exe());
        let _ = host.run(["bash", "-c", &script]).ok().stdout_has("ended with 0");
    }
    lab.down();
    host.finish();
}

#[test]
fn intervals_are_checked() {
    let host = Host::new();
    for interval in ["0", "10ms", "2h", "soon"] {
        let _ = host.vethpath(format!("stats --interval {interval}")).fails(1).stderr_has("--interval");
    }
    let _ = host.vethpath("stats --watch --json").fails(1).stderr_has("--json");
    host.finish();
}
