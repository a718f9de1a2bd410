//! Evaluation of predicted tags: whole entities, in the two common readings, and single tags.

mod drawing;

use crate::error::counted;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Serialize;

use super::tags::{Kinds, Prefix, Reading, Scheme, Span, Tag, spans_into};

/// Counts and their ratios; a ratio whose denominator is 0 is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Number in the gold standard.
    pub gold: u64,
    /// Number predicted.
    pub predicted: u64,
    /// Number predicted that are in the gold standard.
    pub correct: u64,
    /// `correct / predicted`, 0 to 1.
    pub precision: f64,
    /// `correct / gold`, 0 to 1.
    pub recall: f64,
    /// Harmonic mean of precision and recall, 0 to 1.
    pub f1: f64,
}

impl Score {
    /// The score of the counts.
    pub fn new(gold: u64, predicted: u64, correct: u64) -> Score {
        let divide = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        Score {
            gold,
            predicted,
            correct,
            precision: divide(correct, predicted),
            recall: divide(correct, gold),
            f1: divide(2 * correct, gold + predicted),
        }
    }
}

/// Scores of entities: an entity is correct if its tokens and its type are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entities {
    /// All types together (micro average).
    pub overall: Score,
    /// Each type separately.
    pub types: BTreeMap<String, Score>,
}

/// Maximum width of the table of confusions in characters, and the number of confusions listed if it would be wider.
const WIDEST: usize = 200;
const LISTED: usize = 20;

/// How often a tag (row: gold) was predicted as another (column). Tags that occur in neither are omitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The tags, `O` first, then by type.
    pub tags: Vec<String>,
    /// `counts[gold][predicted]`.
    pub counts: Vec<Vec<u64>>,
}

/// The evaluation of predicted tags.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scheme of the tags.
    pub scheme: Scheme,
    /// Number of sentences.
    pub sentences: u64,
    /// Number of tokens.
    pub tokens: u64,
    /// Fraction of tokens with the correct tag, including `O`.
    pub accuracy: f64,
    /// Tags other than `O`, each with its prefix (micro average).
    pub tags: Score,
    /// Entities as read by `conlleval`; see [`Reading::Conlleval`].
    pub conlleval: Entities,
    /// Entities read strictly; see [`Reading::Strict`].
    pub strict: Entities,
    /// The confusion matrix of the tags.
    pub confusion: Confusion,
}

#[derive(Default)]
struct Counts {
    /// Gold, predicted and correct by type.
    types: Vec<[u64; 3]>,
    gold: Vec<Span>,
    predicted: Vec<Span>,
}

impl Counts {
    fn add(&mut self, gold: &[Tag], predicted: &[Tag], reading: Reading) {
        spans_into(gold, reading, &mut self.gold);
        spans_into(predicted, reading, &mut self.predicted);
        let types = self.gold.iter().chain(&self.predicted).map(|span| span.kind as usize + 1).max().unwrap_or(0);
        if types > self.types.len() {
            self.types.resize(types, [0; 3]);
        }
        let mut rest = self.gold.iter().peekable();
        for span in &self.predicted {
            while rest.next_if(|gold| gold.start < span.start).is_some() {}
            self.types[span.kind as usize][1] += 1;
            self.types[span.kind as usize][2] += u64::from(rest.peek() == Some(&span));
        }
        for span in &self.gold {
            self.types[span.kind as usize][0] += 1;
        }
    }

    fn entities(&self, kinds: &Kinds) -> Entities {
        let mut all = [0; 3];
        let mut types = BTreeMap::new();
        for (kind, counts) in (0..).zip(&self.types).filter(|(_, counts)| **counts != [0; 3]) {
            all.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            let name = kinds.name(kind).unwrap_or_default().to_owned();
            types.insert(name, Score::new(counts[0], counts[1], counts[2]));
        }
        Entities { overall: Score::new(all[0], all[1], all[2]), types }
    }
}

