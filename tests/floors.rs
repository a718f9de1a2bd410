//! The layout of the source: a file imports only from the floors below its own, files make no circle, nothing is unsafe
//! above the first, rayon is known to the pool alone, models leave threads to the layers, the command line is known in cli/ only, and
//! nothing that trains or evaluates computes by the system's exp and ln.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use syn::visit::{self, Visit};

/// The modules from the ground up. What a file may import is what stands in the lines before its own module's; modules in
/// one line do not know each other. A new module has to be given its place here.
const FLOORS: &[&[&str]] = &[
    &["math", "tree"],
    &["error", "profile", "real", "rng"],
    &["notices"],
    &["sys"],
    &["kernels"],
    &["blas"],
    &["params", "pool"],
    &["layers"],
    &["graph"],
    &["models"],
    &["text", "train"],
    &["tasks"],
    &["cli"],
];

/// Where `unsafe` may stand. A trait of the ground floor declares what the kernels then do.
const UNSAFE: &[&str] = &["blas", "kernels", "sys"];
const DECLARES_UNSAFE: &str = "real";

/// Modules that may use rayon; those above have the loops of `pool`.
const PARALLEL: &[&str] = &["blas", "pool", "profile"];

/// Modules that may not use these either: models are parallel over shards and blocks (`layers::shards`) and know no other way.
const THREADLESS: &[&str] = &["graph", "models"];

/// Functions of the standard library that are the system's, whose bits differ between its versions: without an argument, and with one.
const OF_THE_SYSTEM: &[&str] = &[
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "cos", "cosh", "exp", "exp2", "exp_m1", "ln", "ln_1p",
    "log10", "log2", "sin", "sin_cos", "sinh", "tan", "tanh",
];
const OF_THE_SYSTEM_WITH_ONE: &[&str] = &["atan2", "hypot", "log", "powf", "powi"];

/// Where they may be called all the same: what draws and what judges times; in a graph's description `tanh` makes a node.
const WITHOUT_BITS: &[&str] =
    &["models::graphs", "tasks::complexity", "tasks::regression", "tasks::tuning", "train::plot"];

/// Crates that only the program needs, and the one use that may be made of them elsewhere: an option's values are those of an enum.
const OF_THE_PROGRAM: &[&str] = &["clap", "indicatif"];
const OF_AN_ENUM: &str = "feature=\"cli\",derive(clap::ValueEnum)";

/// A path of names, as `["text", "corpus"]`; a module's from the crate's root on.
type Names = Vec<String>;

fn names(path: &str) -> Names {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The crate: every file by the path of its module, parsed.
struct Source {
    files: BTreeMap<Names, Scan>,
}

/// Something that a file names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mention {
    /// From the crate's root on.
    path: Names,
    /// Whether only tests name it.
    in_tests: bool,
    /// Whether the file names it to hand it on (`pub use`), which is no use of its own.
    handed_on: bool,
}

