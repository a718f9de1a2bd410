//! Every file.

use crate::program::{Desk, SMALL_LM, SMALL_NER, text};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes.as_ref()).unwrap();
    packed.finish().unwrap()
}

fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes.as_ref(), ruzstd::encoding::CompressionLevel::Fastest)
}

/// UTF-16 in the byte order that `unit` gives.
fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(unit).collect()
}

const TAGS: &str = "w\tO\nParis\tB-LOC\n\nhe\tO\nJohn\tB-PER\n";

/// A desk with a trained language model `lm` on [`text`], and its summary.
fn model() -> (Desk, serde_json::Value) {
    let desk = Desk::new();
    desk.file("t.txt", text(60));
    let run = desk.run(&format!("train lm --train t.txt --out lm --json {SMALL_LM}")).works().warns_of_nothing();
    let summary = run.json();
    (desk, summary)
}

/// What `eval` says of a file, without the speed.
fn perplexity(desk: &Desk, file: &str, options: &str) -> f64 {
    desk.run(&format!("eval lm {file} --json {options}")).works().json()["perplexity"].as_f64().unwrap()
}

#[test]
fn packed_text_is_read_by_magic_bytes() {
    let (desk, _) = model();
    let plain = perplexity(&desk, "t.txt", "");
    let (one, two) = (text(20), text(60)[text(20).len()..].to_owned());
    // Names do not matter, and several members are one text.
    for (name, bytes) in [
        ("a", gzip(text(60))),
        ("b", zstd(text(60))),
        ("c.txt", [gzip(&one), gzip(&two)].concat()),
        ("d.txt", [zstd(&one), zstd(&two)].concat()),
        ("e", gzip(zstd(text(60)))),
    ] {
        desk.file(name, bytes);
        assert_eq!(perplexity(&desk, name, ""), plain, "{name}");
    }
    desk.file("tags.gz", gzip(TAGS));
    desk.file("v.gz", gzip("Paris 1 2 3 4\nhe 0 1 0 1\n"));
    desk.run(&format!("train ner --train tags.gz --valid tags.gz --vectors v.gz --out ner {SMALL_NER}")).works();
    assert!(desk.run("tag ner tags.gz").works().out.starts_with("w\tO\t"));
    desk.file("csv.gz", gzip("a,b,class\n1,2,x\n3,4,y\n5,1,x\n"));
    desk.run("train softmax --train csv.gz --out s --epochs 1").works();

    // What fills up blocks is none of it; other things behind an archive are warned of, as by gzip.
    desk.file("zeros.gz", [gzip(text(60)), vec![0; 1000]].concat());
    desk.run("eval lm zeros.gz").works().warns_of_nothing();
    desk.file("more.gz", [gzip(text(60)), b"more".to_vec()].concat());
    assert_eq!(perplexity(&desk, "more.gz", "--strict"), plain);
    desk.run("eval lm more.gz").works().warns(&["more.gz: other data after the gzip archive", "ignored"]);
    desk.file("csv.gz", [gzip("a,b,class\n1,2,x\n3,4,y\n5,1,x\n"), b"more".to_vec()].concat());
    desk.run("eval s csv.gz").works().warns(&["csv.gz: other data after the gzip archive"]);

    let packed = gzip(text(60));
    desk.file("cut.gz", &packed[..packed.len() / 2]);
    desk.run("eval lm cut.gz").refuses(3, &["cut.gz: found a damaged gzip archive", "gzip -t cut.gz"]);
    let packed = zstd(text(60));
    desk.file("cut.zst", &packed[..packed.len() / 2]);
    desk.run("eval lm cut.zst").refuses(3, &["cut.zst: found a damaged Zstandard archive", "zstd -t cut.zst"]);
}

