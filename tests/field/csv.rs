//! CSV files, pairs of words and words with labels, as pandas, spreadsheets and published lists have them.

use crate::program::{Desk, Run};
use serde_json::Value;

const SMALL: &str = "--quiet --epochs 2 --batch 8 --threads 1";

/// Rows of two numbers that tell the class, after `make` has written them.
fn rows(n: usize, make: impl Fn(usize, f64, f64, &str) -> String) -> String {
    let row = |i: usize| {
        let (x, y) = (((i * 37) % 11) as f64 / 4.0 - 1.0, ((i * 53) % 13) as f64 / 4.0 - 1.5);
        make(i, x, y, if x + y > 0.0 { "cat" } else { "dog" })
    };
    (0..n).map(row).collect()
}

/// Trains a classifier on `text` and gives how it went: warnings are seen with --json, as --quiet is not given.
fn softmax(desk: &Desk, text: impl AsRef<[u8]>, options: &str) -> Run {
    desk.file("t.csv", text);
    desk.run(&format!("train softmax --train t.csv --out m --force --epochs 2 --batch 8 --threads 1 --json {options}"))
}

/// What the model in `m` takes of a CSV file.
fn columns(desk: &Desk) -> Value {
    let steps = std::fs::read_dir(desk.path().join("m")).unwrap().map(|entry| entry.unwrap().path());
    let step = steps.filter(|path| path.join("config.json").exists()).max().unwrap();
    serde_json::from_str::<Value>(&std::fs::read_to_string(step.join("config.json")).unwrap()).unwrap()
}

fn features(desk: &Desk) -> Value {
    columns(desk)["columns"]["features"].clone()
}

#[test]
fn the_index_column_of_pandas_is_left_out() {
    let desk = Desk::new();
    for name in ["", "Unnamed: 0"] {
        let text = format!("{name},a,b,label\n") + &rows(20, |i, x, y, k| format!("{i},{x},{y},{k}\n"));
        softmax(&desk, &text, "").works().warns(&["t.csv:1: a first column", "left out", "--keep-index keeps it"]);
        assert_eq!(features(&desk), serde_json::json!(["a", "b"]), "{name}");
        // A test file of a split has other numbers, and eval looks for columns by their names.
        desk.file("e.csv", format!("{name},a,b,label\n977,1,1,cat\n12,-1,-1,dog\n"));
        assert_eq!(desk.run("eval m e.csv --json").works().json()["examples"], 2);
        softmax(&desk, &text, "--keep-index").works().warns_of_nothing();
        assert_eq!(features(&desk).as_array().unwrap().len(), 3);
        softmax(&desk, &text, "--strict").refuses(3, &["t.csv:1", "--keep-index keeps it"]);
    }
    // 0, 1, 2, … under any name, and without one.
    let text = "id,a,b,label\n".to_owned() + &rows(20, |i, x, y, k| format!("{i},{x},{y},{k}\n"));
    softmax(&desk, &text, "").works().warns(&["column id numbers the rows from 0", "--keep-index"]);
    assert_eq!(features(&desk), serde_json::json!(["a", "b"]));
    let text = rows(20, |i, x, y, k| format!("{},{x},{y},{k}\n", i + 1));
    softmax(&desk, &text, "").works().warns(&["column column1 numbers the rows from 1", "--keep-index"]);
    // What goes on otherwise is a measurement.
    let text = "id,a,b,label\n".to_owned() + &rows(20, |i, x, y, k| format!("{},{x},{y},{k}\n", i.min(17)));
    softmax(&desk, &text, "").works().warns_of_nothing();
}

#[test]
fn a_header_with_a_number_among_its_names() {
    let desk = Desk::new();
    for header in ["1990,2000,label", "a,2000,label", "0,1,2"] {
        let text = format!("{header}\n") + &rows(20, |_, x, y, k| format!("{x},{y},{k}\n"));
        softmax(&desk, &text, "").works().warns(&["t.csv:1: a number among the names of the columns", "--header no"]);
        let names: Vec<&str> = header.split(',').take(2).collect();
        assert_eq!(features(&desk), serde_json::json!(names));
        assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 20);
        softmax(&desk, &text, "--header yes").works().warns_of_nothing();
    }
    let text = "0,1,label\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},{y},{k}\n"));
    softmax(&desk, &text, "--header no").works();
    assert_eq!(columns(&desk)["classes"], serde_json::json!(["cat", "dog", "label"]));
    // Without numbers below it, a name that stands in the first row alone is at least told.
    let text = "5,7,kind\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},{y},{k}\n"));
    softmax(&desk, &text, "").works().warns(&["the class `kind` in the first row only", "--header yes"]);
}