/// Collects sentences for a [`Report`].
pub struct Evaluation {
    scheme: Scheme,
    sentences: u64,
    conlleval: Counts,
    strict: Counts,
    pairs: HashMap<(Tag, Tag), u64>,
}

impl Evaluation {
    /// An evaluation of gold and predicted tags in `scheme`.
    pub fn new(scheme: Scheme) -> Evaluation {
        Evaluation {
            scheme,
            sentences: 0,
            conlleval: Counts::default(),
            strict: Counts::default(),
            pairs: HashMap::new(),
        }
    }

    /// Adds a sentence; both slices have one tag per token.
    pub fn add(&mut self, gold: &[Tag], predicted: &[Tag]) {
        assert_eq!(gold.len(), predicted.len(), "one predicted tag per token");
        self.sentences += 1;
        self.conlleval.add(gold, predicted, Reading::Conlleval);
        self.strict.add(gold, predicted, Reading::Strict(self.scheme));
        for pair in gold.iter().copied().zip(predicted.iter().copied()) {
            *self.pairs.entry(pair).or_insert(0) += 1;
        }
    }

    /// The report on all sentences; `kinds` names the types.
    pub fn report(&self, kinds: &Kinds) -> Report {
        let (mut tokens, mut right, mut score) = (0, 0, [0; 3]);
        for (&(gold, predicted), &count) in &self.pairs {
            tokens += count;
            right += if gold == predicted { count } else { 0 };
            score[0] += if gold != Tag::O { count } else { 0 };
            score[1] += if predicted != Tag::O { count } else { 0 };
            score[2] += if gold != Tag::O && gold == predicted { count } else { 0 };
        }
        Report {
            scheme: self.scheme,
            sentences: self.sentences,
            tokens,
            accuracy: if tokens == 0 { 0.0 } else { right as f64 / tokens as f64 },
            tags: Score::new(score[0], score[1], score[2]),
            conlleval: self.conlleval.entities(kinds),
            strict: self.strict.entities(kinds),
            confusion: self.confusion(kinds),
        }
    }

    fn confusion(&self, kinds: &Kinds) -> Confusion {
        let mut tags: Vec<Tag> = self.pairs.keys().flat_map(|&(gold, predicted)| [gold, predicted]).collect();
        tags.sort_unstable_by_key(|tag| (tag.prefix != Prefix::O, kinds.name(tag.kind), tag.prefix));
        tags.dedup();
        let place: HashMap<Tag, usize> = tags.iter().copied().zip(0..).collect();
        let mut counts = vec![vec![0; tags.len()]; tags.len()];
        for (&(gold, predicted), &count) in &self.pairs {
            counts[place[&gold]][place[&predicted]] = count;
        }
        Confusion { tags: tags.iter().map(|tag| tag.text(kinds, self.scheme)).collect(), counts }
    }
}

impl Report {
    /// The report as a table of text: ratios in percent, without the confusion matrix.
    pub fn table(&self) -> String {
        let types = self.conlleval.types.keys().chain(self.strict.types.keys());
        let width = types.map(|name| shown(name).chars().count()).max().unwrap_or(0).max("all types".len());
        let mut out = format!(
            "{}, {}, scheme {}, accuracy {:.2} %\n",
            counted(self.sentences, "sentence"),
            counted(self.tokens, "token"),
            self.scheme,
            100.0 * self.accuracy
        );
        let head =
            |name: &str| format!("{name:<width$}     gold  predicted  correct  precision     recall         F1\n");
        let row = |name: &str, score: &Score| {
            let Score { gold, predicted, correct, .. } = score;
            let quotients = [score.precision, score.recall, score.f1].map(|x| format!(" {:>10.2}", 100.0 * x));
            format!("{name:<width$} {gold:>8} {predicted:>10} {correct:>8}{}\n", quotients.concat())
        };
        for (name, entities) in [("conlleval", &self.conlleval), ("strict", &self.strict)] {
            out += &head(name);
            out += &row("all types", &entities.overall);
            entities.types.iter().for_each(|(name, score)| out += &row(shown(name), score));
        }
        out += &head("tokens");
        out += &row("not O", &self.tags);
        out
    }
}