#[test]
fn other_packed_files_are_named_with_the_command_that_unpacks() {
    let (desk, _) = model();
    for (bytes, parts) in [
        (&b"\xFD7zXZ\0\0\x04"[..], ["an xz archive", "xz -dk x"]),
        (b"BZh91AY&SY\x01", ["a bzip2 archive", "bunzip2 -k x"]),
        (b"PK\x03\x04\x14\0 a.txt", ["a zip archive", "unzip x"]),
        (b"PK\x03\x04\x14\0 word/document.xml", ["a Word document", "save it as text"]),
        (b"7z\xBC\xAF\x27\x1C\0", ["a 7-Zip archive", "7z x x"]),
        (b"Rar!\x1A\x07\x01", ["a RAR archive", "unrar x x"]),
        (b"\x04\x22\x4D\x18\x40", ["an LZ4 archive", "lz4 -dk x"]),
    ] {
        desk.file("x", bytes);
        desk.run("eval lm x").refuses(3, &[&["x: found "], &parts[..]].concat());
        desk.run(&format!("train ner --train x --out n {SMALL_NER}")).refuses(3, &parts);
    }
    let tarred = [&[b'a'; 257][..], b"ustar\0", &[0; 600]].concat();
    desk.file("x.tgz", gzip(tarred));
    desk.run("eval lm x.tgz").refuses(3, &["x.tgz: found a tar archive", "tar -xf x.tgz"]);
}

#[test]
fn a_dash_is_standard_input() {
    let (desk, trained) = model();
    let parameters = |run: crate::program::Run| run.works().json()["parameters"].clone();
    let line = format!("train lm --train - --valid t.txt --out lm2 --json {SMALL_LM}");
    assert_eq!(parameters(desk.feed(&line, text(60))), trained["parameters"]);
    let line = format!("train lm --train t.txt --valid - --out lm3 --json {SMALL_LM}");
    assert_eq!(parameters(desk.feed(&line, gzip(text(60)))), trained["parameters"]);
    let both = format!("train lm --train - --valid - --out lm4 {SMALL_LM}");
    desk.feed(&both, text(60)).refuses(2, &["standard input is given twice"]);

    let eval = desk.feed("eval lm - --json", text(60)).works().json()["perplexity"].as_f64();
    assert_eq!(eval, Some(perplexity(&desk, "t.txt", "")));
    assert_eq!(desk.feed("score lm -", text(3)).works().out.lines().count(), 3);
    desk.feed("inspect lm - --steps 3", text(60)).works();
    desk.feed("eval lm -", "a \0 b\n").refuses(3, &["standard input:1: found a NUL byte"]);
    // The run goes on with the text that is piped in again.
    let more = "train lm --out lm2 --resume --max-steps 4 --json";
    assert_eq!(desk.feed(more, text(60)).works().json()["steps"], 4);

    desk.feed(&format!("train ner --train - --out ner {SMALL_NER}"), TAGS).works();
    let piped = desk.feed("tag ner", TAGS).works().out;
    assert_eq!(piped, desk.feed("tag ner -", TAGS).works().out);
    assert_eq!(desk.feed("tag ner --text", "he saw Paris\n").works().out.lines().count(), 1);
    desk.feed("tag ner", "a\tb\n\tc\td\n").works().warns(&["standard input:2: 1 empty word"]);
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_once() {
    let (desk, trained) = model();
    desk.file("c.conll", TAGS);
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(desk.path().join(name)).status().unwrap().success());
    };
    let writer = |name: &str, bytes: Vec<u8>| {
        let path = desk.path().join(name);
        std::thread::spawn(move || std::fs::write(path, bytes).unwrap())
    };
    ["p", "q", "r", "s"].into_iter().for_each(pipe);
    let (p, q) = (writer("p", gzip(text(60))), writer("q", text(60).into_bytes()));
    let run = desk.run(&format!("train lm --train p --valid q --out piped --json {SMALL_LM}")).works();
    assert_eq!(run.json()["parameters"], trained["parameters"]);
    [p, q].into_iter().for_each(|writer| writer.join().unwrap());
    // The run is continued on what is written to it again; whoever has forgotten that it was a pipe reads why nothing
    // happens.
    let (p, q) = (writer("p", gzip(text(60))), writer("q", text(60).into_bytes()));
    let run = desk.run("train lm --out piped --resume --max-steps 3").works();
    assert!(
        run.err.contains("/p: a pipe; waiting for the original data") && run.err.contains("--train FILE"),
        "{}",
        run.err
    );
    [p, q].into_iter().for_each(|writer| writer.join().unwrap());
    let (r, s) = (writer("r", TAGS.into()), writer("s", b"Paris 1 2 3 4\n".to_vec()));
    desk.run(&format!("train ner --train r --valid c.conll --vectors s --out ner {SMALL_NER}")).works();
    [r, s].into_iter().for_each(|writer| writer.join().unwrap());
    let p = writer("p", text(60).into_bytes());
    let twice = format!("train lm --train p --valid p --out twice {SMALL_LM}");
    desk.run(&twice).refuses(2, &["p is given twice"]);
    p.join().unwrap();
}

