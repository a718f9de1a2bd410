//! Taggers on tagged text: where nets and CoNLL files meet.

use super::lexicon::read_words;
use super::memory::{self, Needs};
use super::run::Batches;
use super::saved::{self, CONFIG, NerConfig as Config, Saved, VOCABULARY, read_arena};
use super::values::size;
use crate::error::{Error, Result};
use crate::kernels::dropout::Keep;
use crate::models::Ner;
use crate::models::ner::{self, Batch, Noise, Objective, Space, Table};
use crate::notices::Notice;
use crate::params::{Arena, Gradients, Layout};
use crate::pool;
use crate::profile::{Part, span};
use crate::rng::{Place, Purpose};
use crate::text::conll::{Column, Conll, Form, Gold};
use crate::text::features::{Caps, PADDING, Suffixes};
use crate::text::spans::{Evaluation, Report};
use crate::text::tags::{self, Kinds, Labels, Scheme, Tag};
use crate::text::words::{BEGIN, END, UNKNOWN, WordIndex};
use crate::text::{Inputs, list};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use hashbrown::HashMap;
use serde::Serialize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The file of a checkpoint that lists the suffixes, a table for each length.
pub const SUFFIXES: &str = "suffixes.json";
/// Lengths of the suffixes that are features, in characters.
pub const LENGTHS: [usize; 3] = [2, 3, 4];
/// Widths of the features' vectors.
const CAPS_WIDTH: usize = 5;
const SUFFIX_WIDTH: usize = 10;
/// A suffix is a feature if so many tokens of the training text have it.
const SUFFIX_LEAST: u64 = 5;

/// What turns words into rows of tables.
pub struct Encoder {
    /// The words.
    pub words: WordIndex,
    /// Whether capitals are a feature.
    pub caps: bool,
    /// The suffixes that are.
    pub suffixes: Vec<Suffixes>,
}

/// Most tables that there are.
const TABLES: usize = 2 + LENGTHS.len();

impl Encoder {
    /// The encoder of a training text.
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

    /// The tables that it needs, the words' of width `embed`.
    pub fn tables(&self, embed: usize) -> Vec<Table> {
        let table = |name: &str, rows, width| Table { name: name.into(), rows, width };
        let words = table("embedding", self.words.len(), embed);
        let caps = self.caps.then(|| table("caps", Caps::COUNT, CAPS_WIDTH));
        let suffixes = self.suffixes.iter().zip(LENGTHS);
        let suffixes = suffixes.map(|(s, length)| table(&format!("suffix{length}"), s.count(), SUFFIX_WIDTH));
        [words].into_iter().chain(caps).chain(suffixes).collect()
    }

    /// The rows of a word.
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

    /// Sentences as rows; `words` are theirs, `ends` where each ends. `around` places are added on both sides of each.
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

/// Where sentence i begins.
fn starts(ends: &[usize], i: usize) -> usize {
    if i == 0 { 0 } else { ends[i - 1] }
}

/// Tokens that are encoded or tagged at a time.
const BLOCK: usize = 1024;
/// Runs of blocks, so that many threads have work, and the most blocks in one.
const RUNS: usize = 32;
const LONGEST_RUN: usize = 64;

/// Sentences in blocks of at least `tokens` tokens.
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

/// Sentences as rows of tables, with places before and after each.
pub struct Encoded {
    around: usize,
    /// For each table.
    rows: Vec<Vec<u32>>,
    /// Where each token is in them.
    places: Vec<u32>,
    /// Where each sentence ends, in tokens.
    ends: Vec<usize>,
}

impl Encoded {
    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.places.len()
    }

    fn sentence(&self, i: usize) -> Range<usize> {
        starts(&self.ends, i)..self.ends[i]
    }

    /// Adds the windows of a token to `inputs`.
    fn push(&self, inputs: &mut [Vec<u32>], token: usize) {
        let place = self.places[token] as usize;
        for (inputs, rows) in inputs.iter_mut().zip(&self.rows) {
            inputs.extend_from_slice(&rows[place - self.around..=place + self.around]);
        }
    }

    /// Blocks of sentences, in the runs that one thread labels with one memory, and the most tokens that a block of the run has.
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

