//! A boot with systemd as the first process: the unit in `dist/` brings a lab up, stops and starts it, and takes it down at
//! shutdown; then the guest reboots, and the lab comes up again. The tests are in tests/boot.rs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    console::{Console, Init},
    guest::{self, Line, Request},
    kernel::{Kernel, Results},
    root,
};
use crate::{
    error::Error,
    tools::{root as sources, say},
};

/// The prefix of the names of the tests.
pub(super) const TESTS: &str = "boot::";

/// The lab, which is a file in tests/topologies.
const LAB: &str = "three-hosts";

/// How long a guest may take from one line to the next, its boot included.
const SILENCE: Duration = Duration::from_secs(300);

/// The requests to the guest: when they are made, by their files, and the tests.
const REQUESTS: [(&str, &str); 2] = [("boot.json", "boot::at_boot"), ("shutdown.json", "boot::at_shutdown")];

/// What the guest reports, in this order: its tests after a boot, those at the shutdown, and those after the next boot.
const REPORTS: usize = 3;

const UNITS: [(&str, &str); 3] = [
    ("boot-tests.service", include_str!("boot-tests.service")),
    ("shutdown-tests.service", include_str!("shutdown-tests.service")),
    ("docker.service", include_str!("docker.service")),
];

/// Units that nobody needs here: there is no terminal to log in at, and no module for automounts.
const MASKED: [&str; 4] = [
    "getty.target",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-networkd-wait-online.service",
    "systemd-random-seed.service",
];

/// Boots the kernel twice, and adds the outcomes. `initrd` is that of the other tests.
pub(super) fn run(
    kernel: &Kernel,
    initrd: &Path,
    request: &Request,
    results: &mut Results,
) -> Result<(), Error> {
    say("with systemd as the first process:");
    let initrd = root::extended(kernel, initrd, "boot", |tree| fill(tree, request))?;
    let logs = kernel.folder().join("boot");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).map_err(|source| Error::File { path: logs.clone(), source })?;
    let mut console = Console::boot(kernel, &root::kernel_image(kernel), &initrd, Init::Systemd)?;
    for number in 1..=REPORTS {
        loop {
            match console.next(SILENCE)? {
                Line::Begin { release, .. } => results.release = release,
                Line::Test { outcome, log } => {
                    let file = logs.join(format!("{number}-{}", outcome.name.replace("::", ".")));
                    fs::write(&file, log).map_err(|source| Error::File { path: file.clone(), source })?;
                    outcome.show(&file);
                    results.outcomes.push(outcome);
                }
                Line::Error(error) => return Err(Error::Guest(error)),
                Line::End { complaints } => {
                    results.complaints.extend(complaints);
                    break;
                }
            }
        }
    }
    // The guest would reboot for ever. It ends here.
    drop(console);
    Ok(())
}

/// Makes the files of the guest that only this boot has.
fn fill(tree: &Path, request: &Request) -> Result<(), Error> {
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|source| Error::File { path, source });
    let write = |path: &str, text: &str| root::write_below(tree, path, text);
    let link = |to: &str, path: &str| root::link_below(tree, to, path);
    let units = "etc/systemd/system";
    for (name, text) in UNITS {
        write(&format!("{units}/{name}"), text)?;
        link(&format!("../{name}"), &format!("{units}/multi-user.target.wants/{name}"))?;
    }
    write(&format!("{units}/vethpath@.service"), &read(sources().join("dist/vethpath@.service"))?)?;
    link("../vethpath@.service", &format!("{units}/multi-user.target.wants/vethpath@{LAB}.service"))?;
    for name in MASKED {
        link("/dev/null", &format!("{units}/{name}"))?;
    }
    link("/usr/lib/systemd/system/multi-user.target", &format!("{units}/default.target"))?;
    write(
        &format!("etc/vethpath/{LAB}.toml"),
        &read(sources().join(format!("tests/topologies/{LAB}.toml")))?,
    )?;
    write("etc/modules-load.d/lab.conf", "veth\nbridge\nbr_netfilter\nnf_tables\naf_packet_diag\ntun\n")?;
    write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
    write("etc/hostname", "guest\n")?;
    write("etc/os-release", "ID=debian\nNAME=Debian\n")?;
    for (file, test) in REQUESTS {
        let request = Request { arguments: vec![test.to_owned()], ..request.clone() };
        write(file, &guest::json(&request))?;
    }
    let vethpath = request.vethpath.display().to_string();
    link(&vethpath, "usr/local/bin/vethpath")
}