impl Source {
    /// All of src but `lib.rs` and `main.rs`, which stand above all.
    fn of_the_crate() -> Self {
        let mut files = BTreeMap::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut Vec::new(), &mut files);
        assert!(files.len() > 40, "only {} files are found", files.len());
        Source { files }
    }

    /// Of files given as their modules and contents.
    fn of(files: &[(&str, &str)]) -> Self {
        Source { files: files.iter().map(|(module, text)| (names(module), Scan::of(names(module), text))).collect() }
    }

    /// The file that an item of this path is in: names that a file hands on are followed to where they come from.
    fn file_of(&self, path: &[String]) -> Option<&Names> {
        let (module, rest) = (0..=path.len())
            .rev()
            .find_map(|n| self.files.get_key_value(&path[..n]).map(|(module, _)| (module, &path[n..])))?;
        let Some(item) = rest.first() else { return Some(module) };
        let handed_on = self.files[module].found.iter().filter(|mention| mention.handed_on);
        let mut from = handed_on.filter(|mention| mention.path.last() == Some(item) && mention.path != path[..]);
        from.next().map_or(Some(module), |mention| self.file_of(&mention.path))
    }

    /// Imports that do not go down, and what is unsafe where nothing may be.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (module, scan) in &self.files {
            let own = floor(&module[0]);
            let mut told = BTreeSet::new();
            for Mention { path, .. } in &scan.found {
                let name = match path.first().map(String::as_str) {
                    Some("Error" | "Result") => "error",
                    Some("Real") => "real",
                    Some(name) => name,
                    None => continue,
                };
                let threads = name == "pool" && THREADLESS.contains(&module[0].as_str());
                if name != module[0] && (threads || floor(name) >= own) && told.insert(name.to_owned()) {
                    let why = if threads { "threads are the layers'" } else { "which does not lie below it" };
                    faults.push(format!("{} imports {name}: {why}", module.join("::")));
                }
            }
            if scan.is_unsafe && !UNSAFE.contains(&module[0].as_str()) {
                faults.push(format!("{} is unsafe", module.join("::")));
            }
            if scan.uses_rayon && !PARALLEL.contains(&module[0].as_str()) {
                faults.push(format!("{} uses rayon", module.join("::")));
            }
            let without_bits = WITHOUT_BITS.iter().any(|path| module.starts_with(&names(path)));
            if scan.uses_the_systems_functions && !without_bits {
                faults.push(format!(
                    "{} uses exp, ln or the like of the system: crate::math has them",
                    module.join("::")
                ));
            }
            if scan.reads_command_lines && module[0] != "cli" {
                faults.push(format!("{} uses what is for the command line", module.join("::")));
            }
        }
        faults
    }

    /// Files that import each other in a circle, tests aside. That a file uses its own submodules is no part of one: they are
    /// its inner rooms, and may use what it defines.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut edges: BTreeMap<&Names, BTreeSet<&Names>> = BTreeMap::new();
        for (module, scan) in &self.files {
            let used = scan.found.iter().filter(|mention| !mention.in_tests && !mention.handed_on);
            let targets = used.filter_map(|mention| self.file_of(&mention.path)).filter(|to| !to.starts_with(module));
            edges.insert(module, targets.collect());
        }
        // What reaches itself lies on a circle; files with the same reach lie on the same one.
        let reach = |from: &Names| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(at) = next.pop() {
                for &to in edges.get(&at).into_iter().flatten() {
                    if seen.insert(to.clone()) {
                        next.push(to.clone());
                    }
                }
            }
            seen
        };
        let reaches: BTreeMap<&Names, BTreeSet<Names>> = self.files.keys().map(|from| (from, reach(from))).collect();
        let mut circles = BTreeSet::new();
        for (module, reached) in reaches.iter().filter(|(module, reached)| reached.contains(**module)) {
            let back = reached.iter().filter(|to| reaches[*to].contains(*module));
            circles.insert(back.map(|to| to.join("::")).collect::<Vec<String>>());
        }
        circles.into_iter().collect()
    }
}

fn collect(dir: &Path, module: &mut Names, files: &mut BTreeMap<Names, Scan>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match name.as_str() {
                "lib" | "main" => continue,
                "mod" => module.clone(),
                _ => [module.clone(), vec![name]].concat(),
            };
            files.insert(module.clone(), Scan::of(module, &fs::read_to_string(&path).unwrap()));
        }
    }
}

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("the module {module} has no place among the floors of tests/floors.rs"))
}

/// Finds what a file names.
struct Scan {
    /// Where it is, inner modules included.
    module: Names,
    /// The modules that it declares.
    children: BTreeSet<String>,
    in_tests: bool,
    found: Vec<Mention>,
    is_unsafe: bool,
    uses_rayon: bool,
    reads_command_lines: bool,
    uses_the_systems_functions: bool,
}

impl Scan {
    fn of(module: Names, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
        let child = |item: &syn::Item| match item {
            syn::Item::Mod(item) => Some(item.ident.to_string()),
            _ => None,
        };
        let children = file.items.iter().filter_map(child).collect();
        let mut scan = Scan {
            in_tests: module.last().is_some_and(|name| name == "tests"),
            module,
            children,
            found: Vec::new(),
            is_unsafe: false,
            uses_rayon: false,
            reads_command_lines: false,
            uses_the_systems_functions: false,
        };
        scan.visit_file(&file);
        scan
    }

