//! Files of word vectors.

use crate::program::{Desk, Run, SMALL_NER};

const PAIRS: &str = "cat\tdog\t1\nred\tsky\t0\n";

/// Trains a Siamese net on vectors of its own, which is the shortest way to see them read.
fn read(desk: &Desk, vectors: impl AsRef<[u8]>) -> Run {
    desk.file("p.tsv", PAIRS);
    desk.file("v.vec", vectors);
    desk.run("train siamese --pairs p.tsv --vectors v.vec --out s --force --hidden 3 --epochs 1 --threads 1 --json")
}

/// The words that the net in `s` has.
fn words(desk: &Desk) -> String {
    _ = std::fs::remove_file(desk.path().join("o.txt"));
    desk.run("export s --to word2vec o.txt").works();
    let text = desk.read("o.txt");
    text.lines().skip(1).map(|row| row.rsplitn(3, ' ').last().unwrap()).collect::<Vec<_>>().join("|")
}

const ROWS: &str = "cat 1 2\ndog 2 1\nred 3 5\nsky 4 0.5\n";

#[test]
fn a_row_whose_word_is_cut_within_a_character() {
    let desk = Desk::new();
    let bytes = [ROWS.as_bytes(), b"na\xC3 7 8\nblue 1 1\n\xE4\xB8 2 2\n"].concat();
    read(&desk, bytes)
        .works()
        .warns(&["v.vec:5: rows that cannot be used (2 of words that are not UTF-8)", "2 of 7 rows left out"]);
    assert_eq!(words(&desk), "cat|dog|red|sky|blue");
}

#[test]
fn a_row_whose_word_is_empty_a_space_or_a_line_feed() {
    let desk = Desk::new();
    for (word, rows) in [("", 1), (" ", 1), ("\u{a0}", 1), ("\t", 1)] {
        let run = read(&desk, format!("{ROWS}{word} 7 8\nblue 1 1\n")).works();
        run.warns(&[
            "v.vec:5: rows that cannot be used",
            "of words that are empty or white space",
            &format!("{rows} of 6 rows left out"),
        ]);
        assert_eq!(words(&desk), "cat|dog|red|sky|blue", "{word:?}");
    }
    // With a header, which numbers such rows too.
    let run = read(&desk, format!("6 2\n{ROWS}\n 7 8\nblue 1 1\n")).works();
    run.warns(&["v.vec:7: rows that cannot be used (1 of words that are empty or white space)"]);
    assert_eq!(words(&desk), "cat|dog|red|sky|blue");
}

#[test]
fn a_row_of_nan_or_of_another_width() {
    let desk = Desk::new();
    read(&desk, format!("{ROWS}blue nan nan\nblack 1 2\n")).works().warns(&[
        "v.vec:5:",
        "1 with something else than finite numbers",
        "1 of 6 rows left out",
    ]);
    assert_eq!(words(&desk), "cat|dog|red|sky|black");
    read(&desk, format!("{ROWS}blue 1\nblack 1 2\nwhite 1 2 3\n")).works().warns(&[
        "v.vec:5:",
        "2 of another number of numbers",
        "2 of 7 rows left out",
    ]);
    // Also if it is the first row.
    read(&desk, format!("blue 1 2 3\n{ROWS}")).works().warns(&["v.vec:1:", "1 of another number of numbers"]);
    assert_eq!(words(&desk), "cat|dog|red|sky");
    // More than half of them: something else.
    read(&desk, "cat 1 2\ndog 1 2\na 1\nb 2 3 4\nc x\n")
        .refuses(3, &["v.vec:3: found a row of 2 fields", "so in 3 of 5 rows"]);
}

#[test]
fn with_a_header_the_width_is_known() {
    let desk = Desk::new();
    read(&desk, format!("7 2\n{ROWS}1 000 5 5\n. . . 6 6\n2024 10 7 7\n")).works().warns_of_nothing();
    for word in ["1 000", ". . .", "2024 10"] {
        Run::of(desk.command(["neighbors", "s", word]).output().unwrap()).works();
    }
    assert_eq!(words(&desk), "cat|dog|red|sky", "export leaves out words with spaces");
}

