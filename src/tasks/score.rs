//! Log-probabilities of lines: for rescoring n-best lists.
//!
//! Lines that begin alike share what they have in common: the lines are sorted, and the model reads each of their beginnings once, all
//! beginnings of one length together. The words that follow them are predicted for many at a time. No score depends on other lines.

use super::language_model::TrainedLm;
use crate::error::{Error, Result, counted};
use crate::models::language_model::Reading;
use crate::notices::Notice;
use crate::text::lines::{LineReader, Part};
use crate::text::parts::{Parts, Unit};
use crate::text::vocabulary::EOS;
use crate::text::{Inputs, Lines, unigrams};
use hashbrown::HashMap;
use serde::Serialize;
use std::ops::Range;
use std::path::Path;

/// Limits of the lines that are scored together; a single line may have more words.
const LINES: usize = 2048;
const WORDS: usize = 1 << 18;
/// Number of words that are predicted at a time.
const TOKENS: usize = 2048;

/// What is scored, and how.
#[derive(Default)]
pub struct Scoring {
    /// Whether lines begin with an id, which is not one of their words.
    pub ids: bool,
    /// Whether the ends of lines are left out.
    pub without_ends: bool,
    /// Whether each word's own log-probability is returned too.
    pub by_word: bool,
    /// Treat scores as normalised by this ln Z, and do not sum them over the vocabulary.
    pub ln_z: Option<f64>,
    /// What is added to the log-probabilities of unknown words.
    pub unknown: Unknown,
}

/// What is added to the log-probability that the model has for all unknown words together.
#[derive(Default)]
pub struct Unknown {
    /// For words that have none of their own.
    pub penalty: Option<f64>,
    own: HashMap<String, f64>,
}

impl Unknown {
    /// The log-probabilities in the file `own`, see [`unigrams::read`]; `penalty` for other words.
    pub fn read(penalty: Option<f64>, own: Option<&Path>, inputs: &Inputs) -> Result<Self> {
        let own = own.map(|path| unigrams::read(path, inputs)).transpose()?;
        Ok(Unknown { penalty, own: own.unwrap_or_default() })
    }
}

/// A scored line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Its natural log-probability.
    pub log_probability: f64,
    /// Its words, including its end if that is scored.
    pub words: usize,
    /// Words that the model does not know.
    pub unknown: usize,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its words one by one, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_word: Option<Vec<ScoredWord>>,
}

/// A scored word.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredWord {
    /// The word as it is written; [`EOS`] for the end of a line.
    pub word: String,
    /// Its natural log-probability.
    pub log_probability: f64,
}

/// A text whose lines are scored. Lines of standard input are scored as they arrive, those of files together.
pub struct Hypotheses<'a> {
    trained: &'a TrainedLm,
    path: &'a Path,
    inputs: &'a Inputs,
    how: Scoring,
    scorer: Scorer<'a>,
    /// The rest of the text, if it is a stream, and what reads it.
    stream: Option<(Parts, LineReader<'a>)>,
    /// The lines that have been read, how many of them have been returned, and the bytes of their text.
    part: Part,
    returned: usize,
    bytes: usize,
    /// Unknown words to which nothing was added, although words have log-probabilities of their own.
    unlisted: u64,
}

impl<'a> Hypotheses<'a> {
    /// Opens the text at `path`. Warns of unknown words, and of words that look like ids: of a stream at its end.
    pub fn open(path: &'a Path, trained: &'a TrainedLm, how: Scoring, inputs: &'a Inputs) -> Result<Self> {
        let keeps_text = how.by_word || !how.unknown.own.is_empty();
        let reader = LineReader::new(path, &trained.vocabulary, how.ids, inputs).keeping_text(keeps_text);
        let (stream, part) = match Parts::of_standard_input(path, Unit::Line, inputs)? {
            Some(parts) => (Some((parts, reader)), Part::default()),
            None => (None, reader.whole()?),
        };
        let scorer = Scorer::new(trained, how.ln_z);
        Ok(Hypotheses { trained, path, inputs, how, scorer, stream, part, returned: 0, bytes: 0, unlisted: 0 })
    }

