//! The root of a guest: an initramfs in three parts. Debian's tools and a kernel's modules are cached in
//! `target/guests`. The built programs and the sources that tests read are packed for each run.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    guest,
    kernel::{Kernel, SOURCES, folder},
};
use crate::{
    error::Error,
    tools::{command, output, root, run as run_command, say, wait},
};

/// The packages that tests use; apt adds their dependencies. `usr-is-merged` prevents apt from adding Perl's whole
/// library.
const TOOLS: [&str; 25] = [
    "bash",
    "bsdutils",
    "coreutils",
    "dash",
    "diffutils",
    "ethtool",
    "findutils",
    "grep",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libc-bin",
    "libgcc-s1",
    "mawk",
    "mount",
    "nftables",
    "perl-base",
    "procps",
    "sed",
    "systemd",
    "tcpdump",
    "usr-is-merged",
    "util-linux",
];

/// The module folders to keep in `kernel/`, `drivers/` and `drivers/net/`. Modules directly in these are kept too.
const MODULES: [&str; 5] = ["arch", "crypto", "drivers", "lib", "net"];
const DRIVERS: [&str; 1] = ["net"];
const NET_DRIVERS: [&str; 2] = ["bonding", "vxlan"];

/// The users that the tools require.
const USERS: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
                     tcpdump:x:100:100::/nonexistent:/usr/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\ntcpdump:x:100:\n";

/// The first process of a guest.
const INIT: &str = include_str!("init.sh");

const IMAGE: &str = "vmlinuz";
const ARCHIVE: &str = "root.cpio";

/// The path of a kernel's image. It exists after [`initrd`] has succeeded.
pub(super) fn kernel_image(kernel: &Kernel) -> PathBuf {
    kernel.folder().join(IMAGE)
}

/// Creates the cached parts if they do not exist.
pub(super) fn prepare(kernel: &Kernel) -> Result<(), Error> {
    tools(kernel.machine.architecture)?;
    modules(kernel).map(drop)
}

/// Builds the initramfs. `files` are binaries, with their paths in the guest and their `strip` programs.
pub(super) fn initrd(
    kernel: &Kernel,
    files: &[(&Path, &Path, &str)],
    request: &guest::Request,
) -> Result<PathBuf, Error> {
    let tools = tools(kernel.machine.architecture)?;
    let modules = modules(kernel)?;
    let run = kernel.folder().join("run.cpio");
    pack_run(&kernel.folder().join("run"), files, request, &run)?;
    let initrd = kernel.folder().join("initrd");
    let failed = |source| Error::File { path: initrd.clone(), source };
    let mut archive = File::create(&initrd).map_err(failed)?;
    // The kernel unpacks concatenated archives in sequence into one root.
    for part in [tools, modules, run] {
        File::open(part).and_then(|mut part| io::copy(&mut part, &mut archive)).map_err(failed)?;
    }
    Ok(initrd)
}

/// The archive of Debian's tools.
fn tools(architecture: &str) -> Result<PathBuf, Error> {
    let folder = folder().join(format!("tools-{architecture}"));
    kept(&folder, &format!("tools 2: {}\n", TOOLS.join(" ")), &[ARCHIVE], || {
        let tree = folder.join("root");
        for path in
            ["dev", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]
        {
            make(&tree.join(path))?;
        }
        for path in ["bin", "sbin", "lib", "lib64"] {
            link(&format!("usr/{path}"), &tree.join(path))?;
        }
        link("dash", &tree.join("usr/bin/sh"))?;
        make(&tree.join("etc"))?;
        write(&tree.join("etc/passwd"), USERS)?;
        write(&tree.join("etc/group"), GROUPS)?;
        update(architecture)?;
        let mut install = apt("apt-get", architecture);
        run_command(install.args(["--quiet", "--yes", "--download-only", "install"]).args(TOOLS))?;
        for package in entries(&state(architecture).join("cache/archives"))? {
            if package.extension().is_some_and(|kind| kind == "deb") {
                unpack(&package, &tree)?;
            }
        }
        // What the alternatives of an installed package are.
        for tool in ["iptables", "ip6tables"] {
            link(&format!("{tool}-nft"), &tree.join("usr/sbin").join(tool))?;
        }
        pack(&tree, &folder.join(ARCHIVE))?;
        remove(&tree)
    })?;
    Ok(folder.join(ARCHIVE))
}