#[test]
fn the_class_in_the_first_column() {
    let desk = Desk::new();
    let text = "kind,a,b\n".to_owned() + &rows(20, |_, x, y, k| format!("{k},{x},{y}\n"));
    softmax(&desk, &text, "").works().warns(&["t.csv:1: the class in column kind", "--label b takes the other"]);
    assert_eq!(columns(&desk)["classes"], serde_json::json!(["cat", "dog"]));
    softmax(&desk, &text, "--label kind").works().warns_of_nothing();
    let text = "label,a,b\n".to_owned() + &rows(20, |_, x, y, k| format!("{},{x},{y}\n", u8::from(k == "cat")));
    softmax(&desk, &text, "").works().warns(&["the class in column label, as its name says"]);
    assert_eq!(columns(&desk)["columns"]["label"], "label");
    // Kaggle's images without names: the last pixel is the same in all.
    let text = rows(20, |i, x, y, _| format!("{},{x},{y},0\n", i % 3));
    softmax(&desk, &text, "").refuses(3, &["found the class 0 only", "--label COLUMN selects another"]);
    softmax(&desk, &text, "--label 1").works().warns(&["1 column with a single value: column4"]);
}

#[test]
fn a_measured_last_column_with_as_many_classes_as_rows() {
    let desk = Desk::new();
    let text = "kind,a,price\n".to_owned() + &rows(20, |i, x, _, _| format!("{},{x},{}.5\n", i % 2, i * i));
    softmax(&desk, &text, "")
        .works()
        .warns(&["20 classes in 20 rows in column price, as a measurement has", "--label COLUMN"]);
}

#[test]
fn drop_leaves_columns_out() {
    let desk = Desk::new();
    let text = "name,a,town,b,label\n".to_owned() + &rows(20, |i, x, y, k| format!("n{i},{x},Rome,{y},{k}\n"));
    softmax(&desk, &text, "").refuses(3, &["t.csv:2: found `n0` in column name", "--drop name,town"]);
    softmax(&desk, &text, "--drop name,town").works().warns_of_nothing();
    assert_eq!(features(&desk), serde_json::json!(["a", "b"]));
    desk.run("eval m t.csv").works().warns_of_nothing();
    softmax(&desk, &text, "--drop 1,3").works().warns_of_nothing();
    softmax(&desk, &text, "--drop name,city").refuses(3, &["expected a column city"]);
    softmax(&desk, &text, "--drop label").refuses(3, &["found `n0`"]);
    softmax(&desk, &text, "--drop label --label label").refuses(2, &["--drop leaves out column label"]);
    desk.run("train softmax --resume --out m --missing drop")
        .refuses(2, &["--missing \"drop\": the run to resume has"]);
    // The same for the other net on rows.
    desk.run(&format!("train pseudo-siamese --train t.csv --out p --drop name,town --hidden 3 {SMALL}")).works();
    assert_eq!(desk.run("eval p t.csv --json").works().json()["examples"], 20);
}

#[test]
fn class_names_that_pandas_rewrote_are_one_class() {
    let desk = Desk::new();
    let with = |cat: &str, dog: &str| {
        "a,b,k\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},{y},{}\n", if k == "cat" { cat } else { dog }))
    };
    desk.file("v.csv", with("1.0", "0.0"));
    softmax(&desk, with("1", "0"), "--valid v.csv").works().warns(&[
        "v.csv:",
        "class names that are the same number, as `",
        "one class",
    ]);
    assert_eq!(columns(&desk)["classes"], serde_json::json!(["0", "1"]));
    let found = desk.run("eval m v.csv --json").works().json();
    assert_eq!(
        (&found["unknown_class"], &found["accuracy"]),
        (&0.into(), &desk.run("eval m t.csv --json").json()["accuracy"])
    );
    // In one file too.
    let text = with("1", "0") + "0.5,0.5,1.0\n";
    softmax(&desk, text, "").works().warns(&["t.csv:22: class names that are the same number, as `1.0` and `1`"]);
}

