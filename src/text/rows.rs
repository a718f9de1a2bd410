//! Tables of a few columns, one row per line: words and labels.
//!
//! Columns are separated by tabs if any line contains one (words may then contain spaces), otherwise by semicolons or commas if all
//! lines contain enough of them, otherwise by runs of spaces. Lines of white space only and comments (`# …`) are skipped. CRLF, a byte
//! order mark, and a missing last line end make no difference. If there are more columns than needed, those of the words and the label
//! are detected.

use super::{Inputs, commonest};
use crate::error::counted;
use crate::notices::Notice;
use crate::{Error, Result};
use std::path::Path;

/// Names of the label column in published lists, in lower case.
const LABELS: [&str; 12] = [
    "label",
    "score",
    "rating",
    "similarity",
    "relatedness",
    "human (mean)",
    "mean",
    "simlex999",
    "gold",
    "average",
    "class",
    "tag",
];
/// Names of a word column, in lower case.
const WORDS: [&str; 8] = ["word", "words", "word1", "word 1", "token", "term", "text", "name"];

/// The content of a row: words, followed by a label.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// As described in messages.
    pub expected: &'static str,
    /// Whether the label is a number.
    pub numeric: bool,
}

/// Calls `row` with the number (from 1) and the columns of every row of the file at `path`, whose rows have this `shape`. `columns` are
/// the numbers of the columns, from 1; if empty, they are detected.
///
/// # Errors
/// The file cannot be read, is not UTF-8, is an HTML page or has no rows; a row has a different number of columns or an empty column;
/// `columns` are not `N`; errors of `row`.
pub fn read<const N: usize>(
    path: &Path,
    shape: Shape,
    columns: &[usize],
    inputs: &Inputs,
    mut row: impl FnMut(usize, [&str; N]) -> Result<()>,
) -> Result<()> {
    let expected = shape.expected;
    if !columns.is_empty() && (columns.len() != N || columns.contains(&0)) {
        let what = format!("--columns needs {N} numbers from 1 for {}: the columns of {expected}", path.display());
        return Err(Error::Usage(what));
    }
    let text = inputs.text(path, &format!("lines of {expected}"))?;
    let lines: Vec<(usize, &str)> = (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.trim_end_matches('\r')))
        .filter(|(_, line)| !line.trim().is_empty() && !is_comment(line))
        .collect();
    let separator = separator(&lines, N);
    let mut rows: Vec<(usize, Vec<&str>)> =
        lines.iter().map(|&(number, line)| (number, split(line, separator))).collect();
    let width = commonest(rows.iter().map(|(_, fields)| fields.len()));
    // Separators at the end of a line make empty fields.
    for (_, fields) in &mut rows {
        while fields.len() > width && fields.last() == Some(&"") {
            fields.pop();
        }
    }
    // `#word 1` in a published list is a header, as its label shows.
    if shape.numeric {
        rows.retain(|(_, fields)| {
            !(fields[0].starts_with('#') && fields.last().is_some_and(|label| !is_number(label)))
        });
    }
    let Some((first_line, first)) = rows.first() else {
        return Err(Error::input(path, 0, "no rows", format!("lines of {expected}")));
    };
    let (first_line, first) = (*first_line, first.clone());
    let below = &rows[1..];
    let chosen: [usize; N] = match <[usize; N]>::try_from(columns) {
        Ok(given) => given.map(|column| column - 1),
        Err(_) => choose(&first, if below.is_empty() { &rows } else { below }, width, shape).ok_or_else(|| {
            let found = format!("{}, with ambiguous contents", counted(width, "column"));
            Error::input(
                path,
                first_line,
                found,
                format!("{expected}; --columns selects them, such as --columns 1,2,4"),
            )
        })?,
    };
    let label = chosen[N - 1];
    let at = |fields: &[&str], column: usize| fields.get(column).copied().unwrap_or_default().to_lowercase();
    let header = if shape.numeric {
        let is_label = |fields: &Vec<&str>| fields.get(label).is_some_and(|field| is_number(field));
        !is_label(&first) && below.first().is_some_and(|(_, fields)| is_label(fields))
    } else {
        let known =
            [WORDS, ["label", "labels", "class", "tag", "type", "category", "kind", "pos"]].map(|names| names.to_vec());
        below.len() > 1
            && known[0].contains(&at(&first, chosen[0]).as_str())
            && known[1].contains(&at(&first, label).as_str())
            && below.iter().all(|(_, fields)| fields.get(label) != first.get(label))
    };
    if header {
        let found = format!("the names of the columns, `{}`", first.join(" "));
        inputs.warn(Notice::of_file(path, first_line, found).done("the line is skipped"))?;
    }
    if columns.is_empty() && width > N {
        let names = chosen.map(|column| (column + 1).to_string());
        let named =
            if header { first.get(label).map_or(String::new(), |name| format!(" (`{name}`)")) } else { String::new() };
        let done = format!(
            "columns {} are read as the words, column {}{named} as the label",
            names[..N - 1].join(" and "),
            names[N - 1]
        );
        let done = if N == 2 {
            done.replace("columns ", "column ").replace(" are read as the words", " is read as the word")
        } else {
            done
        };
        inputs.warn(
            Notice::of_file(path, first_line, format!("{width} columns, of which {N} are needed"))
                .done(done)
                .option(format!("--columns {} selects them", names.join(","))),
        )?;
    }
    let mut any = false;
    for (number, fields) in rows.iter().skip(usize::from(header)) {
        let number = *number;
        let enough = if width <= N && columns.is_empty() {
            fields.len() == N
        } else {
            chosen.iter().all(|&column| column < fields.len())
        };
        if !enough {
            let count = fields.len();
            return Err(Error::input(path, number, counted(count, "column"), expected));
        }
        let values = chosen.map(|column| fields[column]);
        if let Some(empty) = values.iter().position(|value| value.is_empty()) {
            return Err(Error::input(path, number, format!("an empty column {}", chosen[empty] + 1), expected));
        }
        row(number, values)?;
        any = true;
    }
    if any { Ok(()) } else { Err(Error::input(path, 0, "no rows", format!("lines of {expected}"))) }
}

