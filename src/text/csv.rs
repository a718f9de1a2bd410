//! Rows and fields of CSV files, as RFC 4180, spreadsheets, pandas and R write them.

use super::inputs::{refuse_markup, stream_failed};
use super::{Inputs, commonest, encodings};
use crate::error::{Error, Result};
use std::io::{BufRead, BufReader, Cursor, Read};
use std::ops::Range;
use std::path::Path;

/// Bytes examined to detect how a file is written; several rows of any sensible file.
const HEAD: usize = 1 << 22;
/// Maximum number of rows examined for the same purpose.
const SAMPLE: usize = 200;
/// A quoted field over several lines with more bytes than this is assumed to lack its closing quote.
const LONGEST: usize = 1 << 20;

/// What separates two fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// This character.
    Byte(u8),
    /// Any number of spaces and tabs.
    Spaces,
}

impl Separator {
    /// All separators, the most common first.
    const ALL: [Separator; 5] = [
        Separator::Byte(b','),
        Separator::Byte(b';'),
        Separator::Byte(b'\t'),
        Separator::Byte(b'|'),
        Separator::Spaces,
    ];

    fn is(self, byte: u8) -> bool {
        match self {
            Separator::Byte(own) => byte == own,
            Separator::Spaces => byte == b' ' || byte == b'\t',
        }
    }

    /// Its name in a message.
    pub fn name(self) -> &'static str {
        match self {
            Separator::Byte(b',') => "commas",
            Separator::Byte(b';') => "semicolons",
            Separator::Byte(b'\t') => "tabs",
            Separator::Byte(_) => "`|`",
            Separator::Spaces => "spaces",
        }
    }
}

/// The fields of one row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    text: String,
    fields: Vec<Range<usize>>,
}

impl Row {
    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// A field.
    pub fn get(&self, field: usize) -> &str {
        &self.text[self.fields[field].clone()]
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| &self.text[field.clone()])
    }

    /// The number of fields that are not empty.
    pub fn filled(&self) -> usize {
        self.iter().filter(|field| !field.is_empty()).count()
    }

    /// Removes empty fields at the end, down to `columns`.
    pub fn trim(&mut self, columns: usize) {
        while self.fields.len() > columns && self.fields.last().is_some_and(Range::is_empty) {
            self.fields.pop();
        }
    }

    /// The same row split by another separator that yields `columns` fields. Spaces are not tried: prose may have that many words.
    pub fn split_otherwise(&self, separator: Separator, columns: usize) -> Option<Row> {
        let mut others = Separator::ALL.into_iter().filter(|&other| other != separator && other != Separator::Spaces);
        others.find_map(|other| {
            let mut row = Row { text: self.text.clone(), fields: Vec::new() };
            row.split(other);
            (row.len() == columns).then_some(row)
        })
    }

    /// Splits a text without quotes.
    fn split(&mut self, separator: Separator) {
        self.fields.clear();
        let bytes = self.text.as_bytes();
        let mut begin = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if separator.is(byte) {
                self.fields.push(begin..at);
                begin = at + 1;
            }
        }
        self.fields.push(begin..bytes.len());
        self.tidy(separator);
    }

    /// Trims spaces around the fields, and drops empty fields if spaces are separators.
    fn tidy(&mut self, separator: Separator) {
        for field in &mut self.fields {
            let text = &self.text[field.clone()];
            let from = field.start + text.len() - text.trim_start().len();
            *field = from..from + text.trim().len();
        }
        if separator == Separator::Spaces {
            self.fields.retain(|field| !field.is_empty());
        }
    }
}

/// Iterates over the rows of a file that are not empty.
pub struct Records<'p, R> {
    path: &'p Path,
    input: R,
    separator: Separator,
    /// Number of lines read so far.
    lines: usize,
    raw: Vec<u8>,
}

/// A file whose beginning has been examined.
pub struct Opened<'p, R> {
    path: &'p Path,
    head: Vec<u8>,
    /// Whether the head is the whole file.
    whole: bool,
    rest: R,
    /// Number of lines before the first row, which name the separator.
    skip: usize,
    /// The separator of fields.
    pub separator: Separator,
    /// The first rows, and the lines they begin on.
    pub sample: Vec<(usize, Row)>,
    /// The number of fields of most of them.
    pub columns: usize,
}

/// A file whose lines end in carriage returns alone.
struct Returns<R>(R);

impl<R: Read> Read for Returns<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        buffer[..read].iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        Ok(read)
    }
}