#[test]
fn a_missing_label_is_not_a_class() {
    let desk = Desk::new();
    for nothing in ["", "NaN", "NA", "?"] {
        let text = "a,b,k\n".to_owned()
            + &rows(20, |i, x, y, k| format!("{x},{y},{}\n", if i % 8 == 3 { nothing } else { k }));
        softmax(&desk, &text, "").works().warns(&["t.csv:5: 3 of 20 rows with nothing in column k", "left out"]);
        assert_eq!(columns(&desk)["classes"], serde_json::json!(["cat", "dog"]));
    }
}

#[test]
fn a_class_that_only_valid_or_test_has() {
    let desk = Desk::new();
    let text = "a,b,k\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},{y},{k}\n"));
    desk.file("v.csv", text.clone() + "1,1,cow\n2,2,cow\n");
    let unseen =
        ["v.csv:22: 2 of 22 rows of classes that no training example has, the first is `cow`", "they count as wrong"];
    softmax(&desk, &text, "--valid v.csv").works().warns(&unseen);
    let all = desk.run("eval m t.csv --json").works().json();
    let run = desk.run("eval m v.csv --json").works().warns(&unseen);
    let found = run.json();
    let right = |found: &Value| (found["accuracy"].as_f64().unwrap() * found["examples"].as_f64().unwrap()).round();
    assert_eq!(
        (right(&found), &found["unknown_class"], &found["classes"]),
        (right(&all), &2.into(), &serde_json::json!(["cat", "dog", "(unknown)"]))
    );
    let (own, other) = (found["cross_entropy"].as_f64().unwrap(), all["cross_entropy"].as_f64().unwrap());
    assert!((own - other).abs() < 1e-5, "of the rows whose class is known: {own} {other}");
    assert_eq!(found["warnings"].as_array().unwrap().len(), 1);
    assert!(desk.run("eval m v.csv").works().out.contains("(unknown)"));
    // All of them are one, however many.
    let many: String = (0..500).map(|i| format!("1,1,x{i}\n")).collect();
    desk.file("w.csv", text.clone() + &many);
    let found = desk.run("eval m w.csv --json").works().json();
    assert_eq!((&found["unknown_class"], found["counts"].as_array().unwrap().len()), (&500.into(), 3));
    desk.run(&format!("train pseudo-siamese --train t.csv --valid v.csv --out p --hidden 3 {SMALL}"))
        .works()
        .warns_of_nothing();
    assert_eq!(desk.run("eval p v.csv --json").works().json()["unknown_class"], 2);
}

#[test]
fn missing_numbers_mean_drop_fail() {
    let desk = Desk::new();
    for nothing in ["", "NA", "NaN", "?", "#N/A"] {
        let text = "a,b,k\n".to_owned()
            + &rows(20, |i, x, y, k| if i == 4 { format!("{nothing},{y},{k}\n") } else { format!("{x},{y},{k}\n") });
        softmax(&desk, &text, "").works().warns(&[
            "t.csv:6: 1 missing number in 20 rows",
            "the mean",
            "--missing drop",
        ]);
        softmax(&desk, &text, "--missing mean --strict").works();
        assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 20);
        softmax(&desk, &text, "--missing drop --strict")
            .works()
            .warns(&["t.csv:6: 1 of 20 rows in which a number is missing; left out"]);
        assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 19, "eval does what training did");
        softmax(&desk, &text, "--missing fail")
            .refuses(3, &["t.csv:6: found `", "in column a", "--missing mean", "--missing drop"]);
    }
    // A column without any.
    let text = "a,c,b,k\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},NA,{y},{k}\n"));
    softmax(&desk, &text, "").works().warns(&["no number in column c", "left out"]);
    assert_eq!(features(&desk), serde_json::json!(["a", "b"]));
    // The mean is that of the training examples: filled in by hand the model says the same.
    let given = "a,b,k\n1,2,cat\n3,-1,dog\n,0.5,cat\n2,-2,dog\n";
    for scale in ["standard", "none"] {
        softmax(&desk, given, &format!("--scale {scale}")).works();
        let found = desk.run("eval m t.csv --json").works().json()["cross_entropy"].clone();
        desk.file("f.csv", given.replace("\n,0.5", "\n2,0.5"));
        assert_eq!(desk.run("eval m f.csv --json").works().json()["cross_entropy"], found);
    }
}

