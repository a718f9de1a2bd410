//! The grammar file: from TOML to rules, with all errors it can contain.

use crate::error::{Error, Result};
use crate::math::pow;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Maximum depth of phrases within phrases.
const MAX_DEPTH: usize = 64;

/// A grammar file as written: each part is well-formed, references are names.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) start: String,
    pub(super) start_line: usize,
    pub(super) capitalise: bool,
    pub(super) rules: BTreeMap<String, Rule>,
}

#[derive(Debug)]
pub(super) struct Rule {
    line: usize,
    pub(super) tag: Option<String>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Words with their probabilities.
    Class(Vec<(String, f64)>),
    Phrase(Vec<Row>),
}

/// One alternative of a phrase.
#[derive(Debug)]
pub(super) struct Row {
    line: usize,
    pub(super) probability: f64,
    pub(super) items: Vec<Item>,
}

#[derive(Debug)]
pub(super) enum Item {
    Word(String),
    Reference { name: String, chance: f64 },
}

/// Reads values from a TOML table and reports where they are wrong.
struct Reader<'a> {
    path: &'a Path,
    /// Offsets of line ends.
    ends: Vec<usize>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.line_of(at.span().start)
    }

    fn line_of(&self, offset: usize) -> usize {
        1 + self.ends.partition_point(|&end| end < offset)
    }

    fn wrong(&self, line: usize, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::input(self.path, line, found, expected)
    }

    /// Rejects keys other than `known`.
    fn keys(&self, within: &str, table: &DeTable<'_>, known: &[&str]) -> Result<()> {
        for key in table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                let expected = format!("one of {}{}", known.join(", "), nearest(name, known.iter().copied()));
                return Err(self.wrong(self.line(key), format!("unknown key `{name}` {within}"), expected));
            }
        }
        Ok(())
    }

    fn typed<'v, T>(
        &self,
        key: &str,
        value: &'v Value<'_>,
        get: impl Fn(&'v DeValue<'_>) -> Option<T>,
        expected: &str,
    ) -> Result<T> {
        get(value.get_ref()).ok_or_else(|| {
            let found = format!("{key} = {} {}", article(value.get_ref().type_str()), value.get_ref().type_str());
            self.wrong(self.line(value), found, expected)
        })
    }

    fn string<'v>(&self, key: &str, value: &'v Value<'_>) -> Result<&'v str> {
        self.typed(key, value, |v| v.as_str(), "a string")
    }

    fn table<'v, 'i>(&self, key: &str, value: &'v Value<'i>) -> Result<&'v DeTable<'i>> {
        value.get_ref().as_table().ok_or_else(|| {
            let found = format!("{key} = {} {}", article(value.get_ref().type_str()), value.get_ref().type_str());
            self.wrong(self.line(value), found, "a table")
        })
    }

    fn number(&self, key: &str, value: &Value<'_>) -> Result<f64> {
        let get = |v: &DeValue<'_>| match v {
            DeValue::Integer(n) if n.radix() == 10 => n.as_str().parse().ok(),
            DeValue::Float(x) => x.as_str().parse().ok(),
            _ => None,
        };
        self.typed(key, value, get, "a decimal number")
    }

    fn weight(&self, line: usize, what: &str, weight: f64) -> Result<f64> {
        if (1e-6..=1e6).contains(&weight) {
            Ok(weight)
        } else {
            Err(self.wrong(line, format!("{what} of {weight}"), "a weight from 0.000001 to 1000000"))
        }
    }

    fn word(&self, line: usize, within: &str, word: &str) -> Result<String> {
        if word.is_empty() || word.contains(char::is_whitespace) {
            Err(self.wrong(line, format!("the word {word:?} {within}"), "a word without white space"))
        } else if word.starts_with('<') && word.ends_with('>') {
            Err(self.wrong(line, format!("the word {word} {within}"), "a word not between < and >, which are reserved"))
        } else {
            Ok(word.to_owned())
        }
    }

    fn tag(&self, table: &DeTable<'_>) -> Result<Option<String>> {
        let Some(value) = table.get("tag") else {
            return Ok(None);
        };
        let tag = self.string("tag", value)?;
        if tag.is_empty() || tag == "O" || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let found = format!("tag = {tag:?}");
            return Err(self.wrong(
                self.line(value),
                found,
                "an entity type of letters, digits and _, as PER, and not O",
            ));
        }
        Ok(Some(tag.to_owned()))
    }

    fn class(&self, name: &str, value: &Value<'_>) -> Result<(Option<String>, Body)> {
        let within = format!("in class.{name}");
        let (tag, list, zipf, weights) = match value.get_ref() {
            DeValue::String(_) => (None, Some(value), None, None),
            DeValue::Table(table) => {
                self.keys(&within, table, &["tag", "words", "zipf", "weights"])?;
                (self.tag(table)?, table.get("words"), table.get("zipf"), table.get("weights"))
            }
            other => {
                let found = format!("class.{name} = {} {}", article(other.type_str()), other.type_str());
                return Err(self.wrong(self.line(value), found, "a table, or a string of words"));
            }
        };
        let mut words = Vec::new();
        match (list, weights) {
            (Some(list), None) => {
                let exponent = zipf.map_or(Ok(1.0), |z| self.number("zipf", z))?;
                if !(0.0..=4.0).contains(&exponent) {
                    let line = zipf.map_or(0, |z| self.line(z));
                    return Err(self.wrong(line, format!("zipf = {exponent} {within}"), "an exponent from 0 to 4"));
                }
                for (rank, word) in self.string("words", list)?.split_whitespace().enumerate() {
                    let word = self.word(self.line(list), &within, word)?;
                    words.push((word, pow((rank + 1) as f64, -exponent)));
                }
            }
            (None, Some(weights)) if zipf.is_none() => {
                for (word, weight) in self.table("weights", weights)? {
                    let line = self.line(word);
                    let word = self.word(line, &within, word.get_ref())?;
                    let weight = self.weight(line, &format!("weight of {word}"), self.number(&word, weight)?)?;
                    words.push((word, weight));
                }
            }
            _ => {
                let found = match (list, weights) {
                    (None, None) => "neither words nor weights",
                    (Some(_), Some(_)) => "both words and weights",
                    _ => "zipf with weights",
                };
                let line = self.line(value);
                return Err(self.wrong(line, format!("{found} {within}"), "words (and perhaps zipf), or weights"));
            }
        }
        let mut seen = HashSet::new();
        if let Some((word, _)) = words.iter().find(|(word, _): &&(String, f64)| !seen.insert(word.clone())) {
            let line = self.line(list.unwrap_or(value));
            return Err(self.wrong(line, format!("the word {word} twice {within}"), "every word once"));
        }
        if words.is_empty() {
            return Err(self.wrong(self.line(value), format!("no word {within}"), "at least one"));
        }
        normalise(words.iter_mut().map(|(_, weight)| weight));
        Ok((tag, Body::Class(words)))
    }

    fn phrase(&self, name: &str, value: &Value<'_>) -> Result<(Option<String>, Body)> {
        let within = format!("in phrase.{name}");
        let (tag, list) = match value.get_ref() {
            DeValue::Array(_) => (None, Some(value)),
            DeValue::Table(table) => {
                self.keys(&within, table, &["tag", "any"])?;
                (self.tag(table)?, table.get("any"))
            }
            other => {
                let found = format!("phrase.{name} = {} {}", article(other.type_str()), other.type_str());
                return Err(self.wrong(self.line(value), found, "a table, or an array of strings"));
            }
        };
        let Some(list) = list else {
            return Err(self.wrong(self.line(value), format!("no key `any` {within}"), "an array of strings"));
        };
        let Some(array) = list.get_ref().as_array() else {
            let kind = list.get_ref().type_str();
            let found = format!("any = {} {kind} {within}", article(kind));
            return Err(self.wrong(self.line(list), found, "an array of strings"));
        };
        let mut rows = Vec::new();
        for row in array.iter() {
            let text = self.string(&format!("a row {within}"), row)?;
            rows.push(self.row(self.line(row), &within, text)?);
        }
        if rows.is_empty() {
            return Err(self.wrong(self.line(value), format!("no row {within}"), "at least one"));
        }
        normalise(rows.iter_mut().map(|row| &mut row.probability));
        Ok((tag, Body::Phrase(rows)))
    }

    fn row(&self, line: usize, within: &str, text: &str) -> Result<Row> {
        let mut parts: Vec<&str> = text.split_whitespace().collect();
        let mut weight = 1.0;
        if parts.get(1) == Some(&"|") {
            weight = parts[0].parse().map_err(|_| {
                self.wrong(line, format!("`{} |` {within}", parts[0]), "a number before |, the row's weight")
            })?;
            weight = self.weight(line, &format!("weight {within}"), weight)?;
            parts.drain(..2);
        }
        let mut items = Vec::new();
        for part in parts {
            items.push(match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(inside) => self.reference(line, within, inside)?,
                None if part.contains(['{', '}', '|']) => {
                    let expected = "a word, or {name}, {name?}, {name?0.3} between spaces";
                    return Err(self.wrong(line, format!("`{part}` {within}"), expected));
                }
                None => Item::Word(self.word(line, within, part)?),
            });
        }
        if items.iter().all(|item| matches!(item, Item::Reference { chance, .. } if *chance < 1.0)) {
            let found = format!("a row that may be empty, {text:?}, {within}");
            return Err(self.wrong(line, found, "at least one word or reference that is always there"));
        }
        Ok(Row { line, probability: weight, items })
    }

    fn reference(&self, line: usize, within: &str, inside: &str) -> Result<Item> {
        let (name, chance) = match inside.split_once('?') {
            None => (inside, 1.0),
            Some((name, "")) => (name, 0.5),
            Some((name, chance)) => (name, chance.parse().unwrap_or(f64::NAN)),
        };
        if !(chance > 0.0 && (chance < 1.0 || !inside.contains('?'))) {
            return Err(self.wrong(line, format!("{{{inside}}} {within}"), "a probability between 0 and 1 after ?"));
        }
        if name.is_empty() || name.contains(['{', '}', '|']) {
            return Err(self.wrong(line, format!("{{{inside}}} {within}"), "the name of a class or phrase in braces"));
        }
        Ok(Item::Reference { name: name.to_owned(), chance })
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Scales weights to probabilities.
fn normalise<'a>(weights: impl Iterator<Item = &'a mut f64>) {
    let weights: Vec<&mut f64> = weights.collect();
    let sum: f64 = weights.iter().map(|w| **w).sum();
    weights.into_iter().for_each(|w| *w /= sum);
}

