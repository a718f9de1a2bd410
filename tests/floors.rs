//! The layout of the source: a file imports only from the floors below its own, and nothing is unsafe above the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the ground up. What a file may import is what stands in the lines before its own module's; modules in
/// one line do not know each other. A new module has to be given its place here.
const FLOORS: &[&[&str]] = &[
    &["error", "profile", "real", "rng"],
    &["notices"],
    &["kernels"],
    &["blas"],
    &["params", "pool"],
    &["layers"],
    &["graph"],
    &["models"],
    &["text", "train"],
    &["cli"],
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["blas", "kernels"];

/// Names that stand at the crate's root for those of the ground floor.
const ROOT: &[(&str, &str)] = &[("Error", "error"), ("Result", "error"), ("Real", "real")];

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} has no place among the floors of tests/floors.rs"))
}

/// All Rust files below `dir`, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// Source without comments, strings and characters, so that only code is left to look at.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let (skip, kept) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), "")
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |end| end + 2), "")
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            (3 + raw.find("\"#").map_or(raw.len(), |end| end + 2), "\"\"")
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            (end.map_or(rest.len(), |end| end + 2), "\"\"")
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") || rest.starts_with("'\\\"'") {
            (rest[2..].find('\'').map_or(rest.len(), |end| end + 3), "")
        } else {
            code.push(c);
            (c.len_utf8(), "")
        };
        code.push_str(kept);
        rest = &rest[skip..];
    }
    code
}

/// The modules of the crate that `code` names after `crate::`, also within braces: `use crate::{blas, text::Lines}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` is a macro's, and `other_crate::` is another name.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let first = |text: &str| -> String {
            text.trim_start().chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect()
        };
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut from) = (0, 0);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth > 0 => depth -= 1,
                    ',' | '}' if depth == 0 => {
                        names.insert(first(&group[from..i]));
                        from = i + 1;
                        if c == '}' {
                            break;
                        }
                    }
                    _ => {}
                }
            }
        } else {
            names.insert(first(rest));
        }
    }
    names.remove("");
    names
}

/// The module that a file under src belongs to, and its code. `lib.rs` and `main.rs` stand above all.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all = files(&root).into_iter().filter_map(|path| {
        let within = path.strip_prefix(&root).unwrap().to_owned();
        let first = within.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        let code = code(&fs::read_to_string(&path).unwrap());
        (!["lib", "main"].contains(&module.as_str())).then_some((within, module, code))
    });
    let all: Vec<_> = all.collect();
    assert!(all.len() > 40, "only {} files are found", all.len());
    all
}

/// What is wrong with a file of `module` that holds `code`.
fn faults(module: &str, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for name in imports(code) {
        let name = ROOT.iter().find(|(root, _)| *root == name).map_or(name.as_str(), |(_, module)| module);
        // A macro of the crate is no module; there is none that is exported.
        if name != module && floor(name) >= floor(module) {
            faults.push(format!("{module} imports {name}, which does not lie below it"));
        }
    }
    let word = |at: usize, len: usize| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        !code[..at].ends_with(part) && !code[at + len..].starts_with(part)
    };
    // A trait of the ground floor declares what the kernels then do.
    let declared = |at: usize| module == "real" && code[at..].starts_with("unsafe fn ");
    let is_unsafe = |(at, text): (usize, &str)| word(at, text.len()) && !declared(at);
    if !UNSAFE.contains(&module) && code.match_indices("unsafe").any(is_unsafe) {
        faults.push(format!("{module} is unsafe"));
    }
    faults
}

#[test]
fn imports_go_down_and_unsafe_stays_below() {
    let mut seen = 0;
    let mut all = Vec::new();
    for (path, module, code) in sources() {
        seen += imports(&code).len();
        all.extend(faults(&module, &code).into_iter().map(|fault| format!("{}: {fault}", path.display())));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert!(seen > 100, "only {seen} imports are found");
}

/// Files of one module may know each other, but not in a circle: parent and child count as one.
#[test]
fn files_of_a_module_make_no_circle() {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, module, code) in sources() {
        let Some(name) = path.components().nth(1).map(|c| c.as_os_str().to_string_lossy().into_owned()) else {
            continue;
        };
        let name = name.trim_end_matches(".rs");
        if name == "mod" {
            continue;
        }
        let from = format!("{module}/{name}");
        let siblings = ["super::".to_owned(), format!("crate::{module}::")];
        let depth = path.components().count();
        for sibling in siblings.iter().filter(|prefix| depth == 2 || prefix.starts_with("crate")) {
            for (at, _) in code.match_indices(sibling.as_str()).filter(|(at, _)| !code[..*at].ends_with("::")) {
                let to: String =
                    code[at + sibling.len()..].chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect();
                let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&module).join(&to);
                if file.with_extension("rs").exists() && to != name {
                    edges.entry(from.clone()).or_default().insert(format!("{module}/{to}"));
                }
            }
        }
    }
    assert!(edges.len() > 10, "only {edges:?}");
    // Files that import nothing go, until none is left or those that do make a circle.
    loop {
        let free: Vec<String> = edges.values().flatten().filter(|to| !edges.contains_key(*to)).cloned().collect();
        if free.is_empty() {
            break;
        }
        for targets in edges.values_mut() {
            targets.retain(|to| !free.contains(to));
        }
        edges.retain(|_, targets| !targets.is_empty());
    }
    assert!(edges.is_empty(), "these files import each other in a circle: {edges:#?}");
}

/// The checks can fail.
#[test]
fn wrong_sources_are_found() {
    let told = |module: &str, source: &str| faults(module, &code(source));
    assert_eq!(told("layers", "use crate::models::LanguageModel;").len(), 1);
    assert_eq!(told("kernels", "use crate::blas::product;").len(), 1);
    assert_eq!(told("text", "use crate::{Error, kernels::{Buffer, isa}, train::fit};").len(), 1);
    assert_eq!(told("train", "fn f() { crate::text::read() }").len(), 1);
    assert_eq!(told("text", "unsafe { *p }").len(), 1);
    assert!(
        told("text", "// unsafe crate::train\nlet x = \"unsafe \\\" crate::cli\"; use crate::{Error, real::Real};")
            .is_empty()
    );
    assert!(told("blas", "use crate::kernels::isa; unsafe { unsafety() }").is_empty());
    assert!(told("real", "unsafe fn load_at(self);").is_empty() && !told("real", "unsafe { *p }").is_empty());
    assert!(told("cli", "let a = '\"'; let b = \"crate::nothing\";").is_empty());
}