#[test]
fn booleans_thousands_percent_and_the_decimal_comma() {
    let desk = Desk::new();
    let numbers = |header: &str, text: &str, options: &str| {
        softmax(&desk, format!("{header}\n{text}"), &format!("--scale none {options}")).works();
        columns(&desk)["columns"]["fill"].clone()
    };
    let mean = |a: f64, b: f64| serde_json::json!([a, b]);
    assert_eq!(numbers("a,b,k", "True,yes,x\nFalse,no,y\n", ""), mean(0.5, 0.5));
    assert_eq!(numbers("a,b,k", "\"1,234.5\",12 %,x\n\"1,234.5\",12%,y\n", ""), mean(1234.5, f64::from(0.12f32)));
    assert_eq!(numbers("a;b;k", "1,5;-0,25;x\n2,5;0,25;y\n", "--decimal ,"), mean(2.0, 0.0));
    assert_eq!(numbers("a;b;k", "1.234,5;1;x\n1.234,5;2;y\n", "--decimal ,"), mean(1234.5, 1.5));
    // Eval reads as training did.
    assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 2);
    softmax(&desk, "a;b;k\n1,5;2;x\n2,5;3;y\n", "")
        .refuses(3, &["t.csv:2: found `1,5` in column a", "--decimal , takes a comma"]);
    softmax(&desk, "a;b;k\n1,500;2;x\n2,500;3;y\n", "")
        .works()
        .warns(&["2 numbers with a comma, the first is `1,500`", "--decimal ,"]);
}

#[test]
fn what_spreadsheets_write_around_a_table() {
    let desk = Desk::new();
    let table = |separator: &str, end: &str| {
        let line = |fields: &[String]| fields.join(separator) + end + "\n";
        line(&["a", "b", "k"].map(String::from))
            + &rows(20, |_, x, y, k| line(&[x.to_string(), y.to_string(), k.into()]))
    };
    let fits = |desk: &Desk| {
        assert_eq!(features(desk), serde_json::json!(["a", "b"]));
        assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 20);
    };
    // What says the separator; a separator and empty columns at the ends; empty rows.
    softmax(&desk, "sep=;\n".to_owned() + &table(";", ""), "").works().warns_of_nothing();
    fits(&desk);
    softmax(&desk, table(",", ",,"), "").works().warns(&["columns without name or content", "left out"]);
    fits(&desk);
    softmax(&desk, table(",", "").replace("k\n", "k\n,,\n\n") + ",,\n,,\n", "").works().warns_of_nothing();
    fits(&desk);
    // Titles above, a line of sums and notes below.
    softmax(&desk, "Animals of 2024,,\n,,\n".to_owned() + &table(",", ""), "")
        .works()
        .warns(&["t.csv:1: 1 line above the table", "Animals"]);
    fits(&desk);
    softmax(&desk, "Animals of 2024\nsource: own\n\n".to_owned() + &table("\t", ""), "")
        .works()
        .warns(&["t.csv:1: 2 lines above the table"]);
    fits(&desk);
    let below = table(",", "") + "Total,3.5,x\nSource: own counts,,\n";
    softmax(&desk, below, "").works().warns(&["t.csv:22: 2 lines of notes or sums in the table", "left out"]);
    fits(&desk);
    // Two files, one after the other.
    let twice = table(",", "") + "a,b,k\n1,1,cat\n";
    softmax(&desk, twice, "").works().warns(&["t.csv:22: the names of the columns again", "left out"]);
    // Quotes around everything.
    softmax(&desk, table("\",\"", "\"").lines().map(|line| format!("\"{line}\n")).collect::<String>(), "")
        .works()
        .warns_of_nothing();
    fits(&desk);
}