    /// Bytes that [`Encoded::label`] takes, by as many threads: they may have the runs that need most at the same time.
    pub fn label_bytes(&self, net: &Ner, threads: usize) -> usize {
        let mut most: Vec<usize> = self.runs().iter().map(|run| run.0).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        let a_token = net.config().window * self.rows.len() * size_of::<u32>();
        let a_run = |&tokens: &usize| net.space_bytes::<f32>(tokens, false) + tokens * a_token;
        most.iter().take(threads).map(a_run).sum::<usize>() + self.tokens() * 2 * size_of::<u32>()
    }

    /// The labels that the net gives, one a token.
    pub fn label(&self, net: &Ner, w: &Arena<f32>) -> Vec<u32> {
        let label = |(most, run): &(usize, Vec<Range<usize>>)| {
            let mut space = net.space(*most, false);
            // A clone of a vector would have no room.
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

/// A tagged file and its tags in the scheme of a tagger.
pub struct Tagged {
    /// The file.
    pub file: Conll,
    /// Its tags.
    pub gold: Gold,
}

/// Reads a file, and converts its tags to the scheme `to` if that is given. What is odd is warned of.
pub fn read_tagged(path: &Path, form: Form, to: Option<Scheme>, kinds: &mut Kinds, inputs: &Inputs) -> Result<Tagged> {
    let file = Conll::read(path, form, inputs)?;
    if file.tokens() == 0 {
        return Err(Error::input(path, 0, "no tokens", "lines of a word and its tag"));
    }
    let mut gold = file.gold(None, kinds)?;
    file.notices().iter().chain(gold.notices()).try_for_each(|notice| inputs.warn(notice.clone()))?;
    if let Some(to) = to
        && to != gold.scheme
    {
        for sentence in file.sentences() {
            tags::convert(&mut gold.tags[sentence], to);
        }
        gold.scheme = to;
    }
    Ok(Tagged { file, gold })
}

/// Where words and tags are in a CoNLL file.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FormOptions {
    /// For taggers: column of the words, from 1 [default: the first; for a trained model, that of its training text]
    #[arg(long, value_name = "N", value_parser = column)]
    #[serde(skip_serializing_if = "Option::is_none")]
    word_column: Option<usize>,
    /// For taggers: cut sentences of more tokens than N, after full stops where there are any [default: 2000, or as in training]
    #[arg(long, value_name = "N", value_parser = size)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_sentence: Option<usize>,
}

impl FormOptions {
    /// The form that is asked for, where it differs from `form`; `tags` is the column of the tags.
    pub fn form(&self, form: Form, tags: Option<usize>) -> Result<Form> {
        let form = Form {
            word: self.word_column.unwrap_or(form.word),
            tags: tags.map_or(form.tags, Column::Number),
            longest: self.max_sentence.unwrap_or(form.longest),
        };
        if form.tags == Column::Number(form.word) {
            let (n, hint) = (form.word, "--word-column says where the words are, --column where the tags");
            return Err(Error::Usage(format!("--column {n}: column {n} holds the words; {hint}")));
        }
        Ok(form)
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.word_column.is_some() || self.max_sentence.is_some()
    }
}

/// A column.
pub fn column(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..) => Ok(n),
        _ => Err("expected a column's number, from 1".into()),
    }
}

/// Words of a file, and where its sentences end.
pub fn words_and_ends(file: &Conll) -> (Vec<&str>, Vec<usize>) {
    (file.words().collect(), file.sentences().map(|sentence| sentence.end).collect())
}

/// A trained tagger.
pub struct Tagger {
    /// What it is.
    pub config: Config,
    /// The net.
    pub net: Ner,
    /// Its weights.
    pub w: Arena<f32>,
    /// What it makes of words.
    pub encoder: Encoder,
}

