//! Tagging of texts: CoNLL lines with an additional column, or plain text.

use super::{Tagger, words_and_ends};
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::text::Inputs;
use crate::text::conll::{Column, Conll, Form, Oddities, Place, cuts};
use crate::text::parts::{Parts, Unit};
use crate::text::tags::{Reading, Tag, spans};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// How tagged plain text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Output {
    /// Each line unchanged, with entities in brackets: [PER John] lives in [LOC New York] .
    Inline,
    /// A word, a tab and its tag per line, an empty line after each sentence
    Column,
}

/// Tags the text at `path` in `pool`: plain text if `output` is given, CoNLL lines otherwise. Standard input is tagged
/// and written as soon as a part is complete; errors of `out` are reported as those of standard output.
pub fn tag_text(
    tagger: &Tagger,
    path: &Path,
    form: Form,
    output: Option<Output>,
    pool: &Pool,
    inputs: &Inputs,
    out: &mut dyn Write,
) -> Result<()> {
    let form = Form { tags: Column::Absent, ..form };
    // Compressed or encoded input is read as a whole.
    let unit = if output.is_some() { Unit::Line } else { Unit::Sentence };
    let parts = Parts::of_standard_input(path, unit, inputs)?;
    let mut tagging = Tagging {
        labels: tagger.config.labels.texts(),
        tagger,
        pool,
        inputs,
        path,
        form,
        place: Place::default(),
        odd: Oddities::default(),
        lines: 0,
    };
    if let Some(mut parts) = parts {
        while let Some(bytes) = parts.next_part().map_err(|e| Error::io(path, "reading", e))? {
            tagging.part(tagging.utf8(bytes)?, output, out)?;
            // The sender of the sentence may be waiting for its tags.
            out.flush().map_err(Error::output)?;
        }
    } else {
        tagging.part(inputs.text(path, "text")?, output, out)?;
    }
    let odd = tagging.odd.notices(path, tagging.place.columns(), form.longest);
    odd.into_iter().try_for_each(|notice| inputs.warn(notice))
}

/// Tagging of a text in parts.
struct Tagging<'a> {
    tagger: &'a Tagger,
    /// The labels as text.
    labels: Vec<String>,
    pool: &'a Pool,
    inputs: &'a Inputs,
    path: &'a Path,
    form: Form,
    place: Place,
    /// Irregularities so far.
    odd: Oddities,
    /// Number of lines so far.
    lines: usize,
}

impl Tagging<'_> {
    fn utf8(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = 1 + self.lines + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
            Error::input(
                self.path,
                line,
                format!("invalid UTF-8 (0x{:02X})", e.as_bytes()[at]),
                "UTF-8 text (--encoding LABEL reads another)",
            )
        })
    }

    fn tag(&self, words: &[&str], ends: &[usize]) -> Result<Vec<Tag>> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        self.pool.install(|| self.tagger.tag(words, ends, self.inputs))
    }

    fn name(&self, tag: Tag) -> &str {
        self.tagger.config.labels.label(tag).map_or("O", |label| &self.labels[label])
    }

    /// Tags a part: plain text if `output` is given.
    fn part(&mut self, text: String, output: Option<Output>, out: &mut dyn Write) -> Result<()> {
        match output {
            Some(output) => self.text(&text, output, out),
            None => self.conll(text, out),
        }
    }

    /// Tags lines of words.
    fn conll(&mut self, text: String, out: &mut dyn Write) -> Result<()> {
        let first = self.place.columns() == 0;
        self.lines += text.bytes().filter(|byte| *byte == b'\n').count();
        let file = Conll::part(self.path, text, self.form, &mut self.place)?;
        self.odd.append(file.odd);
        if let Some(notice) = file.numbered().filter(|_| first) {
            self.inputs.warn(notice)?;
        }
        let (words, ends) = words_and_ends(&file);
        let tags = self.tag(&words, &ends)?;
        file.write(&mut &mut *out, |token| self.name(tags[token])).map_err(Error::output)
    }

    /// Tags plain text.
    fn text(&mut self, text: &str, output: Output, out: &mut dyn Write) -> Result<()> {
        let first = self.lines == 0;
        let text = if first { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        self.lines += lines.len();
        let (mut words, mut ends, mut of_line) = (Vec::new(), Vec::new(), Vec::with_capacity(lines.len()));
        for line in &lines {
            let from = words.len();
            words.extend(line.split_ascii_whitespace());
            if words.len() > from {
                ends.extend(cuts(|word| words[word], from..words.len(), self.form.longest));
                ends.push(words.len());
            }
            of_line.push(from..words.len());
        }
        let tags = self.tag(&words, &ends)?;
        for (line, tokens) in lines.iter().zip(of_line) {
            let written = match output {
                Output::Column => {
                    let row = |token: usize| writeln!(out, "{}\t{}", words[token], self.name(tags[token]));
                    tokens.clone().try_for_each(row).and_then(|()| writeln!(out))
                }
                Output::Inline => {
                    let kind = |kind: u32| self.tagger.config.labels.kinds.name(kind).unwrap_or_default();
                    inline(out, line, &words, &tags, tokens, kind)
                }
            };
            written.map_err(Error::output)?;
        }
        Ok(())
    }
}

/// Writes a line unchanged, with its entities in brackets.
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
