//! Tags of entities: the schemes they are written in, what a scheme allows, and the conversion between tags and spans.
//!
//! A scheme writes an entity `X` of three tokens, directly followed by an `X` of one token, as
//!
//! | scheme | | | | |
//! |---|---|---|---|---|
//! | `iob1` | I-X | I-X | I-X | B-X |
//! | `iob2` | B-X | I-X | I-X | B-X |
//! | `iobes` | B-X | I-X | E-X | S-X |
//! | `io` | I-X | I-X | I-X | I-X |
//! | `bare` | X | X | X | X |
//!
//! The last two cannot distinguish such neighbours, and join them. A tag may consist of a prefix only (`B`, `I`): its type is empty.
//! Other letters and notations are read as those of these schemes, see [`parse_all`].

use std::fmt;
use std::str::FromStr;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How spans are written as tags; see the table of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `B-` only between two adjacent entities of one type (CoNLL 2000 and 2003 as distributed).
    Iob1,
    /// Every entity begins with `B-`.
    Iob2,
    /// `B- I- E-`, and `S-` for an entity of one token.
    Iobes,
    /// `I-` only.
    Io,
    /// The type alone, without a prefix.
    Bare,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Scheme; 5] = [Scheme::Iob1, Scheme::Iob2, Scheme::Iobes, Scheme::Io, Scheme::Bare];

    /// The prefixes the scheme writes, in the order of label numbers.
    pub fn prefixes(self) -> &'static [Prefix] {
        use Prefix::*;
        match self {
            Scheme::Iob1 | Scheme::Iob2 => &[B, I],
            Scheme::Iobes => &[B, I, E, S],
            Scheme::Io | Scheme::Bare => &[I],
        }
    }

    /// The name used in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Iob1 => "iob1",
            Scheme::Iob2 => "iob2",
            Scheme::Iobes => "iobes",
            Scheme::Io => "io",
            Scheme::Bare => "bare",
        }
    }

    /// Whether `next` may follow `prev`. The boundaries of a sentence count as [`Tag::O`], so that a sentence is valid if every pair of
    /// neighbours is, including the boundaries.
    pub fn allows(self, prev: Tag, next: Tag) -> bool {
        use Prefix::*;
        let inside = matches!(prev.prefix, B | I) && prev.kind == next.kind;
        if next.prefix != O && !self.prefixes().contains(&next.prefix) {
            return false;
        }
        match self {
            Scheme::Iob1 => next.prefix != B || inside,
            Scheme::Iob2 => next.prefix != I || inside,
            // What B- or I- has opened must continue, and only what is open may continue.
            Scheme::Iobes => {
                matches!(prev.prefix, B | I) == matches!(next.prefix, I | E)
                    && (inside || !matches!(next.prefix, I | E))
            }
            Scheme::Io | Scheme::Bare => true,
        }
    }

    /// The first pair of neighbours in a sentence that the scheme does not allow: the index of its second tag, or `tags.len()` if the
    /// sentence may not end there.
    pub fn check(self, tags: &[Tag]) -> Option<usize> {
        let mut prev = Tag::O;
        for (i, &next) in tags.iter().chain([&Tag::O]).enumerate() {
            if !self.allows(prev, next) {
                return Some(i);
            }
            prev = next;
        }
        None
    }

    /// Detects the scheme of sentences with prefixed tags: the one that allows them all. If both `iob1` and `iob2` are violated
    /// somewhere, the one with fewer violations, so that [`Scheme::check`] points at the exceptions. Files with only `I-` mean the same
    /// in `io` and `iob1` and are `iob1`; files without entities are `iob2`.
    pub fn detect<'a>(sentences: impl IntoIterator<Item = &'a [Tag]>) -> Scheme {
        use Prefix::*;
        let (mut begun_by_b, mut begun_by_i, mut any_b) = (0u64, 0u64, false);
        for tags in sentences {
            let mut prev = Tag::O;
            for &tag in tags {
                let inside = matches!(prev.prefix, B | I) && prev.kind == tag.kind;
                match tag.prefix {
                    E | S => return Scheme::Iobes,
                    B => {
                        any_b = true;
                        begun_by_b += u64::from(!inside);
                    }
                    I => begun_by_i += u64::from(!inside),
                    O => {}
                }
                prev = tag;
            }
        }
        match (any_b, begun_by_i) {
            (_, 0) => Scheme::Iob2,
            (false, _) => Scheme::Iob1,
            (true, _) if begun_by_b < begun_by_i => Scheme::Iob1,
            (true, _) => Scheme::Iob2,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Scheme::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| Error::Usage(format!("found the scheme `{text}`, expected iob1, iob2, iobes, io or bare")))
    }
}

