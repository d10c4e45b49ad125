use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

use super::*;
use crate::{
    output::samples,
    state::events::{Event, Kind},
    stats::{self, Count, Directions, Flows, Pair, SortKey, State, Stats, Traffic, Trunk},
};

const PLAIN: Look = Look { color: false, blocks: true };

fn options(look: Look) -> Options {
    Options {
        sort: SortKey::Traffic,
        filter: String::new(),
        interval: Duration::from_secs(1),
        look,
        rtt: false,
    }
}

fn sample(at: Instant, stats: &Stats) -> Sample {
    let facts = PairFacts {
        addresses: vec!["172.17.0.102/16".to_owned()],
        mac: "02:00:00:00:00:01".to_owned(),
        place: "fabric".to_owned(),
    };
    let facts = Arc::new([("ns1:eth0".to_owned(), facts)].into());
    Sample { at, stats: stats.clone(), flows: None, facts }
}

/// What a pair sends in a second.
fn grow(pair: &mut Pair, fast: u64, slow: u64, reason: &'static str) {
    let count = |packets| Count { frames: packets, packets, bytes: packets * 125 };
    let traffic = &mut pair.traffic;
    traffic.tx = traffic.tx.plus(count(fast + slow));
    traffic.fast.tx = traffic.fast.tx.plus(count(fast));
    if slow > 0 {
        *traffic.slow.entry(reason).or_default() += slow;
    }
}

/// The view of three pairs after two samples, a second apart: the first pair is fast and the last one slow.
fn app(look: Look) -> App {
    let mut stats = samples::stats();
    let start = Instant::now();
    let mut app = App::new(options(look), sample(start, &stats));
    grow(&mut stats.pairs[0], 9_000, 0, "");
    grow(&mut stats.pairs[2], 10, 4_000, "too-big");
    grow(&mut stats.pairs[2], 0, 5, "arp");
    app.on_sample(sample(start + Duration::from_secs(1), &stats));
    app
}

fn hosts(number: usize) -> Stats {
    let sample = samples::stats();
    let pair =
        |n| Pair { name: format!("h{n}:eth0"), traffic: Traffic::default(), ..sample.pairs[2].clone() };
    Stats { pairs: (0..number).map(pair).collect(), ..sample }
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            other => KeyCode::Char(other),
        };
        assert_eq!(app.on_key(KeyEvent::new(code, KeyModifiers::NONE)), Flow::Continue);
    }
}

