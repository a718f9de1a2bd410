//! Log-probabilities of single words, from a file.

use super::{Inputs, shown};
use crate::math::ln;
use crate::{Error, Result};
use hashbrown::HashMap;
use std::path::Path;

/// Reads a file with a word and a number on each line, separated by white space. The numbers are natural logarithms of probabilities,
/// none above 0, or probabilities, all above 0: Kaldi's `unk.probs`. Returns the logarithms.
///
/// # Errors
/// A file that cannot be read or has another form; its first wrong line is named.
pub fn read(path: &Path, inputs: &Inputs) -> Result<HashMap<String, f64>> {
    let text = inputs.text(path, "words with their log-probabilities")?;
    let mut words: HashMap<String, (usize, f64)> = HashMap::new();
    // A number that is not 0 decides what all are, and its line.
    let mut first: Option<(usize, f64)> = None;
    let mut zero = None;
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |found: String, expected: &str| Err(Error::input(path, number, found, expected));
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [word, value] = fields[..] else {
            if fields.is_empty() {
                continue;
            }
            return wrong(shown(line), "a word and its log-probability");
        };
        let Some(value) = value.parse::<f64>().ok().filter(|x| x.is_finite() && *x <= 1.0) else {
            return wrong(shown(value), "a finite natural log-probability (at most 0), or a probability (at most 1)");
        };
        if value == 0.0 {
            zero.get_or_insert(number);
        } else {
            let &mut (at, before) = first.get_or_insert((number, value));
            if (before > 0.0) != (value > 0.0) {
                let what = if before > 0.0 { "a probability" } else { "a log-probability" };
                return wrong(value.to_string(), &format!("{what}, as {before} in line {at}"));
            }
        }
        if let Some((before, _)) = words.insert(word.to_owned(), (number, value)) {
            return wrong(format!("{} again, as in line {before}", shown(word)), "each word once");
        }
    }
    let are_probabilities = first.is_some_and(|(_, value)| value > 0.0);
    match zero.filter(|_| are_probabilities) {
        Some(line) => Err(Error::input(path, line, "the probability 0", "probabilities above 0")),
        None if words.is_empty() => Err(Error::input(path, 0, "no words", "a word and its log-probability per line")),
        None => {
            let log = |value: f64| if are_probabilities { ln(value) } else { value };
            Ok(words.into_iter().map(|(word, (_, value))| (word, log(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn of(text: &str) -> std::result::Result<Vec<(String, f64)>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let read = read(file.path(), &Inputs::default());
        let mut words: Vec<(String, f64)> = read.map_err(|e| e.to_string())?.into_iter().collect();
        words.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(words)
    }

    #[test]
    fn logarithms_and_probabilities() {
        let words = |all: &[(&str, f64)]| Ok(all.iter().map(|&(word, x)| (word.to_owned(), x)).collect());
        assert_eq!(of("dog\t-2.5\r\n\ncat -1e1\nc 0\n"), words(&[("c", 0.0), ("cat", -10.0), ("dog", -2.5)]));
        assert_eq!(of("dog 0.5\ncat 1"), words(&[("cat", 0.0), ("dog", ln(0.5))]));
        for (text, parts) in [
            ("", "found no words"),
            ("dog\n", ":1: found `dog`, expected a word and its log-probability"),
            ("a -1\nb c -2\n", ":2: found `b c -2`"),
            ("a -1\nb x\n", ":2: found `x`, expected a finite natural log-probability"),
            ("a -inf\n", ":1: found `-inf`"),
            ("a 1.5\n", ":1: found `1.5`"),
            ("a 0\nb -1\nc 0.5\n", ":3: found 0.5, expected a log-probability, as -1 in line 2"),
            ("a 0.5\n\nb -1\n", ":3: found -1, expected a probability, as 0.5 in line 1"),
            ("a 0\nb 0.5\n", ":1: found the probability 0"),
            ("a -1\nb -1\na -1\n", ":3: found `a` again, as in line 1, expected each word once"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(parts), "{text:?}: {error}");
        }
    }
}