    /// Whether the text is a stream, whose sender may wait for the scores of its lines.
    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// The next lines in order, with their scores; none at the end.
    pub fn next_lines(&mut self) -> Result<Option<Vec<Scored>>> {
        while self.returned == self.part.lines.len() {
            let Some((parts, reader)) = &mut self.stream else { return self.finish() };
            match parts.next_part().map_err(|e| Error::io(self.path, "reading", e))? {
                Some(bytes) => self.part = reader.part(bytes)?,
                None => return self.finish(),
            }
            (self.returned, self.bytes) = (0, 0);
        }
        let lines = together(&self.part.lines, self.returned, self.how.without_ends);
        let mut scores = self.scorer.words(&lines).into_iter();
        let mut found = Vec::with_capacity(lines.len());
        for (i, line) in (self.returned..).zip(&lines) {
            let rest = self.part.text.get(self.bytes..).unwrap_or_default();
            let text = &rest[..rest.find('\n').unwrap_or(rest.len())];
            self.bytes += text.len() + 1;
            let mut own: Vec<f64> = scores.by_ref().take(line.len()).collect();
            let mut words = text.split_ascii_whitespace().chain([EOS]);
            let mut unknown = 0;
            for (x, &id) in own.iter_mut().zip(*line) {
                let word = words.next().unwrap_or_default();
                if id == self.trained.vocabulary.unk() {
                    unknown += 1;
                    let Unknown { penalty, own } = &self.how.unknown;
                    match own.get(word).copied().or(*penalty) {
                        Some(more) => *x += more,
                        None => self.unlisted += u64::from(!own.is_empty()),
                    }
                }
            }
            let by_word = self.how.by_word.then(|| {
                let word = |(word, x): (&str, &f64)| ScoredWord { word: word.to_owned(), log_probability: *x };
                text.split_ascii_whitespace().chain([EOS]).zip(&own).map(word).collect()
            });
            found.push(Scored {
                log_probability: sum(&own),
                words: line.len(),
                unknown,
                id: self.part.ids.as_ref().map(|ids| ids[i].clone()),
                by_word,
            });
        }
        self.returned += found.len();
        Ok(Some(found))
    }

    /// Warns of what the whole text had.
    fn finish(&mut self) -> Result<Option<Vec<Scored>>> {
        if let Some((_, reader)) = self.stream.take() {
            reader.finish()?;
        }
        if self.unlisted > 0 {
            let found = format!("{} without a log-probability in --unk-probs", counted(self.unlisted, "unknown word"));
            let notice = Notice::of_file(self.path, 0, found).done("nothing is added for them");
            self.inputs.warn(notice.option("--unk-penalty says what is added"))?;
        }
        Ok(None)
    }
}

/// The lines from number `first` on that are scored together.
fn together(lines: &Lines, first: usize, without_ends: bool) -> Vec<&[u32]> {
    let mut words = 0;
    let fits = |line: &&[u32]| {
        words += line.len();
        words <= WORDS || words == line.len()
    };
    let own = |line| {
        let line = lines.line(line);
        &line[..line.len() - usize::from(without_ends)]
    };
    (first..lines.len()).take(LINES).map(own).take_while(fits).collect()
}

fn sum(all: &[f64]) -> f64 {
    all.iter().fold(0.0, |sum, x| sum + x)
}

/// The natural log-probability of every line, including its end, each scored independently after an `<eos>`. With
/// `ln_z` scores are treated as normalised by it, and not summed over the vocabulary.
pub fn score(trained: &TrainedLm, lines: &Lines, ln_z: Option<f64>) -> Vec<f64> {
    let (mut scorer, mut scores) = (Scorer::new(trained, ln_z), Vec::with_capacity(lines.len()));
    while scores.len() < lines.len() {
        let some = together(lines, scores.len(), false);
        let mut words = &scorer.words(&some)[..];
        for line in some {
            let (own, rest) = words.split_at(line.len());
            scores.push(sum(own));
            words = rest;
        }
    }
    scores
}

/// Scores lines together.
struct Scorer<'a> {
    reading: Reading<'a>,
    eos: u32,
    ln_z: Option<f64>,
    /// Words to be predicted: the output that each is predicted from, and whose words they are.
    tops: Vec<f32>,
    targets: Vec<u32>,
    whose: Vec<Whose>,
    log_probabilities: Vec<f64>,
}

