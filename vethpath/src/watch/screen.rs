//! The terminal: the view's own screen, and the former one restored when the view ends, in whichever way.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    os::fd::AsFd,
    panic,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crossterm::{
    cursor, execute,
    terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen},
};
use nix::sys::{
    signal::{Signal, raise},
    termios::{LocalFlags, SetArg, tcgetattr, tcsetattr},
};
use ratatui::{Terminal, backend::CrosstermBackend};

use super::app::{App, Look};

/// Room for a frame, so that a terminal gets it by few writes.
const FRAME: usize = 64 << 10;

/// Whether the view's own screen is shown.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Held by the thread that writes to the terminal: a panic of another thread restores the former screen between two
/// frames, and not in the middle of what sets the view's own screen up.
static WRITER: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread is the writer.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// The terminal while the view is shown. Dropping it restores the terminal, and so does a panic.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<File>>>,
}

impl Screen {
    /// Whether standard output is a terminal that can show the view.
    #[must_use]
    pub fn is_possible() -> bool {
        io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    }

    /// Shows the view's own screen.
    ///
    /// # Errors
    /// The terminal cannot be set up. It is as before.
    pub fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        // The message of a panic belongs on the former screen.
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                close();
                before(info);
            }));
        });
        Ok(Self { terminal: set_up()? })
    }

    /// Draws the view, unless a panic has restored the former screen.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn draw(&mut self, app: &mut App) -> io::Result<()> {
        as_writer(|| {
            if !IS_OPEN.load(SeqCst) {
                return Ok(());
            }
            self.terminal.draw(|frame| app.draw(frame)).map(|_| ())
        })
    }

    /// Restores the terminal and stops this process. Returns when it is continued, with the view's own screen.
    ///
    /// # Errors
    /// The terminal cannot be set up.
    pub fn suspend(&mut self) -> io::Result<()> {
        close();
        // Not SIGTSTP, which this process handles.
        raise(Signal::SIGSTOP)?;
        self.reopen()
    }

    /// Sets the terminal up again, after the process was stopped and continued by others.
    ///
    /// # Errors
    /// The terminal cannot be set up.
    pub fn reopen(&mut self) -> io::Result<()> {
        close();
        // A new terminal knows nothing of what is on the screen, and draws all of it.
        self.terminal = set_up()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        close();
    }
}

impl Look {
    /// What the environment says of the terminal: `NO_COLOR` (no-color.org), and the locale.
    #[must_use]
    pub fn of_environment() -> Self {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(value).unwrap_or_default();
        let locale = locale.to_uppercase();
        Self {
            color: value("NO_COLOR").is_none(),
            blocks: locale.contains("UTF-8") || locale.contains("UTF8"),
        }
    }
}

fn set_up() -> io::Result<Terminal<CrosstermBackend<BufWriter<File>>>> {
    as_writer(|| {
        terminal::enable_raw_mode()?;
        IS_OPEN.store(true, SeqCst);
        prepare().inspect_err(|_| close())
    })
}

fn prepare() -> io::Result<Terminal<CrosstermBackend<BufWriter<File>>>> {
    // Ctrl-C, Ctrl-Z and Ctrl-\ stay signals, to the processes that the shell started with this one as well.
    let mut settings = tcgetattr(io::stdout())?;
    settings.local_flags.insert(LocalFlags::ISIG);
    tcsetattr(io::stdout(), SetArg::TCSANOW, &settings)?;
    let mut output = output()?;
    execute!(output, EnterAlternateScreen, Clear(ClearType::All), cursor::Hide)?;
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(FRAME, output)))
}

/// Writes to the terminal while no other thread does. A panic in the middle of that may restore the former screen.
fn as_writer<T>(write: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Reset;

    impl Drop for Reset {
        fn drop(&mut self) {
            WRITES.set(false);
        }
    }

    if WRITES.get() {
        return write();
    }
    // A panic of a former writer is of no matter here.
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    WRITES.set(true);
    let _reset = Reset;
    write()
}

/// Standard output by a descriptor of its own: any thread may panic while another one has locked [`io::stdout`].
fn output() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Restores the terminal, once.
fn close() {
    as_writer(|| {
        if !IS_OPEN.swap(false, SeqCst) {
            return;
        }
        // An error cannot be reported: the terminal may be gone.
        let _ = output().and_then(|mut output| {
            execute!(output, LeaveAlternateScreen, cursor::Show)?;
            output.flush()
        });
        let _ = terminal::disable_raw_mode();
    });
}
