//! Text that arrives on a stream, in parts that consist of whole units: each part is what is available, so that a unit entered
//! interactively is answered at once, and bulk data are processed in large parts.

use super::conll::is_separator;
use super::inputs::{Inputs, is_standard_input};
use crate::error::{Error, Result};
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

/// What is answered as soon as it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A line.
    Line,
    /// Everything up to an empty line.
    Sentence,
}

/// Bytes read at a time, and the maximum number of chunks waiting.
const CHUNK: usize = 1 << 16;
const WAITING: usize = 64;
/// Maximum length of a part, if it contains a unit.
const LONGEST: usize = 16 << 20;

/// The parts of a stream.
pub struct Parts {
    chunks: Receiver<io::Result<Vec<u8>>>,
    unit: Unit,
    /// What has arrived and is not yet in a part.
    rest: Vec<u8>,
    /// Length of the beginning of `rest` known to contain no end of a unit.
    searched: usize,
}

impl Parts {
    /// The parts of standard input, if that is what `path` names and it can be read as it is: uncompressed and, as far as its
    /// beginning shows, in UTF-8.
    ///
    /// # Errors
    /// It cannot be read, or has been read before.
    pub fn of_standard_input(path: &Path, unit: Unit, inputs: &Inputs) -> Result<Option<Parts>> {
        let is_plain = is_standard_input(path) && {
            let mut stdin = io::stdin().lock();
            inputs.is_plain(stdin.fill_buf().map_err(|e| Error::io(path, "reading", e))?)
        };
        if !is_plain {
            return Ok(None);
        }
        inputs.begin(path)?;
        Ok(Some(Parts::new(io::stdin(), unit)))
    }

    /// Reads `stream` in a separate thread.
    pub fn new(mut stream: impl Read + Send + 'static, unit: Unit) -> Self {
        let (sender, chunks) = sync_channel(WAITING);
        thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                let sent = match stream.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => {
                        chunk.truncate(n);
                        sender.send(Ok(chunk))
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        _ = sender.send(Err(error));
                        break;
                    }
                };
                if sent.is_err() {
                    break;
                }
            }
        });
        Parts { chunks, unit, rest: Vec::new(), searched: 0 }
    }

    /// The next part, as soon as a unit is complete; none at the end.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn next_part(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Ok(chunk) = self.chunks.recv() else {
                self.searched = 0;
                let rest = std::mem::take(&mut self.rest);
                return Ok((!rest.is_empty()).then_some(rest));
            };
            self.rest.extend(chunk?);
            while self.rest.len() < LONGEST {
                match self.chunks.try_recv() {
                    Ok(chunk) => self.rest.extend(chunk?),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if let Some(end) = self.end() {
                let rest = self.rest.split_off(end);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.rest, rest)));
            }
        }
    }

    /// The end of the last complete unit.
    fn end(&mut self) -> Option<usize> {
        let newline = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n');
        let last = self.searched + newline(&self.rest[self.searched..])? + 1;
        if self.unit == Unit::Line {
            return Some(last);
        }
        let mut end = last;
        while end > self.searched {
            let start = self.searched + newline(&self.rest[self.searched..end - 1]).map_or(0, |place| place + 1);
            let line = &self.rest[start..end - 1];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if is_separator(line) {
                return Some(end);
            }
            end = start;
        }
        self.searched = last;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn units_come_as_they_are_complete() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut parts = Parts::new(reader, Unit::Sentence);
        writer.write_all(b"a O\nb O\n \r\nc").unwrap();
        let mut next = || parts.next_part().unwrap().map(|part| String::from_utf8(part).unwrap());
        assert_eq!(next().as_deref(), Some("a O\nb O\n \r\n"));
        writer.write_all(b" O\n\n").unwrap();
        assert_eq!(next().as_deref(), Some("c O\n\n"));
        writer.write_all(b"d O\n").unwrap();
        drop(writer);
        assert_eq!(next().as_deref(), Some("d O\n"));
        assert_eq!(next(), None);
    }

    #[test]
    fn nothing_is_lost_of_much() {
        let text: String = (0..200_000).map(|i| if i % 7 == 0 { "\n".into() } else { format!("w{i} O\n") }).collect();
        for unit in [Unit::Line, Unit::Sentence] {
            let mut parts = Parts::new(io::Cursor::new(text.clone()), unit);
            let mut all = Vec::new();
            while let Some(part) = parts.next_part().unwrap() {
                assert!(part.ends_with(b"\n"));
                all.extend(part);
            }
            assert!(all == text.as_bytes());
        }
    }
}
