//! The view of `stats --watch` in a real terminal: tmux draws it, and `capture-pane` returns what a person sees.

use std::fs;

use crate::harness::{Host, Lab, SLACK, TIMEOUT, wait_for, wait_until};

/// The socket of the test's own tmux, which has no other settings than the defaults.
const TMUX: &str = "tmux -u -S /run/tmux -f /dev/null";

/// A terminal with a shell in it.
struct Terminal<'h> {
    host: &'h Host,
    /// What `stty -a` printed at the start.
    settings: String,
}

impl<'h> Terminal<'h> {
    #[track_caller]
    fn start(host: &'h Host, width: u16, height: u16) -> Self {
        let size = format!("new-session -d -x {width} -y {height}");
        let shell = "env -u NO_COLOR LC_ALL=C.UTF-8 PS1=ready:$ bash --norc --noprofile";
        let mut words: Vec<String> = format!("{TMUX} {size}").split(' ').map(str::to_owned).collect();
        words.push(shell.replace(":$", "':$ '"));
        let _ = host.run(words).ok();
        let mut terminal = Self { host, settings: String::new() };
        terminal.wait_for_prompt();
        terminal.settings = terminal.stty();
        terminal
    }

    #[track_caller]
    fn tmux(&self, arguments: &str) -> String {
        self.host.run(format!("{TMUX} {arguments}")).ok().stdout
    }

    /// What is on the screen.
    #[track_caller]
    fn screen(&self) -> String {
        self.tmux("capture-pane -p")
    }

    /// Waits until the screen is as `is` wants it.
    #[track_caller]
    fn wait_until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        wait_until(TIMEOUT, || {
            let screen = self.screen();
            if is(&screen) { Ok(screen) } else { Err(format!("{what}:\n{screen}")) }
        })
    }

    /// Waits until a text is on the screen, be it wrapped.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        self.wait_until(&format!("no {text:?}"), |screen| {
            screen.contains(text)
                || screen.split('\n').map(str::trim_end).collect::<Vec<_>>().join(" ").contains(text)
        })
    }

    /// Waits until the shell waits for a command.
    #[track_caller]
    fn wait_for_prompt(&self) {
        self.wait_until("no prompt", |screen| screen.trim_end().lines().last() == Some("ready:$"));
    }

    /// Presses keys, by their names in tmux.
    #[track_caller]
    fn press(&self, keys: &str) {
        let _ = self.tmux(&format!("send-keys {keys}"));
    }

    /// Types a command line.
    #[track_caller]
    fn run(&self, line: &str) {
        let words = TMUX.split(' ').chain(["send-keys", "-l", line]).map(str::to_owned).collect::<Vec<_>>();
        let _ = self.host.run(words).ok();
        self.press("Enter");
    }

    /// What `stty -a` prints in the terminal.
    #[track_caller]
    fn stty(&self) -> String {
        let file = "/run/stty";
        let _ = self.host.run(["rm", "-f", file]).ok();
        self.run(&format!("stty -a >{file}.new; mv {file}.new {file}"));
        let path = self.host.path(file);
        wait_for(TIMEOUT, "stty has not ended", || path.exists());
        let settings = fs::read_to_string(&path).expect("it was written");
        let _ = self.host.run(["rm", "-f", file]).ok();
        self.run("clear");
        self.wait_until("not cleared", |screen| screen.trim_end() == "ready:$");
        // The size may have changed meanwhile.
        settings.split_once(';').expect("the speed is first").1.split_once("intr").expect("keys").1.to_owned()
    }

    /// Waits until the shell has printed the exit code of the view, and checks that the terminal is as it was.
    #[track_caller]
    fn is_restored(&self, code: &str) -> String {
        self.wait_for_prompt();
        self.run("echo code=$?");
        let screen = self.wait_until(&format!("no {code}"), |screen| {
            screen.lines().any(|line| line == format!("code={code}"))
        });
        self.is_as_before();
        screen
    }

    #[track_caller]
    fn is_as_before(&self) {
        let flags = self.tmux(["display-message", "-p", "#{cursor_flag}#{alternate_on}"].join(" ").as_str());
        assert_eq!(flags.trim(), "10", "the cursor is hidden, or the alternate screen is shown");
        assert_eq!(self.stty(), self.settings);
    }

    #[track_caller]
    fn view_pid(&self) -> String {
        wait_until(SLACK, || {
            let found = self.host.run(["pgrep", "-f", "stats three-hosts --watch"]).stdout;
            let pid = found.trim().to_owned();
            if pid.parse::<u32>().is_ok() { Ok(pid) } else { Err(format!("processes: {pid:?}")) }
        })
    }

    #[track_caller]
    fn signal(&self, signal: &str) {
        let _ = self.host.run(format!("kill -{signal} {}", self.view_pid())).ok();
    }

    /// Starts the view, and waits until it has rates.
    #[track_caller]
    fn view(&self, before: &str, more: &str) {
        self.run(&format!("{before} {} stats three-hosts --watch 0.2 {more}", self.host.exe()));
        self.wait_for("? help");
    }

    #[track_caller]
    fn end(self) {
        let _ = self.host.run(format!("{TMUX} kill-server")).ok();
        // The server removes its socket as it ends.
        let socket = self.host.path("/run/tmux");
        let _ = self.host.run(["rm", "-f", "/run/tmux"]).ok();
        wait_for(SLACK, "the socket stays", || !socket.exists());
    }
}