/// The first letter of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// Outside of any entity.
    O,
    /// Begins an entity.
    B,
    /// Continues an entity; in `iob1`, `io` and `bare` it begins one, too.
    I,
    /// Ends an entity.
    E,
    /// An entity of one token.
    S,
}

impl Prefix {
    fn letter(self) -> &'static str {
        ["O", "B", "I", "E", "S"][self as usize]
    }
}

/// A tag: a prefix and the number of an entity type in some [`Kinds`] (0 for [`Tag::O`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Entity type.
    pub kind: u32,
    /// Position within the entity.
    pub prefix: Prefix,
}

impl Tag {
    /// Outside of any entity.
    pub const O: Tag = Tag { kind: 0, prefix: Prefix::O };

    /// A tag within an entity of type `kind`.
    pub fn new(prefix: Prefix, kind: u32) -> Tag {
        assert!(prefix != Prefix::O, "O has no type");
        Tag { kind, prefix }
    }

    /// Reads a tag as written in the schemes with a prefix, adding a new type to `kinds`; `None` if it is not a tag.
    pub fn parse(text: &str, kinds: &mut Kinds) -> Option<Tag> {
        match split(text)? {
            (Prefix::O, _) => Some(Tag::O),
            (prefix, kind) => Some(Tag::new(prefix, kinds.intern(kind))),
        }
    }

    /// Reads a tag of the scheme `bare`: `O` or a type. `None` if it is empty.
    pub fn parse_bare(text: &str, kinds: &mut Kinds) -> Option<Tag> {
        match text {
            // A prefix without a type is not a type.
            "" | "B-" | "I-" | "E-" | "S-" | "O-" => None,
            "O" => Some(Tag::O),
            kind => Some(Tag::new(Prefix::I, kinds.intern(kind))),
        }
    }

    /// The tag as it is written in `scheme`.
    pub fn text(self, kinds: &Kinds, scheme: Scheme) -> String {
        match (self.prefix, kinds.name(self.kind)) {
            (Prefix::O, _) => "O".to_owned(),
            (_, Some(kind)) if scheme == Scheme::Bare => kind.to_owned(),
            (prefix, Some("") | None) => prefix.letter().to_owned(),
            (prefix, Some(kind)) => format!("{}-{kind}", prefix.letter()),
        }
    }
}

/// Prefix and type of a tag as written in the schemes with a prefix.
fn split(text: &str) -> Option<(Prefix, &str)> {
    let (letter, kind) = match text.split_once('-') {
        None => (text, ""),
        Some((_, "")) => return None,
        Some(parts) => parts,
    };
    match letter {
        "O" if kind.is_empty() => Some((Prefix::O, "")),
        "B" => Some((Prefix::B, kind)),
        "I" => Some((Prefix::I, kind)),
        "E" => Some((Prefix::E, kind)),
        "S" => Some((Prefix::S, kind)),
        _ => None,
    }
}

/// Whether a tag is written with a prefix, in any notation known to [`parse_all`].
pub fn has_prefix(text: &str) -> bool {
    loose(text).is_some()
}

/// Whether a tag means that a token is outside of any entity, as `O` does.
pub fn is_outside(text: &str) -> bool {
    text == "O" || OUTSIDE.contains(&text) || OUTSIDE_WORDS.contains(&text)
}

/// Notations of `O` that are never types.
const OUTSIDE: [&str; 4] = ["o", "0", "_", "-"];
/// Notations of `O` in files without an `O`.
const OUTSIDE_WORDS: [&str; 7] = ["OTHER", "Other", "other", "OUT", "OUTSIDE", "NONE", "None"];

/// The prefix denoted by a letter, also in BILOU (L, U), BMES (M) and BMEWO (M, W), in either case.
fn prefix(letter: char) -> Option<Prefix> {
    Some(match letter.to_ascii_uppercase() {
        'B' => Prefix::B,
        'I' | 'M' => Prefix::I,
        'E' | 'L' => Prefix::E,
        'S' | 'U' | 'W' => Prefix::S,
        _ => return None,
    })
}

/// Prefix and type of a tag in any notation: `B-PER`, `b-per`, `B_PER`, `B:PER`, `PER-B`, or a letter alone.
fn loose(text: &str) -> Option<(Prefix, &str)> {
    let separator = |c: char| matches!(c, '-' | '_' | ':');
    let (mut ahead, mut behind) = (text.chars(), text.chars());
    let (first, last) = (ahead.next()?, behind.next_back()?);
    if text.len() == first.len_utf8() {
        return prefix(first).map(|prefix| (prefix, ""));
    }
    match (prefix(first), ahead.next().is_some_and(separator), ahead.as_str()) {
        (Some(prefix), true, kind) if !kind.is_empty() => return Some((prefix, kind)),
        _ => {}
    }
    let kind = behind.next_back().is_some_and(separator).then_some(behind.as_str())?;
    prefix(last).filter(|_| !kind.is_empty()).map(|prefix| (prefix, kind))
}