/// Examines the beginning of a file; with a decimal comma, other separators are preferred.
pub fn open<'p>(
    path: &'p Path,
    decimal_comma: bool,
    expected: &str,
    inputs: &Inputs,
) -> Result<Opened<'p, impl Read + use<>>> {
    let mut rest = inputs.stream_text(path)?;
    let mut head = Vec::new();
    rest.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|e| stream_failed(path, e))?;
    let whole = head.len() < HEAD;
    if head.starts_with(b"\xEF\xBB\xBF") {
        head.drain(..3);
    }
    refuse_markup(path, &head, expected)?;
    // Line ends of old Macintoshes.
    if !head.contains(&b'\n') && head.contains(&b'\r') {
        head.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        rest = Box::new(Returns(rest));
    }
    if let Some(at) = head.iter().position(|byte| *byte == 0) {
        return Err(super::wrong_byte(path, &head, at, "a NUL byte", expected));
    }
    if head.trim_ascii_start().get(..9).is_some_and(|begin| begin.eq_ignore_ascii_case(b"@relation")) {
        return Err(Error::input(path, 0, "an ARFF file", format!("{expected}: the part below its @data line")));
    }
    // Excel's own way to name the separator.
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let named = first.trim_ascii().strip_prefix(b"sep=").filter(|rest| rest.len() <= 1).map(<[u8]>::to_vec);
    let mut opened = Opened {
        path,
        skip: usize::from(named.is_some()),
        head,
        whole,
        rest,
        separator: Separator::ALL[0],
        sample: Vec::new(),
        columns: 0,
    };
    let named = named.map(|byte| Separator::Byte(byte.first().copied().unwrap_or(b'\t')));
    let mut best = 0;
    for separator in Separator::ALL.into_iter().filter(|&separator| named.is_none_or(|named| named == separator)) {
        let is_comma = separator == Separator::Byte(b',');
        let (sample, error) = opened.sample(separator);
        if let (Some(error), true) = (error, best == 0) {
            // Which line is malformed does not depend on the separator.
            return Err(error);
        }
        let columns = width(&sample);
        let rows = sample.iter().filter(|(_, row)| row.len() == columns);
        let (mut agree, mut numbers) = (0, 0);
        for (_, row) in rows {
            agree += 1;
            numbers += row.iter().filter(|field| looks_like_number(field)).count();
        }
        // Rows that agree count first; then numbers distinguish commas that separate fields from commas within them.
        let enough = separator != Separator::Spaces || best == 0 && 2 * agree > sample.len();
        let last_choice = is_comma && decimal_comma;
        let score = 1 + if last_choice { 0 } else { agree * 1_000_000 + numbers.min(999_999) };
        if columns > 1 && enough && score > best {
            best = score;
            (opened.separator, opened.sample, opened.columns) = (separator, sample, columns);
        }
    }
    if best == 0 {
        let sample = opened.sample(opened.separator).0;
        (opened.columns, opened.sample) = (width(&sample), sample);
    }
    Ok(opened)
}

/// The number of fields of most rows; if several are equally common, the first.
fn width(sample: &[(usize, Row)]) -> usize {
    commonest(sample.iter().map(|(_, row)| row.len()))
}

impl<'p, R: Read> Opened<'p, R> {
    /// The first rows, split by `separator`, and the error after them, if any.
    fn sample(&self, separator: Separator) -> (Vec<(usize, Row)>, Option<Error>) {
        let mut records = Records::new(self.path, &self.head[..], separator);
        let mut sample = Vec::new();
        let mut row = Row::default();
        records.skip(self.skip);
        while sample.len() < SAMPLE {
            match records.next(&mut row) {
                Ok(Some(line)) => sample.push((line, row.clone())),
                Ok(None) => break,
                Err(error) => return (sample, self.whole.then_some(error)),
            }
        }
        if !self.whole && sample.len() < SAMPLE {
            // The last row may be incomplete.
            sample.pop();
        }
        (sample, None)
    }

    /// The expected number of rows of a file of `bytes` bytes.
    pub fn expected_rows(&self, bytes: u64) -> usize {
        let lines = self.head.iter().filter(|byte| **byte == b'\n').count().max(1);
        if self.whole { lines } else { (bytes as f64 / self.head.len() as f64 * lines as f64) as usize }
    }

