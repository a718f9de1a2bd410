//! Word grammars: sources of text whose probabilities are known exactly.
//!
//! A grammar file (TOML, see `data/news.toml`) names *classes* (distributions over words) and *phrases* (weighted alternatives, each a
//! row of words and references). It is compiled into a flat hidden Markov model: a state is one position in the expanded phrases; it
//! emits a word of one class, carries one IOB2 tag, and has transitions to later states. The expansion runs from the end of the
//! sentence to its beginning, so that two positions with the same class, tag and future are the same state; shared parts are found
//! without being declared, and merging is exact (the result is the minimal automaton read from the right). Transitions therefore lead
//! only to states created earlier, and every sentence ends.
//!
//! ```toml
//! start = "sentence"          # the phrase that is a sentence
//! capitalise = true           # the first letter of a sentence is upper case; default: false
//!
//! [class]
//! city = { tag = "LOC", words = "Ashford Marlow Linden" }   # the k-th word has weight k^-zipf; default: zipf = 1
//! beat = { zipf = 0.5, words = "beat defeated edged" }
//! article = { weights = { the = 5, a = 2 } }                # or all weights explicitly
//! score = "2-1 1-0"                                         # short for { words = "2-1 1-0" }
//!
//! [phrase]
//! team = { tag = "ORG", any = ["3 | {city} United", "{city}"] }   # "weight | row"; default weight: 1
//! sentence = ["{team} {beat} {team} {score?0.9} ."]   # {name?p}: present with probability p, {name?}: ½
//! ```
//!
//! A tag makes one entity of everything below it; if tags are nested, the outermost counts.

mod compile;
mod file;
mod lists;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::math::{exp, ln};
use crate::rng::{Purpose, Stream};
use compile::Compiler;
use file::Source;
use hashbrown::HashMap;
use rand::RngExt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where a sentence ends, as the target of a transition.
const END: u32 = u32::MAX;

/// A hidden Markov source compiled from a grammar file. Its probabilities (not logarithms) are exact up to rounding in f64.
#[derive(Debug)]
pub struct Grammar {
    /// All words the source can emit, sorted.
    words: Vec<String>,
    ids: HashMap<String, u32>,
    /// "O", then "B-X" and "I-X" of every entity type X in sorted order.
    tags: Vec<String>,
    emissions: Vec<Emission>,
    /// For every word, the emissions that can produce it, with its probability there.
    emitters: Vec<Vec<(u32, f64)>>,
    states: Vec<State>,
    start: Choice,
}

/// A distribution over words.
#[derive(Debug)]
struct Emission {
    words: Vec<u32>,
    cumulative: Vec<f64>,
}

#[derive(Debug)]
struct State {
    emission: u32,
    tag: u32,
    next: Choice,
}

/// The transitions from a state and, for drawing, their cumulative sums.
#[derive(Debug)]
struct Choice {
    next: Vec<(u32, f64)>,
    cumulative: Vec<f64>,
}

/// The cost of a text under a source; see [`Grammar::perplexity`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Lines with at least one word.
    pub sentences: usize,
    /// Words, and one end for every sentence.
    pub targets: usize,
    /// Negative natural logarithm of the probability of all sentences that the source can produce.
    pub nats: f64,
    /// Sentences that the source cannot produce.
    pub impossible: usize,
}

impl Cost {
    /// exp(nats / targets), comparable with exp(mean loss) of a language model that predicts every word and `<eos>`.
    /// Infinite if the source cannot produce one of the sentences, NaN if there are no sentences.
    pub fn perplexity(&self) -> f64 {
        if self.impossible > 0 { f64::INFINITY } else { exp(self.nats / self.targets as f64) }
    }
}

/// What [`synth`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The files written: text, CoNLL, pairs and words of train, valid and test.
    pub files: Vec<PathBuf>,
    /// Sentences in train, valid and test.
    pub sentences: [usize; 3],
    /// Words in train, valid and test, without ends of sentences.
    pub words: [usize; 3],
}