/// The distinct tags of a file, as read by [`parse_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelled {
    /// The tags.
    pub tags: Vec<Tag>,
    /// Whether they are types without a prefix.
    pub bare: bool,
    /// The indices of tags in another notation: `0` or `OTHER` for `O`, `I-O`, `B-B-PER`.
    pub other: Vec<usize>,
}

/// Reads the distinct tags of a file, adding new types to `kinds`. They may be written
///
/// - in the schemes of this module, in BILOU (L ends, U is alone), BMES or BMEWO (M is inside, W alone);
/// - with the prefix in lower case, followed by `_` or `:`, or after the type (`PER-B`), if all tags then have a prefix;
/// - with `o`, `0`, `_` or `-` for `O`, with `OTHER`, `NONE` and the like if `O` itself does not occur, or with `I-O`;
/// - with a doubled prefix (`B-B-PER`, `B-I-PER`): the inner one counts, if all are doubled or the type also occurs without.
///
/// They are bare types if none has a prefix, or if `scheme` says so.
///
/// # Errors
/// The index of the first invalid tag.
pub fn parse_all(texts: &[String], scheme: Option<Scheme>, kinds: &mut Kinds) -> std::result::Result<Spelled, usize> {
    let outside_words = !texts.iter().any(|text| text == "O");
    let outside = |text: &str, kinds: &Kinds| {
        let word = OUTSIDE.contains(&text) || outside_words && OUTSIDE_WORDS.contains(&text);
        text == "O" || word && kinds.get(text).is_none()
    };
    let entities: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !outside(text, kinds)).collect();
    // What L, M, U and W alone mean depends on the other tags.
    let alone = entities.contains(&"B") || entities.contains(&"b");
    let read = |text: &str| -> Option<(Prefix, String)> {
        let (prefix, kind) = loose(text)?;
        let sure = !kind.is_empty() || alone || split(text).is_some();
        sure.then(|| (prefix, kind.to_owned()))
    };
    let begins = |text: &str| match read(text) {
        Some((Prefix::B | Prefix::S, _)) => true,
        // An M is no evidence: `m_name` is a type.
        Some((Prefix::I, kind)) => {
            let letter = if text.ends_with(&kind) { text.chars().next() } else { text.chars().next_back() };
            !matches!(letter, Some('m' | 'M'))
        }
        _ => false,
    };
    let prefixed = entities.iter().any(|text| split(text).is_some())
        || !entities.is_empty()
            && entities.iter().all(|text| read(text).is_some())
            && entities.iter().any(|text| begins(text));
    // `io` may be requested for bare tags: both mean the same.
    let bare =
        scheme == Some(Scheme::Bare) || matches!(scheme, None | Some(Scheme::Io)) && !prefixed && !entities.is_empty();
    let doubled = if bare { Doubled::default() } else { Doubled::find(&entities) };

    let (mut tags, mut other) = (Vec::with_capacity(texts.len()), Vec::new());
    for (number, text) in texts.iter().enumerate() {
        let text = text.as_str();
        if outside(text, kinds) {
            if text != "O" {
                other.push(number);
            }
            tags.push(Tag::O);
            continue;
        }
        let tag = if bare {
            Tag::parse_bare(text, kinds)
        } else {
            read(text).map(|(prefix, kind)| match loose(&kind) {
                _ if kind == "O" && kinds.get("O").is_none() => {
                    other.push(number);
                    Tag::O
                }
                Some((inner, name)) if !name.is_empty() && doubled.is(&kind, name, kinds) => {
                    other.push(number);
                    Tag::new(inner, kinds.intern(name))
                }
                _ => Tag::new(prefix, kinds.intern(&kind)),
            })
        };
        tags.push(tag.ok_or(number)?);
    }
    Ok(Spelled { tags, bare, other })
}

/// Types that are themselves tags: `B-PER` in `B-B-PER`.
#[derive(Default)]
struct Doubled {
    all: bool,
    plain: Vec<String>,
}

impl Doubled {
    fn find(entities: &[&str]) -> Self {
        let kinds: Vec<(Prefix, &str)> = entities.iter().filter_map(|text| split(text)).collect();
        let inner = |kind: &str| split(kind).filter(|(_, name)| !name.is_empty()).map(|(prefix, _)| prefix);
        let plain = kinds.iter().filter(|(_, kind)| inner(kind).is_none()).map(|(_, kind)| kind.to_string());
        let plain: Vec<String> = plain.collect();
        // If the same inner letter occurs with different outer ones, it belongs to the name: `B-B-cell`, `I-B-cell`.
        let name = kinds.iter().any(|(outer, kind)| {
            let same = |other: &&(Prefix, &str)| other.1 == *kind && other.0 != *outer;
            inner(kind) == Some(Prefix::B) && kinds.iter().any(|other| same(&other))
        });
        Doubled { all: plain.is_empty() && !name, plain }
    }