/// The name of a type in a table.
fn shown(name: &str) -> &str {
    if name.is_empty() { "(no type)" } else { name }
}

impl Confusion {
    /// The matrix as a table of text: gold in rows, predicted in columns. If it would be too wide for a screen, the most frequent
    /// confusions instead.
    pub fn table(&self) -> String {
        let cells = self.counts.iter().flatten().map(|n| n.to_string().len());
        let name = self.tags.iter().map(|tag| tag.chars().count());
        let first = name.clone().max().unwrap_or(0).max("gold".len());
        let width = name.chain(cells).max().unwrap_or(0);
        if first + self.tags.len() * (1 + width) > WIDEST {
            return self.most_frequent();
        }
        let mut out = format!("{:<first$}", "gold");
        self.tags.iter().for_each(|tag| out += &format!(" {tag:>width$}"));
        out.push('\n');
        for (tag, counts) in self.tags.iter().zip(&self.counts) {
            out += &format!("{tag:<first$}");
            counts.iter().for_each(|count| out += &format!(" {count:>width$}"));
            out.push('\n');
        }
        out
    }

    /// The tags that were most often confused.
    fn most_frequent(&self) -> String {
        let cells = |i: usize| (0..).zip(&self.counts[i]).filter(move |&(j, count)| i != j && *count > 0);
        let all = (0..self.tags.len()).flat_map(|i| cells(i).map(move |(j, &count)| (count, i, j)));
        let mut all: Vec<(u64, usize, usize)> = all.collect();
        all.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
        let most = &all[..all.len().min(LISTED)];
        let mut out =
            format!("the {} most frequent of {} confusions of {} tags", most.len(), all.len(), self.tags.len());
        out += " (--svg FILE plots all, --json lists them):\n   count  gold → predicted\n";
        for &(count, gold, predicted) in most {
            let name = |tag: usize| super::shown(&self.tags[tag]).replace('`', "");
            out += &format!("{count:>8}  {} → {}\n", name(gold), name(predicted));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::conll::{Conll, Form};
    use crate::text::tags::spans;
    use serde_json::Value;

    fn parse(sentence: &Value, kinds: &mut Kinds) -> Vec<Tag> {
        let tags = sentence.as_array().unwrap();
        tags.iter().map(|tag| Tag::parse(tag.as_str().unwrap(), kinds).unwrap()).collect()
    }

    /// Compares with the results of seqeval; a type that seqeval omits must have no entities here either.
    fn compare(what: &str, found: &Entities, expected: &Value) {
        let close = |found: &[f64], expected: &Value| {
            let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-12, "{what}: {found:?} and {expected:?}");
            }
        };
        let Score { precision, recall, f1, .. } = found.overall;
        close(&[precision, recall, f1], &expected["overall"]);
        let types = expected["types"].as_object().unwrap();
        assert!(found.types.keys().eq(types.keys()), "{what}: {found:?} and {types:?}");
        for (name, score) in &found.types {
            close(&[score.precision, score.recall, score.f1, score.gold as f64], &types[name]);
        }
    }