impl Grammar {
    /// Reads and compiles the grammar file at `path`.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "reading", e))?;
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            let offset = e.valid_up_to();
            let line = 1 + bytes[..offset].iter().filter(|&&b| b == b'\n').count();
            Error::input(path, line, format!("byte 0x{:02x} at offset {offset}", bytes[offset]), "UTF-8 text")
        })?;
        Self::parse(path, text)
    }

    /// The news grammar bundled with the program, `data/news.toml`.
    pub fn bundled() -> Self {
        Self::parse(Path::new("data/news.toml"), include_str!("../../data/news.toml"))
            .unwrap_or_else(|e| panic!("the bundled grammar is broken: {e}"))
    }

    /// Compiles the text of a grammar file; `path` is only for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let source = Source::new(path, text)?;
        source.check()?;
        Compiler::new(&source).grammar()
    }

    /// Number of hidden states.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// Number of transitions between states, including beginnings and ends of sentences.
    pub fn transitions(&self) -> usize {
        self.start.next.len() + self.states.iter().map(|s| s.next.next.len()).sum::<usize>()
    }

    /// All words the source can emit, sorted.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// "O", then "B-X" and "I-X" of every entity type X in sorted order.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// For every word of [`words`](Self::words), the entity types (None: outside) that it can have, sorted.
    pub fn types(&self) -> Vec<Vec<Option<&str>>> {
        let mut types = vec![Vec::new(); self.words.len()];
        for state in &self.states {
            let kind = self.tags[state.tag as usize].split_once('-').map(|(_, kind)| kind);
            for &word in &self.emissions[state.emission as usize].words {
                types[word as usize].push(kind);
            }
        }
        for of_word in &mut types {
            of_word.sort_unstable();
            of_word.dedup();
        }
        types
    }

    /// Sentence number `index` (below 2⁵⁶) of the infinite text with this seed: words with their IOB2 tags.
    pub fn sentence(&self, seed: u64, index: u64) -> Vec<(&str, &str)> {
        let mut stream = Stream::new(seed, Purpose::Synth, index, 0);
        let mut sentence = Vec::new();
        let mut at = self.start.draw(&mut stream);
        while at != END {
            let state = &self.states[at as usize];
            let emission = &self.emissions[state.emission as usize];
            let word = emission.words[draw(&emission.cumulative, &mut stream)];
            sentence.push((self.words[word as usize].as_str(), self.tags[state.tag as usize].as_str()));
            at = state.next.draw(&mut stream);
        }
        sentence
    }

    /// Natural logarithm of the probability of a sentence and its end, summed over all ways to produce it
    /// (forward algorithm); None if there is no way.
    pub fn log_prob(&self, words: &[&str]) -> Option<f64> {
        self.forward(words).map(|lattice| lattice.log_prob)
    }

    /// The cost of a text, one sentence per line, words separated by white space; blank lines are skipped.
    pub fn perplexity<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Cost {
        let mut cost = Cost::default();
        let mut words = Vec::new();
        for line in lines {
            words.clear();
            words.extend(line.split_whitespace());
            if words.is_empty() {
                continue;
            }
            cost.sentences += 1;
            cost.targets += words.len() + 1;
            match self.log_prob(&words) {
                Some(log_prob) => cost.nats -= log_prob,
                None => cost.impossible += 1,
            }
        }
        cost
    }

    /// Posterior probability of every tag at every word, `[words, tags]` (forward-backward); None if the source cannot
    /// produce the sentence.
    pub fn posterior(&self, words: &[&str]) -> Option<Vec<Vec<f64>>> {
        let lattice = self.forward(words)?;
        // `future[s]` is the scaled probability of the words from here on, given that state s emits the first of them.
        let mut future = vec![0.0; self.states.len()];
        let mut posterior = vec![vec![0.0; self.tags.len()]; words.len()];
        for (t, column) in lattice.columns.iter().enumerate().rev() {
            let beta: Vec<f64> = column
                .iter()
                .map(|place| {
                    let next = &self.states[place.state as usize].next.next;
                    if t + 1 == words.len() {
                        to_end(next) / lattice.scale_of_end
                    } else {
                        next.iter().filter(|(to, _)| *to != END).map(|(to, p)| p * future[*to as usize]).sum()
                    }
                })
                .collect();
            if let Some(after) = lattice.columns.get(t + 1) {
                after.iter().for_each(|place| future[place.state as usize] = 0.0);
            }
            for (place, beta) in column.iter().zip(beta) {
                future[place.state as usize] = place.emitted * beta / lattice.scales[t];
                posterior[t][self.states[place.state as usize].tag as usize] += place.alpha * beta;
            }
        }
        Some(posterior)
    }

    /// The most probable tag of every word by itself: no tagger that sees the whole sentence has a higher expected accuracy. Ties go to
    /// the first of [`tags`](Self::tags). None if the source cannot produce the sentence.
    pub fn posterior_tags(&self, words: &[&str]) -> Option<Vec<&str>> {
        let best = |row: &Vec<f64>| (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        Some(self.posterior(words)?.iter().map(|row| self.tags[best(row)].as_str()).collect())
    }

    /// The tags along the most probable way to produce the sentence (Viterbi); None if there is no way.
    pub fn viterbi_tags(&self, words: &[&str]) -> Option<Vec<&str>> {
        let mut emits = vec![0.0; self.emissions.len()];
        // (state, probability of the best path to it divided by the largest, index of its predecessor)
        let mut columns: Vec<Vec<(u32, f64, usize)>> = Vec::with_capacity(words.len());
        let mut slot = vec![usize::MAX; self.states.len()];
        for word in words {
            let emitters = &self.emitters[*self.ids.get(*word)? as usize];
            emitters.iter().for_each(|&(emission, p)| emits[emission as usize] = p);
            let mut column: Vec<(u32, f64, usize)> = Vec::new();
            let mut reach = |from: usize, weight: f64, next: &[(u32, f64)]| {
                for &(to, p) in next.iter().filter(|(to, _)| *to != END) {
                    let p = weight * p * emits[self.states[to as usize].emission as usize];
                    if p > 0.0 && slot[to as usize] == usize::MAX {
                        slot[to as usize] = column.len();
                        column.push((to, p, from));
                    } else if p > 0.0 && p > column[slot[to as usize]].1 {
                        column[slot[to as usize]] = (to, p, from);
                    }
                }
            };
            match columns.last() {
                None => reach(0, 1.0, &self.start.next),
                Some(last) => {
                    last.iter().enumerate().for_each(|(i, &(s, p, _))| reach(i, p, &self.states[s as usize].next.next))
                }
            }
            let largest = column.iter().fold(0.0, |m: f64, place| m.max(place.1));
            for place in &mut column {
                slot[place.0 as usize] = usize::MAX;
                place.1 /= largest;
            }
            emitters.iter().for_each(|&(emission, _)| emits[emission as usize] = 0.0);
            columns.push(column);
        }
        let ends = |&(s, p, _): &(u32, f64, usize)| p * to_end(&self.states[s as usize].next.next);
        let last = columns.last()?;
        let mut at = (0..last.len()).rev().max_by(|&a, &b| ends(&last[a]).total_cmp(&ends(&last[b])))?;
        if ends(&last[at]) <= 0.0 {
            return None;
        }
        let mut tags = vec![""; words.len()];
        for (column, tag) in columns.iter().zip(&mut tags).rev() {
            *tag = self.tags[self.states[column[at].0 as usize].tag as usize].as_str();
            at = column[at].2;
        }
        Some(tags)
    }

    /// The forward algorithm with scaled probabilities, restricted to the states that can be reached.
    fn forward(&self, words: &[&str]) -> Option<Lattice> {
        let mut lattice =
            Lattice { columns: Vec::with_capacity(words.len()), scales: Vec::new(), scale_of_end: 0.0, log_prob: 0.0 };
        let mut emits = vec![0.0; self.emissions.len()];
        let mut slot = vec![usize::MAX; self.states.len()];
        for word in words {
            let emitters = &self.emitters[*self.ids.get(*word)? as usize];
            emitters.iter().for_each(|&(emission, p)| emits[emission as usize] = p);
            let mut column: Vec<Place> = Vec::new();
            let mut reach = |weight: f64, next: &[(u32, f64)]| {
                for &(to, p) in next.iter().filter(|(to, _)| *to != END) {
                    let emitted = emits[self.states[to as usize].emission as usize];
                    if emitted > 0.0 {
                        if slot[to as usize] == usize::MAX {
                            slot[to as usize] = column.len();
                            column.push(Place { state: to, alpha: 0.0, emitted });
                        }
                        column[slot[to as usize]].alpha += weight * p * emitted;
                    }
                }
            };
            match lattice.columns.last() {
                None => reach(1.0, &self.start.next),
                Some(last) => last.iter().for_each(|p| reach(p.alpha, &self.states[p.state as usize].next.next)),
            }
            let scale: f64 = column.iter().map(|place| place.alpha).sum();
            if column.is_empty() {
                return None;
            }
            for place in &mut column {
                slot[place.state as usize] = usize::MAX;
                place.alpha /= scale;
            }
            emitters.iter().for_each(|&(emission, _)| emits[emission as usize] = 0.0);
            lattice.log_prob += ln(scale);
            lattice.scales.push(scale);
            lattice.columns.push(column);
        }
        let last = lattice.columns.last()?;
        lattice.scale_of_end = last.iter().map(|p| p.alpha * to_end(&self.states[p.state as usize].next.next)).sum();
        lattice.log_prob += ln(lattice.scale_of_end);
        (lattice.scale_of_end > 0.0).then_some(lattice)
    }
}