    fn is(&self, kind: &str, name: &str, kinds: &Kinds) -> bool {
        split(kind).is_some()
            && kinds.get(kind).is_none()
            && (self.all || kinds.get(name).is_some() || self.plain.iter().any(|plain| plain == name))
    }
}

/// The first of several tags joined by commas, such as `B-person,B-group` where annotators disagreed; `None` if `text` is one tag (a
/// comma within a type is not a join: every part must be a tag).
pub fn first_of_joined(text: &str) -> Option<&str> {
    let (first, _) = text.split_once(',')?;
    let tag = |part: &str| part == "O" || part.contains('-') && split(part).is_some();
    text.split(',').all(tag).then_some(first)
}

/// Entity types, numbered in the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Kinds {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Kinds {
    /// The number of the type `name`, which is added if it is new.
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The number of the type `name`, if it is known.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The name of a type.
    pub fn name(&self, kind: u32) -> Option<&str> {
        self.names.get(kind as usize).map(String::as_str)
    }

    /// All names, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of types.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl From<Vec<String>> for Kinds {
    fn from(names: Vec<String>) -> Self {
        let mut kinds = Kinds::default();
        for name in &names {
            kinds.intern(name);
        }
        kinds
    }
}

impl From<Kinds> for Vec<String> {
    fn from(kinds: Kinds) -> Self {
        kinds.names
    }
}

/// The classes of a tagger: label 0 is `O`, followed by the prefixes of the scheme for every type. Closed under conversion: it contains
/// every tag that the scheme can write for its types, whether seen or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The scheme of the labels.
    pub scheme: Scheme,
    /// The entity types.
    pub kinds: Kinds,
}

impl Labels {
    /// The number of labels.
    pub fn count(&self) -> usize {
        1 + self.kinds.len() * self.scheme.prefixes().len()
    }

    /// The label of a tag; `None` for a type or prefix that is not among them.
    pub fn label(&self, tag: Tag) -> Option<usize> {
        if tag.prefix == Prefix::O {
            return Some(0);
        }
        let prefixes = self.scheme.prefixes();
        let place = prefixes.iter().position(|&p| p == tag.prefix)?;
        ((tag.kind as usize) < self.kinds.len()).then(|| 1 + tag.kind as usize * prefixes.len() + place)
    }

    /// The tag of a label below [`Labels::count`].
    pub fn tag(&self, label: usize) -> Tag {
        assert!(label < self.count(), "label {label} of {}", self.count());
        let prefixes = self.scheme.prefixes();
        match label.checked_sub(1) {
            None => Tag::O,
            Some(rest) => Tag::new(prefixes[rest % prefixes.len()], (rest / prefixes.len()) as u32),
        }
    }

    /// The labels as text.
    pub fn texts(&self) -> Vec<String> {
        (0..self.count()).map(|label| self.tag(label).text(&self.kinds, self.scheme)).collect()
    }
}

/// An entity: the tokens `start..end` of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First token.
    pub start: usize,
    /// The token after the last.
    pub end: usize,
    /// The entity type.
    pub kind: u32,
}

/// How tags are read as spans. The two readings agree on every sentence that its scheme allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As by the script `conlleval` of the CoNLL shared tasks (and by `seqeval` by default): whatever looks like the beginning of an
    /// entity begins one, so that `O I-X` contains an `X` and `B-X I-Y` an `X` and a `Y`. Independent of the scheme. `E-` and `S-`,
    /// which the script does not know, are read as by `seqeval`.
    Conlleval,
    /// As by `seqeval` with `mode="strict"`: only what begins, continues and ends as the scheme writes it is an entity, so that in
    /// `iob2` `O I-X` contains none and `B-X I-Y` only an `X`. `io` and `bare` cannot be read more strictly and are read as by
    /// [`Reading::Conlleval`].
    Strict(Scheme),
}

/// The entities of a sentence, in order, without overlap.
pub fn spans(tags: &[Tag], reading: Reading) -> Vec<Span> {
    let mut out = Vec::new();
    spans_into(tags, reading, &mut out);
    out
}

/// [`spans`] into a buffer that is cleared first.
pub fn spans_into(tags: &[Tag], reading: Reading, out: &mut Vec<Span>) {
    out.clear();
    match reading {
        Reading::Strict(scheme @ (Scheme::Iob1 | Scheme::Iob2 | Scheme::Iobes)) => strict(tags, scheme, out),
        _ => lenient(tags, out),
    }
}

