//! docs/topology.md documents every key of the parser.

use super::super::keys;

/// The text under a heading, up to the next one of the same or a higher level.
fn section(page: &str, heading: &str) -> String {
    let depth = heading.chars().take_while(|&c| c == '#').count();
    let is_end = |line: &&str| {
        let depths = line.chars().take_while(|&c| c == '#').count();
        (1..=depth).contains(&depths) && line.chars().nth(depths) == Some(' ')
    };
    let mut fenced = false;
    let mut lines = page.lines().skip_while(|line| *line != heading);
    let first = lines.next().unwrap_or_else(|| panic!("no {heading:?}"));
    let body = lines.take_while(|line| {
        fenced ^= line.starts_with("```");
        fenced || !is_end(line)
    });
    std::iter::once(first).chain(body).collect::<Vec<_>>().join("\n")
}

/// A row has at least a key, a type and a default.
#[track_caller]
fn assert_no_cell_is_empty(row: &str) {
    let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
    assert!(cells.len() >= 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
}

#[test]
fn every_key_has_a_type_a_default_and_an_example_in_the_documentation() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topology.md");
    let page = std::fs::read_to_string(page).expect("docs/topology.md");
    for (heading, keys) in [
        ("# The topology file", keys::FILE),
        ("## Bridges", keys::BRIDGE),
        ("## Namespaces", keys::NAMESPACE),
        ("## Interfaces", keys::INTERFACE),
        ("### Groups", keys::GROUP),
        ("### Meshes", keys::MESH),
        ("### Chains", keys::CHAIN),
    ] {
        let section = section(&page, heading);
        let examples: String =
            section.split("```toml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
        for key in keys {
            let is_row = |line: &&str| {
                ["`", ".NAME`"].iter().any(|end| line.starts_with(&format!("| [`{key}{end}](")))
                    || line.starts_with(&format!("| `{key}` |"))
            };
            let row = section.lines().find(is_row).unwrap_or_else(|| panic!("{heading}: no row of `{key}`"));
            assert_no_cell_is_empty(row);
            let is_used = |line: &str| {
                line.starts_with(&format!("{key} = "))
                    || line.contains(&format!("[{key}."))
                    || line.contains(&format!(".{key}."))
                    || line.contains(&format!(".{key}]"))
            };
            assert!(examples.lines().any(is_used), "{heading}: no example of `{key}`");
        }
    }
    for (heading, keys) in [("### `routes`", keys::ROUTE), ("### `adopt`", keys::ADOPT)] {
        let section = section(&page, heading);
        for key in keys {
            let row = section.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
            assert_no_cell_is_empty(row.unwrap_or_else(|| panic!("{heading}: no row of `{key}`")));
        }
    }
    for key in [keys::ROUTE, keys::ADOPT].concat() {
        assert!(page.contains(&format!("{{ {key} = ")) || page.contains(&format!(", {key} = ")), "{key}");
    }
}

#[test]
fn every_limit_of_the_documentation_is_the_readers() {
    use super::super::limits;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topology.md");
    let page = std::fs::read_to_string(page).expect("docs/topology.md");
    let limits_of_page = section(&page, "## Limits");
    for (what, most) in [
        ("namespaces, ", limits::NAMESPACES),
        ("bridges, ", limits::BRIDGES),
        ("ports of a bridge", limits::PORTS),
        ("interfaces of a namespace", limits::INTERFACES),
        ("interfaces of a lab", limits::EXPANDED),
        ("members of a mesh", limits::MEMBERS),
        ("addresses of an interface", limits::ADDRESSES),
        ("routes of a namespace", limits::ROUTES),
        ("sysctls of a namespace", limits::SYSCTLS),
    ] {
        let row = limits_of_page.lines().find(|line| line.starts_with(&format!("| {what}")));
        assert!(row.is_some_and(|row| row.contains(&format!("| {most}"))), "{what}: {row:?}");
    }
}
