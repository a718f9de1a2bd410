use super::file::{Body, Item, Source};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Everything at once: optional words at the beginning of a sentence and of an entity, nested tags, a word with two tags, a word in
/// both a class and a row, a capital letter that makes two words equal, two derivations of the same words.
const TINY: &str = r#"
start = "sentence"
capitalise = true
[class]
city = { tag = "LOC", words = "Ashford Linden April" }
first = { zipf = 0.5, words = "April Rose" }
beat = { weights = { beat = 3, "the" = 0.5, The = 0.25 } }
[phrase]
team = { tag = "ORG", any = ["2 | {first?0.25} {city} United", "{city}"] }
person = { tag = "PER", any = ["{first} {city}", "{first}"] }
who = ["{team}", "{person}", "the {city}"]
sentence = ["3 | {beat?0.4} {who?} {beat} {who} .", "1.5 | {who} beat {city?0.9} {first} {city?}"]
"#;

fn grammar(text: &str) -> Result<Grammar> {
    Grammar::parse(Path::new("g.toml"), text)
}

fn message(text: &str) -> String {
    grammar(text).unwrap_err().to_string()
}

/// All derivations of a rule, directly from the file: words, tags, probability. Independent of states.
fn derive(source: &Source, name: &str, tagged: bool) -> Vec<(Vec<String>, Vec<String>, f64)> {
    let rule = &source.rules[name];
    let inside = tagged || rule.tag.is_some();
    let plain = |word: &str, p: f64| (vec![word.to_owned()], vec!["O".to_owned()], p);
    let mut all = Vec::new();
    match &rule.body {
        Body::Class(words) => all.extend(words.iter().map(|(word, p)| plain(word, *p))),
        Body::Phrase(rows) => {
            for row in rows {
                let mut ways = vec![(vec![], vec![], row.probability)];
                for item in &row.items {
                    let options = match item {
                        Item::Word(word) => vec![plain(word, 1.0)],
                        Item::Reference { name, chance } => {
                            let mut options = derive(source, name, inside);
                            options.iter_mut().for_each(|option| option.2 *= chance);
                            if *chance < 1.0 {
                                options.push((vec![], vec![], 1.0 - chance));
                            }
                            options
                        }
                    };
                    let join = |(w, t, p): &(Vec<String>, Vec<String>, f64)| {
                        let with = |(v, u, q): &(Vec<String>, Vec<String>, f64)| {
                            ([w.clone(), v.clone()].concat(), [t.clone(), u.clone()].concat(), p * q)
                        };
                        options.iter().map(with).collect::<Vec<_>>()
                    };
                    ways = ways.iter().flat_map(join).collect();
                }
                all.extend(ways);
            }
        }
    }
    if let (Some(tag), false) = (&rule.tag, tagged) {
        for (_, tags, _) in &mut all {
            let prefix = |i| if i == 0 { "B" } else { "I" };
            tags.iter_mut().enumerate().for_each(|(i, t)| *t = format!("{}-{tag}", prefix(i)));
        }
    }
    all
}

/// Probability of every pair of words and tags of a grammar.
fn enumerate(text: &str) -> BTreeMap<Vec<String>, BTreeMap<Vec<String>, f64>> {
    let source = Source::new(Path::new("g.toml"), text).unwrap();
    let mut sentences: BTreeMap<_, BTreeMap<_, f64>> = BTreeMap::new();
    for (mut words, tags, p) in derive(&source, &source.start, false) {
        if source.capitalise {
            words[0] = words[0][..1].to_uppercase() + &words[0][1..];
        }
        *sentences.entry(words).or_default().entry(tags).or_insert(0.0) += p;
    }
    sentences
}