/// A lab, and a terminal of this size.
fn start(host: &Host, (width, height): (u16, u16)) -> (Lab<'_>, Terminal<'_>) {
    let lab = host.lab("three-hosts").up();
    let terminal = Terminal::start(host, width, height);
    (lab, terminal)
}

#[test]
fn the_slow_pair_is_found_by_two_keys() {
    let host = Host::new();
    let (lab, terminal) = start(&host, (80, 24));
    lab.is_fast("ns0:eth0", "172.17.0.102");
    let fast = lab.spawn("ns0", "ping -q -i 0.002 172.17.0.102");
    // The bridge's own address is no station.
    let slow = lab.spawn("ns2", "ping -q -i 0.01 172.17.0.1");
    terminal.view("", "");
    let row = |screen: &str, name: &str| {
        let line = screen.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.unwrap_or_default()
    };
    terminal.wait_until("ns0 is not fast", |screen| row(screen, "ns0:eth0").contains("100%"));
    let screen = terminal.wait_for("armed; unknown-des");
    assert!(screen.contains("all 3 ports armed"), "{screen}");
    assert!(screen.lines().next().is_some_and(|line| line.starts_with("three-hosts: ")), "{screen}");
    terminal.press("s");
    terminal.wait_until("ns2 is not first", |screen| {
        let mut rows = screen.lines().skip_while(|line| !line.starts_with("PAIR"));
        screen.contains("by slow") && rows.nth(1).is_some_and(|line| line.starts_with("ns2:eth0"))
    });
    terminal.press("Enter");
    let screen = terminal.wait_for("SLOW BY");
    assert!(screen.contains("172.17.0.103/16") && screen.contains(&lab.port("ns2:eth0")), "{screen}");
    terminal.press("Escape");
    terminal.press("/");
    terminal.press("-l ns1");
    terminal.press("Enter");
    terminal.wait_until("no filter", |screen| {
        screen.contains("1 of 3 pairs") && row(screen, "ns0").is_empty() && !row(screen, "ns1").is_empty()
    });
    terminal.press("Escape");
    terminal.wait_for("3 pairs");
    terminal.press("?");
    terminal.wait_for("sort by slow packets per second");
    terminal.press("? u u");
    terminal.wait_for("TX p/s");
    terminal.press("Space");
    terminal.wait_for("FROZEN");
    terminal.press("Space 3");
    terminal.wait_for("rows send to columns");
    terminal.press("2");
    terminal.wait_for("the lab has no trunks");
    terminal.press("4");
    terminal.wait_for("ns2:eth0  armed");
    let port = lab.port("ns1:eth0");
    let qdisc = "root tbf rate 8mbit burst 20kb latency 50ms";
    let _ = host.run(format!("tc qdisc add dev {port} {qdisc}")).ok();
    terminal.wait_for("ns1:eth0  not armed: qdisc tbf on the port");
    terminal.press("1");
    terminal.wait_for("not armed: ns1:eth0 (qdisc tbf on the port)");
    terminal.press("q");
    terminal.is_restored("0");
    drop((fast, slow));
    terminal.end();
    lab.down();
    host.finish();
}

