//! Settings of the machine that a lab depends on.

use std::{io, path::Path};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Check;
use crate::kernel::files;

const BPFFS: &str = "/sys/fs/bpf";
const FORWARDING: &str = "net.ipv4.ip_forward";
const JIT: &str = "net.core.bpf_jit_enable";

pub(super) fn checks() -> Vec<Check> {
    let sysctls = Path::new("/proc/sys");
    vec![bpffs(Path::new(BPFFS)), jit(sysctls), forwarding(sysctls)]
}

/// Whether bpffs is mounted at the path for pins.
fn bpffs(path: &Path) -> Check {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => Check::ok("bpffs", BPFFS),
        Ok(_) => Check::warning("bpffs", format!("not mounted at {BPFFS}"), "`up` mounts it: nothing to do"),
        Err(errno) => Check::missing(
            "bpffs",
            format!("{BPFFS}: {}", io::Error::from(errno)),
            "mount sysfs at /sys, and use a kernel with CONFIG_BPF_SYSCALL",
        ),
    }
}

/// Whether the BPF JIT is on. The setting is shown in the initial network namespace only.
fn jit(sysctls: &Path) -> Check {
    match read(sysctls, JIT) {
        Ok(Some(value)) if value == "0" => Check::warning(
            JIT,
            "0",
            format!(
                "programs are interpreted, so what `bench` measures is the interpreter: sysctl -w {JIT}=1"
            ),
        ),
        Ok(Some(value)) => Check::ok(JIT, value),
        Ok(None) => Check::ok(JIT, "not shown in this namespace"),
        Err(error) => Check::warning(JIT, format!("cannot be read: {error}"), "mount /proc"),
    }
}

fn forwarding(sysctls: &Path) -> Check {
    match read(sysctls, FORWARDING) {
        Ok(Some(value)) if value == "0" => Check {
            advice: Some(format!(
                "a bridge with `nat = true`, or one that is a gateway, needs sysctl -w {FORWARDING}=1"
            )),
            ..Check::ok(FORWARDING, "0")
        },
        Ok(Some(value)) => Check::ok(FORWARDING, value),
        Ok(None) => Check::warning(FORWARDING, "absent", "this kernel has no IPv4"),
        Err(error) => Check::warning(FORWARDING, format!("cannot be read: {error}"), "mount /proc"),
    }
}

fn read(sysctls: &Path, name: &str) -> io::Result<Option<String>> {
    match files::read_bounded(&sysctls.join(name.replace('.', "/")), files::VALUE) {
        Ok(content) => Ok(Some(content.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::probe::Status;

    #[test]
    fn settings_are_judged() {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str, value: &str| {
            let path = folder.path().join(name.replace('.', "/"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        assert_eq!(jit(folder.path()).status, Status::Ok);
        set(JIT, "0\n");
        assert_eq!(jit(folder.path()).status, Status::Warning);
        set(JIT, "1\n");
        assert_eq!(jit(folder.path()), Check::ok(JIT, "1"));
        set(FORWARDING, "0\n");
        assert!(forwarding(folder.path()).advice.is_some());
        set(FORWARDING, "1\n");
        assert_eq!(forwarding(folder.path()), Check::ok(FORWARDING, "1"));
    }

    #[test]
    fn another_file_system_is_no_bpffs() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bpffs(folder.path()).status, Status::Warning);
        assert_eq!(bpffs(&folder.path().join("absent")).status, Status::Missing);
    }
}