/// The archive of a kernel's modules; the image is in the same folder.
fn modules(kernel: &Kernel) -> Result<PathBuf, Error> {
    let (folder, architecture) = (kernel.folder(), kernel.machine.architecture);
    let recipe = format!("modules 1: {} {MODULES:?} {DRIVERS:?} {NET_DRIVERS:?}\n", kernel.package);
    kept(&folder, &recipe, &[ARCHIVE, IMAGE], || {
        update(architecture)?;
        let depends = output(apt("apt-cache", architecture).args(["depends", kernel.package]));
        let package = depends.as_deref().and_then(image_package);
        let package = package.ok_or_else(|| {
            Error::Guest(format!("apt knows no package {}: guests are of Debian 12", kernel.package))
        })?;
        run_command(
            apt("apt-get", architecture).args(["--quiet", "download", package]).current_dir(&folder),
        )?;
        let tree = folder.join("root");
        make(&tree.join("usr/lib"))?;
        link("usr/lib", &tree.join("lib"))?;
        for package in entries(&folder)? {
            if package.extension().is_some_and(|kind| kind == "deb") {
                unpack(&package, &tree)?;
                remove(&package)?;
            }
        }
        let image = entries(&tree.join("boot"))?.into_iter().find(|file| named(file).starts_with("vmlinuz-"));
        let image = image.ok_or_else(|| Error::Guest(format!("{package} has no vmlinuz")))?;
        fs::rename(&image, folder.join(IMAGE)).map_err(|source| Error::File { path: image, source })?;
        remove(&tree.join("boot"))?;
        let release = package.trim_start_matches("linux-image-");
        let modules = tree.join("lib/modules").join(release).join("kernel");
        keep_only(&modules, &MODULES)?;
        keep_only(&modules.join("drivers"), &DRIVERS)?;
        keep_only(&modules.join("drivers/net"), &NET_DRIVERS)?;
        run_command(command("depmod").arg("--basedir").arg(&tree).arg(release))?;
        pack(&tree, &folder.join(ARCHIVE))?;
        remove(&tree)
    })?;
    Ok(folder.join(ARCHIVE))
}

/// The package with the newest image of a series, from the output of `apt-cache depends`.
fn image_package(depends: &str) -> Option<&str> {
    let packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.into_iter().find(|package| package.starts_with("linux-image-"))
}

/// Packs the files of this run.
fn pack_run(
    tree: &Path,
    files: &[(&Path, &Path, &str)],
    request: &guest::Request,
    archive: &Path,
) -> Result<(), Error> {
    remove(tree)?;
    make(&tree.join(relative(&root())))?;
    wait(command("cp").args(["--recursive", "--parents"]).args(SOURCES).arg(tree.join(relative(&root()))))?;
    for (file, place, strip) in files {
        let place = tree.join(relative(place));
        make(place.parent().unwrap_or(tree))?;
        wait(command(strip).args(["--strip-debug", "-o"]).arg(place).arg(file))?;
    }
    write(&tree.join(relative(Path::new(guest::REQUEST))), &guest::json(request))?;
    write(&tree.join("init"), INIT)?;
    wait(command("chmod").arg("755").arg(tree.join("init")))?;
    pack(tree, archive)?;
    remove(tree)
}

/// An initramfs with more files, which `fill` makes in a tree. `name` is that of the part.
pub(super) fn extended(
    kernel: &Kernel,
    initrd: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let (tree, part) = (kernel.folder().join(name), kernel.folder().join(format!("{name}.cpio")));
    remove(&tree)?;
    make(&tree)?;
    fill(&tree)?;
    pack(&tree, &part)?;
    remove(&tree)?;
    let extended = kernel.folder().join(format!("initrd-{name}"));
    let failed = |source| Error::File { path: extended.clone(), source };
    let mut archive = File::create(&extended).map_err(failed)?;
    for part in [initrd, &part] {
        File::open(part).and_then(|mut part| io::copy(&mut part, &mut archive)).map_err(failed)?;
    }
    Ok(extended)
}

/// Writes a file below a tree, with its folder.
pub(super) fn write_below(tree: &Path, path: &str, text: &str) -> Result<(), Error> {
    let path = tree.join(path);
    make(path.parent().unwrap_or(tree))?;
    write(&path, text)
}

/// Makes a symbolic link below a tree, with its folder.
pub(super) fn link_below(tree: &Path, to: &str, path: &str) -> Result<(), Error> {
    let path = tree.join(path);
    make(path.parent().unwrap_or(tree))?;
    link(to, &path)
}

