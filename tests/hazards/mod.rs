//! Every row of the list of hazards: what breaks when a bridge is bypassed, and how vethpath handles it. The table in
//! `docs/equivalence.md` leads from each row to its tests here.

mod delivery;
mod ourselves;
mod policy;
mod state;
mod table;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use serde_json::Value;

use crate::{
    harness::{
        CpuPin, Host, Lab, Process, SLACK, Wire, in_parallel, of_this_kernel, parse_mac, wait_for, wait_until,
    },
    programs::Random,
};

pub(crate) const A: &str = "172.17.0.101";
pub(crate) const B: &str = "172.17.0.102";
pub(crate) const C: &str = "172.17.0.103";
/// The second that `vethpath` promises, and what a loaded machine may add.
pub(crate) const A_SECOND: Duration = Duration::from_secs(1).saturating_add(SLACK);

/// A lab whose traffic between ns0 and ns1 is fast in both directions.
pub(crate) fn fast_lab(host: &Host) -> Lab<'_> {
    lab_by("tc", host)
}

/// The same lab with a plain bridge.
pub(crate) fn plain_lab(host: &Host) -> Lab<'_> {
    lab_by("bridge", host)
}

/// The datapaths that have a fast path on this kernel.
pub(crate) fn fast_datapaths() -> Vec<&'static str> {
    of_this_kernel(&["tc", "xdp"])
}

/// The lab on a datapath. Its traffic is fast if the datapath has a fast path.
pub(crate) fn lab_by<'h>(datapath: &str, host: &'h Host) -> Lab<'h> {
    let lab = host.lab("three-hosts").with("\"tc\"", &format!("\"{datapath}\"")).up();
    if datapath == "bridge" {
        lab.reaches("ns0", B);
    } else {
        lab.is_fast("ns0:eth0", B);
        lab.is_fast("ns1:eth0", A);
    }
    lab
}