    /// The fixtures and the program that made them are in tests/fixtures/spans.
    #[test]
    fn hand_made_cases_agree_with_seqeval() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spans/cases.json"));
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        assert_eq!(cases.len(), 30);
        let mut differ = 0;
        for case in &cases {
            let name = format!("{} {}", case["scheme"], case["name"]);
            let mut kinds = Kinds::default();
            let mut evaluation = Evaluation::new(case["scheme"].as_str().unwrap().parse().unwrap());
            for (gold, predicted) in case["gold"].as_array().unwrap().iter().zip(case["predicted"].as_array().unwrap())
            {
                evaluation.add(&parse(gold, &mut kinds), &parse(predicted, &mut kinds));
            }
            let report = evaluation.report(&kinds);
            compare(&name, &report.conlleval, &case["conlleval"]);
            compare(&name, &report.strict, &case["strict"]);
            let accuracy = case["accuracy"].as_f64().unwrap();
            assert!((report.accuracy - accuracy).abs() <= 1e-12, "{name}");
            differ += usize::from(report.conlleval != report.strict);
        }
        assert!(differ > 10, "the readings differ in {differ} cases only");
    }

    #[test]
    fn all_short_sequences_agree_with_seqeval() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spans/spans.tsv"));
        sequences_agree(text, 1129);
    }

    fn sequences_agree(text: &str, count: usize) {
        assert_eq!(text.lines().count(), count);
        for line in text.lines() {
            let [scheme, tags, lenient, strict] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let mut kinds = Kinds::default();
            let tags: Vec<Tag> = tags.split(' ').map(|tag| Tag::parse(tag, &mut kinds).unwrap()).collect();
            let scheme: Scheme = scheme.parse().unwrap();
            let shown = |reading| {
                let spans = spans(&tags, reading);
                let one = |s: &Span| format!("{}:{}:{}", kinds.name(s.kind).unwrap(), s.start, s.end);
                spans.iter().map(one).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(shown(Reading::Conlleval), lenient, "{line}");
            assert_eq!(shown(Reading::Strict(scheme)), strict, "{line}");
            if scheme.check(&tags).is_none() {
                assert_eq!(lenient, strict, "{line}");
            }
        }
    }

    /// The same rule as `corrupt` in make.py.
    fn corrupt(tags: &[Tag], labels: &[Tag]) -> Vec<Tag> {
        let rule = |(i, &tag): (u32, &Tag)| {
            let h = i.wrapping_mul(2_654_435_761).wrapping_add(97);
            if (h >> 16) % 10 == 0 { labels[(h >> 8) as usize % labels.len()] } else { tag }
        };
        (0..).zip(tags).map(rule).collect()
    }

    #[test]
    fn real_files_agree_with_seqeval() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/ner"));
        if !root.exists() {
            println!("skipped: {} is not there", root.display());
            return;
        }
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spans/corpora.json"));
        let corpora: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
        assert_eq!(corpora.len(), 5);
        for (name, expected) in &corpora {
            let file = Conll::read(root.join(name), Form::default(), &crate::text::Inputs::default()).unwrap();
            let mut kinds = Kinds::default();
            let gold = file.gold(None, &mut kinds).unwrap();
            assert_eq!(gold.scheme.name(), expected["scheme"], "{name}");
            let mut labels = vec![Tag::O];
            let both = |kind| [Prefix::B, Prefix::I].map(|prefix| Tag::new(prefix, kind));
            labels.extend((0..kinds.len() as u32).flat_map(both));
            labels.sort_by_key(|tag| tag.text(&kinds, gold.scheme));
            let predicted = corrupt(&gold.tags, &labels);
            let mut evaluation = Evaluation::new(gold.scheme);
            file.sentences().for_each(|s| evaluation.add(&gold.tags[s.clone()], &predicted[s]));
            let report = evaluation.report(&kinds);
            assert_eq!(report.sentences, expected["sentences"].as_u64().unwrap(), "{name}");
            assert_eq!(report.tokens, expected["tokens"].as_u64().unwrap(), "{name}");
            let accuracy = expected["accuracy"].as_f64().unwrap();
            assert!((report.accuracy - accuracy).abs() <= 1e-12, "{name}");
            compare(name, &report.conlleval, &expected["conlleval"]);
            compare(name, &report.strict, &expected["strict"]);
        }
    }

    fn example() -> Report {
        let mut kinds = Kinds::default();
        let mut tags = |text: &str| text.split(' ').map(|t| Tag::parse(t, &mut kinds).unwrap()).collect::<Vec<_>>();
        let (gold, predicted) = (tags("B-per I-per O O B-a<b"), tags("B-per I-a<b O B-per B-a<b"));
        let mut evaluation = Evaluation::new(Scheme::Iob2);
        evaluation.add(&gold, &predicted);
        evaluation.report(&kinds)
    }

    #[test]
    fn tokens_and_confusion() {
        let report = example();
        assert_eq!(report.accuracy, 0.6);
        // Not O: gold 3, predicted 4, correct 2.
        assert_eq!(
            report.tags,
            Score { gold: 3, predicted: 4, correct: 2, precision: 0.5, recall: 2.0 / 3.0, f1: 4.0 / 7.0 }
        );
        assert_eq!(report.confusion.tags, ["O", "B-a<b", "I-a<b", "B-per", "I-per"]);
        let rows = [[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0; 5], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0]];
        assert_eq!(report.confusion.counts, rows.map(Vec::from));
        assert_eq!(report.conlleval.overall, Score::new(2, 4, 1));
        assert_eq!(report.strict.overall, Score::new(2, 3, 1));
    }

    #[test]
    fn shown_to_people() {
        let report = example();
        let expected = "\
1 sentence, 5 tokens, scheme iob2, accuracy 60.00 %
conlleval     gold  predicted  correct  precision     recall         F1
all types        2          4        1      25.00      50.00      33.33
a<b              1          2        1      50.00     100.00      66.67
per              1          2        0       0.00       0.00       0.00
strict        gold  predicted  correct  precision     recall         F1
all types        2          3        1      33.33      50.00      40.00
a<b              1          1        1     100.00     100.00     100.00
per              1          2        0       0.00       0.00       0.00
tokens        gold  predicted  correct  precision     recall         F1
not O            3          4        2      50.00      66.67      57.14
";
        assert_eq!(report.table(), expected);
        let expected = "\
gold      O B-a<b I-a<b B-per I-per
O         1     0     0     1     0
B-a<b     0     1     0     0     0
I-a<b     0     0     0     0     0
B-per     0     0     0     1     0
I-per     0     0     1     0     0
";
        assert_eq!(report.confusion.table(), expected);
        let svg = report.confusion.svg("a \"title\" & more\n");
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert!(
            svg.contains("a &quot;title&quot; &amp; more\u{fffd}<")
                && svg.contains("B-a&lt;b as B-a&lt;b: 1 (100.0 %)")
        );
        assert!(!svg.contains("NaN"), "a row without tokens");
        assert_eq!(svg.matches("<rect").count(), 1 + 25);
    }

    #[test]
    fn of_a_table_that_is_too_wide_the_most_frequent_are_listed() {
        let tags: Vec<String> = (0..143).map(|i| format!("B-class-{i}")).collect();
        let mut counts = vec![vec![0; 143]; 143];
        for i in 0..142 {
            (counts[i][i], counts[i][i + 1]) = (1000, i as u64);
        }
        let table = Confusion { tags, counts }.table();
        assert_eq!(table.lines().count(), 22);
        assert!(table.starts_with("the 20 most frequent of 141 confusions of 143 tags"), "{table}");
        assert_eq!(table.lines().nth(2), Some("     141  B-class-141 → B-class-142"));
        assert!(table.lines().all(|line| line.chars().count() < WIDEST));
    }

    #[test]
    fn json() {
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!(json["scheme"], "iob2");
        assert_eq!(json["tokens"], 5);
        assert_eq!(json["conlleval"]["types"]["per"]["predicted"], 2);
        assert_eq!(json["strict"]["overall"]["f1"], 0.4);
        assert_eq!(json["confusion"]["counts"][0][3], 1);
    }

    #[test]
    fn nothing_is_no_division_by_zero() {
        let report = Evaluation::new(Scheme::Io).report(&Kinds::default());
        assert_eq!((report.accuracy, report.tags.f1, report.strict.overall.f1), (0.0, 0.0, 0.0));
        assert!(report.confusion.svg("").contains("</svg>") && report.table().contains("0 tokens"));
    }
}