    /// `path` from the crate's root on, if it begins with `crate`, `super`, `self` or a module that the file declares.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let mut full = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            child if self.children.contains(child) => self.module.clone(),
            _ => return None,
        };
        for name in path {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => _ = full.pop(),
                _ => full.push(name.clone()),
            }
        }
        Some(full)
    }

    fn note(&mut self, path: &[String], handed_on: bool) {
        self.uses_rayon |= path[0] == "rayon";
        if let [of, name] = path
            && ["f32", "f64", "R"].contains(&of.as_str())
        {
            self.note_call(name, OF_THE_SYSTEM.contains(&name.as_str()));
        }
        self.reads_command_lines |= OF_THE_PROGRAM.contains(&path[0].as_str());
        if let Some(path) = self.absolute(path) {
            self.found.push(Mention { path, in_tests: self.in_tests, handed_on });
        }
    }

    /// A call of a method, of which may be told whether it has arguments.
    fn note_call(&mut self, name: &str, is_empty: bool) {
        let found = if is_empty { OF_THE_SYSTEM.contains(&name) } else { OF_THE_SYSTEM_WITH_ONE.contains(&name) };
        self.uses_the_systems_functions |= found && !self.in_tests;
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &mut Names, handed_on: bool) {
        let whole = |before: &Names, name: &syn::Ident| [before.clone(), vec![name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before, handed_on);
                before.pop();
            }
            syn::UseTree::Name(name) if name.ident == "self" => self.note(before, handed_on),
            syn::UseTree::Name(name) => self.note(&whole(before, &name.ident), handed_on),
            syn::UseTree::Rename(name) => self.note(&whole(before, &name.ident), handed_on),
            syn::UseTree::Glob(_) => self.note(before, handed_on),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before, handed_on)),
        }
    }

    /// What stands in a macro is tokens; paths and `unsafe` can be seen all the same. `$crate` is a macro's own.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree::{Group, Ident, Punct};
        let tokens: Vec<_> = tokens.into_iter().collect();
        let is_punct = |i: usize, c: char| matches!(tokens.get(i), Some(Punct(punct)) if punct.as_char() == c);
        for (i, token) in tokens.iter().enumerate() {
            match token {
                Group(group) => self.tokens(group.stream()),
                Ident(first) if first == "unsafe" => self.is_unsafe = true,
                Ident(name) if i > 0 && is_punct(i - 1, '.') => {
                    if let Some(Group(arguments)) = tokens.get(i + 1) {
                        self.note_call(&name.to_string(), arguments.stream().is_empty());
                    }
                }
                Ident(first) if !(i > 0 && (is_punct(i - 1, '$') || is_punct(i - 1, ':'))) => {
                    let (mut path, mut at) = (vec![first.to_string()], i + 1);
                    while let (true, true, Some(Ident(next))) =
                        (is_punct(at, ':'), is_punct(at + 1, ':'), tokens.get(at + 2))
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.note(&path, false);
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let only_tests = |attr: &syn::Attribute| {
            attr.path().is_ident("cfg") && attr.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
        };
        let before = self.in_tests;
        self.in_tests |= item.attrs.iter().any(only_tests);
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.in_tests = before;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &mut Vec::new(), !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            self.note(&names, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attr: &'ast syn::Attribute) {
        self.visit_path(attr.path());
        if let syn::Meta::List(list) = &attr.meta {
            let text: String = list.tokens.to_string().split_whitespace().collect();
            if !(attr.path().is_ident("cfg_attr") && text == OF_AN_ENUM) {
                self.tokens(list.tokens.clone());
            }
        }
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.note_call(&call.method.to_string(), call.args.is_empty());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.is_unsafe = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.is_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.is_unsafe |= matches!(signature.safety, syn::Safety::Unsafe(_)) && self.module[0] != DECLARES_UNSAFE;
        visit::visit_signature(self, signature);
    }
}

#[test]
fn imports_go_down_and_unsafe_stays_below() {
    let source = Source::of_the_crate();
    let seen: usize = source.files.values().map(|scan| scan.found.len()).sum();
    assert!(seen > 500, "only {seen} imports are found");
    let faults = source.faults();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_make_no_circle() {
    let circles = Source::of_the_crate().circles();
    assert!(circles.is_empty(), "these files import each other in a circle: {circles:#?}");
}

/// Each rule finds what breaks it, however it is written.
#[test]
fn wrong_sources_are_found() {
    let told = |module: &str, text: &str| Source::of(&[(module, text)]).faults().len();
    for (module, text) in [
        ("layers::recurrence", "use crate::models::LanguageModel;"),
        ("layers::recurrence", "use super::super::models::LanguageModel;"),
        ("layers::cells::gru", "use super::super::super::{params::Layout, models::Ner};"),
        ("layers", "mod inner { use super::super::models; }"),
        ("kernels", "use crate::blas::product;"),
        ("text", "use crate::{Error, kernels::{Buffer, isa}, train::{fit, saver::{self}}};"),
        ("train", "fn f() { crate::text::read() }"),
        ("train", "fn f() { assert!(crate::text::read()) }"),
        ("train", "fn f(x: &[crate::text::Corpus]) {}"),
        ("text", "fn f() { unsafe { *p } }"),
        ("text", "unsafe impl Send for X {}"),
        ("text", "unsafe fn f() {}"),
        ("text", "fn f() { assert!(unsafe { *p }) }"),
        ("real", "fn f() { unsafe { *p } }"),
        ("train::saver", "fn f() { unsafe { libc::fsync(0) }; }"),
        ("pool", "fn f() { unsafe { *p } }"),
        ("sys::files", "use crate::kernels::isa;"),
        ("sys", "use crate::params::Arena;"),
        ("layers::shards", "use rayon::prelude::*;"),
        ("text::corpus", "fn f() { rayon::join(|| (), || ()); }"),
        ("train", "use rayon::join;"),
        ("cli::tag", "struct S { pool: rayon::ThreadPool }"),
        ("models::ner", "use crate::pool::join;"),
        ("graph", "fn f() { crate::pool::threads(); }"),
        ("models::ner", "use rayon::prelude::*;"),
        ("models", "fn f() { rayon::join(|| (), || ()); }"),
        ("graph", "use {rayon::join, std::fs};"),
        ("models", "use ::rayon as other;"),
        ("models", "fn f() { assert!(rayon::current_num_threads() > 1) }"),
        ("tasks::siamese", "use clap::Args;"),
        ("tasks::siamese", "use crate::cli::run::RunFlags;"),
        ("train::schedule", "#[derive(Clone, clap::ValueEnum)] enum Kind { A }"),
        ("train::schedule", "#[cfg_attr(feature = \"cli\", derive(clap::Args))] struct Plan;"),
        ("text", "enum E { #[clap::value(name = \"a\")] A }"),
        ("train", "fn f() { indicatif::ProgressBar::hidden() }"),
        ("layers::losses", "fn f(x: f64) -> f64 { (x - 1.0).exp() }"),
        ("kernels", "kernel! { fn f(x: f64) { |s| (x * 2.0).ln() } }"),
        ("kernels::isa", "fn f(x: [f64; 4]) { x.map(f64::tanh); }"),
        ("train::optimizer", "fn f(x: f64) -> f64 { assert!(x.powf(2.0) > 0.0); x }"),
        ("models::ner", "fn f<R: Real>(x: R) -> R { R::powi(x, 2) }"),
        ("text::grammar", "mod inner { fn f(x: f64) -> f64 { x.ln_1p() } }"),
    ] {
        assert_eq!(told(module, text), 1, "{module}: {text}");
    }
    for (module, text) in [
        ("text", "// unsafe crate::train\nconst X: &str = \"unsafe crate::cli\"; use crate::{Error, real::Real};"),
        ("blas", "use crate::kernels::isa; fn f() { unsafe { unsafety() } }"),
        ("real", "trait Real { unsafe fn load_at(self); }"),
        ("cli", "const A: char = '\"'; const B: &str = \"crate::nothing\";"),
        ("kernels", "macro_rules! kernel { () => { $crate::blas::product() } }"),
        ("sys::memory", "use crate::{Error, Result}; fn f() { unsafe { *p } }"),
        ("pool", "use rayon::prelude::*;"),
        ("layers", "use crate::pool::{self, join};"),
        ("models", "use crate::layers::shards; // rayon::join"),
        ("train::schedule", "#[derive(Clone)] #[cfg_attr(feature = \"cli\", derive(clap::ValueEnum))] enum Kind { A }"),
        ("cli", "use clap::Args; #[derive(clap::Args)] struct Flags;"),
        ("kernels", "kernel! { fn f(x: f64) { |s| s.exp(s.tanh(x)) } } fn exp(x: f64) { math::exp(x); x.sqrt(); }"),
        ("train", "fn f() {} #[cfg(test)] mod tests { fn g(x: f64) { x.exp(); } }"),
        ("train::optimizer::tests", "fn f(x: f64) { x.powf(2.0); }"),
        ("train::plot", "fn f(x: f64) { x.log10(); }"),
        ("models::graphs", "fn f(x: Node) { x.tanh(); }"),
    ] {
        assert_eq!(told(module, text), 0, "{module}: {text}");
    }
}

#[test]
fn circles_are_found() {
    let circles = |files: &[(&str, &str)]| Source::of(files).circles();
    let two = [["layers::a", "layers::b"].map(str::to_owned).to_vec()];
    let root = ("layers", "mod a; mod b; pub use a::A; pub use b::{B, C};");
    assert_eq!(circles(&[root, ("layers::a", "use super::b::B;"), ("layers::b", "use super::{a};")]), two);
    assert_eq!(
        circles(&[root, ("layers::a", "use super::{Other, b::{B as D}};"), ("layers::b", "use crate::layers::A;")]),
        two
    );
    assert_eq!(
        circles(&[root, ("layers::a", "fn f() { super::C::new() }"), ("layers::b", "fn f(a: super::a::A) {}")]),
        two
    );
    assert_eq!(circles(&[root, ("layers::a", "use super::B;"), ("layers::b", "struct B;")]), [[""; 0]; 0]);
    let tests = ("layers::b", "#[cfg(test)] mod tests { use super::super::a::A; }");
    assert_eq!(circles(&[root, ("layers::a", "use super::B;"), tests]), [[""; 0]; 0]);
    // A parent that uses its child, and defines what the child uses; a circle that goes through the parent.
    let parent = ("layers", "mod a; use a::A; struct Shared;");
    assert_eq!(circles(&[parent, ("layers::a", "use super::Shared;")]), [[""; 0]; 0]);
    let around = [
        ("layers", "use crate::graph::G; struct Shared;"),
        ("layers::a", "use super::Shared;"),
        ("graph", "use crate::layers::a::A;"),
    ];
    assert_eq!(circles(&around)[0], ["graph", "layers", "layers::a"]);
}

/// The source cites docs/equations.md by its sections.
#[test]
fn cited_equations_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let equations = fs::read_to_string(root.join("docs/equations.md")).unwrap();
    let headings = equations.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(". ")?.0.parse().ok());
    let sections: BTreeSet<u32> = headings.collect();
    let (mut cited, mut all) = (0, Vec::new());
    files(&root.join("src"), &mut all);
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for (at, mark) in text.match_indices("(equations, section") {
            let rest = text[at + mark.len()..].trim_start_matches('s');
            let end = rest.find([';', ')', '.']).unwrap_or(0);
            let words = rest[..end].split([',', ' ']).filter(|word| !["", "and"].contains(word));
            let numbers: Vec<u32> = words.map_while(|word| word.parse().ok()).collect();
            assert!(!numbers.is_empty(), "{}: no number of a section in {:?}", path.display(), &rest[..end]);
            let missing: Vec<u32> = numbers.iter().copied().filter(|number| !sections.contains(number)).collect();
            assert!(missing.is_empty(), "{} cites sections {missing:?}, which are not there", path.display());
            cited += 1;
        }
    }
    assert!(cited > 20, "only {cited} citations are found");
}

fn files(dir: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, all) } else { all.push(path) }
    }
}