impl Tagger {
    /// Loads the best checkpoint of a model directory; warnings go to standard error.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::read(&mut saved::open(dir)?)
    }

    /// Reads a checkpoint. Nothing large is allocated before the file is known to hold it.
    pub fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::Ner(config) => config,
            other => return Err(other.wrong_kind(checkpoint.path(), "taggers (wordmill train ner)")),
        };
        let words = read_words(checkpoint)?;
        let path = checkpoint.path().join(SUFFIXES);
        let suffixes: Vec<Suffixes> = if config.suffix {
            serde_json::from_slice(&checkpoint.read(SUFFIXES)?)
                .map_err(|error| Error::model(&path, format!("is not a list of suffixes: {error}")))?
        } else {
            Vec::new()
        };
        let path = checkpoint.path().join(CONFIG);
        let wrong = |what: String| Err(Error::model(&path, what));
        let encoder = Encoder { words, caps: config.caps, suffixes };
        let ner::Config { tables, window, hidden, labels, .. } = &config.net;
        let sane = |n: usize| (1..=1 << 20).contains(&n);
        let embed = tables.first().map_or(0, |table| table.width);
        if !sane(embed) || !sane(*hidden) || window % 2 == 0 || *window > MOST_PLACES {
            return wrong("has sizes that no model has".into());
        }
        if *tables != encoder.tables(embed) || *labels != config.labels.count() {
            return wrong(format!("does not fit its {VOCABULARY}, {SUFFIXES} or labels"));
        }
        let net = Ner::new(config.net.clone());
        let w = read_arena(checkpoint, net.layout())?;
        Ok(Tagger { config, net, w, encoder })
    }

    /// The tags of sentences.
    ///
    /// # Errors
    /// There is no memory for the longest of them.
    pub fn tag(&self, words: &[&str], ends: &[usize], inputs: &Inputs) -> Result<Vec<Tag>> {
        let encoded = self.encoder.encode(words, ends, self.config.net.window / 2);
        let longest = (0..ends.len()).map(|i| encoded.sentence(i).len()).max().unwrap_or(0);
        let work = format!("tagging, with a longest sentence of {longest} tokens,");
        memory::check_threads(&work, |threads| encoded.label_bytes(&self.net, threads), inputs)?;
        let labels = encoded.label(&self.net, &self.w);
        Ok(labels.into_iter().map(|label| self.config.labels.tag(label as usize)).collect())
    }

    /// How well it tags a file.
    ///
    /// # Errors
    /// Those of [`Tagger::tag`].
    pub fn evaluate(&self, tagged: &Tagged, kinds: &Kinds, inputs: &Inputs) -> Result<Report> {
        let (words, ends) = words_and_ends(&tagged.file);
        Ok(evaluate(&self.tag(&words, &ends, inputs)?, tagged, kinds))
    }
}

/// Compares tags with those of a file.
pub fn evaluate(predicted: &[Tag], tagged: &Tagged, kinds: &Kinds) -> Report {
    let mut evaluation = Evaluation::new(tagged.gold.scheme);
    for sentence in tagged.file.sentences() {
        evaluation.add(&tagged.gold.tags[sentence.clone()], &predicted[sentence]);
    }
    evaluation.report(kinds)
}

/// Warns of tags of `other` that the tagger does not know: they are evaluated, and always wrong.
pub fn warn_of_unseen(labels: &Labels, other: &Tagged, kinds: &Kinds, inputs: &Inputs) -> Result<()> {
    let known: Vec<Tag> = (0..labels.count()).map(|label| labels.tag(label)).collect();
    let unseen = tags::unseen(&known, &other.gold.tags);
    if unseen.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> =
        unseen.iter().map(|(tag, count)| format!("{} ({count})", tag.text(kinds, other.gold.scheme))).collect();
    let found = format!("tags that the training text does not have: {}", list(&texts, 10));
    inputs.warn(Notice::of_file(other.file.path(), 0, found).done("they count as missed"))
}

/// Places of the widest window.
pub const MOST_PLACES: usize = 31;

/// A net and the sentences it learns from.
pub struct NerTask<'a> {
    /// What it is made of.
    data: NerData<'a>,
    order: Batches,
    space: Space<f32>,
    inputs: Vec<Vec<u32>>,
    targets: Vec<u32>,
    ends: Vec<usize>,
}

/// What a [`NerTask`] is made of.
pub struct NerData<'a> {
    /// The net.
    pub net: &'a Ner,
    /// What labels mean.
    pub labels: &'a Labels,
    /// The training sentences.
    pub train: Encoded,
    /// Their labels.
    pub targets: Vec<u32>,
    /// The validation sentences, and the names of their types.
    pub valid: Option<(Encoded, &'a Tagged, &'a Kinds)>,
    /// Tokens of a step.
    pub batch: usize,
    /// Dropout.
    pub keep: Keep,
    /// For each word, the share of its uses that training takes for unknown, in 2⁻³².
    pub unknown: Vec<u32>,
    /// Whether the words' vectors stay as they are.
    pub freeze: bool,
    /// The run's seed.
    pub seed: u64,
    /// The small files of a checkpoint.
    pub files: Vec<SmallFile>,
}