    /// All rows.
    pub fn records(self) -> Records<'p, impl BufRead> {
        let input = BufReader::with_capacity(1 << 18, Cursor::new(self.head).chain(self.rest));
        let mut records = Records::new(self.path, input, self.separator);
        records.skip(self.skip);
        records
    }
}

impl<'p, R: BufRead> Records<'p, R> {
    fn new(path: &'p Path, input: R, separator: Separator) -> Self {
        Records { path, input, separator, lines: 0, raw: Vec::new() }
    }

    fn skip(&mut self, lines: usize) {
        for _ in 0..lines {
            // What cannot be read now cannot be read later either, when it is reported.
            _ = self.input.read_until(b'\n', &mut Vec::new());
            self.lines += 1;
        }
    }

    fn line(&mut self) -> Result<bool> {
        self.raw.clear();
        let read = self.input.read_until(b'\n', &mut self.raw).map_err(|e| stream_failed(self.path, e))?;
        self.lines += usize::from(read > 0);
        Ok(read > 0)
    }

    /// Reads the next row that is not empty into `row`; returns the line it begins on, or none at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or contains an unclosed quote.
    pub fn next(&mut self, row: &mut Row) -> Result<Option<usize>> {
        while self.line()? {
            let begin = self.lines;
            row.fields.clear();
            let mut text = std::mem::take(&mut row.text).into_bytes();
            text.clear();
            let quoted = self.raw.contains(&b'"');
            if quoted {
                self.quoted(&mut text, &mut row.fields)?;
            } else {
                text.extend_from_slice(&self.raw);
            }
            row.text = String::from_utf8(text).map_err(|e| {
                let (bytes, at) = (e.as_bytes(), e.utf8_error().valid_up_to());
                let line = begin + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
                let expected = format!("UTF-8 text; {}", encodings(&bytes[at..]));
                Error::input(self.path, line, format!("invalid UTF-8 (0x{:02X})", bytes[at]), expected)
            })?;
            if quoted {
                row.tidy(self.separator);
            } else {
                row.split(self.separator);
            }
            if row.iter().any(|field| !field.is_empty()) {
                return Ok(Some(begin));
            }
        }
        Ok(None)
    }

    /// Splits a row with quotes: a quoted field may contain separators, line ends, and doubled quotes.
    fn quoted(&mut self, text: &mut Vec<u8>, fields: &mut Vec<Range<usize>>) -> Result<()> {
        let (mut begin, mut quote) = (0, None);
        loop {
            let mut bytes = self.raw.iter().copied().peekable();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'"' if quote.is_some() => {
                        if bytes.next_if_eq(&b'"').is_some() {
                            text.push(b'"');
                        } else {
                            quote = None;
                        }
                    }
                    b'"' if text[begin..].trim_ascii().is_empty() => {
                        text.truncate(begin);
                        quote = Some(self.lines);
                    }
                    _ if quote.is_none() && self.separator.is(byte) => {
                        fields.push(begin..text.len());
                        begin = text.len();
                    }
                    b'\n' if quote.is_none() => {}
                    _ => text.push(byte),
                }
            }
            let Some(line) = quote else { break };
            if text.len() - begin > LONGEST || !self.line()? {
                return Err(Error::input(self.path, line, "an unclosed quote", "a quote at the end of the field"));
            }
        }
        fields.push(begin..text.len());
        Ok(())
    }
}

/// The content of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field {
    /// A number.
    Number(f64),
    /// A number whose only comma was read as a thousands separator.
    Thousands(f64),
    /// Nothing, or a marker of missing values.
    Missing,
    /// Something else.
    Other,
}

/// Markers of missing numbers, in lower case.
const MISSING: [&str; 17] = [
    "?", "-", "--", ".", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "#div/0!", "#value!",
    "#ref!", "#num!",
];