fn buffer(app: &mut App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn screen(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let buffer = buffer(app, width, height);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[track_caller]
fn shows(app: &mut App, width: u16, height: u16, texts: &[&str]) {
    let lines = screen(app, width, height);
    // However wide the columns are.
    let words: Vec<_> =
        lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for text in texts {
        let has = words.iter().any(|line| line.contains(text));
        assert!(has, "{text:?} is not in\n{}", lines.join("\n"));
    }
}

#[test]
fn round_trip_times_of_what_is_on_the_screen() {
    let mut app = app(PLAIN);
    assert_eq!(app.wanted_round_trips(), Vec::<String>::new());
    press(&mut app, "l");
    let _ = screen(&mut app, 80, 24);
    assert_eq!(app.wanted_round_trips(), ["ns0:eth0", "ns2:eth0", "ns1:eth0"]);
    let mut stats = app.shown().stats.clone();
    let of = |peer: &str, srtt_us| stats::RoundTrips {
        peer: peer.to_owned(),
        connections: 2,
        srtt_us,
        var_us: 12,
        worst_us: 3_500,
        min_us: None,
    };
    stats.pairs[0].rtt = Some(vec![of("ns1", 62), of("ns2", 1_062)]);
    stats.pairs[1].rtt = Some(Vec::new());
    app.on_sample(sample(Instant::now(), &stats));
    shows(&mut app, 80, 24, &["SLOW/s RTT ms STATE", "1.062 armed", "- a packet socket on the port"]);
    press(&mut app, "n\n");
    shows(&mut app, 80, 40, &["TCP 1.062 ms to ns2, mean deviation 0.012 ms; worst of 2: 3.500 ms"]);
    press(&mut app, "\n/ns1\n");
    let _ = screen(&mut app, 80, 24);
    assert_eq!(app.wanted_round_trips(), ["ns1:eth0"], "only those that are shown are asked");
    press(&mut app, "2");
    assert_eq!(app.wanted_round_trips(), Vec::<String>::new());
}

#[test]
fn a_terminal_of_80_columns() {
    let expected = "\
three-hosts: 69.2% of 13.0k packets/s fast; slow mostly by too-big (4.00k/s,
99.9%); not armed: ns1:eth0 (a packet socket on the port)
3 pairs  by traffic  every 1 s  1 pairs  2 trunks  3 matrix  4 events
PAIR      TX b/s  RX b/s  HISTORY    FAST  SLOW/s  STATE
ns0:eth0   9.00M       0         █   100%       0  armed
ns2:eth0   4.01M       0         █   0.2%   4.00k  armed; too-big 100%
ns1:eth0       0       0                -       0  a packet socket on the port
";
    let mut lines = screen(&mut app(PLAIN), 80, 24);
    assert_eq!(
        lines.pop().unwrap(),
        "q quit  ? help  s slow  Enter detail  / filter  t traffic  u units  Space freeze"
    );
    let lines: String = lines.into_iter().map(|line| line + "\n").collect();
    assert_eq!(lines.trim_end(), expected.trim_end());
}

#[test]
fn more_columns_where_there_is_room_and_fewer_where_there_is_not() {
    let mut app = app(PLAIN);
    let line = screen(&mut app, 200, 50).into_iter().find(|line| line.starts_with("PAIR")).unwrap();
    let all = "PAIR TX b/s RX b/s TX p/s RX p/s TX B RX B TX pkts RX pkts BRIDGE PORT HISTORY FAST ALL FAST SLOW/s \
               STATE";
    assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), all);
    let row = screen(&mut app, 200, 50).into_iter().find(|line| line.starts_with("ns2")).unwrap();
    assert!(row.ends_with("armed; too-big 100%"), "{row}");
    let narrow = screen(&mut app, 40, 12);
    assert!(narrow[0].starts_with("three-hosts: 69.2% of 13.0k packets/s"), "{narrow:#?}");
    assert_eq!(narrow[2].split_whitespace().collect::<Vec<_>>(), ["PAIR", "SLOW/s", "STATE"]);
    for (width, height) in [(1, 1), (10, 4), (20, 5), (40, 12), (500, 3), (80, 100)] {
        for keys in ["", "\n", "?", "\x1b2", "3", "4"] {
            press(&mut app, keys);
            let _ = screen(&mut app, width, height);
        }
    }
}

#[test]
fn the_slow_one_of_300_is_two_keys_away() {
    let start = Instant::now();
    let mut stats = hosts(300);
    let mut app = App::new(options(PLAIN), sample(start, &stats));
    for pair in &mut stats.pairs {
        grow(pair, 100, 1, "arp");
    }
    grow(&mut stats.pairs[217], 0, 50, "unknown-source");
    app.on_sample(sample(start + Duration::from_secs(1), &stats));
    press(&mut app, "s");
    let lines = screen(&mut app, 80, 24);
    let row = lines.iter().skip_while(|line| !line.starts_with("PAIR")).nth(1).unwrap();
    assert!(row.starts_with("h217:eth0 ") && row.ends_with("armed; unknown-source 98%"), "{lines:#?}");
    press(&mut app, "\n");
    shows(
        &mut app,
        80,
        24,
        &[
            "── h217:eth0",
            "unknown-source 50.0 33.1% 50 33.1%",
            "unknown-source: The source address is not a station on this port.",
        ],
    );
}

