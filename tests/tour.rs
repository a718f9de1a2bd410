//! docs/tour.md is what it says: its commands are run in order, in one directory, and print what stands below them.
//!
//! Numbers may differ by 3 % and 0.005, as the last digits do with a linked library of products; a line `…` stands for any lines. After a change
//! that is meant, `WORDMILL_TOUR=write cargo test --test tour` writes what is printed now (in place of `…` too).

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

const TOUR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tour.md");
const ANY: &str = "…";

/// What `command` prints, run by bash in `dir` with this build of the program on the path.
fn run(command: &str, dir: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_wordmill"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", command]).current_dir(dir).env("PATH", path).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether two words are equal, or numbers that are near.
fn near(a: &str, b: &str) -> bool {
    let number =
        |word: &str| word.trim_matches(|c: char| !c.is_ascii_digit() && !"-+.e".contains(c)).parse::<f64>().ok();
    match (number(a), number(b)) {
        _ if a == b => true,
        (Some(x), Some(y)) => (x - y).abs() <= 0.03 * x.abs().max(y.abs()) + 0.005,
        _ => false,
    }
}

/// Whether the lines `got` are those that are told of, where [`ANY`] stands for any number of lines.
fn is_told(told: &[&str], got: &[&str]) -> bool {
    match (told.first(), got.first()) {
        (None, None) => true,
        (Some(&ANY), _) => (0..=got.len()).any(|n| is_told(&told[1..], &got[n..])),
        (Some(told_line), Some(line)) => {
            let (a, b): (Vec<&str>, Vec<&str>) =
                (told_line.split_whitespace().collect(), line.split_whitespace().collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| near(a, b)) && is_told(&told[1..], &got[1..])
        }
        _ => false,
    }
}

#[test]
fn the_tour_is_true() {
    let text = std::fs::read_to_string(TOUR).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut now, mut wrong, mut commands) = (String::new(), String::new(), 0);
    let mut lines = text.lines().peekable();
    let mut inside = false;
    while let Some(line) = lines.next() {
        _ = writeln!(now, "{line}");
        if line.starts_with("```") {
            inside = line == "```console";
        }
        let Some(command) = line.strip_prefix("$ ").filter(|_| inside) else { continue };
        let mut told = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
            told.push(line.trim_end());
        }
        let got = run(command, dir.path());
        commands += 1;
        let got: Vec<&str> = got.trim_end().lines().map(str::trim_end).collect();
        got.iter().for_each(|line| _ = writeln!(now, "{line}"));
        if !is_told(&told, &got) {
            _ = writeln!(wrong, "$ {command}\nprints\n{}\nbut {TOUR} says\n{}\n", got.join("\n"), told.join("\n"));
        }
    }
    if std::env::var("WORDMILL_TOUR").is_ok_and(|what| what == "write") {
        return std::fs::write(TOUR, now).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(commands >= 20, "only {commands} commands are found");
}

/// The comparison can fail.
#[test]
fn other_lines_are_found() {
    assert!(is_told(&["perplexity 10.00 or so", ANY, "end"], &["perplexity 10.10 or so", "a", "b", "end"]));
    assert!(is_told(&["99.5 %, 0.004"], &["98.8 %, 0.001"]));
    assert!(!is_told(&["perplexity 10.0"], &["perplexity 10.5"]));
    assert!(!is_told(&["LOC 3"], &["ORG 3"]));
    assert!(!is_told(&["a", "b"], &["a"]) && !is_told(&["a"], &["a", "b"]));
}
