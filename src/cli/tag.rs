//! `wordmill tag`

use super::inputs::InputOptions;
use super::ner::{Tagger, words_and_ends};
use super::output_failed;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::text::conll::{Column, Conll};
use crate::text::tags::{Reading, Tag, spans};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Tag a text with a trained tagger: CoNLL lines with one column more, or plain text
///
/// CoNLL: one token a line, its word in the first column, an empty line after a sentence; every line is written again, tokens with
/// the predicted tag as one more column. With --text: one sentence a line, words separated by white space.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill tag tagger test.conll > tagged.conll
  echo 'John lives in New York .' | wordmill tag tagger --text
  wordmill tag tagger --text --output column article.txt")]
pub struct TagText {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// File to tag [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The input is plain text, one sentence a line
    #[arg(long)]
    text: bool,
    /// How tagged plain text is written
    #[arg(long, default_value = "inline", value_enum, requires = "text")]
    output: Output,
    #[command(flatten)]
    inputs: InputOptions,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

/// How tagged plain text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Each line as it is, entities in brackets: [PER John] lives in [LOC New York] .
    Inline,
    /// A word, a tab and its tag a line, an empty line after each sentence
    Column,
}

impl TagText {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = self.inputs.inputs(false);
        let tagger = pool(self.threads)?.install(|| Tagger::load(&self.model))?;
        let mut bytes = Vec::new();
        let path = match &self.file {
            Some(path) => {
                bytes = std::fs::read(path).map_err(|e| Error::io(path, "reading", e))?;
                path.as_path()
            }
            None => {
                let path = Path::new("standard input");
                std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Error::io(path, "reading", e))?;
                path
            }
        };
        let tag = |words: &[&str], ends: &[usize]| pool(self.threads)?.install(|| tagger.tag(words, ends, &inputs));
        let texts = tagger.config.labels.texts();
        let name = |tag: Tag| tagger.config.labels.label(tag).map_or("O", |label| texts[label].as_str());
        if !self.text {
            let file = Conll::parse(path, bytes, Column::Absent)?;
            let (words, ends) = words_and_ends(&file);
            let tags = if words.is_empty() { Vec::new() } else { tag(&words, &ends)? };
            return file.write(&mut &mut *out, |token| name(tags[token])).map_err(output_failed);
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = 1 + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
            Error::input(path, line, format!("the byte 0x{:02X}", e.as_bytes()[at]), "UTF-8 text")
        })?;
        let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(&text).split_inclusive('\n').collect();
        let (mut words, mut ends, mut of_line) = (Vec::new(), Vec::new(), Vec::with_capacity(lines.len()));
        for line in &lines {
            let from = words.len();
            words.extend(line.split_ascii_whitespace());
            if words.len() > from {
                ends.push(words.len());
            }
            of_line.push(from..words.len());
        }
        let tags = if words.is_empty() { Vec::new() } else { tag(&words, &ends)? };
        for (line, tokens) in lines.iter().zip(of_line) {
            let written = match self.output {
                Output::Column => {
                    let row = |token: usize| writeln!(out, "{}\t{}", words[token], name(tags[token]));
                    tokens.clone().try_for_each(row).and_then(|()| writeln!(out))
                }
                Output::Inline => {
                    let kind = |kind: u32| tagger.config.labels.kinds.name(kind).unwrap_or_default();
                    inline(out, line, &words, &tags, tokens, kind)
                }
            };
            written.map_err(output_failed)?;
        }
        Ok(())
    }
}

/// Writes a line as it is, its entities in brackets.
fn inline<'a>(
    out: &mut dyn Write,
    line: &str,
    words: &[&str],
    tags: &[Tag],
    tokens: Range<usize>,
    kind: impl Fn(u32) -> &'a str,
) -> std::io::Result<()> {
    let place = |token: usize| words[token].as_ptr() as usize - line.as_ptr() as usize;
    let mut copied = 0;
    for span in spans(&tags[tokens.clone()], Reading::Conlleval) {
        let (first, last) = (tokens.start + span.start, tokens.start + span.end - 1);
        let (from, to) = (place(first), place(last) + words[last].len());
        let name = kind(span.kind);
        let gap = if name.is_empty() { "" } else { " " };
        write!(out, "{}[{name}{gap}{}]", &line[copied..from], &line[from..to])?;
        copied = to;
    }
    write!(out, "{}", &line[copied..])
}