/// Results of the forward algorithm for the backward one: per word, the states that can emit it there, and the probability of the word
/// given the words before it.
struct Lattice {
    columns: Vec<Vec<Place>>,
    scales: Vec<f64>,
    scale_of_end: f64,
    log_prob: f64,
}

struct Place {
    state: u32,
    /// Probability of the state given the words up to this one.
    alpha: f64,
    /// Probability of the word in this state.
    emitted: f64,
}

fn to_end(next: &[(u32, f64)]) -> f64 {
    next.last().map_or(0.0, |&(to, p)| if to == END { p } else { 0.0 })
}

impl Choice {
    fn new(next: &[(u32, f64)]) -> Self {
        Choice { next: next.to_vec(), cumulative: running_sum(next.iter().map(|&(_, p)| p)) }
    }

    fn draw(&self, stream: &mut Stream) -> u32 {
        self.next[draw(&self.cumulative, stream)].0
    }
}

fn running_sum(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// Draws an index by weight; if there is only one, nothing is drawn from the stream.
fn draw(cumulative: &[f64], stream: &mut Stream) -> usize {
    let last = cumulative.len() - 1;
    if last == 0 {
        return 0;
    }
    let point = stream.random::<f64>() * cumulative[last];
    cumulative.partition_point(|&c| c <= point).min(last)
}

/// Draws `words` words (slightly more: sentences are complete) and writes them below `out` as text, one sentence per line
/// (`lm/train.txt`, `lm/valid.txt`, `lm/test.txt`: 80, 10 and 10 %), and as the same sentences with tags, word TAB tag, with an empty
/// line after each (`ner/*.conll`). Also writes pairs of frequent words, word TAB word TAB 1 if they are in the same class, otherwise 0
/// (`pairs/*.tsv`, one pair per 50 words), and words that have only one kind, word TAB kind (`words/*.tsv`). The same grammar, number
/// and seed give the same bytes.
/// Existing files are only replaced if `replace`; they are complete or untouched.
pub fn synth(grammar: &Grammar, words: u64, seed: u64, out: impl AsRef<Path>, replace: bool) -> Result<Summary> {
    let out = out.as_ref();
    if words < 10 {
        return Err(Error::Usage(format!("found {words} words to draw, expected at least 10")));
    }
    let parts = ["train", "valid", "test"].map(|part| {
        [
            format!("lm/{part}.txt"),
            format!("ner/{part}.conll"),
            format!("pairs/{part}.tsv"),
            format!("words/{part}.tsv"),
        ]
        .map(|name| out.join(name))
    });
    if let Some(file) = parts.iter().flatten().find(|file| !replace && file.exists()) {
        return Err(Error::input(file, 0, "an existing file", "a new one (it would be overwritten)"));
    }
    for folder in ["lm", "ner", "pairs", "words"].map(|folder| out.join(folder)) {
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "creating", e))?;
    }
    let partial = |file: &Path| file.with_extension("partial");
    let mut summary = Summary { files: parts.iter().flatten().cloned().collect(), sentences: [0; 3], words: [0; 3] };
    let draw_all = |summary: &mut Summary| {
        let mut index = 0;
        let mut left = words;
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for (part, files) in parts.iter().enumerate() {
            let share = if part == 0 { left - 2 * (words / 10) } else { words / 10 };
            left -= share;
            let [text, conll, ..] = files;
            let mut text = Output::create(&partial(text))?;
            let mut conll = Output::create(&partial(conll))?;
            while (summary.words[part] as u64) < share {
                let sentence = grammar.sentence(seed, index);
                index += 1;
                summary.sentences[part] += 1;
                summary.words[part] += sentence.len();
                for (i, (word, tag)) in sentence.iter().enumerate() {
                    *counts.entry(word).or_insert(0) += u64::from(part == 0);
                    text.write(format_args!("{}{word}", if i == 0 { "" } else { " " }))?;
                    conll.write(format_args!("{word}\t{tag}\n"))?;
                }
                text.write(format_args!("\n"))?;
                conll.write(format_args!("\n"))?;
            }
            text.finish()?;
            conll.finish()?;
        }
        let pairs = grammar.pairs(&counts, (words / 50) as usize, seed);
        let pairs: Vec<String> =
            pairs.iter().map(|(first, second, alike)| format!("{first}\t{second}\t{}\n", u8::from(*alike))).collect();
        let kinds = grammar.kinds(&counts, seed);
        let kinds: Vec<String> = kinds.iter().map(|(word, kind)| format!("{word}\t{kind}\n")).collect();
        for (lines, file) in [(&pairs, 2), (&kinds, 3)] {
            let tenth = lines.len() / 10;
            let (train, rest) = lines.split_at(lines.len() - 2 * tenth);
            for (part, lines) in [train, &rest[..tenth], &rest[tenth..]].into_iter().enumerate() {
                let mut output = Output::create(&partial(&parts[part][file]))?;
                lines.iter().try_for_each(|line| output.write(format_args!("{line}")))?;
                output.finish()?;
            }
        }
        summary
            .files
            .iter()
            .try_for_each(|file| std::fs::rename(partial(file), file).map_err(|e| Error::io(file, "writing", e)))
    };
    let result = draw_all(&mut summary);
    if result.is_err() {
        // The first error is reported; files that cannot be removed remain.
        summary.files.iter().for_each(|file| drop(std::fs::remove_file(partial(file))));
    }
    result.map(|()| summary)
}

/// A file being written, and its name for messages.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Output {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(path, "writing", e))?;
        Ok(Output { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) -> Result<()> {
        self.file.write_fmt(what).map_err(|e| Error::io(&self.path, "writing", e))
    }

    fn finish(mut self) -> Result<()> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(|e| Error::io(&self.path, "writing", e))
    }
}