#[test]
fn utf_16_is_decoded_with_and_without_a_mark() {
    let (desk, _) = model();
    let french = text(60).replace("cat", "café");
    desk.file("f.txt", &french);
    let plain = perplexity(&desk, "f.txt", "");
    for (unit, name) in [(u16::to_le_bytes as fn(u16) -> [u8; 2], "UTF-16LE"), (u16::to_be_bytes, "UTF-16BE")] {
        for mark in ["\u{feff}", ""] {
            desk.file("x", utf16(&format!("{mark}{}", french.replace('\n', "\r\n")), unit));
            let run = desk.run("eval lm x --json").works().warns(&["x: ", name, "decoded"]);
            assert_eq!(run.json()["perplexity"].as_f64(), Some(plain));
        }
        desk.file("t.csv", utf16("\u{feff}a\tb\tclass\r\n1\t2\tx\r\n3\t4\ty\r\n", unit));
        desk.run(&format!("train softmax --train t.csv --out s-{name} --epochs 1")).works().warns(&["t.csv: ", name]);
        desk.file("c.conll", utf16(TAGS, unit));
        desk.run(&format!("train ner --train c.conll --out n-{name} {SMALL_NER}")).works().warns(&["c.conll: ", name]);
    }
}

#[test]
fn other_encodings_are_an_option_and_named_where_they_are_needed() {
    let (desk, _) = model();
    let latin: Vec<u8> = text(60).replace("cat", "caf\u{e9}").chars().map(|c| c as u8).collect();
    desk.file("l.txt", &latin);
    desk.file("u.txt", text(60).replace("cat", "café"));
    let told = ["l.txt:1: found invalid UTF-8 (0xE9) at byte offset 7", "--encoding latin1", "--bad-utf8"];
    desk.run("eval lm l.txt").refuses(3, &told);
    assert_eq!(perplexity(&desk, "l.txt", "--encoding latin1"), perplexity(&desk, "u.txt", ""));
    desk.file("r.txt", b"\xCF\xF0\xE8\xE2\xE5\xF2 \xEC\xE8\xF0\n");
    desk.run("eval lm r.txt").refuses(3, &["--encoding LABEL (windows-1251"]);
    desk.run("eval lm r.txt --encoding cp1251").works();
    desk.run("eval lm r.txt --encoding klingon").refuses(2, &["klingon", "the label of an encoding"]);
    desk.file("c.conll", b"caf\xE9\tO\nParis\tB-LOC\n");
    desk.run(&format!("train ner --train c.conll --out n {SMALL_NER}")).refuses(3, &["c.conll:1", "--encoding latin1"]);

    // It belongs to the run.
    let run = format!("train lm --train l.txt --encoding latin1 --out e {SMALL_LM}");
    desk.run(&run).works().warns_of_nothing();
    desk.run("train lm --out e --resume --max-steps 3").works();
}

