//! Encodes tokens as rows of tables, and predicts labels.

use crate::models::Ner;
use crate::models::ner::{Batch, Table};
use crate::params::Arena;
use crate::pool;
use crate::text::features::{Caps, PADDING, Suffixes};
use crate::text::words::{BEGIN, END, WordIndex};
use hashbrown::HashMap;
use std::ops::Range;

/// Lengths of the suffixes that are features, in characters.
pub const LENGTHS: [usize; 3] = [2, 3, 4];
/// Widths of the feature vectors.
const CAPS_WIDTH: usize = 5;
const SUFFIX_WIDTH: usize = 10;
/// A suffix is a feature if at least this many tokens of the training text have it.
const SUFFIX_LEAST: u64 = 5;

/// Maps words to rows of tables.
pub struct Encoder {
    /// The words.
    pub words: WordIndex,
    /// Whether capitalisation is a feature.
    pub caps: bool,
    /// The suffixes that are features.
    pub suffixes: Vec<Suffixes>,
}

/// Maximum number of tables.
const TABLES: usize = 2 + LENGTHS.len();

impl Encoder {
    /// Builds the encoder from a training text.
    pub fn build<'a>(
        words: impl Iterator<Item = &'a str> + Clone,
        least: u64,
        lowercase: bool,
        caps: bool,
        suffix: bool,
    ) -> Self {
        let lengths = if suffix { &LENGTHS[..] } else { &[] };
        let suffixes = lengths.iter().map(|&length| Suffixes::build(words.clone(), length, SUFFIX_LEAST)).collect();
        Encoder { words: WordIndex::build(words, least, lowercase), caps, suffixes }
    }

    /// The tables it needs; the table of words has width `embed`.
    pub fn tables(&self, embed: usize) -> Vec<Table> {
        let table = |name: &str, rows, width| Table { name: name.into(), rows, width };
        let words = table("embedding", self.words.len(), embed);
        let caps = self.caps.then(|| table("caps", Caps::COUNT, CAPS_WIDTH));
        let suffixes = self.suffixes.iter().zip(LENGTHS);
        let suffixes = suffixes.map(|(s, length)| table(&format!("suffix{length}"), s.count(), SUFFIX_WIDTH));
        [words].into_iter().chain(caps).chain(suffixes).collect()
    }

    /// The row of a word in each table.
    fn rows(&self, word: &str) -> [u32; TABLES] {
        let mut rows = [0; TABLES];
        let mut all = rows.iter_mut();
        let mut put = |row: u32| *all.next().expect("there are no more tables") = row;
        put(self.words.find(word).0);
        if self.caps {
            put(Caps::of(word) as u32);
        }
        self.suffixes.iter().for_each(|suffixes| put(suffixes.find(word)));
        rows
    }

    /// Sentences as rows; `words` are their words, `ends` the ends of the sentences. `around` padding positions are added on both sides
    /// of each.
    pub fn encode(&self, words: &[&str], ends: &[usize], around: usize) -> Encoded {
        let tables = 1 + usize::from(self.caps) + self.suffixes.len();
        let blocks = blocks(ends, BLOCK);
        let parts: Vec<Vec<Vec<u32>>> = pool::map(&blocks, |block| {
            let tokens = starts(ends, block.start)..ends[block.end - 1];
            let mut rows: Vec<Vec<u32>> = vec![Vec::with_capacity(tokens.len() + 2 * around * block.len()); tables];
            let mut known: HashMap<&str, [u32; TABLES]> = HashMap::new();
            for i in block.clone() {
                let pad = |rows: &mut [Vec<u32>], word: u32| {
                    for (i, rows) in rows.iter_mut().enumerate() {
                        rows.extend(std::iter::repeat_n(if i == 0 { word } else { PADDING }, around));
                    }
                };
                pad(&mut rows, BEGIN);
                for &word in &words[starts(ends, i)..ends[i]] {
                    let own = known.entry(word).or_insert_with(|| self.rows(word));
                    rows.iter_mut().zip(own).for_each(|(rows, row)| rows.push(*row));
                }
                pad(&mut rows, END);
            }
            rows
        });
        let rows = (0..tables).map(|table| parts.iter().flat_map(|part| &part[table]).copied().collect()).collect();
        let places = (0..ends.len()).flat_map(|i| {
            let before = (2 * i + 1) * around;
            (starts(ends, i)..ends[i]).map(move |token| (token + before) as u32)
        });
        Encoded { around, rows, places: places.collect(), ends: ends.to_vec() }
    }
}