/// "; nearest: X", or nothing if no candidate resembles `name`.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 3)
        .map_or(String::new(), |(_, candidate)| format!("; nearest: {candidate}"))
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Result<Self> {
        let reader = Reader { path, ends: text.match_indices('\n').map(|(at, _)| at).collect() };
        let document = DeTable::parse(text).map_err(|e| {
            let line = e.span().map_or(0, |span| reader.line_of(span.start));
            reader.wrong(line, e.message().trim().replace('\n', ", "), "TOML")
        })?;
        let table = document.get_ref();
        reader.keys("in the grammar", table, &["start", "capitalise", "class", "phrase"])?;
        let Some(start) = table.get("start") else {
            return Err(reader.wrong(0, "no key `start`", "the name of the phrase that is a sentence"));
        };
        let capitalise = match table.get("capitalise") {
            Some(value) => reader.typed("capitalise", value, |v| v.as_bool(), "true or false")?,
            None => false,
        };
        let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
        for kind in ["class", "phrase"] {
            let Some(value) = table.get(kind) else {
                continue;
            };
            for (key, value) in reader.table(kind, value)? {
                let (name, line) = (key.get_ref(), reader.line(key));
                if let Some(first) = rules.get(name.as_ref()) {
                    let found = format!("{kind}.{name}, but class.{name} is at line {}", first.line);
                    return Err(reader.wrong(line, found, "classes and phrases with different names"));
                }
                let (tag, body) =
                    if kind == "class" { reader.class(name, value)? } else { reader.phrase(name, value)? };
                rules.insert(name.to_string(), Rule { line, tag, body });
            }
        }
        let start_line = reader.line(start);
        let start = reader.string("start", start)?.to_owned();
        Ok(Source { path: path.to_owned(), start, start_line, capitalise, rules })
    }

    pub(super) fn wrong(&self, line: usize, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::input(&self.path, line, found, expected)
    }

    /// Checks the references: they exist, nothing contains itself, and everything is used.
    pub(super) fn check(&self) -> Result<()> {
        if !matches!(self.rules.get(&self.start), Some(Rule { body: Body::Phrase(_), .. })) {
            let phrases = self.rules.iter().filter(|(_, rule)| matches!(rule.body, Body::Phrase(_)));
            let hint = nearest(&self.start, phrases.map(|(name, _)| name.as_str()));
            let found = format!("start = {:?}", self.start);
            return Err(self.wrong(self.start_line, found, format!("the name of a phrase{hint}")));
        }
        for (name, rule) in &self.rules {
            for (line, to) in rule.references() {
                if !self.rules.contains_key(to) {
                    let hint = nearest(to, self.rules.keys().map(String::as_str));
                    let found = format!("{{{to}}} in phrase.{name}");
                    return Err(self.wrong(line, found, format!("the name of a class or phrase{hint}")));
                }
            }
        }
        let mut done = HashMap::new();
        self.visit(&self.start, &mut Vec::new(), &mut done)?;
        for (name, rule) in &self.rules {
            if !done.contains_key(name.as_str()) {
                let kind = if matches!(rule.body, Body::Class(_)) { "class" } else { "phrase" };
                let expected = format!("only classes and phrases that {} leads to", self.start);
                return Err(self.wrong(rule.line, format!("{kind}.{name}, which is not used"), expected));
            }
        }
        Ok(())
    }

    /// The depth of phrases from `name` down; each rule is examined once.
    fn visit<'a>(
        &'a self,
        name: &'a str,
        above: &mut Vec<&'a str>,
        done: &mut HashMap<&'a str, usize>,
    ) -> Result<usize> {
        let rule = &self.rules[name];
        if let Some(first) = above.iter().position(|&n| n == name) {
            let cycle = format!("{} -> {name}", above[first..].join(" -> "));
            return Err(self.wrong(rule.line, format!("a phrase within itself, {cycle}"), "phrases without a cycle"));
        }
        let mut levels = 1;
        if let Some(known) = done.get(name) {
            levels = *known;
        } else if above.len() < MAX_DEPTH {
            above.push(name);
            for (_, to) in rule.references() {
                levels = levels.max(1 + self.visit(to, above, done)?);
            }
            above.pop();
            done.insert(name, levels);
        }
        if above.len() + levels > MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH} levels of phrases in phrases");
            return Err(self.wrong(
                rule.line,
                format!("{name} and what is below it at level {}", above.len() + 1),
                expected,
            ));
        }
        Ok(levels)
    }
}

impl Rule {
    /// The names this rule refers to, with the lines of their rows.
    fn references(&self) -> Vec<(usize, &str)> {
        let Body::Phrase(rows) = &self.body else {
            return Vec::new();
        };
        let items = rows.iter().flat_map(|row| row.items.iter().map(|item| (row.line, item)));
        items
            .filter_map(|(line, item)| match item {
                Item::Reference { name, .. } => Some((line, name.as_str())),
                Item::Word(_) => None,
            })
            .collect()
    }
}