#[test]
fn the_detail_has_reasons_and_events() {
    let mut app = app(PLAIN);
    let kind = Kind::PairNotArmed {
        pair: "ns1:eth0".to_owned(),
        port: "vp0".to_owned(),
        reason: "a packet socket on the port".to_owned(),
        before: None,
    };
    app.on_events(&[Event::now(&"three-hosts".parse().unwrap(), kind)]);
    press(&mut app, "n\n");
    let _ = screen(&mut app, 80, 24);
    press(&mut app, "j");
    let texts = [
        "── ns1:eth0 ",
        "a packet socket on the port; port vp0000000001 on docker0 in fabric",
        "172.17.0.102/16 02:00:00:00:00:01",
        "in all 100k B, 1,000 packets, 0.0% fast",
        "port 0 - 1,000 100.0%",
        "port: The port is not armed; its state has the reason.",
        "latest events of this pair",
        " not armed: a packet socket on the port",
    ];
    shows(&mut app, 80, 24, &texts);
    press(&mut app, "\x1b");
    assert!(!screen(&mut app, 80, 24).join("\n").contains("172.17.0.102"));
}

#[test]
fn keys_select_filter_and_freeze() {
    let start = Instant::now();
    let mut stats = hosts(1000);
    let mut app = App::new(options(PLAIN), sample(start, &stats));
    let selected = |app: &mut App| {
        let buffer = buffer(app, 80, 24);
        let is_reversed = |y: &u16| buffer[(0, *y)].modifier.contains(ratatui::style::Modifier::REVERSED);
        let y = (0..24).find(is_reversed).expect("a row is selected");
        (0..12).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim().to_owned()
    };
    press(&mut app, "f");
    assert_eq!(selected(&mut app), "h0:eth0");
    press(&mut app, "jj");
    assert_eq!(selected(&mut app), "h2:eth0");
    press(&mut app, "G");
    assert_eq!(selected(&mut app), "h999:eth0");
    press(&mut app, "/H99\n");
    assert_eq!(selected(&mut app), "h99:eth0");
    shows(&mut app, 80, 24, &["11 of 1000 pairs", "filter: H99"]);
    press(&mut app, "/zz");
    shows(&mut app, 80, 24, &["no pair matches the filter", "filter: H99zz_"]);
    press(&mut app, "\x1b r");
    let together = KeyEvent::new(KeyCode::Char('j'), KeyModifiers::ALT);
    press(&mut app, "\n");
    shows(&mut app, 80, 24, &["── h999:eth0"]);
    assert_eq!(app.on_key(together), Flow::Continue);
    assert_eq!((app.has_detail, selected(&mut app).as_str()), (false, "h998:eth0"));
    press(&mut app, "k");
    shows(&mut app, 80, 24, &["FROZEN", "by file, reversed", "h999:eth0"]);
    grow(&mut stats.pairs[5], 77, 0, "");
    app.on_sample(sample(start + Duration::from_secs(1), &stats));
    press(&mut app, "uut");
    let frozen = screen(&mut app, 80, 24).join("\n");
    assert!(!frozen.contains("77.0") && frozen.contains("TX p/s"), "{frozen}");
    press(&mut app, " ");
    assert_eq!(selected(&mut app), "h5:eth0");
    shows(&mut app, 80, 24, &["77.0"]);
    assert_eq!(app.on_key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)), Flow::Quit);
}

#[test]
fn a_lab_without_pairs_and_an_agent_that_does_not_answer() {
    let start = Instant::now();
    let mut stats = Stats { pairs: Vec::new(), ..samples::stats() };
    (stats.agent.alive, stats.agent.lease_left_ms) = (false, 0);
    let mut app = App::new(options(PLAIN), sample(start, &stats));
    assert!(app.on_silence(Duration::from_secs(2)) && !app.on_silence(Duration::from_secs(2)));
    shows(
        &mut app,
        80,
        24,
        &["no interface of the lab is on a bridge", "agent silent: plain bridge", "no reply for 2.0 s"],
    );
    press(&mut app, "\n\tjk3jk4jk1jG\n");
    shows(&mut app, 80, 24, &["no interface"]);
}