#[test]
fn encodings_packings_and_line_ends_of_tables() {
    let desk = Desk::new();
    let text = "größe,b,k\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},{y},{k}\n"));
    let latin: Vec<u8> = text.chars().map(|c| c as u32 as u8).collect();
    softmax(&desk, &latin, "").refuses(3, &["t.csv:1: found invalid UTF-8 (0xF6)", "--encoding latin1"]);
    softmax(&desk, &latin, "--encoding latin1").works().warns_of_nothing();
    assert_eq!(features(&desk), serde_json::json!(["größe", "b"]));
    softmax(&desk, text.replace('\n', "\r"), "").works().warns_of_nothing();
    assert_eq!(features(&desk), serde_json::json!(["größe", "b"]));
    let utf16: Vec<u8> = [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    softmax(&desk, utf16, "").works();
    assert_eq!(features(&desk), serde_json::json!(["größe", "b"]));
    softmax(&desk, "[{\"a\": 1}]", "").refuses(3, &["found JSON"]);
}

#[test]
fn separators_that_only_some_lines_use() {
    let desk = Desk::new();
    let some = "a,b,k\n".to_owned()
        + &rows(20, |i, x, y, k| if i % 5 == 1 { format!("{x};{y};{k}\n") } else { format!("{x},{y},{k}\n") });
    softmax(&desk, &some, "").works().warns(&["t.csv:3: 4 of 20 rows not separated by commas as the others are"]);
    assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 20);
    let header = "a,b,k\n".to_owned() + &rows(20, |_, x, y, k| format!("{x}\t{y}\t{k}\n"));
    softmax(&desk, &header, "").works().warns(&["t.csv:1: names separated otherwise than the rows"]);
    assert_eq!(features(&desk), serde_json::json!(["a", "b"]));
    // Separators at the ends of some lines, and columns that are only aligned.
    let ends =
        "a,b,k\n".to_owned() + &rows(20, |i, x, y, k| format!("{x},{y},{k}{}\n", if i % 3 == 0 { ",," } else { "" }));
    softmax(&desk, &ends, "").works().warns_of_nothing();
    let aligned = "  a    b  k\n".to_owned() + &rows(20, |_, x, y, k| format!("{x:>6}  {y:>6}  {k}\n"));
    softmax(&desk, &aligned, "").works().warns_of_nothing();
    assert_eq!(features(&desk), serde_json::json!(["a", "b"]));
    // What no separator explains is refused.
    softmax(&desk, "a,b,k\n1,2,x\n1,2,y\n3,4\n", "")
        .refuses(3, &["t.csv:4: found 2 columns, expected 3 as in the first line"]);
}

#[test]
fn a_number_that_is_too_large_is_called_so() {
    let desk = Desk::new();
    softmax(&desk, "a,b,k\n1,2,x\n1e300,2,y\n", "")
        .refuses(3, &["t.csv:3: found `1e300` in column a, expected a number of at most 3.4e38"]);
    softmax(&desk, "a,b,k\n1,2,x\ninf,2,y\n", "")
        .refuses(3, &["`inf` in column a, expected a finite number; --drop a"]);
}

#[test]
fn many_classes_are_not_all_listed_in_an_error() {
    let desk = Desk::new();
    let text = "a,k\n".to_owned() + &(0..300).map(|i| format!("{i}.5,c{}\n", i % 143)).collect::<String>();
    softmax(&desk, text, "").works();
    desk.file("e.csv", "a,k\n1,other\n");
    let run = desk.run("eval m e.csv").refuses(3, &["e.csv:2: found `other` in column k", "(143 in all)"]);
    assert!(run.err.len() < 400, "{}", run.err);
}

#[test]
fn a_table_that_memory_cannot_hold_is_refused_before() {
    let desk = Desk::new();
    let text = "a,b,k\n".to_owned() + &rows(400_000, |_, x, y, k| format!("{x},{y},{k}\n"));
    let path = desk.file("t.csv", text);
    // Only its beginning is there; its length says what would be read.
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 43).unwrap();
    desk.run("train softmax --train t.csv --out m")
        .refuses(2, &["GB of memory, this machine offers", "rows would fit"]);
    assert!(!desk.path().join("m").exists());
}

