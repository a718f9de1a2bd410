//! `wordmill score`

use super::inputs::{InputOptions, print};
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::language_model::TrainedLm;
use crate::tasks::score::{Hypotheses, Scored, ScoredWord, Scoring, Unknown};
use crate::tasks::{Model, options, saved};
use std::io::Write;
use std::path::PathBuf;

/// Print the log-probability of every line of a text, in order: for rescoring n-best lists
///
/// Logarithms are natural, or with --log10 to base 10.
///
/// Every line is scored independently, including its end; the score of an empty line is that of a sentence that ends at once.
///
/// Lines that begin alike, as the hypotheses of an utterance do, share what they have in common: an n-best list takes a fraction of
/// the time of as many other lines. Lines of standard input are scored as they arrive, so that another program can write a line and
/// wait for its score.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill score model hypotheses.txt > scores.txt
  wordmill score model text --ids > scores.txt                  Kaldi format: an utterance id, then the words
  wordmill score model text --ids --negate > lmcost             costs instead of log-probabilities
  wordmill score model text --ids --unk-probs unk.probs         Kaldi's unk.probs: unknown words at their own probability
  wordmill score model hypotheses.txt --words                   word TAB log-probability; an empty line after each line
  zcat hypotheses.gz | wordmill score model - --log10
  wordmill score model hypotheses.txt | paste - hypotheses.txt | sort -g | tail -1     the most likely line")]
pub struct Score {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Text, one hypothesis per line; - is standard input
    #[arg(value_name = "FILE")]
    text: PathBuf,
    /// For a model trained with --loss nce: treat its scores as normalised, without summing over the vocabulary
    #[arg(long)]
    self_normalised: bool,
    /// The first word of each line is an id: keep it, and print it before the score
    #[arg(long)]
    ids: bool,
    /// Print logarithms to base 10
    #[arg(long)]
    log10: bool,
    /// Print the negative log-probability, a cost
    #[arg(long)]
    negate: bool,
    /// Exclude the probability of the end of the line
    #[arg(long)]
    no_eos: bool,
    /// Print the log-probability of every word: word TAB log-probability (with --ids id TAB word TAB log-probability), the end of a
    /// line as <eos>, and an empty line after each line
    #[arg(long)]
    words: bool,
    /// Added to the log-probability of every unknown word (natural logarithm): <unk> stands for all of them together
    #[arg(long, value_name = "X", value_parser = super::values::finite)]
    unk_penalty: Option<f64>,
    /// File with a word and its log-probability per line, added if the word is unknown: natural logarithms (at most 0), or
    /// probabilities (above 0, as in Kaldi's unk.probs); for other unknown words, --unk-penalty
    #[arg(long, value_name = "FILE")]
    unk_probs: Option<PathBuf>,
    /// Remove sentence markers of other tools, such as <s> and </s>; a model trained with this option does it automatically
    #[arg(long)]
    strip_marks: bool,
    /// Print a JSON object per line: log_probability, words, unknown, and with --ids id, with --words
    /// by_word: word and log_probability of each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inputs: InputOptions,
    /// Number of threads, 0: one per core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

impl Score {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let pool = pool(self.threads)?;
        let (trained, inputs, how) = pool.install(|| {
            let mut checkpoint = saved::open(&self.model)?;
            let inputs = self.inputs.like_training(&options::read(&mut checkpoint)?);
            let mut trained = TrainedLm::read(&mut checkpoint)?;
            let strips = self.strip_marks || trained.vocabulary.strips_marks();
            trained.vocabulary = trained.vocabulary.stripping_marks(strips);
            let how = Scoring {
                ids: self.ids,
                without_ends: self.no_eos,
                by_word: self.words,
                ln_z: self.self_normalised.then(|| trained.self_normalised(&self.model)).transpose()?,
                unknown: Unknown::read(self.unk_penalty, self.unk_probs.as_deref(), &inputs)?,
            };
            Ok((trained, inputs, how))
        })?;
        let factor = if self.negate { -1.0 } else { 1.0 } / if self.log10 { std::f64::consts::LN_10 } else { 1.0 };
        // Without the sign of −0.
        let scale = |x: &mut f64| *x = *x * factor + 0.0;
        let mut text = pool.install(|| Hypotheses::open(&self.text, &trained, how, &inputs))?;
        while let Some(lines) = pool.install(|| text.next_lines())? {
            for mut line in lines {
                scale(&mut line.log_probability);
                line.by_word.iter_mut().flatten().for_each(|word| scale(&mut word.log_probability));
                print(out, self.json, &line, || self.text_of(&line))?;
            }
            if text.is_stream() {
                // Its sender may be waiting for the scores.
                out.flush().map_err(Error::output)?;
            }
        }
        Ok(())
    }

    /// A line's score, or those of its words, as text.
    fn text_of(&self, Scored { log_probability, id, by_word, .. }: &Scored) -> String {
        let id = |end: &str| id.as_ref().map_or(String::new(), |id| format!("{id}{end}"));
        match by_word {
            None => format!("{}{log_probability:.6}\n", id(" ")),
            Some(words) => {
                let row = |word: &ScoredWord| format!("{}{}\t{:.6}\n", id("\t"), word.word, word.log_probability);
                words.iter().map(row).chain(["\n".to_owned()]).collect()
            }
        }
    }
}