/// A comment: `# …`, `## …`. `#word` and a `#` before a tab are words.
fn is_comment(line: &str) -> bool {
    line == "#" || line.starts_with("# ") || line.starts_with("##")
}

fn is_number(field: &str) -> bool {
    field.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The separator of `columns` columns; a space stands for any number of spaces.
fn separator(lines: &[(usize, &str)], columns: usize) -> char {
    if lines.iter().any(|(_, line)| line.contains('\t')) {
        return '\t';
    }
    let in_all = |c: char| !lines.is_empty() && lines.iter().all(|(_, line)| line.matches(c).count() + 1 >= columns);
    [';', ','].into_iter().find(|&c| in_all(c)).unwrap_or(' ')
}

fn split(line: &str, separator: char) -> Vec<&str> {
    if separator == ' ' {
        return line.split(' ').filter(|field| !field.is_empty()).collect();
    }
    let tidy = |field: &str| -> (usize, usize) {
        let trimmed = field.trim_matches(' ');
        let inner = trimmed.strip_prefix('"').and_then(|field| field.strip_suffix('"')).filter(|_| separator != '\t');
        let kept = inner.unwrap_or(trimmed);
        (kept.as_ptr() as usize - field.as_ptr() as usize, kept.len())
    };
    line.split(separator)
        .map(|field| {
            let (from, length) = tidy(field);
            &field[from..from + length]
        })
        .collect()
}

/// The columns of the words and of the label. `rows` are those below the `first`, which may contain names.
fn choose<const N: usize>(
    first: &[&str],
    rows: &[(usize, Vec<&str>)],
    width: usize,
    shape: Shape,
) -> Option<[usize; N]> {
    let numbers = |column: usize| {
        let fields = rows.iter().filter_map(|(_, fields)| fields.get(column));
        10 * fields.filter(|field| !is_number(field)).count() <= rows.len()
    };
    let plain = std::array::from_fn(|column| column);
    if width <= N {
        // A numeric label may precede the words.
        return match (0..width).find(|&column| numbers(column)) {
            Some(label) if shape.numeric && width == N && !numbers(N - 1) => {
                let mut words = (0..width).filter(|&column| column != label);
                Some(std::array::from_fn(|place| if place + 1 == N { label } else { words.next().unwrap_or(label) }))
            }
            _ => Some(plain),
        };
    }
    let named = |column: &usize| first.get(*column).is_some_and(|name| LABELS.contains(&name.to_lowercase().as_str()));
    let words: Vec<usize> = (0..width).filter(|&column| !numbers(column)).take(N - 1).collect();
    let words = if words.len() == N - 1 { words } else { (0..N - 1).collect() };
    let last = *words.last()?;
    let others: Vec<usize> =
        (0..width).filter(|column| !words.contains(column) && (!shape.numeric || numbers(*column))).collect();
    let label = others
        .iter()
        .copied()
        .find(named)
        .or_else(|| others.iter().copied().find(|&column| column > last && (shape.numeric || !numbers(column))))
        .or_else(|| others.first().copied())?;
    Some(std::array::from_fn(|place| words.get(place).copied().unwrap_or(label)))
}
