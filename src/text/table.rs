//! Tables of examples in CSV files: one example per row, with numbers in columns and a class in one of them.
//!
//! How a file is written, whether it has a header, and which column is the class is detected from its first rows; a warning reports
//! what was chosen and what was ignored. Rows are read one by one, and numbers are stored in 32 bits.

use super::Inputs;
use super::csv::{self, Field, Row, number};
use crate::error::{Error, Result, counted};
use crate::notices::{Notice, Oddity};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The expected content of a file.
const EXPECTED: &str = "lines of numbers and a class, separated by commas";
/// Names of class columns, in lower case.
const LABELS: [&str; 6] = ["label", "labels", "class", "target", "y", "category"];
/// Names of columns that number the rows, in lower case.
const INDICES: [&str; 7] = ["", "index", "id", "idx", "row", "nr", "no"];
/// How a row of totals below a table begins, in lower case.
const TOTALS: [&str; 12] = [
    "total",
    "totals",
    "total:",
    "sum",
    "sum:",
    "grand total",
    "subtotal",
    "average",
    "mean",
    "count",
    "summe",
    "gesamt",
];
/// The name of all classes unknown to a model.
const UNKNOWN: &str = "(unknown)";
/// Bytes of numbers after which available memory is checked again.
const STEP: usize = 1 << 26;

/// Examples with their classes.
#[derive(Debug)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// Names of the numeric columns.
    pub features: Vec<String>,
    /// Name of the column with the class.
    pub label: String,
    /// The numbers, row by row, minus those of `base`; NaN if missing.
    pub values: Vec<f32>,
    /// What was subtracted from the numbers of each column, so that 32 bits suffice for the differences.
    pub base: Vec<f64>,
    /// The class of each row, as a number.
    pub classes: Vec<u32>,
    /// Names of the classes, by number; requested ones come first.
    pub names: Vec<String>,
}

/// How missing numbers are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Replace them by the mean of the column in the training examples
    Mean,
    /// Drop their rows
    Drop,
    /// Reject the file
    Fail,
}

/// How a table is read.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether a comma is the decimal point.
    pub decimal_comma: bool,
    /// How missing numbers are handled.
    pub missing: Missing,
    /// Whether this was set by an option.
    pub missing_given: bool,
    /// Whether the first row is a header; detected if not given.
    pub header: Option<bool>,
}

impl Default for Style {
    fn default() -> Self {
        Style { decimal_comma: false, missing: Missing::Mean, missing_given: false, header: None }
    }
}

/// The purpose of reading a table.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    /// For training. Classes are sorted by name.
    Train {
        /// The name or number of the class column.
        label: Option<&'a str>,
        /// Names or numbers of columns to drop, separated by commas.
        drop: Option<&'a str>,
        /// Whether a column that only numbers the rows is kept.
        keep_index: bool,
        /// Whether numbers are stored as differences from the first row.
        centred: bool,
    },
    /// With the columns and classes of another table.
    Like {
        /// Names of the numeric columns, in order.
        features: &'a [String],
        /// Name of the column with the class.
        label: &'a str,
        /// Names of the classes.
        names: &'a [String],
        /// What is subtracted from the numbers of each column.
        base: &'a [f64],
    },
}

/// Checks whether memory is available for this many bytes, of this many rows (0: unknown); an error if not.
pub type Room<'a> = &'a dyn Fn(usize, usize) -> Result<()>;

impl Table {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read or is not a table; a field is not a number, or a row has a different number of columns (line); a
    /// requested column does not exist; errors of `room`.
    pub fn read(path: &Path, reading: Reading, style: Style, room: Room, inputs: &Inputs) -> Result<Self> {
        let opened = csv::open(path, style.decimal_comma, EXPECTED, inputs)?;
        let plan = Plan::new(path, &opened.sample, opened.columns, opened.separator, reading, style, inputs)?;
        let features = plan.features.len();
        // The length of a compressed file or a pipe says nothing; then only the rows read so far are known.
        let length = std::fs::metadata(path).map_or(0, |file| if file.is_file() { file.len() } else { 0 });
        let rows = opened.expected_rows(length);
        room(rows.saturating_mul(features * size_of::<f32>()), rows)?;
        let separator = opened.separator;
        let mut filling = Filling {
            table: Table {
                path: path.to_owned(),
                features: plan.features.iter().map(|&column| plan.names[column].clone()).collect(),
                label: plan.names[plan.label].clone(),
                values: Vec::new(),
                base: vec![f64::NAN; features],
                classes: Vec::new(),
                names: Vec::new(),
            },
            numbers: HashMap::new(),
            by_value: HashMap::new(),
            left_out: LeftOut::default(),
            counting: plan.counting.clone(),
            rows: 0,
            plan,
            reading,
            style,
            separator,
        };
        match reading {
            Reading::Like { names, base, .. } => {
                names.iter().for_each(|name| _ = filling.class(0, name));
                filling.table.base.copy_from_slice(base);
            }
            // The first number of each column.
            Reading::Train { centred: true, .. } => {}
            Reading::Train { centred: false, .. } => filling.table.base.fill(0.0),
        }
        let mut records = opened.records();
        let (mut row, mut checked) = (Row::default(), STEP);
        while let Some(line) = records.next(&mut row)? {
            if line >= filling.plan.first {
                filling.row(line, &mut row)?;
            }
            if filling.table.values.len() * size_of::<f32>() > checked {
                room(STEP, 0)?;
                checked += STEP;
            }
        }
        filling.finish(inputs)
    }