/// The word at one position of some lines that are the same up to it.
struct Whose {
    /// Places of the lines in their sorted order.
    lines: Range<usize>,
    position: usize,
}

/// A beginning that lines have in common and go beyond.
struct Beginning {
    /// Places of the lines in their sorted order.
    lines: Range<usize>,
    /// Its last word.
    word: u32,
}

impl<'a> Scorer<'a> {
    fn new(trained: &'a TrainedLm, ln_z: Option<f64>) -> Self {
        let reading = trained.model.reading(&trained.w, if ln_z.is_some() { 0 } else { TOKENS });
        Scorer {
            reading,
            eos: trained.vocabulary.eos(),
            ln_z,
            tops: Vec::new(),
            targets: Vec::new(),
            whose: Vec::new(),
            log_probabilities: vec![0.0; TOKENS],
        }
    }

    /// The log-probabilities of all words of `lines`, line by line.
    fn words(&mut self, lines: &[&[u32]]) -> Vec<f64> {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_unstable_by_key(|&line| lines[line]);
        let mut starts = Vec::with_capacity(lines.len());
        let mut total = 0;
        for line in lines {
            starts.push(total);
            total += line.len();
        }
        let starts: Vec<usize> = order.iter().map(|&line| starts[line]).collect();
        let sorted: Vec<&[u32]> = order.iter().map(|&line| lines[line]).collect();
        let mut out = vec![0.0; total];
        let (state_len, top_len) = (self.reading.state_len(), self.reading.top_len());
        // Every line follows an <eos>; without words it would come first.
        let first = sorted.partition_point(|line| line.is_empty());
        let mut beginnings = vec![Beginning { lines: first..sorted.len(), word: self.eos }];
        beginnings.retain(|beginning| !beginning.lines.is_empty());
        let (mut states, mut tops) = (vec![0.0; state_len], Vec::new());
        let mut position = 0;
        while !beginnings.is_empty() {
            let words: Vec<u32> = beginnings.iter().map(|beginning| beginning.word).collect();
            tops.resize(words.len() * top_len, 0.0);
            self.reading.read(&words, &mut states, &mut tops);
            let (mut longer, mut longer_states) = (Vec::new(), Vec::new());
            let rows = states.chunks_exact(state_len).zip(tops.chunks_exact(top_len));
            for (Beginning { lines: Range { start, end }, .. }, (state, top)) in beginnings.iter().zip(rows) {
                let mut from = *start;
                while from < *end {
                    let word = sorted[from][position];
                    let to = from + sorted[from..*end].partition_point(|line| line[position] == word);
                    self.predict(Whose { lines: from..to, position }, word, top, &starts, &mut out);
                    // Those that end here come first.
                    let ended = sorted[from..to].partition_point(|line| line.len() == position + 1);
                    if from + ended < to {
                        longer.push(Beginning { lines: from + ended..to, word });
                        longer_states.extend_from_slice(state);
                    }
                    from = to;
                }
            }
            (beginnings, states) = (longer, longer_states);
            position += 1;
        }
        self.finish(&starts, &mut out);
        out
    }

    /// Notes a word to be predicted, and predicts all that have been noted when they are many.
    fn predict(&mut self, whose: Whose, word: u32, top: &[f32], starts: &[usize], out: &mut [f64]) {
        self.tops.extend_from_slice(top);
        self.targets.push(word);
        self.whose.push(whose);
        if self.targets.len() == TOKENS {
            self.finish(starts, out);
        }
    }

    /// Predicts the words that have been noted.
    fn finish(&mut self, starts: &[usize], out: &mut [f64]) {
        let Scorer { reading, ln_z, tops, targets, whose, log_probabilities, .. } = self;
        let found = &mut log_probabilities[..targets.len()];
        match *ln_z {
            Some(ln_z) => {
                reading.logits(found, tops, targets);
                found.iter_mut().for_each(|x| *x -= ln_z);
            }
            None if targets.is_empty() => {}
            None => reading.log_probabilities(found, tops, targets),
        }
        for (Whose { lines, position }, x) in whose.drain(..).zip(found) {
            starts[lines].iter().for_each(|start| out[start + position] = *x);
        }
        tops.clear();
        targets.clear();
    }
}