#[test]
fn head_of_a_vec_file_keeps_the_old_count() {
    let desk = Desk::new();
    let run = read(&desk, format!("1999995 2\n{ROWS}")).works();
    run.warns(&["v.vec:1: a header of 1999995 rows above 4; those that are there are read"]);
    assert_eq!(words(&desk), "cat|dog|red|sky");
    // The same of a binary file, cut between two rows or within one.
    let binary = |end: usize| {
        let mut bytes = b"100 2\n".to_vec();
        for (i, word) in ["cat", "dog", "red", "sky", "blue"].into_iter().enumerate() {
            bytes.extend(format!("{word} ").bytes());
            [i as f32 + 0.5, 1.0].iter().for_each(|x| bytes.extend(x.to_le_bytes()));
            bytes.push(b'\n');
        }
        bytes.truncate(bytes.len() - end);
        bytes
    };
    read(&desk, binary(0)).works().warns(&["v.vec:1: a header of 100 rows above 5"]);
    let run = read(&desk, binary(5)).works();
    run.warns(&["v.vec: rows that cannot be used (1 cut by the end of the file)"]);
    assert_eq!(words(&desk), "cat|dog|red|sky");
}

#[test]
fn a_last_row_cut_by_the_end_of_the_file() {
    let desk = Desk::new();
    for end in ["blue 1", "blue"] {
        read(&desk, format!("{ROWS}{end}"))
            .works()
            .warns(&["v.vec:5: rows that cannot be used (1 cut by the end of the file)"]);
        assert_eq!(words(&desk), "cat|dog|red|sky");
    }
}

#[test]
fn line_ends_of_windows_tabs_and_duplicates() {
    let desk = Desk::new();
    read(&desk, format!("4 2\r\n{}", ROWS.replace('\n', " \r\n"))).works().warns_of_nothing();
    assert_eq!(words(&desk), "cat|dog|red|sky");
    read(&desk, ROWS.replace(' ', "\t")).works().warns_of_nothing();
    assert_eq!(words(&desk), "cat|dog|red|sky");
    read(&desk, format!("{ROWS}cat 9 9\n"))
        .works()
        .warns(&["v.vec: a row of a word that has one before", "the first row of a word counts"]);
    words(&desk);
    assert!(desk.read("o.txt").contains("\ncat 1 2\n"));
}

#[test]
fn vectors_of_other_programs_are_named() {
    let desk = Desk::new();
    let npy =
        b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n\0\0\0\0\0\0\0\0".to_vec();
    let safetensors =
        [&[40u8, 0, 0, 0, 0, 0, 0, 0][..], b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}    "]
            .concat();
    for (bytes, named) in [
        (b"\xBA\x16\x4F\x2F\x0C\0\0\0 and so on".to_vec(), "a fastText model (.bin)"),
        (npy, "a NumPy array (.npy)"),
        (b"\x80\x04\x95\x10\0\0\0".to_vec(), "a Python pickle"),
        (safetensors, "a safetensors file"),
    ] {
        read(&desk, bytes).refuses(3, &[named, "expected"]);
    }
}

/// The direction of a zero vector is none.
#[test]
fn neighbors_of_zero_vectors_are_not_nan() {
    let desk = Desk::new();
    desk.file("w.tsv", "cat\tA\ndog\tA\nred\tB\nsky\tB\n");
    desk.file("v.vec", format!("{ROWS}zero 0 0\n"));
    let train = "train pseudo-siamese --train w.tsv --vectors v.vec --out w --hidden 3 --epochs 1 --threads 1 --quiet --freeze-vectors";
    desk.run(train).works();
    let run = desk.run("neighbors w cat").works();
    assert!(run.out.contains("dog") && !run.out.contains("zero") && !run.out.contains("NaN"), "{}", run.out);
    desk.run("neighbors w zero")
        .works()
        .warns(&["`zero` has no neighbours: its vector, or every other one, is all zeros"]);
}

#[test]
fn words_with_spaces_are_counted_where_they_are_left_out() {
    let desk = Desk::new();
    desk.file("t.conll", "New York\tB-LOC\nis\tO\nbig\tO\n\n".repeat(3));
    desk.run(&format!("train ner --train t.conll --out ner {SMALL_NER}")).works();
    desk.run("export ner --to word2vec v.txt").works().warns(&["v.txt: 1 word with a space", "left out"]);
    assert!(!desk.read("v.txt").contains("York"));
}