/// Reads a field as a number; also accepts yes, no, true and false, `1,234.5` and `12 %`.
pub fn number(field: &str, decimal_comma: bool) -> Field {
    let bytes = field.as_bytes();
    if bytes.is_empty() {
        return Field::Missing;
    }
    if bytes.len() < 10 && bytes.iter().all(u8::is_ascii_digit) {
        return Field::Number(f64::from(bytes.iter().fold(0u32, |sum, byte| sum * 10 + u32::from(byte - b'0'))));
    }
    if !decimal_comma && let Ok(x) = field.parse::<f64>() {
        return if x.is_nan() { Field::Missing } else { Field::Number(x) };
    }
    if let Some(x) = grouped(field, decimal_comma) {
        let only_comma = !decimal_comma && field.contains(',') && !field.contains('.');
        return if only_comma { Field::Thousands(x) } else { Field::Number(x) };
    }
    if let Some(part) = field.strip_suffix('%').filter(|part| !part.ends_with('%')) {
        return match number(part.trim_end(), decimal_comma) {
            Field::Number(x) => Field::Number(x / 100.0),
            Field::Thousands(x) => Field::Thousands(x / 100.0),
            Field::Missing | Field::Other => Field::Other,
        };
    }
    if field.len() <= 7 {
        let small = field.to_ascii_lowercase();
        match small.as_str() {
            "true" | "yes" => return Field::Number(1.0),
            "false" | "no" => return Field::Number(0.0),
            small if MISSING.contains(&small) => return Field::Missing,
            _ => {}
        }
    }
    Field::Other
}

/// A number that may have groups of thousands and a decimal comma.
fn grouped(field: &str, decimal_comma: bool) -> Option<f64> {
    let (point, group) = if decimal_comma { (',', '.') } else { ('.', ',') };
    let unsigned = field.strip_prefix(['-', '+']).unwrap_or(field);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == point) {
        return None;
    }
    let (whole, fraction) = unsigned.split_once(point).map_or((unsigned, None), |(a, b)| (a, Some(b)));
    let is_group = |c: char| c == group || matches!(c, '\u{a0}' | '\u{202f}' | '\'' | '’');
    let groups: Vec<&str> = whole.split(is_group).collect();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if groups.len() == 1 {
        // An exponent may follow, and with a decimal comma a number may still have a point.
        return decimal_comma
            .then(|| field.replacen(',', ".", 1).parse().ok())
            .flatten()
            .filter(|x: &f64| x.is_finite());
    }
    let fits = (1..=3).contains(&groups[0].len())
        && groups.iter().all(|group| digits(group))
        && groups[1..].iter().all(|group| group.len() == 3)
        && fraction.is_none_or(digits);
    if !fits {
        return (decimal_comma && fraction.is_none())
            .then(|| field.parse().ok())
            .flatten()
            .filter(|x: &f64| x.is_finite());
    }
    let sign = if field.starts_with('-') { "-" } else { "" };
    format!("{sign}{}.{}", groups.concat(), fraction.unwrap_or("0")).parse().ok()
}

/// Whether a field is a number, with a decimal point or comma.
fn looks_like_number(field: &str) -> bool {
    [false, true].into_iter().any(|comma| matches!(number(field, comma), Field::Number(_) | Field::Thousands(_)))
}

/// Whether a class is missing. Words that may be the name of a class are not considered missing.
pub fn no_class(field: &str) -> bool {
    matches!(field, "" | "?" | "NaN" | "nan" | "NA" | "N/A" | "n/a" | "#N/A" | "<NA>" | "null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        let (of, comma) = (|field| number(field, false), |field| number(field, true));
        for (field, x) in [
            ("0", 0.0),
            ("255", 255.0),
            ("-2.5", -2.5),
            ("1e300", 1e300),
            ("1,234.5", 1234.5),
            ("-1,234,567.25", -1_234_567.25),
            ("12 %", 0.12),
            ("12.5%", 0.125),
            ("True", 1.0),
            ("FALSE", 0.0),
            ("yes", 1.0),
            ("no", 0.0),
            ("1\u{a0}234.5", 1234.5),
        ] {
            assert_eq!(of(field), Field::Number(x), "{field}");
        }
        for (field, x) in [
            ("1,5", 1.5),
            ("1.234,5", 1234.5),
            ("1.234", 1234.0),
            ("-0,25", -0.25),
            ("1,5e-3", 0.0015),
            ("7", 7.0),
            ("1.5", 1.5),
            ("2,5 %", 0.025),
        ] {
            assert_eq!(comma(field), Field::Number(x), "{field}");
        }
        assert_eq!(of("1,234"), Field::Thousands(1234.0));
        for field in ["", "NA", "NaN", "-nan", "?", "None", "#DIV/0!", "<NA>"] {
            assert_eq!([of(field), comma(field)], [Field::Missing; 2], "{field}");
        }
        for field in ["1,5", "12,34,5", "x", "2024-01-02", "1,2345", "%", "--5"] {
            assert_eq!(of(field), Field::Other, "{field}");
        }
        assert_eq!(of("inf"), Field::Number(f64::INFINITY));
    }
}
