//! The examples run, as the modules that they are.
#![expect(clippy::duplicate_mod, reason = "several examples begin with the model that one of them trains")]

/// Each with a test of its name.
macro_rules! examples {
    ($($name:ident: $path:literal,)*) => {$(
        #[path = $path]
        mod $name;

        #[test]
        fn $name() {
            $name::main().unwrap();
        }
    )*};
}

examples! {
    evaluate: "../examples/evaluate.rs",
    exchange: "../examples/exchange.rs",
    generate: "../examples/generate.rs",
    inspect: "../examples/inspect.rs",
    next: "../examples/next.rs",
    score: "../examples/score.rs",
    tag: "../examples/tag.rs",
    train: "../examples/train.rs",
}

/// None is forgotten: each stands above, but for the one that measures and takes its time.
#[test]
fn all_are_run() {
    let names = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".rs") && name != "clusters.rs").collect();
    names.sort();
    let run = include_str!("examples.rs");
    let missing: Vec<&String> = names.iter().filter(|name| !run.contains(&format!("\"../examples/{name}\""))).collect();
    assert!(missing.is_empty() && names.len() == 8, "{missing:?} of {names:?}");
}