/// The tags along the most probable path of states, by exhaustive search.
fn best_path<'g>(g: &'g Grammar, words: &[&str], next: &[(u32, f64)], p: f64) -> (f64, Vec<&'g str>) {
    let Some((word, rest)) = words.split_first() else {
        return (p * to_end(next), Vec::new());
    };
    let mut best = (0.0, Vec::new());
    for &(to, q) in next.iter().filter(|(to, _)| *to != END) {
        let state = &g.states[to as usize];
        let emitted = g.ids.get(*word).and_then(|&id| {
            g.emitters[id as usize].iter().find(|(emission, _)| *emission == state.emission).map(|(_, p)| *p)
        });
        let (found, mut tags) = best_path(g, rest, &state.next.next, p * q * emitted.unwrap_or(0.0));
        if found > best.0 {
            tags.insert(0, &g.tags[state.tag as usize]);
            best = (found, tags);
        }
    }
    best
}

#[test]
fn forward_and_posterior_equal_enumeration() {
    let g = grammar(TINY).unwrap();
    let all = enumerate(TINY);
    assert!(all.len() > 1000, "{}", all.len());
    let (mut sum, mut ambiguous) = (0.0, 0);
    for (words, taggings) in &all {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let p: f64 = taggings.values().sum();
        let found = g.log_prob(&words).unwrap();
        sum += found.exp();
        assert!((found - p.ln()).abs() <= 1e-12, "{words:?}: {found} and {}", p.ln());
        ambiguous += usize::from(taggings.len() > 1);

        let posterior = g.posterior(&words).unwrap();
        let best = g.posterior_tags(&words).unwrap();
        for (t, row) in posterior.iter().enumerate() {
            assert_eq!(row.len(), g.tags().len());
            for (tag, found) in g.tags().iter().zip(row) {
                let exact: f64 = taggings.iter().filter(|(tags, _)| tags[t] == *tag).map(|(_, p)| p).sum();
                assert!((found - exact / p).abs() <= 1e-12, "{words:?} {t} {tag}: {found} and {}", exact / p);
            }
            let largest = row.iter().fold(0.0, |m: f64, p| m.max(*p));
            let chosen = g.tags().iter().position(|tag| tag == best[t]).unwrap();
            assert!(row[chosen] >= largest - 1e-12, "{words:?} {t}: {}", best[t]);
        }
        let (_, path) = best_path(&g, &words, &g.start.next, 1.0);
        assert_eq!(g.viterbi_tags(&words).unwrap(), path, "{words:?}");
    }
    assert!((sum - 1.0).abs() <= 1e-12, "all sentences together have probability {sum}");
    assert!(ambiguous > 100, "{ambiguous}");
}

#[test]
fn the_source_makes_nothing_else() {
    let g = grammar(TINY).unwrap();
    let cases: [&[&str]; 5] = [
        &[],
        &["April", "beat", "Rose", "Unseen"],
        &["April"],
        &["beat", "Ashford"],
        &["Ashford", "the", "Linden", ".", "."],
    ];
    for words in cases {
        assert_eq!(g.log_prob(words), None, "{words:?}");
        assert_eq!(g.posterior_tags(words), None, "{words:?}");
        assert_eq!(g.viterbi_tags(words), None, "{words:?}");
    }
}

#[test]
fn perplexity_counts_words_and_ends() {
    let g = grammar("start = 's'\n[class]\nc = { zipf = 0, words = 'a b' }\n[phrase]\ns = ['{c} {c}']").unwrap();
    let cost = g.perplexity(["a b", "", " b  b ", "\t"]);
    assert_eq!((cost.sentences, cost.targets, cost.impossible), (2, 6, 0));
    // Four fair choices among six targets.
    assert!((cost.perplexity() - 2f64.powf(4.0 / 6.0)).abs() < 1e-14, "{}", cost.perplexity());
    let cost = g.perplexity(["a b", "a"]);
    assert_eq!((cost.impossible, cost.perplexity()), (1, f64::INFINITY));
    assert!(g.perplexity([]).perplexity().is_nan());
}

/// Pearson's statistic of observed counts, with cells of few expected draws merged, and its degrees of freedom.
fn chi_square(cells: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (mut statistic, mut freedom, mut rest) = (0.0, -1.0, (0.0, 0.0));
    for (expected, observed) in cells {
        if expected < 8.0 {
            rest = (rest.0 + expected, rest.1 + observed);
        } else {
            statistic += (observed - expected).powi(2) / expected;
            freedom += 1.0;
        }
    }
    (statistic + (rest.1 - rest.0).powi(2) / rest.0, freedom + 1.0)
}