/// Runs a scenario on a plain bridge and on each fast path in parallel. It must leave the lab as it was. Its last
/// argument is whether the lab is a fast one.
pub(crate) fn on_all(scenario: impl Fn(&Host, &Lab<'_>, bool) + Sync) {
    on(&["bridge", "tc", "xdp"], scenario);
}

/// The same without XDP: for what XDP leaves to the bridge, or does differently.
pub(crate) fn on_both(scenario: impl Fn(&Host, &Lab<'_>, bool) + Sync) {
    on(&["bridge", "tc"], scenario);
}

fn on(datapaths: &[&'static str], scenario: impl Fn(&Host, &Lab<'_>, bool) + Sync) {
    let _ = in_parallel(of_this_kernel(datapaths), |datapath| {
        let host = Host::new();
        let (lab, fast) = (lab_by(datapath, &host), datapath != "bridge");
        if fast {
            lab.is_fast("ns2:eth0", B);
        }
        lab.reaches("ns0", B);
        lab.reaches("ns0", C);
        scenario(&host, &lab, fast);
        if fast {
            lab.is_fast("ns0:eth0", B);
            let _ = lab.assert_counters_match();
        }
        lab.down();
        host.finish();
    });
}

/// `bridge link set` of a port.
#[track_caller]
pub(crate) fn set_port(host: &Host, port: &str, what: &str) {
    let _ = host.run(format!("bridge link set dev {port} {what}")).ok();
}

/// The MAC of a namespace's eth0.
pub(crate) fn mac(lab: &Lab<'_>, namespace: &str) -> String {
    lab.run(namespace, "cat /sys/class/net/eth0/address").ok().stdout.trim().to_owned()
}

/// The same as bytes.
pub(crate) fn mac_bytes(lab: &Lab<'_>, namespace: &str) -> [u8; 6] {
    parse_mac(&mac(lab, namespace))
}

/// Whether the bridge has an FDB entry for a MAC behind a port.
pub(crate) fn has_fdb_entry(host: &Host, port: &str, mac: &str) -> bool {
    host.run(format!("bridge fdb show brport {port}")).ok().stdout.lines().any(|l| l.starts_with(mac))
}

/// A tcpdump in a namespace, which is listening already.
#[track_caller]
pub(crate) fn capture(lab: &Lab<'_>, namespace: &str, interface: &str, filter: &str) -> Process {
    wait_for_tcpdump(
        lab.spawn(namespace, format!("tcpdump -l -n -e -vv --immediate-mode -i {interface} {filter}")),
    )
}

/// Waits until a tcpdump listens.
#[track_caller]
pub(crate) fn wait_for_tcpdump(capture: Process) -> Process {
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    capture
}

/// Ids of the tcx programs at the ingress of a device of the host, in order.
pub(crate) fn tcx_programs(host: &Host, device: &str) -> Vec<u32> {
    let query = host.netns().run(|| SchedClassifier::query_tcx(device, TcAttachType::Ingress));
    let (_, programs) = query.expect("it can be entered").expect("the kernel has tcx");
    programs.iter().map(ProgramInfo::id).collect()
}

/// A veth pair of the user's, as a target for frames.
pub(crate) fn add_sink(host: &mut Host) {
    for command in [
        "ip link add sink0 type veth peer name sink1",
        "sysctl -q -w net.ipv6.conf.sink0.disable_ipv6=1 net.ipv6.conf.sink1.disable_ipv6=1",
        "ip link set sink0 up",
        "ip link set sink1 up",
    ] {
        let _ = host.run(command).ok();
    }
    let up = |link: &Value| link[0]["operstate"] == "UP";
    wait_for(SLACK, "the sink is not up", || {
        ["sink0", "sink1"].iter().all(|s| up(&host.json(format!("ip -j link show dev {s}"))))
    });
    host.set_baseline();
}

/// A counter of `ip -s link`, such as `("rx", "packets")`, in a namespace or (`""`) on the host.
#[track_caller]
pub(crate) fn link_counter(host: &Host, namespace: &str, link: &str, (direction, what): (&str, &str)) -> u64 {
    let place = if namespace.is_empty() { String::new() } else { format!("-n {namespace} ") };
    let found = host.json(format!("ip {place}-s -s -j link show dev {link}"));
    found[0]["stats64"][direction][what]
        .as_u64()
        .unwrap_or_else(|| panic!("no {direction} {what} in {found:#}"))
}

/// Whether frames from ns0 to ns1 are sent through ns1's port, and not past it.
#[track_caller]
pub(crate) fn uses_port(host: &Host, lab: &Lab<'_>) -> bool {
    let port = lab.port("ns1:eth0");
    let before = link_counter(host, "", &port, ("tx", "packets"));
    lab.reaches("ns0", B);
    link_counter(host, "", &port, ("tx", "packets")) - before >= 3
}

/// A frame that no host replies to (EtherType 0x88b5, for experiments), with a number in it.
pub(crate) fn numbered(to: [u8; 6], from: [u8; 6], number: u64) -> Vec<u8> {
    [&to[..], &from[..], &[0x88, 0xb5], &number.to_be_bytes()[..], &[0; 38]].concat()
}

/// The number of a [`numbered`] frame.
pub(crate) fn number_of(frame: &[u8]) -> Option<u64> {
    let number = frame.get(14..22)?.try_into().ok()?;
    (frame[12..14] == [0x88, 0xb5]).then(|| u64::from_be_bytes(number))
}

/// Waits until this numbered frame arrives. Returns its type, such as `PACKET_HOST`.
#[track_caller]
pub(crate) fn wait_for_frame(wire: &Wire, number: u64) -> u8 {
    wait_until(SLACK, || {
        while let Some((kind, frame)) = wire.next() {
            if number_of(&frame) == Some(number) {
                return Ok(kind);
            }
        }
        Err(format!("frame {number} does not arrive"))
    })
}

/// The numbers of all numbered frames that have arrived.
pub(crate) fn received_numbers(wire: &Wire) -> Vec<u64> {
    std::iter::from_fn(|| wire.next()).filter_map(|(_, frame)| number_of(&frame)).collect()
}

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

/// Sends a frame and returns which of `wires` got it. A broadcast behind it shows that it has had time to arrive.
/// They are numbered `number` and `number + 1`.
#[track_caller]
pub(crate) fn receives(from: &Wire, frame: &[u8], number: u64, wires: &[&Wire]) -> Vec<bool> {
    let mut source: [u8; 6] = frame[6..12].try_into().expect("six bytes");
    source[0] &= !1;
    let marker = number + 1;
    let pin = CpuPin::new();
    from.send(frame);
    from.send(&numbered(BROADCAST, source, marker));
    drop(pin);
    let got = |wire: &&Wire| {
        let mut seen = Vec::new();
        wait_until(SLACK, || {
            seen.extend(std::iter::from_fn(|| wire.next()).filter_map(|(_, frame)| number_at_end(&frame)));
            if seen.contains(&marker) { Ok(()) } else { Err("a broadcast does not arrive".to_owned()) }
        });
        seen.contains(&number)
    };
    wires.iter().map(got).collect()
}

/// The number that a frame of [`with_number`] ends in, or that of a [`numbered`] one.
fn number_at_end(frame: &[u8]) -> Option<u64> {
    let end = frame.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    number_of(frame).filter(|number| *number != 0).or(end)
}

/// A frame of any kind whose last eight bytes are a number.
pub(crate) fn with_number(mut frame: Vec<u8>, number: u64) -> Vec<u8> {
    frame.extend(number.to_be_bytes());
    frame
}

/// Waits until frames from ns0 arrive at `there`, on the fast path or not. `[a, b]` are the addresses of ns0 and of
/// the other host.
#[track_caller]
pub(crate) fn wait_for_delivery(lab: &Lab<'_>, from: &Wire, there: &Wire, [a, b]: [[u8; 6]; 2], fast: bool) {
    let mut number = 0;
    wait_until(A_SECOND, || {
        // It sends first, so that the bridge learns it. (Its entry was deleted when it went down.)
        there.send(&numbered(BROADCAST, b, 0));
        let before = lab.stats().pair("ns0:eth0").fast.tx.frames;
        number += 1;
        from.send(&numbered(b, a, number));
        thread::sleep(Duration::from_millis(50));
        let arrived = received_numbers(there).contains(&number);
        let was_fast = lab.stats().pair("ns0:eth0").fast.tx.frames > before;
        if arrived && was_fast == fast { Ok(()) } else { Err(format!("came: {arrived}, fast: {was_fast}")) }
    });
}

/// Sends bytes from ns0 to ns1 and back, and compares.
#[track_caller]
pub(crate) fn transfer(lab: &Lab<'_>) {
    const LENGTH: usize = 4 << 20;
    let mut random = Random(17);
    let sent = random.bytes(LENGTH);
    let listener = lab.netns("ns1").run(|| TcpListener::bind((B, 0))).expect("entered").expect("a socket");
    let to = listener.local_addr().expect("it has one");
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = vec![0; LENGTH];
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)
    });
    let stream = lab.netns("ns0").run(|| TcpStream::connect_timeout(&to, SLACK)).expect("entered");
    let mut stream = stream.expect("a connection");
    stream.set_read_timeout(Some(SLACK)).expect("not zero");
    stream.write_all(&sent).expect("it takes them");
    let mut received = vec![0; LENGTH];
    stream.read_exact(&mut received).expect("they come back");
    echo.join().expect("no panic").expect("it echoes");
    assert!(received == sent, "bytes were changed on the way");
}