#[test]
fn broken_bytes_are_skipped_or_replaced_and_counted() {
    let (desk, _) = model();
    let mut broken = text(60).into_bytes();
    broken.splice(30..30, *b"\xFF\xFE");
    broken.extend(b"the \xC3 end\n");
    desk.file("b.txt", &broken);
    let told = ["b.txt:2: found invalid UTF-8 (0xFF)", "--bad-utf8"];
    desk.run("eval lm b.txt").refuses(3, &told);
    desk.run("eval lm b.txt --bad-utf8 fail").refuses(3, &told);
    for (what, done) in [("skip", "left out"), ("replace", "replaced by U+FFFD")] {
        let found = ["b.txt:2: bytes in 3 places that are not UTF-8", done];
        desk.run(&format!("eval lm b.txt --bad-utf8 {what}")).works().warns(&found);
    }
    desk.run(&format!("train lm --train b.txt --bad-utf8 skip --out b {SMALL_LM}")).works();
    desk.run("train lm --out b --resume --max-steps 3").works().warns(&["left out"]);
}

#[test]
fn a_git_lfs_pointer_is_refused_in_place_of_any_file() {
    let (desk, _) = model();
    desk.file("p", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n");
    desk.file("c.conll", TAGS);
    for line in [
        "eval lm p".to_owned(),
        "score lm p".to_owned(),
        format!("train lm --train p --out x {SMALL_LM}"),
        format!("train ner --train p --out x {SMALL_NER}"),
        format!("train ner --train c.conll --vectors p --out x {SMALL_NER}"),
        "train softmax --train p --out x".to_owned(),
    ] {
        desk.run(&line).refuses(3, &["p: found a Git LFS pointer", "git lfs pull"]);
    }
}

#[test]
fn foreign_files_are_named() {
    let (desk, _) = model();
    for (bytes, what) in [
        (&b"%PDF-1.7\n"[..], "a PDF document"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"\x80\x04\x95\x10", "a Python pickle"),
        (b"\x89PNG\r\n\x1A\n", "a PNG image"),
        (b"\x7FELF\x02", "a program"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"GGUF\x03\0\0\0", "a GGUF model"),
        (b"PAR1\x15\0", "a Parquet table"),
        (b"\xBA\x16\x4F\x2F\x0C\0", "a fastText model"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "a KenLM model"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":1}         ", "a safetensors file"),
        (b"../blobs/0123abc", "a symbolic link that was saved as text"),
    ] {
        desk.file("x", bytes);
        desk.run("score lm x").refuses(3, &["x: found", what]);
    }
    // A text may be a page all the same; a table may not.
    desk.file("page", "<!DOCTYPE html>\n<html>\n<p> the cat\n");
    desk.run("eval lm page").works().warns(&["page: begins with", "a web page instead of a text?", "--strict"]);
    desk.run("eval lm page --strict").refuses(3, &["a web page"]);
    desk.run(&format!("train ner --train page --out new {SMALL_NER}")).refuses(3, &["a page of HTML or XML"]);
    desk.file("rows", "{\"text\": \"the cat\", \"n\": 1}\n");
    desk.run("eval lm rows").works().warns(&["rows: begins with", "JSON instead of a text?"]);
    desk.run("train softmax --train rows --out new").refuses(3, &["rows: found JSON"]);
    desk.file("c", "-DOCSTART- -X- O O\n\nthe DT O O\ncat NN O O\n");
    desk.run("eval lm c").works().warns(&["a CoNLL file instead of a text?"]);
    desk.file("table", "a\t1\nb\t2\nc\t3\nd\t4\ne\t5\nf\t6\n");
    desk.run("eval lm table").works().warns(&["table:1: 2 columns separated by tabs"]);
}

#[test]
fn line_ends_marks_and_controls_of_other_systems() {
    let (desk, _) = model();
    let (lines, plain) = (text(60), perplexity(&desk, "t.txt", ""));
    let (one, two) = lines.split_at(text(20).len());
    for (name, same) in [
        ("CRLF", lines.replace('\n', "\r\n")),
        ("old Macs", lines.replace('\n', "\r")),
        ("DOS", format!("{}\u{1a}", lines.replace('\n', "\r\n"))),
        ("a mark", format!("\u{feff}{lines}")),
        ("two marks", format!("\u{feff}\u{feff}{lines}")),
        ("a mark within", format!("\u{feff}{one}\u{feff}{two}")),
    ] {
        desk.file("x", &same);
        let run = desk.run("eval lm x --json").works().warns_of_nothing();
        assert_eq!(run.json()["perplexity"].as_f64(), Some(plain), "{name}");
        desk.run(&format!("train lm --train x --out o --force {SMALL_LM}")).works().warns_of_nothing();
    }
    // What looks like a space or like nothing is part of words, and named.
    for (odd, what) in [
        ("\u{a0}", "spaces"),
        ("\u{3000}", "spaces"),
        ("\u{b}", "line separators"),
        ("\u{85}", "line separators"),
        ("\u{2028}", "line separators"),
        ("\u{200b}", "zero-width"),
        ("\u{200e}", "zero-width"),
        ("\u{7f}", "control"),
    ] {
        desk.file("x", format!("{lines}the{odd}cat sat\n"));
        let found = ["x:61: words: 1 with", what, "--unicode-spaces"];
        desk.run("eval lm x").works().warns(&found);
        desk.run(&format!("train lm --train x --out o --force {SMALL_LM}")).works().warns(&found);
        desk.run("eval lm x --unicode-spaces").works().warns_of_nothing();
    }
    desk.file("spaced", lines.replace(' ', "\u{a0}").replace('\n', "\u{2028}"));
    assert_eq!(perplexity(&desk, "spaced", "--unicode-spaces"), plain);
    // Joiners are letters of some languages.
    desk.file("x", format!("{lines}می\u{200c}خواهم\n"));
    desk.run("eval lm x").works().warns_of_nothing();

    // The same for tables.
    for same in [
        TAGS.replace('\n', "\r"),
        TAGS.replace('\n', "\r\r\n"),
        format!("\u{feff}{}\u{feff}{}", &TAGS[..17], &TAGS[17..]),
        format!("{TAGS}\u{1a}"),
    ] {
        desk.file("c", &same);
        desk.run(&format!("train ner --train c --out n --force {SMALL_NER}")).works().warns_of_nothing();
        assert_eq!(desk.run("tag n c").works().out.split_whitespace().filter(|field| *field == "Paris").count(), 1);
    }
    desk.file("c", TAGS.replace("he\tO\nJohn", "he\tO\rJohn"));
    let run = desk.run(&format!("train ner --train c --out n --force {SMALL_NER}")).works();
    run.warns(&["c:4: 1 carriage returns within lines", "read as line ends"]);
}

#[test]
fn nul_bytes_in_conll_and_csv_are_refused_as_in_texts() {
    let (desk, _) = model();
    desk.file("t", "the cat\nthe \0 cat\n");
    desk.run("eval lm t").refuses(3, &["t:2: found a NUL byte at byte offset 12"]);
    desk.file("c", "a\tO\nb\0\tB-X\n");
    desk.run(&format!("train ner --train c --out n {SMALL_NER}")).refuses(3, &["c:2: found a NUL byte"]);
    desk.file("s", "a,class\n1,x\n2\0,y\n");
    desk.run("train softmax --train s --out s-out").refuses(3, &["s:3: found a NUL byte"]);
}

#[test]
fn warnings_are_in_json_too() {
    let (desk, _) = model();
    desk.file("x", format!("{}the\u{a0}cat\n", text(60)));
    let warnings = desk.run("eval lm x --json").works().json()["warnings"].clone();
    assert_eq!((&warnings[0]["file"], &warnings[0]["line"]), (&"x".into(), &61.into()));
    assert!(warnings[0]["option"].as_str().unwrap().starts_with("--unicode-spaces"));
    desk.run("eval lm x --strict").refuses(3, &["x:61: found words: 1 with no-break", "--unicode-spaces"]);
}

#[test]
fn packed_text_of_real_size() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/lm/bible45/train.txt");
    let Ok(text) = std::fs::read(path) else {
        println!("skipped: no {path}");
        return;
    };
    let inputs = wordmill::text::Inputs::default();
    let dir = tempfile::tempdir().unwrap();
    for (name, packed) in [("t.gz", gzip(&text)), ("t.zst", zstd(&text))] {
        let path = dir.path().join(name);
        std::fs::write(&path, packed).unwrap();
        let start = std::time::Instant::now();
        let read = inputs.open(&path).unwrap();
        println!("{name}: {} MB in {:.3} s", read.len() / 1_000_000, start.elapsed().as_secs_f64());
        assert!(*read == *text);
    }
}