/// How many examples there are, how many a step has, and the most tokens of these.
fn batches(train: &Encoded, objective: Objective, batch: usize) -> (usize, usize, usize) {
    let (tokens, sentences) = (train.tokens(), train.ends.len());
    match objective {
        Objective::Window => (tokens, batch.min(tokens), batch.min(tokens)),
        // As many sentences as hold so many tokens on average: then an epoch always has as many steps.
        Objective::Sentence => {
            let a_batch = ((batch * sentences + tokens / 2) / tokens).clamp(1, sentences);
            let mut lengths: Vec<usize> = (0..sentences).map(|i| train.sentence(i).len()).collect();
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            (sentences, a_batch, lengths[..a_batch].iter().sum())
        }
    }
}

impl<'a> NerTask<'a> {
    /// Bytes that training `net` takes, its weights included.
    pub fn bytes(net: &Ner, train: &Encoded, valid: Option<&Encoded>, needs: Needs) -> usize {
        let (examples, _, most) = batches(train, net.config().objective, needs.batch);
        let places = most * net.config().window;
        let evaluation = valid.map_or(0, |valid| valid.label_bytes(net, pool::threads()));
        memory::learning_bytes(net.layout(), net.layout(), needs.rule, places, evaluation)
            + net.space_bytes::<f32>(most, true)
            + (places * train.rows.len() + examples + train.tokens() + 2 * most) * size_of::<u32>()
    }

    /// Allocates the working memory.
    pub fn new(data: NerData<'a>) -> Self {
        let (examples, a_batch, most) = batches(&data.train, data.net.config().objective, data.batch);
        let places = most * data.net.config().window;
        NerTask {
            order: Batches::new(examples, a_batch, data.seed),
            space: data.net.space(most, true),
            // A clone of a vector would have no room.
            inputs: data.train.rows.iter().map(|_| Vec::with_capacity(places)).collect(),
            targets: Vec::with_capacity(most),
            ends: Vec::with_capacity(a_batch),
            data,
        }
    }

    /// Puts the examples of a step in place.
    fn fill(&mut self, step: u64) {
        self.inputs.iter_mut().for_each(Vec::clear);
        self.targets.clear();
        self.ends.clear();
        let NerData { train, targets, .. } = &self.data;
        for &example in self.order.of_step(step) {
            let tokens = match self.data.net.config().objective {
                Objective::Window => example as usize..example as usize + 1,
                Objective::Sentence => train.sentence(example as usize),
            };
            self.targets.extend_from_slice(&targets[tokens.clone()]);
            tokens.for_each(|token| train.push(&mut self.inputs, token));
            self.ends.push(self.targets.len());
        }
        let place = Place::new(self.data.seed, Purpose::Unknown, step, 0);
        for (block, words) in (0..).zip(self.inputs[0].chunks_mut(4)) {
            for (word, drawn) in words.iter_mut().zip(place.block(block)) {
                if drawn < self.data.unknown[*word as usize] {
                    *word = UNKNOWN;
                }
            }
        }
    }
}

impl Task for NerTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.data.net.layout()
    }

    fn rows(&self) -> usize {
        self.inputs[0].capacity()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.order.count()
    }

    /// With sentences, what so many steps have on average.
    fn targets_before(&self, steps: u64) -> u64 {
        self.data.train.tokens() as u64 * self.order.examples_before(steps) / self.order.examples()
    }

    type Touched = ();

    fn touch(&mut self, _g: &mut Gradients<f32>, _step: u64) {}

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, (): (), w: &Arena<f32>) -> Outcome {
        let data = span(Part::Data);
        self.fill(step);
        drop(data);
        let NerData { net, keep, seed, freeze, .. } = self.data;
        let noise = Noise { keep, seed, step, freeze };
        let batch = Batch { inputs: &self.inputs, ends: &self.ends };
        let loss = net.step(g, &mut self.space, batch, &self.targets, noise, w);
        Outcome { loss, targets: self.targets.len() as u64 }
    }

    fn classes(&self) -> Option<usize> {
        Some(self.data.labels.count())
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        let (encoded, tagged, kinds) = self.data.valid.as_ref()?;
        let labels = encoded.label(self.data.net, w);
        let predicted: Vec<Tag> = labels.into_iter().map(|label| self.data.labels.tag(label as usize)).collect();
        Some(Score::f1(evaluate(&predicted, tagged, kinds).conlleval.overall.f1))
    }

    fn measure(&self) -> Measure {
        Measure::F1
    }

    fn files(&self) -> &[SmallFile] {
        &self.data.files
    }
}