    /// Keeps only the columns marked in `keep`.
    fn keep_columns(&mut self, keep: &[bool]) {
        let mut to = 0;
        for from in 0..self.values.len() {
            if keep[from % keep.len()] {
                self.values[to] = self.values[from];
                to += 1;
            }
        }
        self.values.truncate(to);
        let mut keeps = keep.iter();
        self.features.retain(|_| *keeps.next().expect("one for each"));
        let mut keeps = keep.iter();
        self.base.retain(|_| *keeps.next().expect("one for each"));
    }
}

/// The first names of a list, for a message.
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        n if n > SHOWN + 3 => format!("{}, … ({n} in all)", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

/// What is used of the rows.
struct Plan {
    /// Names of all columns.
    names: Vec<String>,
    /// Whether the file has a header.
    header: bool,
    label: usize,
    features: Vec<usize>,
    /// The features that number the first rows, and their first value.
    counting: Vec<(usize, f64)>,
    /// The line of the first row with numbers.
    first: usize,
    /// Features that are text in the first rows.
    texts: Vec<String>,
    /// Warnings to be issued after the file has been read.
    notices: Vec<Notice>,
}

impl Plan {
    fn new(
        path: &Path,
        sample: &[(usize, Row)],
        columns: usize,
        separator: csv::Separator,
        reading: Reading,
        style: Style,
        inputs: &Inputs,
    ) -> Result<Self> {
        if sample.is_empty() {
            return Err(Error::input(path, 0, "no rows", "lines of numbers and a class"));
        }
        if columns < 2 {
            return Err(Error::input(path, 1, "one column", "numbers and a class, separated by commas"));
        }
        let is = |field: &str| number(field, style.decimal_comma);
        let is_number = |field: &str| matches!(is(field), Field::Number(_) | Field::Thousands(_));
        // Text above the table: lines of fewer fields, or with only one that is not empty.
        let mut begin = 0;
        let mut own_separator = None;
        for (i, (_, row)) in sample.iter().enumerate() {
            let mut row = row.clone();
            row.trim(columns);
            let is_title = row.len() != columns || columns > 2 && row.filled() < 2;
            if !is_title {
                break;
            }
            // R writes no name for the column of row names; a header may have its own separator.
            let follows = sample.get(i + 1).is_some_and(|(_, next)| next.len() == columns);
            let is_names = |row: &Row| row.len() > 1 && row.iter().all(|field| !field.is_empty() && !is_number(field));
            if follows && row.len() + 1 == columns && is_names(&row) && sample.len() > 2 {
                break;
            }
            if let Some(split) = row.split_otherwise(separator, columns)
                && follows
                && is_names(&split)
            {
                own_separator = Some(split);
                break;
            }
            begin = i + 1;
        }
        let Some((line, first)) = sample.get(begin) else {
            let found = format!("rows of {} and of {} columns", sample[0].1.len(), columns);
            return Err(Error::input(path, sample[0].0, found, "rows of one number of columns"));
        };
        if begin > 0 {
            let lines = counted(begin, "line");
            inputs.warn(
                Notice::of_file(
                    path,
                    sample[0].0,
                    format!(
                        "{lines} above the table, the first is `{}`",
                        short(sample[0].1.iter().next().unwrap_or_default())
                    ),
                )
                .done(format!("left out; the table begins in line {line}")),
            )?;
        }
        let mut first = first.clone();
        first.trim(columns);
        if let Some(split) = own_separator {
            inputs.warn(
                Notice::of_file(path, *line, "names separated otherwise than the rows")
                    .done(format!("taken for the names of the {columns} columns")),
            )?;
            first = split;
        }
        let mut fields: Vec<String> = first.iter().map(str::to_owned).collect();
        if fields.len() + 1 == columns {
            fields.insert(0, String::new());
        }
        let below: Vec<&Row> =
            sample[begin + 1..].iter().map(|(_, row)| row).filter(|row| row.len() == columns).collect();
        let header = Plan::header(path, *line, &fields, &below, reading, style, inputs)?;
        let mut names = if header { fields } else { (1..=columns).map(|n| format!("column{n}")).collect() };
        // With --header no, a first row of a different width does not determine the columns.
        let begin = usize::from(first.len() == columns);
        let rows = if header { &below[..] } else { &[&[&first][..begin], &below].concat()[..] };
        let mut plan = Plan {
            first: if header { line + 1 } else { *line },
            names: Vec::new(),
            header,
            label: 0,
            features: Vec::new(),
            counting: Vec::new(),
            texts: Vec::new(),
            notices: Vec::new(),
        };
        let unnamed: Vec<bool> = names.iter().map(String::is_empty).collect();
        names
            .iter_mut()
            .zip(1..)
            .filter(|(name, _)| name.is_empty())
            .for_each(|(name, n)| *name = format!("column{n}"));
        plan.names = names;
        plan.choose(path, *line, rows, &unnamed, reading, style)?;
        Ok(plan)
    }

    /// Whether the first row is a header.
    fn header(
        path: &Path,
        line: usize,
        fields: &[String],
        below: &[&Row],
        reading: Reading,
        style: Style,
        inputs: &Inputs,
    ) -> Result<bool> {
        if let Some(header) = style.header {
            return Ok(header);
        }
        if let Reading::Like { features, label, .. } = reading
            && features.iter().map(String::as_str).chain([label]).all(|name| fields.iter().any(|field| field == name))
        {
            return Ok(true);
        }
        let is = |field: &str| number(field, style.decimal_comma);
        let is_number = |field: &str| matches!(is(field), Field::Number(_) | Field::Thousands(_));
        let in_header = fields.iter().filter(|field| is_number(field)).count();
        if in_header == 0 {
            return Ok(true);
        }
        // It is if it has a name above a column of numbers,
        let numbers = |column: usize| {
            let mut fields =
                below.iter().map(|row| is(row.get(column))).filter(|field| *field != Field::Missing).peekable();
            fields.peek().is_some() && fields.all(|field| field != Field::Other)
        };
        // or a usual name of a class column that no other row contains.
        let is_name = |column: usize, field: &str| {
            LABELS.contains(&field.to_lowercase().as_str()) && below.iter().all(|row| row.get(column) != field)
        };
        let mut all = fields.iter().enumerate();
        let named = all.any(|(column, field)| is(field) == Field::Other && (numbers(column) || is_name(column, field)));
        let from = fields.iter().position(|field| !field.is_empty()).unwrap_or(0);
        let counts = fields.len() > 2
            && below.len() > 1
            && from < 2
            && fields[from..].iter().zip(0u32..).all(|(field, n)| *field == n.to_string());
        if !named && !counts {
            return Ok(false);
        }
        let example = fields.iter().find(|field| is_number(field)).map_or("", String::as_str);
        let found = format!("a number among the names of the columns, `{}`", short(example));
        let notice = Notice::of_file(path, line, found).done("the line is taken for names");
        inputs.warn(notice.option("--header no takes it for an example"))?;
        Ok(true)
    }

    /// The class column and the numeric columns.
    fn choose(
        &mut self,
        path: &Path,
        line: usize,
        rows: &[&Row],
        unnamed: &[bool],
        reading: Reading,
        style: Style,
    ) -> Result<()> {
        // As in pandas, the second of two columns `a` is `a.1`.
        let mut columns: HashMap<String, usize> = HashMap::with_capacity(self.names.len());
        let mut twice: Vec<(String, String)> = Vec::new();
        for column in 0..self.names.len() {
            let name = self.names[column].clone();
            if columns.contains_key(&name) {
                let free = |other: &String| !columns.contains_key(other) && !self.names.contains(other);
                let other = (1..).map(|n| format!("{name}.{n}")).find(free).expect("some number is free");
                self.names[column] = other.clone();
                twice.push((name, other));
            }
            columns.insert(self.names[column].clone(), column);
        }
        let find = |name: &str| {
            columns.get(name).copied().ok_or_else(|| {
                let what =
                    if self.header { format!("the columns {}", some(&self.names)) } else { "no header".to_owned() };
                Error::input(path, line, what, format!("a column {name}"))
            })
        };
        let count = self.names.len();
        let by_number = |text: &str| text.parse().ok().filter(|n| (1..=count).contains(n)).map(|n: usize| n - 1);
        let by_either = |text: &str| find(text).or_else(|missing| by_number(text).ok_or(missing));
        let (label, drop, keep_index) = match reading {
            Reading::Like { features, label, .. } => {
                self.label = find(label)?;
                self.features = features.iter().map(|name| find(name)).collect::<Result<_>>()?;
                return Ok(());
            }
            Reading::Train { label, drop, keep_index, .. } => (label, drop, keep_index),
        };
        // A name may contain commas.
        let dropped: Vec<usize> = match drop {
            None => Vec::new(),
            Some(all) => match find(all) {
                Ok(one) => vec![one],
                Err(_) => all.split(',').map(|name| by_either(name.trim())).collect::<Result<_>>()?,
            },
        };
        let fields = |column: usize| rows.iter().map(move |row| row.get(column));
        let kinds = |column: usize| fields(column).map(|field| number(field, style.decimal_comma));
        let is_text = |column: usize| {
            let (mut text, mut all) = (0, 0);
            for kind in kinds(column).filter(|kind| *kind != Field::Missing) {
                all += 1;
                text += usize::from(kind == Field::Other);
            }
            2 * text > all
        };
        let is_empty = |column: usize| fields(column).all(str::is_empty);
        let mut notices = Vec::new();
        let is_empty: Vec<bool> = (0..count).map(|column| unnamed[column] && is_empty(column)).collect();
        let empty = is_empty.iter().filter(|empty| **empty).count();
        if empty > 0 {
            let what = if empty == 1 { "an empty column" } else { "empty columns" };
            notices.push(
                Notice::of_file(path, line, format!("{empty} of {count} columns without name or content: {what}"))
                    .done("left out"),
            );
        }
        let open: Vec<usize> = (0..count).filter(|column| !is_empty[*column] && !dropped.contains(column)).collect();
        let Some(&last) = open.last() else {
            return Err(Error::input(path, line, "no column that is left", "numbers and a class"));
        };
        let texts: Vec<usize> = open.iter().copied().filter(|&column| is_text(column)).collect();
        self.label = match label {
            Some(text) => by_either(text)?,
            None => {
                let named: Vec<usize> = open
                    .iter()
                    .copied()
                    .filter(|&column| self.header && LABELS.contains(&self.names[column].to_lowercase().as_str()))
                    .collect();
                let repeats = |column: usize| {
                    let mut all: Vec<&str> = fields(column).collect();
                    all.sort_unstable();
                    all.dedup();
                    2 * all.len() <= rows.len()
                };
                let chosen = match (&named[..], &texts[..]) {
                    ([one], _) if !texts.contains(&last) => *one,
                    (_, [one]) if repeats(*one) && !unnamed[*one] => *one,
                    _ => last,
                };
                if chosen != last {
                    let (name, last) = (&self.names[chosen], &self.names[last]);
                    let why = if texts.contains(&chosen) { "which holds words" } else { "as its name says" };
                    let found = format!("the class in column {name}, {why}, and not in the last one, {last}");
                    notices.push(
                        Notice::of_file(path, line, found)
                            .done(format!("column {name} is taken for the class"))
                            .option(format!("--label {last} takes the other")),
                    );
                }
                chosen
            }
        };
        let is_open = |name: &String| open.iter().any(|&column| self.names[column] == *name);
        let twice: Vec<(String, String)> =
            twice.into_iter().filter(|(one, other)| is_open(one) && is_open(other)).collect();
        let class = &self.names[self.label];
        if let Some((name, other)) = twice.iter().find(|(one, other)| [one, other].contains(&class)) {
            let found = format!("two columns {name}, one of which holds the class");
            let expected = format!("one; --drop {other} leaves the second out, --drop {name} the first");
            return Err(Error::input(path, line, found, expected));
        }
        if let Some((name, other)) = twice.first() {
            let more = if twice.len() > 1 {
                format!(", and {} more", counted(twice.len() - 1, "such column"))
            } else {
                String::new()
            };
            notices.push(
                Notice::of_file(path, line, format!("two columns {name}{more}"))
                    .done(format!("the second is called {other}"))
                    .option(format!("--drop {other} leaves it out")),
            );
        }
        if dropped.contains(&self.label) {
            let what = format!(
                "--drop leaves out column {}, which holds the class; --label names another",
                self.names[self.label]
            );
            return Err(Error::Usage(what));
        }
        // Columns that number the rows: they predict the class in a file sorted by class, and nothing in any other.
        let mut features = Vec::new();
        for &column in open.iter().filter(|&&column| column != self.label) {
            let name = self.names[column].to_lowercase();
            let no_name = unnamed[column] || name.starts_with("unnamed: ") || name == "rownames";
            let whole = || kinds(column).all(|kind| matches!(kind, Field::Number(x) if x.fract() == 0.0));
            if column == 0 && self.header && no_name && !keep_index && (whole() || is_text(column)) {
                let what = if unnamed[column] {
                    "a first column without a name".to_owned()
                } else {
                    format!("a first column {}", self.names[column])
                };
                notices.push(
                    Notice::of_file(
                        path,
                        line,
                        format!("{what}, as pandas and R write for the numbers or names of rows"),
                    )
                    .done("left out")
                    .option("--keep-index keeps it"),
                );
                continue;
            }
            let by_name = self.header && INDICES.contains(&name.as_str());
            if !keep_index && (column == 0 || by_name) && rows.len() > 3 {
                let start =
                    kinds(column).next().and_then(|kind| if let Field::Number(x) = kind { Some(x) } else { None });
                let counts =
                    |start: f64| kinds(column).zip(0u32..).all(|(kind, n)| kind == Field::Number(start + f64::from(n)));
                if let Some(start) = start.filter(|&start| (start == 0.0 || start == 1.0) && counts(start)) {
                    self.counting.push((features.len(), start));
                }
            }
            features.push(column);
        }
        self.texts =
            features.iter().filter(|column| texts.contains(column)).map(|&column| self.names[column].clone()).collect();
        self.features = features;
        self.notices = notices;
        if self.features.is_empty() {
            return Err(Error::input(path, line, "no column of numbers that is left", "numbers and a class"));
        }
        Ok(())
    }
}

/// A text for a message, shortened if it is long.
fn short(text: &str) -> String {
    const SHOWN: usize = 40;
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}

/// Irregularities in the rows.
#[derive(Default)]
struct LeftOut {
    no_class: Oddity,
    missing: Oddity,
    missing_rows: usize,
    notes: Oddity,
    headers: Oddity,
    separators: Oddity,
    thousands: Oddity,
    thousands_field: String,
    unseen: Oddity,
    unseen_class: String,
    aliases: Oddity,
    alias: (String, String),
}

struct Filling<'a> {
    table: Table,
    plan: Plan,
    reading: Reading<'a>,
    style: Style,
    separator: csv::Separator,
    /// Classes by their text.
    numbers: HashMap<String, u32>,
    /// Numeric classes, by value.
    by_value: HashMap<u64, u32>,
    left_out: LeftOut,
    /// As in [`Plan::counting`].
    counting: Vec<(usize, f64)>,
    /// Number of rows so far, including dropped ones.
    rows: usize,
}

