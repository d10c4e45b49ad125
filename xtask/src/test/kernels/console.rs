//! A running guest: QEMU and its console.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    guest::{Line, parse},
    kernel::Kernel,
};
use crate::{
    error::Error,
    interrupt,
    tools::{command, display, say},
};

/// The poll interval for interrupts.
const TICK: Duration = Duration::from_millis(200);
/// How many console lines are shown if the guest fails.
const SHOWN: usize = 40;
/// Timeout for the power-off.
const LAST: Duration = Duration::from_secs(60);

/// The first process of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// A script that runs the tests and powers off.
    Script,
    /// systemd; the guest may reboot.
    Systemd,
}

/// A guest. QEMU is killed when this is dropped, and when this process dies.
pub(super) struct Console {
    name: &'static str,
    qemu: Child,
    lines: mpsc::Receiver<String>,
    /// The log of the console, without the test results.
    log: PathBuf,
    file: File,
    last: Vec<String>,
}

impl Console {
    /// Boots a kernel.
    pub(super) fn boot(kernel: &Kernel, image: &Path, initrd: &Path, init: Init) -> Result<Self, Error> {
        let (name, path, options) = match init {
            Init::Script => ("console", "/init", &["-no-reboot"][..]),
            Init::Systemd => ("console-boot", "/usr/lib/systemd/systemd", &[][..]),
        };
        let log = kernel.folder().join(name);
        let file = File::create(&log).map_err(|source| Error::File { path: log.clone(), source })?;
        let machine = kernel.machine;
        let mut qemu = command("setpriv");
        qemu.args(["--pdeathsig", "KILL", machine.qemu]).args(machine.options);
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "4G", "-nic", "none"]).args(options);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
        qemu.arg("-kernel").arg(image).arg("-initrd").arg(initrd).arg("-append");
        qemu.arg(format!(
            "console={} quiet rdinit={path} panic=-1 mitigations=off epoch={}",
            machine.console,
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
        ));
        say(&format!("$ {}", display(&qemu)));
        // In its own process group: Ctrl-C is handled here, and this process ends QEMU.
        qemu.stdout(Stdio::piped()).process_group(0);
        let failed = |source| Error::Start { command: machine.qemu.to_owned(), source };
        let mut child = qemu.spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                let mut lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
                lines.try_for_each(|line| sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()))
            });
        }
        Ok(Self { name: kernel.name, qemu: child, lines, log, file, last: Vec::new() })
    }

    /// The next message of the guest, with a timeout.
    pub(super) fn next(&mut self, within: Duration) -> Result<Line, Error> {
        let started = Instant::now();
        loop {
            if interrupt::seen() {
                return Err(Error::Interrupted);
            }
            match self.lines.recv_timeout(TICK) {
                Ok(text) => match parse(&text) {
                    Some(line) => return Ok(line),
                    None => self.log_line(text),
                },
                Err(RecvTimeoutError::Timeout) if started.elapsed() < within => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.fault("is silent")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.fault("ended before its tests")),
            }
        }
    }

    /// Waits until the guest has powered off.
    pub(super) fn ends(mut self) -> Result<(), Error> {
        let started = Instant::now();
        while started.elapsed() < LAST && !interrupt::seen() {
            match self.lines.recv_timeout(TICK) {
                Ok(text) => self.log_line(text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        if interrupt::seen() { Err(Error::Interrupted) } else { Err(self.fault("does not power off")) }
    }

    fn log_line(&mut self, line: String) {
        // The log is for debugging only.
        let _ = writeln!(self.file, "{line}");
        if self.last.len() == SHOWN {
            self.last.remove(0);
        }
        self.last.push(line);
    }

    fn fault(&self, what: &str) -> Error {
        let (name, last, log) = (self.name, self.last.join("\n  "), self.log.display());
        Error::Guest(format!("the guest with Linux {name} {what}; the last lines of {log}:\n  {last}"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // QEMU may have ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
