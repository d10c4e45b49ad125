//! The last section: machine, method and command of the measurement.

use maud::{Markup, html};

use crate::bench::{Mode, Report, Why};

/// Renders the last section of the page.
pub(super) fn facts(report: &Report) -> Markup {
    let machine = &report.machine;
    let unknown = || "unknown".to_owned();
    let calls = machine.bridge_nf_call.iter();
    let calls: Vec<_> =
        calls.map(|(name, on)| format!("{name} {}", if *on { "on" } else { "off" })).collect();
    let facts = [
        ("CPU", machine.cpu.clone().unwrap_or_else(unknown)),
        ("CPUs", machine.cpus.to_string()),
        ("frequency governor", machine.governor.clone().unwrap_or_else(|| "none".to_owned())),
        ("kernel", machine.kernel.clone().unwrap_or_else(unknown)),
        ("programs attached by", machine.hook.map_or_else(unknown, |hook| hook.name().to_owned())),
        ("bridge-nf-call", if calls.is_empty() { "not there".to_owned() } else { calls.join(", ") }),
        ("congestion control", machine.congestion_control.clone().unwrap_or_else(unknown)),
        ("vethpath", machine.vethpath.clone()),
        ("measured", machine.date.clone()),
        ("rounds", format!("{}; {}", report.rounds, ended(report))),
    ];
    html! {
        section #machine {
            h2 { "The machine" }
            div.wide { table.facts { tbody {
                @for (name, fact) in facts { tr { th { (name) } td { (fact) } } }
            } } }
            h2 { "Do it again" }
            pre { code { (machine.command) } }
            p.faint {
                "Cable: a veth pair and nothing else. Plain bridge: the lab's own, its programs detached. Fast path: the \
                 programs attached, both pairs armed. The paths took turns in random order within each round; the \
                 programs' own counters had to show that the frames took the path. Ratios are the median of the rounds' \
                 ratios; intervals are by bootstrap over rounds."
                @if has_xdp(report) {
                    " XDP: the same way in a lab of its own with `datapath = \"xdp\"`; the drivers' counters had to show \
                     that XDP redirected the frames."
                }
            }
        }
    }
}

fn has_xdp(report: &Report) -> bool {
    report.cases.iter().any(|case| case.figures().get(Mode::Xdp).is_some())
}

fn ended(report: &Report) -> &'static str {
    match report.ended.why {
        Why::Narrow => "it ended when the first case's interval was narrow enough",
        Why::Time => "it ended when the time was over",
    }
}