#[test]
fn draws_have_the_probabilities_of_the_grammar() {
    let (g, draws) = (grammar(TINY).unwrap(), 60_000);
    let mut counts: HashMap<(Vec<String>, Vec<String>), f64> = HashMap::new();
    for index in 0..draws {
        let (words, tags) = g.sentence(11, index).iter().map(|(w, t)| (w.to_string(), t.to_string())).unzip();
        *counts.entry((words, tags)).or_default() += 1.0;
    }
    let all = enumerate(TINY);
    let cells = |tilt: f64| {
        let counts = &counts;
        let pairs = all.iter().flat_map(|(words, taggings)| {
            taggings
                .iter()
                .map(move |(tags, p)| (p, counts.get(&(words.clone(), tags.clone())).copied().unwrap_or(0.0)))
        });
        let cells =
            pairs.enumerate().map(|(i, (p, seen))| (p * f64::from(draws as u32) * (1.0 + tilt * (i % 2) as f64), seen));
        chi_square(cells)
    };
    let (statistic, freedom) = cells(0.0);
    let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
    assert!(freedom > 300.0 && statistic < limit, "{statistic} with {freedom} degrees of freedom");
    assert!(cells(0.1).0 > limit, "a wrong distribution passes too");
    let seen: f64 = counts.values().sum();
    assert_eq!(seen, draws as f64);
}

#[test]
fn equal_futures_are_one_state() {
    // "a c" and "b c": two first words, one last.
    let g = grammar("start = 's'\n[phrase]\ns = ['a c', 'b {t}', '{t}']\nt = ['c']").unwrap();
    assert_eq!((g.states(), g.transitions()), (3, 6));
    assert_eq!(g.words(), ["a", "b", "c"]);
    assert_eq!(g.tags(), ["O"]);
}

#[test]
fn sentences_depend_on_seed_and_index_only() {
    let g = grammar(TINY).unwrap();
    let text = |seed, from: u64| (from..from + 50).map(|i| g.sentence(seed, i)).collect::<Vec<_>>();
    assert_eq!(text(1, 7)[0], g.sentence(1, 7));
    assert_eq!(text(1, 0), text(1, 0));
    assert_ne!(text(1, 0), text(2, 0));
    assert_ne!(text(1, 0), text(1, 50));
}

