//! Checks the table in `docs/equivalence.md`: the tests that it names exist, and every file of tests here has a place
//! in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Words between backticks that have the form of a test's name.
fn names(text: &str) -> Vec<String> {
    let is_name = |word: &&str| {
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        };
        word.contains("::") && word.split("::").all(plain)
    };
    text.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect()
}

/// Whether a test (or a module of tests) of this name is in the sources, as integration or unit test.
fn exists(name: &str) -> bool {
    let (module, test) = name.rsplit_once("::").expect("names have modules");
    [repository().join("tests"), repository().join("vethpath/src")].iter().any(|root| {
        // Unit tests are in a file of their own, or in `mod tests` of the file that they test.
        let outside = module.strip_suffix("::tests").unwrap_or(module);
        let is_module = file_of(root, name).is_some_and(|file| file.contains("#[test]"));
        is_module
            || [module, outside]
                .iter()
                .filter_map(|module| file_of(root, module))
                .any(|file| has(&file, test))
    })
}

/// The text of a module's file.
fn file_of(root: &Path, module: &str) -> Option<String> {
    let path = root.join(module.replace("::", "/"));
    fs::read_to_string(path.with_extension("rs")).or_else(|_| fs::read_to_string(path.join("mod.rs"))).ok()
}

/// Whether a function of this name is right below a `#[test]`.
fn has(file: &str, test: &str) -> bool {
    let lines: Vec<_> = file.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&format!("fn {test}(")))
}

fn document() -> String {
    fs::read_to_string(repository().join("docs/equivalence.md")).expect("it is part of the sources")
}

#[test]
fn every_test_that_the_table_names_exists() {
    let names = names(&document());
    assert!(names.len() > 80, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "docs/equivalence.md names tests that are not there: {missing:#?}");
    assert!(!exists("hazards::state::ageing::no_such_test") && !exists("hazards::state::no_such_file::test"));
}

#[test]
fn every_row_has_a_test() {
    let document = document();
    let (_, table) = document.split_once("## Row by row").expect("the table has a heading");
    let rows: Vec<_> =
        table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| hazard")).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    let bare: Vec<_> = rows.into_iter().filter(|row| names(row).is_empty()).collect();
    assert!(bare.is_empty(), "{bare:#?}");
}

#[test]
fn every_test_of_a_hazard_has_a_row() {
    let (document, root) = (names(&document()), repository().join("tests/hazards"));
    let mut missing = Vec::new();
    for heading in ["state", "policy", "delivery", "ourselves"] {
        for entry in fs::read_dir(root.join(heading)).expect("it is there").flatten() {
            let path = entry.path();
            let file = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("readable");
            let module = format!("hazards::{heading}::{file}::");
            if text.contains("#[test]") && !document.iter().any(|name| name.starts_with(&module)) {
                missing.push(module);
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/equivalence.md: {missing:#?}");
}