#[test]
fn a_table_as_large_as_its_file_takes_memory_near_the_files_size() {
    let desk = Desk::new();
    // 0 to 255, mostly 0, as images are: the worst case, two bytes for a number.
    let row = |i: usize| {
        let pixel = |j: usize| if (i * 31 + j * 17) % 97 < 19 { (i * 7 + j * 13) % 256 } else { 0 };
        let pixels: Vec<String> = (0..784).map(|j| pixel(j).to_string()).collect();
        format!("{},{}\n", i % 10, pixels.join(","))
    };
    let text: String = (0..12_000).map(row).collect();
    let bytes = text.len() as f64;
    desk.file("t.csv", text);
    let run =
        desk.run("train softmax --label 1 --train t.csv --out m --max-steps 5 --json --quiet --threads 1").works();
    let peak = run.json()["peak_memory_mb"].as_f64().unwrap() * 1e6;
    assert!(peak > 1e6 && peak < 1.5 * bytes + 1e8, "{peak} for {bytes}");
}

// Pairs and words with labels.

/// Vectors of all words that the lists below have.
fn vectors(desk: &Desk) {
    let words =
        "love sex tiger cat book paper old new smart bright hard easy cord smile noon string #tag dog Rome word label";
    let row = |(i, word): (usize, &str)| format!("{word} {} {} {}\n", i % 3, (i * 7) % 5, i as f64 / 10.0);
    desk.file("v.txt", words.split(' ').enumerate().map(row).collect::<String>());
}

fn siamese(desk: &Desk, pairs: &str, options: &str) -> Run {
    desk.file("p.tsv", pairs);
    desk.run(&format!(
        "train siamese --pairs p.tsv --vectors v.txt --out s --force --hidden 3 --epochs 1 --threads 1 --json {options}"
    ))
}

#[test]
fn wordsim_353_as_published() {
    let desk = Desk::new();
    vectors(&desk);
    let text = "Word 1,Word 2,Human (mean)\nlove,sex,6.77\ntiger,cat,7.35\nbook,paper,7.46\n";
    siamese(&desk, text, "")
        .works()
        .warns(&["p.tsv:1: the names of the columns, `Word 1 Word 2 Human (mean)`", "skipped"]);
    let run = desk.run("eval s p.tsv --json").works();
    assert_eq!(run.json()["pairs"], 3);
    assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 1);
    // With what each person said.
    let text = "Word 1,Word 2,Human (mean),1,2,3\nlove,sex,6.77,9,6,8\ntiger,cat,7.35,9,7,8\nbook,paper,7.46,8,8,7\n";
    let warning = [
        "p.tsv:1: 6 columns, of which 3 are needed",
        "columns 1 and 2",
        "column 3 (`Human (mean)`) as the label",
        "--columns 1,2,3",
    ];
    siamese(&desk, text, "").works().warns(&warning);
    siamese(&desk, text, "--strict").refuses(3, &["--columns 1,2,3 selects them"]);
    siamese(&desk, text, "--columns 1,2,4 --strict").works();
    assert_eq!(desk.run("eval s p.tsv --columns 1,2,5 --json").works().json()["pairs"], 3);
    siamese(&desk, text, "--columns 1,2").refuses(2, &["--columns needs 3 numbers"]);
    siamese(&desk, text, "--columns 1,2,9").refuses(3, &["p.tsv:1: found 6 columns"]);
}

#[test]
fn simlex_999_with_ten_columns() {
    let desk = Desk::new();
    vectors(&desk);
    let text = "word1\tword2\tPOS\tSimLex999\tconc(w1)\tconc(w2)\tconcQ\tAssoc(USF)\tSimAssoc333\tSD(SimLex)\n\
                old\tnew\tA\t1.58\t2.72\t2.81\t2\t7.25\t1\t0.41\nsmart\tbright\tA\t9.2\t1.75\t2.46\t1\t7.11\t1\t0.67\n\
                hard\teasy\tA\t0.95\t3.76\t2.18\t2\t5.94\t1\t0.93\n";
    siamese(&desk, text, "").works().warns(&[
        "10 columns, of which 3 are needed",
        "column 4 (`SimLex999`) as the label",
        "--columns 1,2,4",
    ]);
    assert_eq!(desk.run("eval s p.tsv --json").works().json()["pairs"], 3);
}