fn lenient(tags: &[Tag], out: &mut Vec<Span>) {
    use Prefix::*;
    let (mut prev, mut start) = (Tag::O, 0);
    for (i, &tag) in tags.iter().chain([&Tag::O]).enumerate() {
        let goes_on = matches!(prev.prefix, B | I) && matches!(tag.prefix, I | E) && prev.kind == tag.kind;
        if !goes_on {
            if prev.prefix != O {
                out.push(Span { start, end: i, kind: prev.kind });
            }
            start = i;
        }
        prev = tag;
    }
}

fn strict(tags: &[Tag], scheme: Scheme, out: &mut Vec<Span>) {
    use Prefix::*;
    let at = |i: usize| tags.get(i).copied().unwrap_or(Tag::O);
    let begins = |prev: Tag, tag: Tag| {
        let same = prev.kind == tag.kind;
        match scheme {
            Scheme::Iobes => matches!(tag.prefix, B | S),
            Scheme::Iob1 => match tag.prefix {
                I => prev.prefix != I || !same,
                B => prev.prefix != O && same,
                _ => false,
            },
            _ => tag.prefix == B,
        }
    };
    let goes_on =
        |prev: Tag, tag: Tag| matches!(prev.prefix, B | I) && matches!(tag.prefix, I | E) && prev.kind == tag.kind;
    let ends = |last: Tag, next: Tag| match scheme {
        Scheme::Iobes => matches!(last.prefix, E | S),
        // `B-X B-Y`: the second B- should have been I-, and seqeval drops the entity before it.
        Scheme::Iob1 => !(last.prefix == B && next.prefix == B && last.kind != next.kind),
        _ => true,
    };
    let (mut i, mut prev) = (0, Tag::O);
    while i < tags.len() {
        let (start, tag) = (i, tags[i]);
        i += 1;
        if begins(prev, tag) {
            while goes_on(at(i - 1), at(i)) {
                i += 1;
            }
            if ends(at(i - 1), at(i)) {
                out.push(Span { start, end: i, kind: tag.kind });
            }
        }
        prev = at(i - 1);
    }
}

/// Writes `spans` (in order, within the sentence) as the tags of `scheme`; every other token becomes [`Tag::O`].
pub fn encode(spans: &[Span], scheme: Scheme, tags: &mut [Tag]) {
    use Prefix::*;
    tags.fill(Tag::O);
    let mut before: Option<Span> = None;
    for &span in spans {
        let touches = before.is_some_and(|b| b.end == span.start && b.kind == span.kind);
        let last = span.end - 1;
        for (i, tag) in tags.iter_mut().enumerate().take(span.end).skip(span.start) {
            let prefix = match scheme {
                Scheme::Iob1 if i == span.start && touches => B,
                Scheme::Iob2 if i == span.start => B,
                Scheme::Iobes if i == span.start => {
                    if i == last {
                        S
                    } else {
                        B
                    }
                }
                Scheme::Iobes if i == last => E,
                _ => I,
            };
            *tag = Tag::new(prefix, span.kind);
        }
        before = Some(span);
    }
}

/// Rewrites a sentence in the scheme `to`, reading it as `conlleval` does: a conversion if its scheme allows the sentence, otherwise a
/// repair. Returns the number of tags changed.
pub fn convert(tags: &mut [Tag], to: Scheme) -> usize {
    let before = tags.to_vec();
    encode(&spans(&before, Reading::Conlleval), to, tags);
    tags.iter().zip(&before).filter(|(a, b)| a != b).count()
}