impl Filling<'_> {
    /// The number of a class: names that are the same number are the same class.
    fn class(&mut self, line: usize, name: &str) -> u32 {
        if let Some(&class) = self.numbers.get(name) {
            return class;
        }
        let next = self.table.names.len() as u32;
        let value = name.parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| (x + 0.0).to_bits());
        if let Reading::Like { names, .. } = self.reading
            && line > 0
            && value.is_none_or(|bits| !self.by_value.contains_key(&bits))
        {
            // All unknown classes are one class: a column of measurements would have thousands.
            if names.len() == self.table.names.len() {
                self.table.names.push(UNKNOWN.to_owned());
            }
            return names.len() as u32;
        }
        let class = match value {
            Some(bits) => *self.by_value.entry(bits).or_insert(next),
            None => next,
        };
        if class == next {
            self.table.names.push(name.to_owned());
        } else if line > 0 {
            if self.left_out.aliases.count == 0 {
                self.left_out.alias = (name.to_owned(), self.table.names[class as usize].clone());
            }
            self.left_out.aliases.add(line);
        }
        self.numbers.insert(name.to_owned(), class);
        class
    }

    fn wrong<T>(&self, line: usize, found: String, expected: impl Into<String>) -> Result<T> {
        Err(Error::input(&self.table.path, line, found, expected))
    }

    fn row(&mut self, line: usize, row: &mut Row) -> Result<()> {
        let columns = self.plan.names.len();
        row.trim(columns);
        let split = if row.len() == columns { None } else { row.split_otherwise(self.separator, columns) };
        if let Some(split) = split {
            self.left_out.separators.add(line);
            *row = split;
        }
        if columns > 2 && row.filled() < 2 {
            self.left_out.notes.add(line);
            return Ok(());
        }
        if row.len() != columns {
            return self.wrong(line, counted(row.len(), "column"), format!("{columns} as in the first line"));
        }
        let number_of_row = self.rows;
        self.rows += 1;
        let label = row.get(self.plan.label);
        if csv::no_class(label) {
            self.left_out.no_class.add(line);
            return Ok(());
        }
        let from = self.table.values.len();
        for place in 0..self.plan.features.len() {
            let column = self.plan.features[place];
            let field = row.get(column);
            let x = match number(field, self.style.decimal_comma) {
                Field::Number(x) => x,
                Field::Thousands(x) => {
                    if self.separator != csv::Separator::Byte(b',') {
                        if self.left_out.thousands.count == 0 {
                            self.left_out.thousands_field = field.to_owned();
                        }
                        self.left_out.thousands.add(line);
                    }
                    x
                }
                Field::Missing => match self.style.missing {
                    Missing::Mean => {
                        self.left_out.missing.add(line);
                        self.table.values.push(f32::NAN);
                        continue;
                    }
                    Missing::Drop => {
                        self.left_out.missing.add(line);
                        self.left_out.missing_rows += 1;
                        self.table.values.truncate(from);
                        return Ok(());
                    }
                    Missing::Fail => {
                        let found = format!("`{field}` in column {}", self.plan.names[column]);
                        let expected = "a finite number; --missing mean takes the column's mean for it, \
                                        --missing drop leaves the row out";
                        return self.wrong(line, found, expected);
                    }
                },
                Field::Other => {
                    let small = field.to_lowercase();
                    if TOTALS.contains(&small.as_str()) {
                        self.left_out.notes.add(line);
                    } else if self.plan.header && row.iter().eq(self.plan.names.iter().map(String::as_str)) {
                        self.left_out.headers.add(line);
                    } else {
                        return self.not_a_number(line, field, column);
                    }
                    self.table.values.truncate(from);
                    return Ok(());
                }
            };
            if self.table.base[place].is_nan() {
                self.table.base[place] = x;
            }
            let kept = (x - self.table.base[place]) as f32;
            if !kept.is_finite() {
                let found = format!("`{field}` in column {}", self.plan.names[column]);
                let expected = if x.is_finite() {
                    "a number of at most 3.4e38 in size, which is the largest of 32 bits".to_owned()
                } else {
                    format!("a finite number; --drop {} leaves the column out", self.plan.names[column])
                };
                return self.wrong(line, found, expected);
            }
            self.table.values.push(kept);
        }
        // Whether columns continue to number the rows.
        let (values, base) = (&self.table.values[from..], &self.table.base);
        let n = number_of_row as f64;
        // Their stored values are rounded beyond 2^24 rows.
        let rounded = |x: f64, base: f64| (x - base) as f32;
        self.counting.retain(|&(place, start)| values[place] == rounded(start + n, base[place]));
        let known = match self.reading {
            Reading::Like { names, .. } => names.len(),
            Reading::Train { .. } => usize::MAX,
        };
        let label = row.get(self.plan.label);
        let class = self.class(line, label);
        if class as usize >= known {
            if self.left_out.unseen.count == 0 {
                self.left_out.unseen_class = label.to_owned();
            }
            self.left_out.unseen.add(line);
        }
        self.table.classes.push(class);
        Ok(())
    }

    /// The error for a field that is not a number.
    fn not_a_number(&self, line: usize, field: &str, column: usize) -> Result<()> {
        let name = &self.plan.names[column];
        let texts = &self.plan.texts;
        let found = format!("`{}` in column {name}", short(field));
        let comma = !self.style.decimal_comma && matches!(number(field, true), Field::Number(_));
        let expected = if comma {
            "a finite number; --decimal , takes a comma for the decimal point".to_owned()
        } else if matches!(self.reading, Reading::Like { .. }) {
            "a finite number".to_owned()
        } else if texts.len() > 1 && texts.contains(name) {
            format!(
                "a finite number; --drop {} leaves out all columns of text, --label takes the class from one",
                texts.join(",")
            )
        } else {
            format!("a finite number; --drop {name} leaves the column out, --label {name} takes the class from it")
        };
        self.wrong(line, found, expected)
    }

    fn finish(mut self, inputs: &Inputs) -> Result<Table> {
        let path = self.table.path.clone();
        let label = self.table.label.clone();
        if self.rows == 0 {
            let what = if self.plan.header { "no rows below the header" } else { "no rows" };
            return self.wrong(0, what.into(), "lines of numbers and a class");
        }
        if self.table.classes.is_empty() {
            let (what, line) = if self.left_out.no_class.count > 0 {
                (format!("nothing in column {label}"), self.left_out.no_class.line)
            } else {
                ("no row whose numbers are all there".to_owned(), self.left_out.missing.line)
            };
            return self.wrong(line, what, "a class and its numbers");
        }
        if let Reading::Like { names, .. } = self.reading
            && self.table.classes.iter().all(|&class| class as usize >= names.len())
        {
            let Oddity { line, .. } = self.left_out.unseen;
            let found = format!("`{}` in column {label}, and no other class that is known", self.left_out.unseen_class);
            return self.wrong(line, found, format!("one of the classes learned from: {}", some(names)));
        }
        for notice in std::mem::take(&mut self.plan.notices) {
            inputs.warn(notice)?;
        }
        self.warn(inputs)?;
        match self.reading {
            Reading::Like { .. } => {}
            Reading::Train { label: given, keep_index, .. } => {
                self.leave_out_columns(keep_index, inputs)?;
                self.sort_classes();
                self.judge_label(given.is_some(), &path, inputs)?;
            }
        }
        self.table.values.shrink_to_fit();
        Ok(self.table)
    }

    fn warn(&self, inputs: &Inputs) -> Result<()> {
        let LeftOut {
            no_class,
            missing,
            missing_rows,
            notes,
            headers,
            separators,
            thousands,
            thousands_field,
            unseen,
            unseen_class,
            aliases,
            alias,
        } = &self.left_out;
        let (label, rows) = (&self.table.label, self.rows);
        let of = |found: &Oddity, what: String| Notice::of_file(&self.table.path, found.line, what);
        if notes.count > 0 {
            inputs.warn(
                of(notes, format!("{} of notes or sums in the table", counted(notes.count, "line"))).done("left out"),
            )?;
        }
        if headers.count > 0 {
            inputs.warn(
                of(headers, format!("the names of the columns again, in {}", counted(headers.count, "line")))
                    .done("left out"),
            )?;
        }
        if separators.count > 0 {
            let found = format!(
                "{} of {rows} rows not separated by {} as the others are",
                separators.count,
                self.separator.name()
            );
            inputs.warn(of(separators, found).done("read with the separator that gives as many columns"))?;
        }
        if no_class.count > 0 {
            let found =
                format!("{} of {rows} rows with nothing in column {label}, which holds the class", no_class.count);
            inputs.warn(of(no_class, found).done("left out"))?;
        }
        if missing.count > 0 {
            let (found, done) = match self.style.missing {
                Missing::Drop => (format!("{missing_rows} of {rows} rows in which a number is missing"), "left out"),
                _ => (
                    format!("{} in {rows} rows", counted(missing.count, "missing number")),
                    "the mean of the training examples is taken",
                ),
            };
            let notice = of(missing, found).done(done);
            let decided = self.style.missing_given || matches!(self.reading, Reading::Like { .. });
            inputs.warn(if decided { notice } else { notice.option("--missing drop leaves such rows out") })?;
        }
        if thousands.count > 0 {
            let found =
                format!("{} with a comma, the first is `{thousands_field}`", counted(thousands.count, "number"));
            inputs.warn(
                of(thousands, found)
                    .done("the comma is taken for one between thousands")
                    .option("--decimal , takes it for the decimal point"),
            )?;
        }
        if aliases.count > 0 {
            let (one, other) = alias;
            let found = format!("class names that are the same number, as `{one}` and `{other}`");
            inputs.warn(of(aliases, found).done(format!("taken for one class, `{other}`")))?;
        }
        if unseen.count > 0 {
            let found = format!(
                "{} of {rows} rows of classes that no training example has, the first is `{unseen_class}`",
                unseen.count
            );
            inputs.warn(of(unseen, found).done("they count as wrong"))?;
        }
        Ok(())
    }

    /// Drops columns that number the rows, and columns without numbers.
    fn leave_out_columns(&mut self, keep_index: bool, inputs: &Inputs) -> Result<()> {
        let features = self.table.features.len();
        let mut keep = vec![true; features];
        let path = self.table.path.clone();
        if !keep_index && self.rows > 3 {
            for &(place, start) in self.counting.iter().filter(|_| features > 1) {
                let found = format!("column {} numbers the rows from {start}", self.table.features[place]);
                inputs.warn(
                    Notice::of_file(&path, self.plan.first, found).done("left out").option("--keep-index keeps it"),
                )?;
                keep[place] = false;
            }
        }
        // Only a missing number leaves the base unknown, or NaN in a column whose base is 0.
        let empty: Vec<usize> = (0..features)
            .filter(|&place| self.table.values.iter().skip(place).step_by(features).all(|x| x.is_nan()))
            .collect();
        if let Some(&first) = empty.first() {
            let found = format!(
                "no number in column {}{}",
                self.table.features[first],
                if empty.len() > 1 { " and others" } else { "" }
            );
            inputs
                .warn(Notice::of_file(&path, 0, found).done(format!("{} left out", counted(empty.len(), "column"))))?;
            empty.iter().for_each(|&place| keep[place] = false);
        }
        if keep.iter().all(|keep| !keep) {
            return self.wrong(0, "no column of numbers".into(), "numbers and a class");
        }
        if keep.contains(&false) {
            self.table.keep_columns(&keep);
        }
        Ok(())
    }

    fn sort_classes(&mut self) {
        let names = &mut self.table.names;
        let mut order: Vec<u32> = (0..names.len() as u32).collect();
        order.sort_by(|&a, &b| names[a as usize].cmp(&names[b as usize]));
        let mut places = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(&class, place)| places[class as usize] = place);
        names.sort_unstable();
        self.table.classes.iter_mut().for_each(|class| *class = places[*class as usize]);
    }

    /// Warns if the class column looks like measurements, or the first row like a header.
    fn judge_label(&self, given: bool, path: &Path, inputs: &Inputs) -> Result<()> {
        let Table { names, classes, label, .. } = &self.table;
        let numbers = names.iter().filter(|name| name.parse::<f64>().is_ok()).count();
        if !given && names.len() > 10 && 2 * names.len() > classes.len() {
            let found =
                format!("{} classes in {} rows in column {label}, as a measurement has", names.len(), classes.len());
            let notice = Notice::of_file(path, 0, found).done("each is taken for a class");
            inputs.warn(notice.option("--label COLUMN names the column of the class"))?;
        }
        // A single class that is not a number, above numbers or only in the first row.
        let first = classes[0];
        let alone = classes[1..].iter().all(|&class| class != first);
        let odd = names[first as usize].parse::<f64>().is_err()
            && (numbers + 1 == names.len() || names.len() * 4 < classes.len());
        if alone && odd && !self.plan.header && self.style.header.is_none() && classes.len() > 4 {
            let found = format!("the class `{}` in the first row only", names[first as usize]);
            let notice = Notice::of_file(path, self.plan.first, found).done("the row is taken for an example");
            inputs.warn(notice.option("--header yes takes it for the names of the columns"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: Reading = Reading::Train { label: None, drop: None, keep_index: false, centred: false };

    fn train(label: &str) -> Reading<'_> {
        Reading::Train { label: Some(label), drop: None, keep_index: false, centred: false }
    }

    fn read_as(text: impl AsRef<[u8]>, reading: Reading, style: Style) -> std::result::Result<Table, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Table::read(file.path(), reading, style, &|_, _| Ok(()), &Inputs::default()).map_err(|error| {
            let path = file.path().display().to_string();
            error.to_string().replace(&path, "x.csv")
        })
    }

    fn read(text: impl AsRef<[u8]>, reading: Reading) -> std::result::Result<Table, String> {
        read_as(text, reading, Style::default())
    }

    #[test]
    fn headers_labels_and_separators() {
        let plain = read("a,b,kind\n1,-2.5,dog\n3e2,4,cat\n", TRAIN).unwrap();
        assert_eq!((plain.features, plain.label), (vec!["a".to_owned(), "b".into()], "kind".into()));
        assert_eq!((plain.values, plain.classes), (vec![1.0, -2.5, 300.0, 4.0], vec![1, 0]));
        assert_eq!(plain.names, ["cat", "dog"]);
        // A byte order mark, CRLF, spaces, quotes, empty lines, and semicolons.
        let odd = "\u{feff}kind;  a ;\"b;c\"\r\ndog; 1;2\r\n\r\n \"a \"\"cat\"\"\" ;3 ;4";
        let odd = read(odd, train("kind")).unwrap();
        assert_eq!((odd.label.as_str(), odd.features), ("kind", vec!["a".into(), "b;c".into()]));
        assert_eq!((odd.names, odd.values), (vec!["a \"cat\"".into(), "dog".into()], vec![1.0, 2.0, 3.0, 4.0]));
        // Without a header, by number; classes may be numbers.
        let bare = read("7\t1\t2\n8\t3\t4\n", train("1")).unwrap();
        assert_eq!(
            (bare.features, bare.names),
            (vec!["column2".into(), "column3".into()], vec!["7".into(), "8".into()])
        );
    }

    #[test]
    fn numbers_are_kept_as_differences() {
        let centred = Reading::Train { label: None, drop: None, keep_index: false, centred: true };
        // In 32 bits, today's Unix times would all be equal.
        let table = read("time,b,k\n1700000000,0.5,x\n1700000001,,y\n1699999998,2.5,x\n", centred).unwrap();
        assert_eq!(table.base, [1.7e9, 0.5]);
        assert_eq!(table.values[..3], [0.0, 0.0, 1.0]);
        assert!(table.values[3].is_nan());
        assert_eq!(table.values[4..], [-2.0, 2.0]);
    }

    #[test]
    fn columns_are_found_by_their_names_in_another_order() {
        let (features, names) = (["b".to_owned(), "a".into()], ["cat".to_owned(), "dog".into()]);
        let like = Reading::Like { features: &features, label: "kind", names: &names, base: &[0.0; 2] };
        let table = read("a,more,kind,b\n1,x,dog,2\n3,x,cow,4\n", like).unwrap();
        assert_eq!((table.values, table.classes), (vec![2.0, 1.0, 4.0, 3.0], vec![1, 2]));
        assert_eq!(table.names, ["cat", "dog", UNKNOWN]);
        let told = |text: &str| read(text, like).unwrap_err();
        assert_eq!(told("a,kind\n1,dog\n"), "x.csv:1: found the columns a, kind, expected a column b");
        let unknown = "x.csv:2: found `cow` in column kind, and no other class that is known, expected one of the classes learned from: cat, dog";
        assert_eq!(told("a,b,kind\n1,2,cow\n"), unknown);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_column() {
        let fail = Style { missing: Missing::Fail, ..Style::default() };
        let told = |text: &[u8]| read_as(text, TRAIN, fail).unwrap_err();
        let column = |name: &str| {
            format!(
                "expected a finite number; --drop {name} leaves the column out, --label {name} takes the class from it"
            )
        };
        let missing = "expected a finite number; --missing mean takes the column's mean for it, --missing drop leaves the row out";
        assert_eq!(told(b"a,b,k\n1,2,x\n3,y,x\n"), format!("x.csv:3: found `y` in column b, {}", column("b")));
        assert_eq!(told(b"1,2,x\n3,,x\n"), format!("x.csv:2: found `` in column column2, {missing}"));
        assert_eq!(told(b"1,2,x\n3,nan,x\n"), format!("x.csv:2: found `nan` in column column2, {missing}"));
        let large = "a number of at most 3.4e38 in size, which is the largest of 32 bits";
        assert_eq!(told(b"1,1e39,x\n"), format!("x.csv:1: found `1e39` in column column2, expected {large}"));
        assert_eq!(
            told(b"1,inf,x\n"),
            "x.csv:1: found `inf` in column column2, expected a finite number; --drop column2 leaves the column out"
        );
        assert_eq!(told(b"a,b,k\n1,2,x\n3,4\n"), "x.csv:3: found 2 columns, expected 3 as in the first line");
        assert_eq!(told(b"a,b,k\n1,2,\n"), "x.csv:2: found nothing in column k, expected a class and its numbers");
        assert_eq!(
            told(b"a,k\n1,\"x\n2,y\n"),
            "x.csv:2: found an unclosed quote, expected a quote at the end of the field"
        );
        let class = "x.csv:1: found two columns k, one of which holds the class, expected one; --drop k.1 leaves the second out, --drop k the first";
        assert_eq!(told(b"a,k,k\n1,x,y\n"), class);
        assert_eq!(told(b"a,b,k\n\n\r\n1,2,x\n\n3,y,x\n"), format!("x.csv:6: found `y` in column b, {}", column("b")));
        assert_eq!(told(b"k\nx\n"), "x.csv:1: found one column, expected numbers and a class, separated by commas");
        assert_eq!(told(b" \n\n"), "x.csv: found no rows, expected lines of numbers and a class");
        assert_eq!(told(b"a,k\n"), "x.csv: found no rows below the header, expected lines of numbers and a class");
        let other = told(b"a,k\n1,x\n2,\xff\n");
        assert!(other.starts_with("x.csv:3: found invalid UTF-8 (0xFF), expected UTF-8 text; --encoding "), "{other}");
        let label = read("a,k\n1,x\n", train("kind")).unwrap_err();
        assert_eq!(label, "x.csv:1: found the columns a, k, expected a column kind");
    }
}