#[test]
fn comments_semicolons_and_spaces_in_lists_of_pairs() {
    let desk = Desk::new();
    vectors(&desk);
    siamese(&desk, "# by two people\n#\n## 2001\ncord\tsmile\t0.02\nnoon\tstring\t0.04\n", "")
        .works()
        .warns_of_nothing();
    assert_eq!(desk.run("eval s p.tsv --json").works().json()["pairs"], 2);
    siamese(&desk, "cord;smile;0.02\nnoon;string;0.04\n", "").works().warns_of_nothing();
    siamese(&desk, "cord smile 0.02\nnoon  string 0.04\n", "").works().warns_of_nothing();
    siamese(&desk, "#word1\tword2\tscore\ncord\tsmile\t0.02\n#tag\tstring\t0.04\n", "").works().warns_of_nothing();
    assert_eq!(desk.run("eval s p.tsv --json").works().json()["pairs"], 2, "#tag is a word");
}

#[test]
fn pairs_of_one_label_once_others_are_left_out() {
    let desk = Desk::new();
    vectors(&desk);
    let text = "cord\tsmile\t1\nnoon\tstring\t1\nlove\tzzqx\t0\n";
    siamese(&desk, text, "").refuses(3, &["p.tsv: found only one label in the 2 of 3 pairs whose words have vectors"]);
    assert!(!desk.path().join("s").exists());
}

#[test]
fn words_with_labels_below_a_header() {
    let desk = Desk::new();
    vectors(&desk);
    let train = |text: &str, options: &str| {
        desk.file("w.tsv", text);
        desk.run(&format!("train pseudo-siamese --train w.tsv --vectors v.txt --out w --force --hidden 3 --epochs 1 --threads 1 --json {options}"))
    };
    train("word\tlabel\ncat\tANIMAL\ndog\tANIMAL\nRome\tTOWN\n#tag\tTOWN\n", "")
        .works()
        .warns(&["w.tsv:1: the names of the columns, `word label`"]);
    assert_eq!(desk.run("eval w w.tsv --json").works().json()["words"], 4);
    let more = "word\tcount\tlabel\ncat\t12\tANIMAL\ndog\t9\tANIMAL\nRome\t4\tTOWN\n";
    train(more, "").works().warns(&[
        "w.tsv:1: 3 columns, of which 2 are needed",
        "column 3 (`label`) as the label",
        "--columns 1,3",
    ]);
    train(more, "--columns 1,3 --strict").works();
    // `word label` may be a row like another.
    train("word\tO\nlabel\tO\nRome\tTOWN\n", "").works().warns_of_nothing();
}

#[test]
fn columns_of_the_same_name() {
    let desk = Desk::new();
    let text = "a,a,label\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},{y},{k}\n"));
    softmax(&desk, &text, "").works().warns(&["t.csv:1: two columns a", "the second is called a.1", "--drop a.1"]);
    assert_eq!(features(&desk), serde_json::json!(["a", "a.1"]));
    assert_eq!(desk.run("eval m t.csv --json").works().json()["examples"], 20);
    for (dropped, left) in [("a.1", "a"), ("a", "a.1"), ("2", "a")] {
        softmax(&desk, &text, &format!("--drop {dropped}")).works().warns_of_nothing();
        assert_eq!(features(&desk), serde_json::json!([left]));
        desk.run("eval m t.csv").works();
    }
    let text = "a,label,label\n".to_owned() + &rows(20, |_, x, _, k| format!("{x},{k},{k}\n"));
    softmax(&desk, &text, "").refuses(3, &["t.csv:1", "two columns label", "holds the class", "--drop label.1"]);
    softmax(&desk, &text, "--drop label.1").works();
}

#[test]
fn columns_of_one_number_only() {
    let desk = Desk::new();
    let text = "a,b,c,label\n".to_owned() + &rows(20, |_, x, y, k| format!("{x},7,{y},{k}\n"));
    softmax(&desk, &text, "").works().warns(&["t.csv: 1 column with a single value: b", "nothing can be learned"]);
}
