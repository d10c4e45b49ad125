//! A fixed report for the tests of the renderers.

use super::{
    Case, Caveat, Cores, Distribution, Ended, Interval, Machine, Mode, Placement, Rate, Report, Results,
    Spec, VERSION, Wait, Warning, Why, Work,
};

fn distribution(p50_us: f64) -> Distribution {
    Distribution {
        p50_us,
        p90_us: p50_us + 1.0,
        p99_us: p50_us + 9.0,
        p99_9_us: p50_us + 20.0,
        min_us: p50_us - 1.0,
        max_us: p50_us + 100.0,
        mean_us: p50_us + 0.25,
        n: 2000,
        lost: 0,
        round_p50_us: vec![p50_us + 0.1; 2],
        histogram: vec![(p50_us, 1000), (p50_us + 0.1, 900), (p50_us + 100.0, 100)],
    }
}

fn rate(median: f64) -> Rate {
    Rate { median, rounds: vec![median, median * 1.01], sent: 5000, received: 5000, loss: 0.0 }
}

fn case(spec: Spec, results: Results) -> Case {
    let Spec { work, size, wait, cores } = spec;
    Case {
        work,
        size,
        wait,
        placement: Placement { cores, from_cpu: 1, to_cpu: usize::from(cores == Cores::Same) },
        unit: work.unit(),
        better: work.better(),
        rounds: 2,
        ended: Ended { why: Why::Narrow, width: Some(0.08), wanted: 0.1 },
        results,
        fast_to_bridge: Some(Interval { value: 0.822, low: 0.81, high: 0.83 }),
        fast_to_cable: Some(Interval { value: 1.05, low: 1.04, high: 1.06 }),
        overhead_removed: Some(Interval { value: 0.821, low: 0.78, high: 0.86 }),
        xdp_to_bridge: None,
        xdp_to_cable: None,
        xdp_overhead_removed: None,
    }
}

/// A run with a latency and a rate.
pub(crate) fn report() -> Report {
    let latency = [(Mode::Cable, 10.1), (Mode::Bridge, 12.9), (Mode::Fast, 10.6)];
    let latency = latency.map(|(mode, p50_us)| (mode, distribution(p50_us)));
    let rates = [(Mode::Cable, 600e3), (Mode::Bridge, 400e3), (Mode::Fast, 550e3)];
    let rates = rates.map(|(mode, median)| (mode, rate(median)));
    let stream = Spec { work: Work::UdpRate, size: 64, wait: Wait::Blocking, cores: Cores::Cross };
    let round_trips = case(Spec::UDP, Results::Latency(latency.clone().into_iter().collect()));
    Report {
        version: VERSION,
        lab: "lab".into(),
        from: "ns0".into(),
        to: "ns1".into(),
        bridges: 1,
        rounds: 2,
        ended: round_trips.ended,
        warnings: vec![Caveat::from(&Warning::OneCpu)],
        machine: Machine { cpus: 2, vethpath: "0.1.0".into(), ..Machine::default() },
        udp_rr: Some(latency.iter().map(|(mode, d)| (*mode, d.brief())).collect()),
        tcp_rr: None,
        overhead_removed: round_trips.overhead_removed,
        cases: vec![round_trips, case(stream, Results::Rate(rates.into_iter().collect()))],
    }
}

/// The same report with XDP.
pub(crate) fn with_xdp() -> Report {
    let mut report = report();
    let case = &mut report.cases[0];
    let Results::Latency(latency) = &case.results else { return report };
    let all = latency.iter().map(|(mode, d)| (mode, d.clone())).chain([(Mode::Xdp, distribution(12.5))]);
    case.results = Results::Latency(all.collect());
    case.xdp_to_bridge = Some(Interval { value: 0.969, low: 0.96, high: 0.98 });
    case.xdp_to_cable = Some(Interval { value: 1.237, low: 1.23, high: 1.25 });
    case.xdp_overhead_removed = Some(Interval { value: 0.143, low: 0.12, high: 0.16 });
    report
}
