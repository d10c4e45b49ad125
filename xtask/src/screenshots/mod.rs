//! `cargo xtask screenshots`: the pictures of the view of `stats --watch` in the documents. The lab, its traffic and
//! the terminal are real: tmux draws the view, and what it shows becomes an SVG.

mod svg;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    demo, documents,
    error::Error,
    setup::{self, Need},
    tools::{self, command, is_root, root, say},
};

/// The lab.
const LAB: &str = include_str!("lab.toml");

/// The socket of a tmux of its own, in the private `/run`.
const TMUX: [&str; 6] = ["tmux", "-u", "-S", "/run/tmux", "-f", "/dev/null"];

/// What prepares the private namespaces, and then runs this chore inside.
const PREPARE: &str =
    "mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys && ip link set lo up && exec \"$@\"";

/// How long traffic runs before the first picture: half of the history that the view keeps.
const HISTORY: Duration = Duration::from_secs(120);

/// How long anything on the screen may take to appear.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A picture: its file, the size of the terminal, keys, and a text that is on the screen when they had their effect.
struct Picture {
    file: &'static str,
    size: (u16, u16),
    keys: &'static [&'static str],
    shows: &'static str,
}

const PICTURES: &[Picture] = &[
    Picture { file: "docs/img/watch.svg", size: (120, 24), keys: &["1"], shows: "HISTORY" },
    Picture { file: "docs/img/watch-detail.svg", size: (80, 24), keys: &["s", "Enter"], shows: "SLOW BY" },
    Picture { file: "docs/img/watch-matrix.svg", size: (80, 24), keys: &["Escape", "3"], shows: "██" },
];

/// Flood-like pings: the sender, the interval in seconds, the bytes, and the receiver. The bridge's own address is no
/// station: frames to it are slow.
const TRAFFIC: &[(&str, &str, &str, &str)] = &[
    ("client0", "0.002", "1400", "10.40.0.101"),
    ("client1", "0.002", "700", "10.40.0.101"),
    ("client2", "0.004", "1400", "10.40.0.102"),
    ("client3", "0.01", "1400", "10.40.0.103"),
    ("client4", "0.02", "500", "10.40.0.102"),
    ("client5", "0.05", "200", "10.40.0.104"),
    ("client6", "0.01", "400", "10.40.0.1"),
    ("client7", "0.1", "56", "10.40.0.103"),
    ("client8", "0.02", "900", "10.40.0.19"),
    ("server3", "0.01", "1200", "10.40.0.102"),
];

/// Arguments of the chore.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Use this program instead of building one
    #[arg(long, value_name = "FILE")]
    vethpath: Option<PathBuf>,
    /// Work in the namespaces of this process, which are private
    #[arg(long, hide = true, requires = "vethpath")]
    inside: bool,
}

/// Makes the pictures.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    if let (true, Some(vethpath)) = (args.inside, &args.vethpath) {
        return take(vethpath);
    }
    if !is_root() {
        return Err(Error::NeedsRoot { chore: "screenshots".to_owned() });
    }
    setup::run(&[Need::Build, Need::Demo, Need::Screenshots])?;
    let vethpath = args.vethpath.clone().map_or_else(demo::build, Ok)?;
    let vethpath = fs::canonicalize(&vethpath).map_err(|source| Error::File { path: vethpath, source })?;
    let own = env::current_exe().map_err(|source| Error::File { path: "/proc/self/exe".into(), source })?;
    // Everything inside ends with its first process, which this one runs.
    let mut inside = command("setpriv");
    inside
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["--kill-child", "sh", "-c", PREPARE, "sh"])
        .arg(own)
        .args(["screenshots", "--inside", "--vethpath"])
        .arg(vethpath);
    tools::run(&mut inside)
}

/// Brings the lab up, and takes the pictures.
fn take(vethpath: &Path) -> Result<(), Error> {
    let file = Path::new("/run/lab.toml");
    documents::write(file, LAB)?;
    tools::run(command(vethpath).arg("up").arg(file))?;
    let pings = TRAFFIC.iter().map(|(from, interval, size, to)| {
        let ping = ["exec", from, "--", "ping", "-q", "-i", interval, "-s", size, to];
        start(command(vethpath).args(ping))
    });
    let mut running = pings.collect::<Result<Vec<Child>, Error>>()?;
    // A qdisc of another program keeps a port off the fast path.
    let shaper = ["tc", "qdisc", "add", "dev", &port_of(vethpath, "client9:eth0")?, "root", "tbf"];
    tools::run(
        command(shaper[0]).args(&shaper[1..]).args(["rate", "8mbit", "burst", "20kb", "latency", "50ms"]),
    )?;
    let view = format!("{} stats lab --watch", vethpath.display());
    let environment = ["env", "-u", "NO_COLOR", "LC_ALL=C.UTF-8"];
    let mut session = tmux(&["new-session", "-d", "-x", "120", "-y", "24"]);
    tools::run(session.args(environment).args(["sh", "-c", &view]))?;
    say(&format!("traffic runs for {} s", HISTORY.as_secs()));
    thread::sleep(HISTORY);
    for picture in PICTURES {
        shoot(picture)?;
    }
    tools::run(&mut tmux(&["kill-server"]))?;
    for ping in &mut running {
        // The namespaces end with this process, and what is in them too.
        let _ = ping.kill().and_then(|()| ping.wait());
    }
    tools::run(command(vethpath).args(["down", "lab"]))
}

/// Takes one picture.
fn shoot(picture: &Picture) -> Result<(), Error> {
    let Picture { file, size: (width, height), keys, shows } = picture;
    tools::run(&mut tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]))?;
    for key in *keys {
        tools::run(&mut tmux(&["send-keys", key]))?;
    }
    let start = Instant::now();
    let screen = loop {
        let screen = tools::output(&mut tmux(&["capture-pane", "-e", "-p"])).unwrap_or_default();
        if screen.contains(shows) {
            break screen;
        }
        if start.elapsed() > TIMEOUT {
            return Err(Error::Figures(format!("{shows:?} is not on the screen for {file}:\n{screen}")));
        }
        thread::sleep(Duration::from_millis(200));
    };
    documents::write(&root().join(file), &svg::render(&screen, *width, *height))?;
    say(&format!("wrote {file}"));
    Ok(())
}

fn tmux(arguments: &[&str]) -> Command {
    let mut tmux = command(TMUX[0]);
    tmux.args(&TMUX[1..]).args(arguments);
    tmux
}

fn start(command: &mut Command) -> Result<Child, Error> {
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.map_err(|source| Error::Start { command: tools::display(command), source })
}

/// The device name of a pair's port.
fn port_of(vethpath: &Path, pair: &str) -> Result<String, Error> {
    let stats = tools::output(command(vethpath).args(["stats", "lab", "--json"])).unwrap_or_default();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap_or_default();
    let pairs = stats["pairs"].as_array().into_iter().flatten();
    let port = pairs.filter(|one| one["name"] == pair).find_map(|one| one["port"].as_str());
    port.map(str::to_owned).ok_or_else(|| Error::Figures(format!("the lab has no pair {pair}")))
}