#[test]
fn without_colours_none_is_set_and_with_them_only_red() {
    for look in [PLAIN, Look { color: true, blocks: false }] {
        let mut app = app(look);
        press(&mut app, "n");
        let buffer = buffer(&mut app, 120, 40);
        let mut colors: Vec<Color> = buffer.content().iter().flat_map(|cell| [cell.fg, cell.bg]).collect();
        colors.retain(|color| *color != Color::Reset);
        colors.dedup();
        let expected: &[Color] = if look.color { &[Color::Red] } else { &[] };
        assert_eq!(colors, expected);
        let has_blocks = buffer.content().iter().any(|cell| !cell.symbol().is_ascii());
        assert_eq!(has_blocks, look.blocks);
    }
}

#[test]
fn trunks_the_matrix_and_events_have_panes() {
    let count = |packets| Count { frames: packets, packets, bytes: packets * 100 };
    let both = |packets| Directions { tx: count(packets), rx: count(packets) };
    let trunk = |packets| Trunk {
        name: "br0 - br1".to_owned(),
        port: "vp3".parse().unwrap(),
        bridge: "br0".parse().unwrap(),
        far_port: "vp4".parse().unwrap(),
        far_bridge: "br1".parse().unwrap(),
        total: both(packets),
        fast: both(packets / 2),
        state: State::Armed,
    };
    let flow = |from: &str, to: &str, packets| stats::Flow {
        from: from.into(),
        from_behind: None,
        to: to.into(),
        to_behind: None,
        count: count(packets),
    };
    let flows = |packets| Flows {
        lab: "x".to_owned(),
        matrix: vec![flow("ns0:eth0", "ns1:eth0", packets), flow("ns1:eth0", "ns0:eth0", packets / 500)],
        left_out: Count::default(),
    };
    let start = Instant::now();
    let stats = |packets| Stats { trunks: vec![trunk(packets)], ..samples::stats() };
    let of = |seconds, packets| Sample {
        flows: Some(flows(packets)),
        ..sample(start + Duration::from_secs(seconds), &stats(packets))
    };
    let mut app = App::new(options(PLAIN), of(0, 0));
    press(&mut app, "3");
    assert!(app.wants_matrix());
    shows(&mut app, 80, 24, &["reading the matrix"]);
    app.on_sample(of(1, 5_000));
    shows(
        &mut app,
        80,
        24,
        &["fast path, b/s: rows send to columns", "1 ns0:eth0 4.00M · ██", "2 ns1:eth0 8.00k ▒▒ ·"],
    );
    press(&mut app, "2");
    shows(&mut app, 80, 24, &["br0 - br1 4.00M 4.00M 50.0% 50.0%", "armed"]);
    app.on_events(&[Event::now(&"x".parse().unwrap(), Kind::LabUp { changes: 7 })]);
    press(&mut app, "4");
    shows(&mut app, 80, 24, &["lab up: 7 changes"]);
    press(&mut app, "?");
    shows(&mut app, 80, 24, &["sort by slow packets per second", "quit; Ctrl-C"]);
}

#[test]
fn memory_is_bounded() {
    let start = Instant::now();
    let stats = hosts(2);
    let mut app = App::new(options(PLAIN), sample(start, &stats));
    let events = vec![Event::now(&"x".parse().unwrap(), Kind::MapFull); 5000];
    app.on_events(&events);
    for second in 1..1000 {
        app.on_sample(sample(start + Duration::from_secs(second), &stats));
    }
    assert_eq!(app.lines().len(), 1000);
    assert_eq!(app.shown().history("h0:eth0").len(), model::SAMPLES);
    app.on_sample(sample(start + Duration::from_secs(1001), &hosts(1)));
    assert_eq!(app.shown().history("h1:eth0").len(), 0);
}