/// The tags of `other` that do not occur in `seen`, with their counts, in the order of [`Tag`].
pub fn unseen(seen: &[Tag], other: &[Tag]) -> Vec<(Tag, usize)> {
    let seen: hashbrown::HashSet<Tag> = seen.iter().copied().collect();
    let mut counts = std::collections::BTreeMap::new();
    for &tag in other.iter().filter(|tag| !seen.contains(*tag)) {
        *counts.entry(tag).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tags(text: &str, kinds: &mut Kinds) -> Vec<Tag> {
        text.split_whitespace().map(|tag| Tag::parse(tag, kinds).unwrap()).collect()
    }

    #[test]
    fn tags_are_parsed() {
        let mut kinds = Kinds::default();
        assert_eq!(Tag::parse("O", &mut kinds), Some(Tag::O));
        assert_eq!(Tag::parse("I-a-b", &mut kinds), Some(Tag::new(Prefix::I, 0)));
        assert_eq!(Tag::parse("S", &mut kinds), Some(Tag::new(Prefix::S, 1)));
        for bad in ["", "B-", "L-PER", "b-PER", "PER", "O-PER", "-", "-PER", "BI-PER", " B-PER"] {
            assert_eq!(Tag::parse(bad, &mut kinds), None, "{bad}");
        }
        assert_eq!(Tag::parse_bare("L-", &mut kinds), Some(Tag::new(Prefix::I, 2)));
        assert_eq!(Tag::parse_bare("B-", &mut kinds), None);
        assert_eq!(Tag::parse_bare("", &mut kinds), None);
        assert_eq!(kinds.names(), ["a-b", "", "L-"]);
        let texts = [(Prefix::E, 0, "E-a-b"), (Prefix::B, 1, "B"), (Prefix::B, 2, "B-L-")];
        for (prefix, kind, text) in texts {
            assert_eq!(Tag::new(prefix, kind).text(&kinds, Scheme::Iobes), text);
        }
        assert_eq!(Tag::new(Prefix::I, 2).text(&kinds, Scheme::Bare), "L-");
        assert_eq!(Tag::O.text(&Kinds::default(), Scheme::Bare), "O");
    }

    #[test]
    fn tags_as_people_write_them() {
        let read = |texts: &str, known: &[&str]| {
            let mut kinds = Kinds::from(known.iter().map(|name| name.to_string()).collect::<Vec<_>>());
            let texts: Vec<String> = texts.split(' ').map(str::to_owned).collect();
            let read = parse_all(&texts, None, &mut kinds).unwrap_or_else(|number| panic!("{}", texts[number]));
            let scheme = if read.bare { Scheme::Bare } else { Scheme::Iobes };
            let tags: Vec<String> = read.tags.iter().map(|tag| tag.text(&kinds, scheme)).collect();
            (tags.join(" "), read.other.len())
        };
        let same = "O B-x I-x S-x E-x";
        for texts in
            ["O B-x I-x U-x L-x", "O B-x M-x S-x E-x", "O B-x M-x W-x E-x", "O b-x i-x s-x e-x", "O B_x I_x U_x L_x"]
        {
            assert_eq!(read(texts, &[]), (same.into(), 0), "{texts}");
        }
        assert_eq!(read("O x-B x_I x:S x-E", &[]), (same.into(), 0));
        assert_eq!(read("B M E S", &[]), ("B I E S".into(), 0));
        // Bare types.
        for bare in ["M F O", "PER LOC O", "m_name m_place", "x-ray S1", "OTHER O PER", "L-x M-y"] {
            assert_eq!(read(bare, &[]), (bare.into(), 0), "{bare}");
        }
        for outside in ["o", "0", "_", "-", "OTHER", "NONE", "I-O"] {
            assert_eq!(read(&format!("{outside} B-x"), &[]), ("O B-x".into(), 1), "{outside}");
        }
        assert_eq!(read("OTHER x", &["OTHER"]), ("OTHER x".into(), 0));
        assert_eq!(read("O B-B-x B-I-x", &[]), ("O B-x I-x".into(), 2));
        assert_eq!(read("O B-x I-x B-B-x", &[]), ("O B-x I-x B-x".into(), 1));
        assert_eq!(read("O B-B-x", &["x"]), ("O B-x".into(), 1));
        assert_eq!(read("O B-B-cell I-B-cell", &[]), ("O B-B-cell I-B-cell".into(), 0));
        assert_eq!(read("O B-S-Bahn I-x", &[]), ("O B-S-Bahn I-x".into(), 0));
        assert_eq!(parse_all(&["B-x".into(), "x".into()], None, &mut Kinds::default()), Err(1));
    }

    #[test]
    fn joined_tags() {
        assert_eq!(first_of_joined("B-person,B-group"), Some("B-person"));
        assert_eq!(first_of_joined("O,B-group,I-x"), Some("O"));
        for one in ["B-person", "B-a,b", "a,b", "O", "B,I", ",", "B-x,"] {
            assert_eq!(first_of_joined(one), None, "{one}");
        }
    }

    #[test]
    fn detection() {
        let detect = |sentences: &[&str]| {
            let mut kinds = Kinds::default();
            let sentences: Vec<Vec<Tag>> = sentences.iter().map(|s| tags(s, &mut kinds)).collect();
            Scheme::detect(sentences.iter().map(Vec::as_slice))
        };
        assert_eq!(detect(&["B-X I-X O", "O B-Y"]), Scheme::Iob2);
        assert_eq!(detect(&["B-X B-Y B-Y"]), Scheme::Iob2);
        assert_eq!(detect(&["I-X I-X O I-Y"]), Scheme::Iob1);
        assert_eq!(detect(&["I-X B-X O I-Y"]), Scheme::Iob1);
        assert_eq!(detect(&["B-X E-X"]), Scheme::Iobes);
        assert_eq!(detect(&["I-X B-X", "S-X"]), Scheme::Iobes);
        assert_eq!(detect(&["O O", "O"]), Scheme::Iob2);
        // In iob1 no sentence begins with B-: two violations, and only one in iob2.
        assert_eq!(detect(&["I-X", "B-X", "B-X", "O"]), Scheme::Iob2);
        // A single error does not hide the scheme.
        assert_eq!(detect(&["B-X I-X", "B-Y", "I-X"]), Scheme::Iob2);
        assert_eq!(detect(&["I-X B-X", "I-Y", "I-X", "B-X"]), Scheme::Iob1);
    }

    #[test]
    fn what_a_scheme_allows() {
        let check = |scheme: Scheme, text: &str| scheme.check(&tags(text, &mut Kinds::default()));
        assert_eq!(check(Scheme::Iob1, "I-X B-X I-X O I-Y I-X"), None);
        assert_eq!(check(Scheme::Iob1, "I-X B-Y"), Some(1));
        assert_eq!(check(Scheme::Iob1, "B-X"), Some(0));
        assert_eq!(check(Scheme::Iob2, "B-X I-X B-X O B-Y B-X"), None);
        assert_eq!(check(Scheme::Iob2, "O I-X"), Some(1));
        assert_eq!(check(Scheme::Iob2, "B-X I-Y"), Some(1));
        assert_eq!(check(Scheme::Iob2, "B-X E-X"), Some(1));
        assert_eq!(check(Scheme::Iobes, "B-X I-X E-X S-X S-Y B-X E-X"), None);
        assert_eq!(check(Scheme::Iobes, "S-X I-X"), Some(1));
        assert_eq!(check(Scheme::Iobes, "B-X E-X I-X"), Some(2));
        assert_eq!(check(Scheme::Iobes, "B-X O"), Some(1));
        assert_eq!(check(Scheme::Iobes, "B-X S-X"), Some(1));
        assert_eq!(check(Scheme::Iobes, "B-X E-Y"), Some(1));
        assert_eq!(check(Scheme::Iobes, "O B-X I-X"), Some(3));
        assert_eq!(check(Scheme::Io, "I-X I-Y O"), None);
        assert_eq!(check(Scheme::Io, "I-X B-X"), Some(1));
        assert_eq!(check(Scheme::Iob2, ""), None);
    }

    #[test]
    fn scheme_names() {
        for scheme in Scheme::ALL {
            assert_eq!(scheme.to_string().parse::<Scheme>().unwrap(), scheme);
            assert_eq!(serde_json::to_string(&scheme).unwrap(), format!("\"{scheme}\""));
        }
        let message = "BIO".parse::<Scheme>().unwrap_err().to_string();
        assert_eq!(message, "found the scheme `BIO`, expected iob1, iob2, iobes, io or bare");
    }

    #[test]
    fn conversions_of_one_sentence() {
        let convert = |text: &str, to: Scheme| {
            let mut kinds = Kinds::default();
            let mut tags = tags(text, &mut kinds);
            let changed = convert(&mut tags, to);
            let text: Vec<String> = tags.iter().map(|tag| tag.text(&kinds, to)).collect();
            (text.join(" "), changed)
        };
        let iob2 = "B-X I-X I-X B-X O B-Y";
        assert_eq!(convert(iob2, Scheme::Iob1), ("I-X I-X I-X B-X O I-Y".into(), 2));
        assert_eq!(convert(iob2, Scheme::Iob2), (iob2.into(), 0));
        assert_eq!(convert(iob2, Scheme::Iobes), ("B-X I-X E-X S-X O S-Y".into(), 3));
        assert_eq!(convert(iob2, Scheme::Io), ("I-X I-X I-X I-X O I-Y".into(), 3));
        assert_eq!(convert(iob2, Scheme::Bare).0, "X X X X O Y");
        // Repairs, as read by conlleval.
        assert_eq!(convert("I-X B-Y I-X O I-X", Scheme::Iob2), ("B-X B-Y B-X O B-X".into(), 3));
        assert_eq!(convert("B-X I-X O E-X S-X I-X", Scheme::Iobes).0, "B-X E-X O S-X S-X S-X");
    }

    #[test]
    fn labels_number_every_tag_of_the_scheme() {
        let kinds = Kinds::from(vec!["PER".to_owned(), "LOC".to_owned()]);
        let labels = Labels { scheme: Scheme::Iobes, kinds };
        let texts = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC"];
        assert_eq!(labels.texts(), texts);
        for scheme in Scheme::ALL {
            let labels = Labels { scheme, ..labels.clone() };
            assert!((0..labels.count()).all(|label| labels.label(labels.tag(label)) == Some(label)));
            assert_eq!(labels.label(Tag::new(Prefix::I, 2)), None);
        }
        let labels = Labels { scheme: Scheme::Iob2, ..labels };
        assert_eq!(labels.label(Tag::new(Prefix::S, 0)), None);
        let text = serde_json::to_string(&labels).unwrap();
        assert_eq!(text, r#"{"scheme":"iob2","kinds":["PER","LOC"]}"#);
        assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
    }

    #[test]
    fn unseen_tags_are_counted() {
        let mut kinds = Kinds::default();
        let (seen, other) = (tags("B-X I-X O", &mut kinds), tags("I-X I-Y B-Y I-Y O", &mut kinds));
        assert_eq!(unseen(&seen, &other), [(Tag::new(Prefix::B, 1), 1), (Tag::new(Prefix::I, 1), 2)]);
        assert_eq!(unseen(&other, &seen), [(Tag::new(Prefix::B, 0), 1)]);
    }

    /// Spans of up to three types over a sentence, with and without gaps.
    fn sentences() -> impl Strategy<Value = (Vec<Span>, usize)> {
        let entity = (0usize..3, 1usize..5, 0u32..3);
        (prop::collection::vec(entity, 0..8), 0usize..3).prop_map(|(entities, rest)| {
            let mut end = 0;
            let mut spans = Vec::new();
            for (gap, length, kind) in entities {
                let start = end + gap;
                end = start + length;
                spans.push(Span { start, end, kind });
            }
            (spans, end + rest)
        })
    }

    fn any_tags() -> impl Strategy<Value = Vec<Tag>> {
        use Prefix::*;
        let tag = (0usize..5, 0u32..3).prop_map(|(p, kind)| match [O, B, I, E, S][p] {
            O => Tag::O,
            prefix => Tag::new(prefix, kind),
        });
        prop::collection::vec(tag, 0..12)
    }

    /// What remains of the spans in a scheme that joins neighbours.
    fn joined(spans: &[Span]) -> Vec<Span> {
        let mut out: Vec<Span> = Vec::new();
        for &span in spans {
            match out.last_mut() {
                Some(last) if last.end == span.start && last.kind == span.kind => last.end = span.end,
                _ => out.push(span),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn spans_survive_every_pair_of_schemes((expected, length) in sentences()) {
            for from in Scheme::ALL {
                let mut tags = vec![Tag::O; length];
                encode(&expected, from, &mut tags);
                prop_assert_eq!(from.check(&tags), None);
                let in_from = if from.prefixes() == [Prefix::I] { joined(&expected) } else { expected.clone() };
                prop_assert_eq!(&spans(&tags, Reading::Conlleval), &in_from);
                prop_assert_eq!(&spans(&tags, Reading::Strict(from)), &in_from);
                for to in Scheme::ALL {
                    let mut converted = tags.clone();
                    convert(&mut converted, to);
                    prop_assert_eq!(to.check(&converted), None);
                    let in_to = if to.prefixes() == [Prefix::I] { joined(&in_from) } else { in_from.clone() };
                    prop_assert_eq!(&spans(&converted, Reading::Strict(to)), &in_to);
                    if in_to == in_from {
                        convert(&mut converted, from);
                        prop_assert_eq!(&converted, &tags);
                    }
                }
            }
        }

        #[test]
        fn a_repair_keeps_the_conlleval_spans_and_is_valid(tags in any_tags()) {
            let read = spans(&tags, Reading::Conlleval);
            for scheme in Scheme::ALL {
                let mut repaired = tags.clone();
                let changed = convert(&mut repaired, scheme);
                prop_assert_eq!(scheme.check(&repaired), None);
                let expected = if scheme.prefixes() == [Prefix::I] { joined(&read) } else { read.clone() };
                prop_assert_eq!(spans(&repaired, Reading::Conlleval), expected);
                prop_assert_eq!(changed == 0, repaired == tags);
                // Valid sentences are unchanged, and only those.
                prop_assert_eq!(changed == 0, scheme.check(&tags).is_none());
                // Entities of the strict reading do not overlap.
                let strict = spans(&tags, Reading::Strict(scheme));
                prop_assert!(strict.windows(2).all(|w| w[0].end <= w[1].start));
            }
        }

        #[test]
        fn a_valid_file_is_detected_as_a_scheme_that_allows_it((expected, length) in sentences()) {
            for scheme in [Scheme::Iob1, Scheme::Iob2, Scheme::Iobes, Scheme::Io] {
                let mut tags = vec![Tag::O; length];
                encode(&expected, scheme, &mut tags);
                let found = Scheme::detect([tags.as_slice()]);
                prop_assert_eq!(found.check(&tags), None);
                prop_assert_eq!(spans(&tags, Reading::Strict(found)), spans(&tags, Reading::Strict(scheme)));
            }
        }
    }
}
