//! A Prometheus that scrapes, the checks of its `promtool`, and the queries of the dashboard in `dist/`.

use serde_json::Value;

use super::{ADDRESS, KEY, request, text};
use crate::{
    engines::packages,
    harness::{Host, Lab, Process, TIMEOUT, wait_until},
};

const DASHBOARD: &str = include_str!("../../dist/grafana-vethpath.json");

/// Where Prometheus listens.
const PROMETHEUS: &str = "127.0.0.1:9090";

/// A lab with all that has metrics: trunks, a guest port and one that has left, and a pair that is not armed.
fn lab(host: &Host) -> Lab<'_> {
    let lab = host.lab("trunk").with("[bridge.left]\n", &format!("{KEY}[bridge.left]\nguests = true\n")).up();
    for number in [1, 2] {
        for command in [
            format!("ip netns add guest{number}"),
            format!("ip link add veth{number} type veth peer name eth0 netns guest{number}"),
            format!("ip -n guest{number} addr add 10.3.0.10{number}/24 dev eth0"),
            format!("ip -n guest{number} link set eth0 up"),
            format!("ip link set veth{number} master left up"),
        ] {
            let _ = host.run(command).ok();
        }
        wait_until(TIMEOUT, || {
            let stats = host.vethpath("stats trunk --json").ok().json();
            let mut pairs = stats["pairs"].as_array().expect("a list").iter();
            let is_armed =
                |pair: &Value| pair["name"] == format!("left/veth{number}") && pair["state"] == "armed";
            pairs.any(is_armed).then_some(()).ok_or_else(|| stats.to_string())
        });
        lab.reaches(&format!("guest{number}"), "10.3.0.10");
    }
    let _ = host.run("ip link del veth2").ok();
    let _ = host.run(format!("bridge link set dev {} learning off", lab.port("ns1:eth0"))).ok();
    lab.wait_for_state("ns1:eth0", "port flag");
    lab
}

/// Takes the lab down. A foreign device on its bridges would keep it.
fn remove(host: &Host, lab: Lab<'_>) {
    for command in ["ip link del veth1", "ip netns del guest1", "ip netns del guest2"] {
        let _ = host.run(command).ok();
    }
    lab.down();
}

/// The result of a query.
fn query(host: &Host, query: &str) -> Result<Vec<Value>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let encoded: String = query.bytes().map(encode).collect();
    let get = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
    let (_, body) = request(host, PROMETHEUS, &get);
    let response: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    assert_eq!(response["status"], "success", "{query}: {body}");
    Ok(response["data"]["result"].as_array().expect("a list").clone())
}

/// Starts a Prometheus that scrapes each second.
fn start(host: &Host, folder: &tempfile::TempDir) -> Process {
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n- job_name: vethpath\n  static_configs:\n  \
         - targets: ['{ADDRESS}']\n"
    );
    std::fs::write(&config, text).expect("the folder is ours");
    let data = folder.path().join("data");
    let prometheus = host.spawn(format!(
        "{}/usr/bin/prometheus --config.file={} --storage.tsdb.path={} --web.listen-address={PROMETHEUS}",
        packages().display(),
        config.display(),
        data.display()
    ));
    wait_until(TIMEOUT, || {
        let listens = host.run("ss -Hltn sport = :9090").ok().stdout;
        if listens.is_empty() { Err(format!("it does not listen: {}", prometheus.output())) } else { Ok(()) }
    });
    prometheus
}

#[test]
fn promtool_finds_no_fault() {
    let host = Host::new();
    let lab = lab(&host);
    let promtool = format!("{}/usr/bin/promtool", packages().display());
    let checked = host.run_with_input([&*promtool, "check", "metrics"], &text(&host, ADDRESS)).ok();
    assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));
    // A fault is found.
    let wrong = "# TYPE vethpath_x_total gauge\nvethpath_x_total 1\n";
    let _ = host.run_with_input([&*promtool, "check", "metrics"], wrong).fails(3);
    remove(&host, lab);
    host.finish();
}

#[test]
fn prometheus_scrapes_a_lab_and_every_query_of_the_dashboard_has_data() {
    let host = Host::new();
    let lab = lab(&host);
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = start(&host, &folder);
    let traffic = lab.spawn("ns0", "ping -n -q -i 0.02 10.3.0.12");
    let other = lab.spawn("ns1", "ping -n -q -i 0.1 10.3.0.12");
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect();
    assert!(queries.len() > 10, "{queries:?}");
    for written in queries {
        let text = written.replace("$lab", ".*").replace("$__rate_interval", "10s");
        assert!(!text.contains('$'), "{text}");
        wait_until(TIMEOUT, || {
            let result = query(&host, &text)?;
            let is_number = |sample: &Value| {
                let value = sample["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
                value.is_some_and(f64::is_finite)
            };
            if !result.is_empty() && result.iter().all(is_number) {
                Ok(())
            } else {
                Err(format!("{text}: {result:?}"))
            }
        });
    }
    let variable = &dashboard["templating"]["list"][1]["query"]["query"];
    assert_eq!(variable, "label_values(vethpath_lab_read_success, lab)");
    // Prometheus has all samples of the text: none was refused, and it asks for OpenMetrics.
    let scraped = query(&host, "scrape_samples_scraped").expect("an answer");
    let added = query(&host, "scrape_samples_post_metric_relabeling").expect("an answer");
    assert_eq!(scraped[0]["value"][1], added[0]["value"][1]);
    let up = query(&host, "min_over_time(up[1m])").expect("an answer");
    assert_eq!(up[0]["value"][1], "1", "a scrape failed: {}", prometheus.output());
    prometheus.terminate();
    let _ = prometheus.wait(TIMEOUT).ok();
    drop((traffic, other));
    remove(&host, lab);
    host.finish();
}