/// Creates `files` in a folder, unless they exist with this recipe and valid checksums.
fn kept(
    folder: &Path,
    recipe: &str,
    files: &[&str],
    work: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let (made, sums) = (folder.join("recipe"), folder.join("sums"));
    let mut check = command("sha256sum");
    check.args(["--check", "--status", "--strict"]).arg(&sums).current_dir(folder);
    if fs::read_to_string(&made).is_ok_and(|text| text == recipe) && output(&mut check).is_some() {
        return Ok(());
    }
    remove(folder)?;
    make(folder)?;
    work()?;
    let computed = output(command("sha256sum").args(files).current_dir(folder)).unwrap_or_default();
    write(&sums, &computed)?;
    // Written last, so that an interrupted run leaves no recipe.
    write(&made, recipe)
}

/// apt's state for an architecture, separate from this machine's.
fn state(architecture: &str) -> PathBuf {
    folder().join(format!("apt-{architecture}"))
}

/// apt for an architecture, with this machine's sources and an empty list of installed packages.
fn apt(program: &str, architecture: &str) -> Command {
    let state = state(architecture);
    let mut command = command(program);
    for option in [
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures::={architecture}"),
        "APT::Install-Recommends=false".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        format!("Dir::State={}", state.display()),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", state.join("cache").display()),
    ] {
        command.args(["-o", &option]);
    }
    command
}

/// Updates the package lists.
fn update(architecture: &str) -> Result<(), Error> {
    for path in ["lists/partial", "cache/archives/partial"] {
        make(&state(architecture).join(path))?;
    }
    let mut update = apt("apt-get", architecture);
    if let Err(error) = run_command(update.args(["--quiet", "update"])) {
        say(&format!("{error}; going on with the lists that are there"));
    }
    Ok(())
}

/// Unpacks a package's files, without documentation and translations.
fn unpack(package: &Path, tree: &Path) -> Result<(), Error> {
    const SCRIPT: &str = "dpkg-deb --fsys-tarfile \"$0\" | tar --extract --directory \"$1\" --keep-directory-symlink \
                          --exclude './usr/share/doc/*' --exclude './usr/share/man/*' --exclude './usr/share/locale/*'";
    wait(command("sh").args(["-e", "-c", SCRIPT]).arg(package).arg(tree))
}

/// Packs a tree as an initramfs, owned by root.
fn pack(tree: &Path, archive: &Path) -> Result<(), Error> {
    const SCRIPT: &str = "find . -print0 | cpio --quiet --null --create --format=newc --owner=0:0 > \"$0\"";
    wait(command("sh").args(["-e", "-c", SCRIPT]).arg(archive).current_dir(tree))
}

/// Removes the folders in `folder` that are not in `names`.
fn keep_only(folder: &Path, names: &[&str]) -> Result<(), Error> {
    for path in entries(folder)? {
        if path.is_dir() && !names.contains(&named(&path)) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn named(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A path relative to the root.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        let paths: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        paths
    });
    entries.map_err(|source| Error::File { path: folder.to_owned(), source })
}

fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn link(to: &str, path: &Path) -> Result<(), Error> {
    std::os::unix::fs::symlink(to, path).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Removes a file or a folder recursively.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_what_the_series_depends_on() {
        let depends = "linux-image-6.12-amd64\n  Depends: linux-image-6.12.57+deb12-amd64\n  Suggests: x\n";
        assert_eq!(image_package(depends), Some("linux-image-6.12.57+deb12-amd64"));
        assert_eq!(image_package("linux-image-6.12-amd64\n"), None);
    }

    #[test]
    fn what_is_whole_is_made_once() {
        let folder = std::env::temp_dir().join(format!("xtask-kept-{}", std::process::id()));
        let made = std::cell::Cell::new(0);
        let keep = |recipe: &str| {
            kept(&folder, recipe, &["file"], || {
                made.set(made.get() + 1);
                write(&folder.join("file"), "content")
            })
            .expect("a folder of ours");
        };
        keep("one");
        keep("one");
        assert_eq!(made.get(), 1);
        keep("two");
        assert_eq!(made.get(), 2);
        write(&folder.join("file"), "half").expect("a file");
        keep("two");
        assert_eq!(made.get(), 3);
        remove(&folder).expect("our own folder");
    }

    #[test]
    fn apt_is_of_the_guests_architecture_and_touches_nothing_of_the_machines() {
        let arguments: Vec<_> =
            apt("apt-get", "arm64").get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(arguments.contains(&"APT::Architecture=arm64".to_owned()));
        let places: Vec<_> = arguments.iter().filter(|word| word.starts_with("Dir::")).collect();
        let guests = folder().display().to_string();
        let below = |word: &String| word.contains(&guests) || word.ends_with("/dev/null");
        assert!(!places.is_empty() && places.iter().all(|word| below(word)), "{places:?}");
    }
}