/// The beginning of sentence i.
fn starts(ends: &[usize], i: usize) -> usize {
    if i == 0 { 0 } else { ends[i - 1] }
}

/// Number of tokens encoded or tagged at a time.
const BLOCK: usize = 1024;
/// Number of runs of blocks, enough for many threads, and the maximum number of blocks in a run.
const RUNS: usize = 32;
const LONGEST_RUN: usize = 64;

/// Divides sentences into blocks of at least `tokens` tokens.
fn blocks(ends: &[usize], tokens: usize) -> Vec<Range<usize>> {
    let (mut blocks, mut first) = (Vec::new(), 0);
    for (i, end) in ends.iter().enumerate() {
        if end - starts(ends, first) >= tokens || i + 1 == ends.len() {
            blocks.push(first..i + 1);
            first = i + 1;
        }
    }
    blocks
}

/// Sentences as rows of tables, with padding before and after each.
pub struct Encoded {
    around: usize,
    /// One list per table.
    pub(super) rows: Vec<Vec<u32>>,
    /// The position of each token in these lists.
    places: Vec<u32>,
    /// The end of each sentence, in tokens.
    pub(super) ends: Vec<usize>,
}

impl Encoded {
    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.places.len()
    }

    /// The tokens of a sentence.
    pub(super) fn sentence(&self, i: usize) -> Range<usize> {
        starts(&self.ends, i)..self.ends[i]
    }

    /// Adds the windows of a token to `inputs`.
    pub(super) fn push(&self, inputs: &mut [Vec<u32>], token: usize) {
        let place = self.places[token] as usize;
        for (inputs, rows) in inputs.iter_mut().zip(&self.rows) {
            inputs.extend_from_slice(&rows[place - self.around..=place + self.around]);
        }
    }

    /// Blocks of sentences, in runs that one thread labels with one working memory, and the maximum number of tokens of a block in each
    /// run.
    fn runs(&self) -> Vec<(usize, Vec<Range<usize>>)> {
        let blocks = blocks(&self.ends, BLOCK);
        let a_run = blocks.len().div_ceil(RUNS).clamp(1, LONGEST_RUN);
        let most = |run: &[Range<usize>]| run.iter().map(|block| self.tokens_of(block).len()).max().unwrap_or(0);
        blocks.chunks(a_run).map(|run| (most(run), run.to_vec())).collect()
    }

    /// The tokens of some sentences.
    fn tokens_of(&self, sentences: &Range<usize>) -> Range<usize> {
        starts(&self.ends, sentences.start)..self.ends[sentences.end - 1]
    }

    /// Bytes that [`Encoded::label`] takes with `threads` threads: they may process the largest runs at the same time.
    pub fn label_bytes(&self, net: &Ner, threads: usize) -> usize {
        let mut most: Vec<usize> = self.runs().iter().map(|run| run.0).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        let a_token = net.config().window * self.rows.len() * size_of::<u32>();
        let a_run = |&tokens: &usize| net.space_bytes::<f32>(tokens, false) + tokens * a_token;
        most.iter().take(threads).map(a_run).sum::<usize>() + self.tokens() * 2 * size_of::<u32>()
    }

    /// The predicted labels, one per token.
    pub fn label(&self, net: &Ner, w: &Arena<f32>) -> Vec<u32> {
        let label = |(most, run): &(usize, Vec<Range<usize>>)| {
            let mut space = net.space(*most, false);
            // A cloned vector would have no spare capacity.
            let inputs = self.rows.iter().map(|_| Vec::with_capacity(most * net.config().window));
            let mut inputs: Vec<Vec<u32>> = inputs.collect();
            let (mut ends, mut labels) = (Vec::new(), Vec::new());
            for block in run {
                let tokens = self.tokens_of(block);
                inputs.iter_mut().for_each(Vec::clear);
                tokens.clone().for_each(|token| self.push(&mut inputs, token));
                ends.clear();
                ends.extend(block.clone().map(|i| self.ends[i] - tokens.start));
                let from = labels.len();
                labels.resize(from + tokens.len(), 0);
                net.predict(&mut labels[from..], &mut space, Batch { inputs: &inputs, ends: &ends }, w);
            }
            labels
        };
        pool::map(&self.runs(), label).concat()
    }
}