#[test]
fn the_terminal_is_as_it_was_however_the_view_ends() {
    let host = Host::new();
    let (lab, terminal) = start(&host, (80, 24));
    for (signal, code) in [("TERM", "0"), ("INT", "0"), ("HUP", "0"), ("QUIT", "0")] {
        terminal.view("", "");
        terminal.signal(signal);
        terminal.is_restored(code);
    }
    terminal.view("", "");
    terminal.press("C-c");
    terminal.is_restored("0");
    if cfg!(debug_assertions) {
        for place in ["view", "reader"] {
            terminal.run(&format!("VETHPATH_PANIC_AT={place} {} stats three-hosts --watch 0.2", host.exe()));
            terminal.wait_for(&format!("a test's panic at {place}"));
            terminal.wait_for_prompt();
            terminal.is_as_before();
        }
    }
    terminal.view("", "");
    lab.down();
    terminal.wait_for("three-hosts");
    let screen = terminal.is_restored("1");
    assert!(screen.contains("error: no lab `three-hosts` is up"), "{screen}");
    terminal.end();
    host.finish();
}

#[test]
fn the_view_stops_and_continues_and_takes_any_size() {
    let host = Host::new();
    let (lab, terminal) = start(&host, (80, 24));
    terminal.view("", "");
    for stop in ["key", "signal"] {
        if stop == "key" {
            terminal.press("C-z")
        } else {
            terminal.signal("TSTP")
        }
        terminal.wait_for("Stopped");
        terminal.wait_for_prompt();
        terminal.is_as_before();
        terminal.run("fg");
        terminal.wait_for("? help");
        assert_eq!(terminal.tmux("display-message -p #{alternate_on}").trim(), "1");
    }
    // A stop that the view cannot see.
    terminal.signal("STOP");
    terminal.wait_for("Stopped");
    terminal.run("clear; fg");
    terminal.wait_for("? help");
    for (width, height, text) in
        [(40, 12, "SLOW/s"), (200, 50, "HISTORY"), (20, 6, "PAIR"), (5, 2, "veth"), (80, 24, "? help")]
    {
        let _ = terminal.tmux(&format!("resize-window -x {width} -y {height}"));
        terminal.wait_for(text);
    }
    terminal.press("q");
    terminal.is_restored("0");
    terminal.end();
    lab.down();
    host.finish();
}

#[test]
fn no_color_is_respected() {
    let host = Host::new();
    let (lab, terminal) = start(&host, (120, 24));
    let port = lab.port("ns1:eth0");
    let _ = host.run(format!("tc qdisc add dev {port} root tbf rate 8mbit burst 20kb latency 50ms")).ok();
    lab.wait_for_state("ns1:eth0", "qdisc tbf on the port");
    for (environment, colored) in [("", true), ("NO_COLOR=1", false)] {
        // The selected row, which is the first one, has no colours.
        terminal.view(environment, "--sort file");
        terminal.wait_for("not armed: ns1:eth0");
        let escapes = terminal.tmux("capture-pane -e -p");
        // The first of the terminal's own colours.
        let has_red = escapes.contains("[31m") || escapes.contains("[38;5;1m");
        assert_eq!(has_red, colored, "{escapes:?}");
        terminal.press("q");
        terminal.is_restored("0");
    }
    terminal.end();
    lab.down();
    host.finish();
}

#[test]
fn keys_are_served_while_the_agent_does_not_answer() {
    let host = Host::new();
    let (lab, terminal) = start(&host, (80, 24));
    let pid = lab.pid();
    terminal.view("", "");
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    terminal.wait_for("no reply for");
    terminal.press("?");
    let screen = terminal.wait_for("sort by slow packets per second");
    assert!(!screen.contains("error"), "{screen}");
    terminal.press("?");
    terminal.wait_for("agent silent");
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    terminal.wait_for("all 3 ports armed");
    terminal.press("q");
    terminal.is_restored("0");
    terminal.end();
    lab.down();
    host.finish();
}

/// Without a terminal there is a table for each interval.
#[test]
fn without_a_terminal_there_are_tables() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    for arguments in ["--watch 0.1", "--interval 100ms"] {
        let watch = host.spawn_vethpath(format!("stats three-hosts {arguments} --pair ns1"));
        wait_until(TIMEOUT, || {
            let printed = watch.output();
            if printed.matches("\nPAIR ").count() >= 3 { Ok(()) } else { Err(printed) }
        });
        watch.interrupt();
        let output = watch.wait(TIMEOUT).ok();
        assert!(!output.stdout.contains('\u{1b}') && !output.stdout.contains("ns0:eth0"), "{output}");
    }
    lab.down();
    host.finish();
}