#[test]
fn broken_bytes_of_other_encodings() {
    let (desk, _) = model();
    // U+FFFD that is there is no damage; half a unit at the end is.
    let mut bytes = utf16("\u{feff}the \u{fffd} cat\nthe cat\n", u16::to_le_bytes);
    bytes.extend([0x00, 0xD8]);
    desk.file("t", bytes);
    desk.run("eval lm t").refuses(3, &["t:3", "UTF-16LE", "--bad-utf8 replace"]);
    let told = |option: &str| desk.run(&format!("eval lm t --json --bad-utf8 {option}")).works();
    let (skipped, replaced) = (told("skip"), told("replace"));
    let skipped = skipped.warns(&["t:3: bytes in 1 place that are not UTF-16LE", "left out"]).json();
    let replaced = replaced.warns(&["t:3: bytes in 1 place that are not UTF-16LE", "replaced by U+FFFD"]).json();
    assert_eq!((&skipped["tokens"], &replaced["tokens"]), (&7.into(), &9.into()));
}

#[test]
fn a_model_reads_texts_as_in_training() {
    let desk = Desk::new();
    let latin: Vec<u8> = text(60).replace("mat", "caf\u{e9}\u{a0}mat").chars().map(|c| c as u8).collect();
    desk.file("t.txt", &latin);
    let options = "--encoding latin1 --unicode-spaces";
    desk.run(&format!("train lm --train t.txt --out lm {options} {SMALL_LM}")).works().warns_of_nothing();
    let run = desk.run("eval lm t.txt --json").works().warns_of_nothing().json();
    assert_eq!((&run["unknown"], &run["tokens"]), (&0.into(), &(60 * 10).into()));
    let scores = desk.run("score lm t.txt").works().warns_of_nothing().out;
    assert_eq!(desk.run(&format!("score lm t.txt {options}")).works().out, scores);
    desk.run("eval lm t.txt --encoding utf-8").refuses(3, &["invalid UTF-8"]);
    let other = desk.run("eval lm t.txt --json --unicode-spaces=false").works().json();
    assert_eq!((&other["unknown"], &other["tokens"]), (&60.into(), &(60 * 9).into()));
    desk.file("u.txt", text(60).replace("mat", "caf\u{e9} mat"));
    desk.run("eval lm u.txt").works().warns(&["u.txt: UTF-8 text, read as windows-1252", "--encoding utf-8"]);
    assert_eq!(desk.run("eval lm u.txt --encoding utf-8 --json").works().warns_of_nothing().json()["unknown"], 0);

    desk.file("t.conll", b"caf\xE9 B-LOC\nin O\n\n");
    desk.run(&format!("train ner --train t.conll --out ner --encoding latin1 {SMALL_NER}")).works();
    assert_eq!(desk.run("tag ner t.conll").works().out.chars().next(), Some('c'));
    assert_eq!(desk.run("eval ner t.conll --json").works().json()["tokens"], 2);
}

#[test]
fn a_run_is_continued_by_the_command_that_began_it() {
    let (desk, _) = model();
    let told = ["lm: is a language model", "`wordmill train lm --resume` continues"];
    desk.run("train ner --out lm --resume").refuses(4, &told);
}