#[test]
fn the_bundled_grammar_is_rich() {
    let g = Grammar::bundled();
    assert!(g.words().len() >= 3000, "{} words", g.words().len());
    assert!((300..=2000).contains(&g.states()), "{} states", g.states());
    assert_eq!(g.tags(), ["O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]);
    let types = g.types();
    let names = types.iter().filter(|of| of.iter().flatten().count() >= 2).count();
    assert!(names >= 200, "{names} words have two entity types");
    let half = types.iter().filter(|of| of.len() >= 2 && of[0].is_none()).count();
    assert!(half >= 20, "{half} words are names or not");
    let of = |word: &str| types[g.words().iter().position(|w| w == word).unwrap()].clone();
    assert_eq!(of("Ashford"), [Some("LOC"), Some("MISC"), Some("ORG"), Some("PER")]);
    assert_eq!(of("Frost"), [None, Some("LOC"), Some("MISC"), Some("ORG"), Some("PER")]);
}

/// The files in `data/`, generated as `data/README.md` says.
#[test]
fn committed_samples_are_what_synth_draws() {
    let out = tempfile::tempdir().unwrap();
    let summary = synth(&Grammar::bundled(), 200_000, 1, out.path(), false).unwrap();
    assert_eq!(summary.files.len(), 12);
    let readme = std::fs::read_to_string("data/README.md").unwrap();
    for file in &summary.files {
        let name = file.strip_prefix(out.path()).unwrap();
        let (drawn, committed) = (std::fs::read(file).unwrap(), std::fs::read(Path::new("data").join(name)).unwrap());
        assert!(drawn == committed, "{} differs from what is drawn now", name.display());
        use sha2::Digest;
        let hash: String = sha2::Sha256::digest(&committed).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(readme.contains(&hash), "data/README.md lacks the hash of {}: {hash}", name.display());
    }
}

/// Similar pairs agree in the tags that their words can have; no pair and no word is in two files.
#[test]
fn pairs_and_kinds_fit_the_grammar() {
    let g = Grammar::bundled();
    let types: std::collections::HashMap<&str, Vec<Option<&str>>> =
        g.words().iter().map(String::as_str).zip(g.types()).collect();
    let read = |name: &str| {
        ["train", "valid", "test"]
            .map(|part| std::fs::read_to_string(format!("data/{name}/{part}.tsv")).unwrap())
            .concat()
    };
    let mut seen = std::collections::HashSet::new();
    let (pairs, words) = (read("pairs"), read("words"));
    let (mut alike, mut others) = (0, 0);
    for row in pairs.lines() {
        let [first, second, label] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert!(seen.insert((first.min(second), first.max(second))), "{row}");
        let shared = types[first].iter().any(|kind| types[second].contains(kind));
        if label == "1" {
            alike += 1
        } else {
            others += 1
        }
        assert!(shared || label == "0", "{row}");
    }
    assert!(alike > 1000 && others > 1000 && words.lines().count() > 1000, "{alike} {others}");
    for row in words.lines() {
        let (word, kind) = row.split_once('\t').unwrap();
        assert!(types[word] == [Some(kind).filter(|kind| *kind != "O")] && seen.insert((word, word)), "{row}");
    }
}

#[test]
fn samples_cost_what_the_source_expects() {
    let g = Grammar::bundled();
    let read = |part: &str| std::fs::read_to_string(format!("data/lm/{part}.txt")).unwrap();
    let (train, test) = (read("train"), read("test"));
    let (train, test) = (g.perplexity(train.lines()), g.perplexity(test.lines()));
    assert_eq!((train.impossible, test.impossible), (0, 0));
    let (a, b) = (train.nats / train.targets as f64, test.nats / test.targets as f64);
    // About 1,200 sentences of test with a standard deviation of about 0.4 nats per target each.
    assert!((a - b).abs() < 4.0 * 0.4 / (test.sentences as f64).sqrt(), "train {a}, test {b} nats");
}

/// Text and CoNLL forms contain the same sentences, and the tags are valid IOB2.
#[test]
fn both_forms_of_a_sample_agree() {
    for part in ["train", "valid", "test"] {
        let text = std::fs::read_to_string(format!("data/lm/{part}.txt")).unwrap();
        let conll = std::fs::read_to_string(format!("data/ner/{part}.conll")).unwrap();
        let mut sentences = conll.split_terminator("\n\n");
        for line in text.lines() {
            let rows: Vec<(&str, &str)> =
                sentences.next().unwrap().lines().map(|row| row.split_once('\t').unwrap()).collect();
            assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>().join(" "), line);
            let mut before = "O";
            for (word, tag) in rows {
                let open = tag.strip_prefix("I-").is_none_or(|kind| before.get(2..) == Some(kind));
                assert!(open, "{word} {tag} after {before} in {line}");
                before = tag;
            }
        }
        assert_eq!(sentences.next(), None);
    }
}

#[test]
fn synth_overwrites_nothing_unless_told() {
    let (g, out) = (grammar(TINY).unwrap(), tempfile::tempdir().unwrap());
    let summary = synth(&g, 100, 5, out.path(), false).unwrap();
    assert!(summary.words[0] >= 80 && summary.words[1] >= 10 && summary.words[2] >= 10, "{summary:?}");
    let text = std::fs::read_to_string(out.path().join("lm/train.txt")).unwrap();
    assert_eq!(text.lines().count(), summary.sentences[0]);
    assert_eq!(text.split_whitespace().count(), summary.words[0]);

    std::fs::remove_file(out.path().join("lm/train.txt")).unwrap();
    let refused = synth(&g, 100, 6, out.path(), false).unwrap_err().to_string();
    assert!(refused.ends_with("ner/train.conll: found an existing file, expected a new one (it would be overwritten)"));
    assert!(!out.path().join("lm/train.txt").exists());
    synth(&g, 100, 6, out.path(), true).unwrap();
    assert_ne!(text, std::fs::read_to_string(out.path().join("lm/train.txt")).unwrap());
    let left = |folder: &str| std::fs::read_dir(out.path().join(folder)).unwrap().count();
    assert_eq!(["lm", "ner", "pairs", "words"].map(left), [3; 4]);

    assert!(synth(&g, 9, 1, out.path(), true).is_err());
    std::fs::write(out.path().join("file"), "").unwrap();
    let failed = synth(&g, 100, 6, out.path().join("file"), false).unwrap_err();
    assert_eq!(failed.exit_code(), 6, "{failed}");
}

#[test]
fn errors_name_line_key_found_and_expected() {
    let cases = [
        ("start = 's", "g.toml:1: found invalid literal string, expected `'`, expected TOML"),
        ("[class]\n", "g.toml: found no key `start`, expected the name of the phrase that is a sentence"),
        (
            "start = 's'\n\nstrat = 1",
            "g.toml:3: found unknown key `strat` in the grammar, expected one of start, capitalise, class, phrase; nearest: start",
        ),
        ("start = 1", "g.toml:1: found start = an integer, expected a string"),
        ("start = 's'\ncapitalise = 'no'", "g.toml:2: found capitalise = a string, expected true or false"),
        (
            "start = 'sentense'\n[phrase]\nsentence = ['a']",
            "g.toml:1: found start = \"sentense\", expected the name of a phrase; nearest: sentence",
        ),
        (
            "start = 's'\n[phrase]\ns = ['a',\n '{verb} {sity}']\n[class]\ncity = 'a'\nverb = 'b'",
            "g.toml:4: found {sity} in phrase.s, expected the name of a class or phrase; nearest: city",
        ),
        (
            "start = 's'\n[phrase]\ns = ['{a}']\na = ['{b}']\nb = ['c {a}']",
            "g.toml:4: found a phrase within itself, a -> b -> a, expected phrases without a cycle",
        ),
        (
            "start = 's'\n[phrase]\ns = ['a']\n[class]\nc = 'a'",
            "g.toml:5: found class.c, which is not used, expected only classes and phrases that s leads to",
        ),
        (
            "start = 's'\n[phrase]\ns = ['a']\nt = ['{t}']",
            "g.toml:4: found phrase.t, which is not used, expected only classes and phrases that s leads to",
        ),
        (
            "start = 's'\n[phrase]\ns = ['-1 | a']",
            "g.toml:3: found weight in phrase.s of -1, expected a weight from 0.000001 to 1000000",
        ),
        (
            "start = 's'\n[phrase]\ns = ['nan | a']",
            "g.toml:3: found weight in phrase.s of NaN, expected a weight from 0.000001 to 1000000",
        ),
        (
            "start = 's'\n[phrase]\ns = ['much | a']",
            "g.toml:3: found `much |` in phrase.s, expected a number before |, the row's weight",
        ),
        (
            "start = 's'\n[phrase]\ns = ['{t?1.5} a']",
            "g.toml:3: found {t?1.5} in phrase.s, expected a probability between 0 and 1 after ?",
        ),
        (
            "start = 's'\n[phrase]\ns = ['{t?}']",
            "g.toml:3: found a row that may be empty, \"{t?}\", in phrase.s, expected at least one word or reference that is always there",
        ),
        (
            "start = 's'\n[phrase]\ns = ['']",
            "g.toml:3: found a row that may be empty, \"\", in phrase.s, expected at least one word or reference that is always there",
        ),
        (
            "start = 's'\n[phrase]\ns = ['a {t']",
            "g.toml:3: found `{t` in phrase.s, expected a word, or {name}, {name?}, {name?0.3} between spaces",
        ),
        (
            "start = 's'\n[phrase]\ns = ['{}']",
            "g.toml:3: found {} in phrase.s, expected the name of a class or phrase in braces",
        ),
        ("start = 's'\n[phrase]\ns = [1]", "g.toml:3: found a row in phrase.s = an integer, expected a string"),
        ("start = 's'\n[phrase]\ns = []", "g.toml:3: found no row in phrase.s, expected at least one"),
        (
            "start = 's'\n[phrase]\ns = { tag = 'O', any = ['a'] }",
            "g.toml:3: found tag = \"O\", expected an entity type of letters, digits and _, as PER, and not O",
        ),
        (
            "start = 's'\n[phrase]\ns = { tags = 'PER' }",
            "g.toml:3: found unknown key `tags` in phrase.s, expected one of tag, any; nearest: tag",
        ),
        (
            "start = 's'\n[class]\nc = { weights = { a = 1, b = 0 } }",
            "g.toml:3: found weight of b of 0, expected a weight from 0.000001 to 1000000",
        ),
        (
            "start = 's'\n[class]\nc = { weights = { a = inf } }",
            "g.toml:3: found weight of a of inf, expected a weight from 0.000001 to 1000000",
        ),
        (
            "start = 's'\n[class]\nc = { weights = { 'a b' = 1 } }",
            "g.toml:3: found the word \"a b\" in class.c, expected a word without white space",
        ),
        (
            "start = 's'\n[class]\nc = { words = 'a', zipf = -1 }",
            "g.toml:3: found zipf = -1 in class.c, expected an exponent from 0 to 4",
        ),
        ("start = 's'\n[class]\nc = 'a b a'", "g.toml:3: found the word a twice in class.c, expected every word once"),
        (
            "start = 's'\n[class]\nc = 'a <unk>'",
            "g.toml:3: found the word <unk> in class.c, expected a word not between < and >, which are reserved",
        ),
        ("start = 's'\n[class]\nc = ''", "g.toml:3: found no word in class.c, expected at least one"),
        (
            "start = 's'\n[class]\nc = { zipf = 1 }",
            "g.toml:3: found neither words nor weights in class.c, expected words (and perhaps zipf), or weights",
        ),
        (
            "start = 's'\n[class]\nc = 'a'\n[phrase]\nc = ['a']",
            "g.toml:5: found phrase.c, but class.c is at line 3, expected classes and phrases with different names",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(message(text), expected, "for {text:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.toml");
    assert_eq!(Grammar::read(&path).unwrap_err().exit_code(), 6);
    std::fs::write(&path, b"start = 's'\n# \xff").unwrap();
    let found = Grammar::read(&path).unwrap_err().to_string();
    assert!(found.ends_with("g.toml:2: found byte 0xff at offset 14, expected UTF-8 text"), "{found}");
}

/// Small files with huge expansions are rejected rather than expanded.
#[test]
fn expansion_is_bounded() {
    let chain = |levels: usize, row: &str| {
        let phrases = (0..levels).map(|i| format!("p{i} = ['{}']\n", row.replace("NEXT", &format!("{{p{}}}", i + 1))));
        format!("start = 'p0'\n[phrase]\n{}p{levels} = ['a']", phrases.collect::<String>())
    };
    assert_eq!(grammar(&chain(50, "NEXT b")).unwrap().states(), 51);
    assert_eq!(
        message(&chain(100_000, "NEXT")),
        "g.toml:67: found p64 and what is below it at level 65, expected at most 64 levels of phrases in phrases"
    );
    assert_eq!(
        message(&chain(40, "NEXT NEXT")),
        "g.toml: found a grammar of more than 1000000 places, expected phrases that expand to fewer"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A damaged file is an error or another grammar, never a panic; a grammar can score whatever it draws.
    #[test]
    fn damage_does_not_panic(at in 0..TINY.len(), cut in 0..9usize, with in "[ -~\n|{}?=é\\[\\]'\"]{0,6}") {
        let end = (at + cut).min(TINY.len());
        let text = format!("{}{with}{}", &TINY[..at], &TINY[end..]);
        match grammar(&text) {
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(g) => for index in 0..20 {
                let words: Vec<&str> = g.sentence(3, index).iter().map(|(word, _)| *word).collect();
                prop_assert!(g.log_prob(&words).is_some_and(f64::is_finite), "{words:?}");
            }
        }
    }
}
