//! `cargo xtask gallery`: the generated parts of docs/gallery.md. For each picture: its script and its file with their
//! lengths, its diagram, and what `show` and the command lines of a walk-through print.

use std::{fs, path::Path};

use crate::{
    documents,
    error::Error,
    tools::{self, cargo, command, is_root, say, target_dir},
};

const PAGE: &str = "docs/gallery.md";

/// The pictures, and the command lines that show that each works.
const PICTURES: &[(&str, &[&str])] = &[
    ("pair", &["ip -n red route", "ip netns exec red ping -c 1 10.0.0.2"]),
    ("mesh-3", &["ip -n r0 -br address", "ip netns exec r0 ping -c 1 10.50.0.3"]),
    ("mesh-4", &["ip netns exec r0 ping -c 1 10.50.0.7"]),
    ("mesh-5", &["ip netns exec r0 ping -c 1 10.50.0.13"]),
    ("switch", &["bridge link", "ip netns exec r0 ping -c 1 10.50.0.5"]),
    (
        "three-hosts",
        &[
            "bridge link",
            "vethpath peer eth0 --in ns0",
            "ip -n ns1 route",
            "ip netns exec ns0 ping -c 1 172.17.0.102",
            "ping -c 1 172.17.0.101",
        ],
    ),
    ("to-the-machine", &["ip -n ns0 route", "ip netns exec ns0 ping -c 1 10.0.0.1", "ping -c 1 10.0.0.2"]),
    ("outside", &["ip -n ns0 route", "nft list tables", "ip netns exec ns0 ping -c 1 10.80.0.1"]),
    ("router", &["ip -n r route", "ip netns exec a ping -c 1 10.2.0.2"]),
    (
        "firewall",
        &[
            "ip netns exec fw nft -f docs/gallery/rules.nft",
            "ip netns exec client ping -c 1 10.2.0.2",
            "ip netns exec server ping -c 1 -W 1 10.1.0.2",
        ],
    ),
    ("eight", &["bridge link", "ip netns exec h0 ping -c 1 10.60.0.2"]),
];

/// Builds vethpath, draws every picture, and writes the page. With root, what the commands print is new too.
pub(crate) fn run() -> Result<(), Error> {
    if !is_root() {
        return Err(Error::NeedsRoot { chore: "gallery".to_owned() });
    }
    tools::run(cargo().args(["build", "--package", "vethpath"]))?;
    let vethpath = target_dir().join("debug/vethpath");
    let page = tools::root().join(PAGE);
    let text = documents::read(&page)?;
    let filled = documents::fill(&text, "gallery", |name| picture(name, &vethpath))?;
    documents::write(&page, &filled)?;
    say(&format!("{PAGE} is written"));
    Ok(())
}

/// The block of a picture.
fn picture(name: &str, vethpath: &Path) -> Result<String, Error> {
    let commands = PICTURES.iter().find(|(known, _)| *known == name).map(|(_, commands)| *commands);
    let commands =
        commands.ok_or_else(|| Error::Figures(format!("{PAGE} has a picture `{name}` that nobody knows")))?;
    let file = format!("examples/{name}.toml");
    let script = code(&documents::read(&tools::root().join(format!("docs/gallery/{name}.sh")))?);
    let lab = code(&documents::read(&tools::root().join(&file))?);
    let drawn = output(command(vethpath).args(["graph", &file]))?;
    let image = tools::root().join(format!("docs/img/gallery/{name}.svg"));
    if !fs::read_to_string(&image).is_ok_and(|before| before == drawn) {
        documents::write(&image, &drawn)?;
    }
    let (by_hand, ours) = (script.lines().count(), lab.lines().count());
    let saved = match by_hand.saturating_sub(ours) {
        0 => "no line less".to_owned(),
        1 => "one line less".to_owned(),
        saved => format!("{saved} lines less"),
    };
    Ok(format!(
        "![{name}](img/gallery/{name}.svg)\n\nBy hand, {by_hand} lines:\n\n```sh\n{script}```\n\n\
         As a lab, [`{file}`](../{file}), {ours} lines, {saved}:\n\n```toml\n{lab}```\n\n```console\n{}```\n",
        transcript(&file, commands, vethpath)?
    ))
}

/// The lines of a script or file without comments and empty lines.
fn code(text: &str) -> String {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    text.lines().filter(is_code).fold(String::new(), |code, line| code + line + "\n")
}

/// What the commands print, in namespaces of their own: nothing of this machine is changed.
fn transcript(file: &str, commands: &[&str], vethpath: &Path) -> Result<String, Error> {
    let mut script = format!(
        "mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; ip link set lo up\n\
         vethpath() {{ {} \"$@\" 2>&1; }}\n",
        vethpath.display()
    );
    let shown = [&format!("vethpath up {file}")[..], "vethpath show"];
    for line in shown.iter().chain(commands) {
        script += &format!("echo '# {line}'\n{line}\n");
    }
    script += &format!("vethpath down {file} > /dev/null\n");
    let mut private = command("unshare");
    private.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
    let printed = output(&mut private)?;
    Ok(printed.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n"))
}

/// The standard output of a command that succeeds.
fn output(command: &mut std::process::Command) -> Result<String, Error> {
    let line = tools::display(command);
    match command.output() {
        Ok(done) if done.status.success() => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        Ok(done) => Err(Error::Failed { command: line, status: done.status }),
        Err(source) => Err(Error::Start { command: line, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_neither_comments_nor_empty_lines() {
        assert_eq!(code("# a\n\nb = 1 # c\n  # d\n  e\n"), "b = 1 # c\n  e\n");
    }

    /// The page has each picture once, with the text of its script and its file, and of no other.
    #[test]
    fn the_page_has_the_scripts_and_files_as_they_are() {
        let page = documents::read(&tools::root().join(PAGE)).expect("the page");
        for (name, _) in PICTURES {
            assert_eq!(page.matches(&format!("<!-- gallery:begin {name} -->")).count(), 1, "{name}");
            for (file, tag) in
                [(format!("docs/gallery/{name}.sh"), "sh"), (format!("examples/{name}.toml"), "toml")]
            {
                let text = code(&documents::read(&tools::root().join(&file)).expect("a file of a picture"));
                let block = format!("```{tag}\n{text}```\n");
                assert!(page.contains(&block), "`cargo xtask gallery` was not run since {file} changed");
            }
        }
    }
}
