//! Tables of examples in CSV files: a row an example, numbers in its columns, and its class in one of them.
//!
//! Columns are separated by commas, or by semicolons or tabs where the first line has no comma. The first line is a header of
//! names if none of its fields is a number. Quotes, spaces around fields, CRLF and a byte order mark are taken as RFC 4180 and
//! spreadsheets have them.

use super::Inputs;
use crate::error::{Error, Result};
use hashbrown::HashMap;
use std::path::{Path, PathBuf};

/// Examples with their classes.
#[derive(Debug)]
pub struct Table {
    /// The file.
    pub path: PathBuf,
    /// Names of the columns with numbers.
    pub features: Vec<String>,
    /// Name of the column with the class.
    pub label: String,
    /// The numbers, row after row.
    pub values: Vec<f64>,
    /// The class of each row, as a number.
    pub classes: Vec<u32>,
    /// Names of the classes, by their numbers.
    pub names: Vec<String>,
}

/// What a table is read for.
#[derive(Clone, Copy, Debug)]
pub enum Reading<'a> {
    /// To learn from it: the name or number of the class column, or the last one. Classes are sorted by name.
    Train(Option<&'a str>),
    /// With the columns and classes of another.
    Like {
        /// Names of the columns with numbers, in order.
        features: &'a [String],
        /// Name of the column with the class.
        label: &'a str,
        /// Names of the classes.
        names: &'a [String],
    },
}

impl Table {
    /// Rows.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Reads a file.
    pub fn read(path: &Path, reading: Reading, inputs: &Inputs) -> Result<Self> {
        let text = inputs.text(path, "lines of numbers and a class, separated by commas")?;
        let first = text.lines().next().unwrap_or_default();
        let separator = [',', ';', '\t'].into_iter().find(|&c| first.contains(c)).unwrap_or(',');
        let mut rows = records(&text, separator)
            .map_err(|line| Error::input(path, line, "a quote that is not closed", "a quote at the field's end"))?;
        let Some(Record { fields: first, .. }) = rows.first() else {
            return Err(Error::input(path, 0, "no rows", "lines of numbers and a class"));
        };
        let columns = first.len();
        let header = first.iter().all(|field| field.parse::<f64>().is_err());
        let names: Vec<String> =
            if header { first.clone() } else { (1..=columns).map(|number| format!("column{number}")).collect() };
        let (label, features) = choose(path, &names, header, reading)?;
        let mut table = Table {
            path: path.to_owned(),
            features: features.iter().map(|&column| names[column].clone()).collect(),
            label: names[label].clone(),
            values: Vec::with_capacity(rows.len() * features.len()),
            classes: Vec::with_capacity(rows.len()),
            names: Vec::new(),
        };
        rows.drain(..usize::from(header));
        if rows.is_empty() {
            return Err(Error::input(path, 0, "no rows below the header", "lines of numbers and a class"));
        }
        for Record { line, fields } in &rows {
            if fields.len() != columns {
                let (found, expected) =
                    (format!("{} columns", fields.len()), format!("{columns} as in the first line"));
                return Err(Error::input(path, *line, found, expected));
            }
            for &column in &features {
                let field = &fields[column];
                let number = field.parse().ok().filter(|x: &f64| x.is_finite() && (*x as f32).is_finite());
                table.values.push(number.ok_or_else(|| {
                    Error::input(path, *line, format!("`{field}` in column {}", names[column]), "a finite number")
                })?);
            }
            if fields[label].is_empty() {
                return Err(Error::input(path, *line, format!("nothing in column {}", names[label]), "a class"));
            }
        }
        table.names = match reading {
            Reading::Like { names, .. } => names.to_vec(),
            Reading::Train(_) => {
                let mut all: Vec<String> = rows.iter().map(|row| row.fields[label].clone()).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        };
        let numbers: HashMap<String, u32> = table.names.iter().cloned().zip(0..).collect();
        for Record { line, fields } in &rows {
            let class = numbers.get(&fields[label]).copied().ok_or_else(|| {
                let expected = format!("one of the classes learned from: {}", table.names.join(", "));
                Error::input(path, *line, format!("`{}` in column {}", fields[label], table.label), expected)
            })?;
            table.classes.push(class);
        }
        Ok(table)
    }
}

/// The class column and those of the numbers.
fn choose(path: &Path, names: &[String], header: bool, reading: Reading) -> Result<(usize, Vec<usize>)> {
    let mut columns: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (column, name) in names.iter().enumerate() {
        if columns.insert(name, column).is_some() {
            return Err(Error::input(path, 1, format!("two columns {name}"), "a name for each column"));
        }
    }
    let find = |name: &str| {
        columns.get(name).copied().ok_or_else(|| {
            let what = if header { format!("the columns {}", names.join(", ")) } else { "no header".to_owned() };
            Error::input(path, 1, what, format!("a column {name}"))
        })
    };
    if names.len() < 2 {
        return Err(Error::input(path, 1, "one column", "numbers and a class, separated by commas"));
    }
    match reading {
        Reading::Train(label) => {
            let by_number = |text: &str| text.parse().ok().filter(|n| (1..=names.len()).contains(n)).map(|n| n - 1);
            let label = match label {
                None => names.len() - 1,
                Some(text) => find(text).or_else(|missing| by_number(text).ok_or(missing))?,
            };
            Ok((label, (0..names.len()).filter(|&column| column != label).collect()))
        }
        Reading::Like { features, label, .. } => {
            Ok((find(label)?, features.iter().map(|name| find(name)).collect::<Result<_>>()?))
        }
    }
}

/// A row and the line that it begins on.
struct Record {
    line: usize,
    fields: Vec<String>,
}

/// The rows that hold anything, or the line of a quote that is not closed. A field in quotes may hold separators, line ends, and
/// quotes, which are doubled.
fn records(text: &str, separator: char) -> std::result::Result<Vec<Record>, usize> {
    let mut rows = Vec::new();
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut line, mut begin, mut quote) = (1, 1, None);
    let mut chars = text.chars().peekable();
    loop {
        let next = chars.next();
        match next {
            Some('"') if quote.is_some() => {
                if chars.next_if_eq(&'"').is_some() {
                    field.push('"');
                } else {
                    quote = None;
                }
            }
            Some('"') if field.trim().is_empty() => {
                field.clear();
                quote = Some(line);
            }
            Some('\n') if quote.is_none() => {}
            Some(c) if quote.is_some() || c != separator => field.push(c),
            _ => {}
        }
        let ends_row = matches!(next, None | Some('\n'));
        if let (None, Some(line)) = (next, quote) {
            return Err(line);
        }
        if quote.is_none() && (ends_row || next == Some(separator)) {
            fields.push(field.trim().to_owned());
            field.clear();
        }
        line += usize::from(next == Some('\n'));
        if quote.is_none() && ends_row {
            let fields = std::mem::take(&mut fields);
            if fields.iter().any(|field| !field.is_empty()) {
                rows.push(Record { line: begin, fields });
            }
            begin = line;
        }
        if next.is_none() {
            return Ok(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>, reading: Reading) -> std::result::Result<Table, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Table::read(file.path(), reading, &Inputs::default()).map_err(|error| {
            let path = file.path().display().to_string();
            error.to_string().replace(&path, "x.csv")
        })
    }

    #[test]
    fn headers_labels_and_separators() {
        let plain = read("a,b,kind\n1,-2.5,dog\n3e2,4,cat\n", Reading::Train(None)).unwrap();
        assert_eq!((plain.features, plain.label), (vec!["a".to_owned(), "b".into()], "kind".into()));
        assert_eq!((plain.values, plain.classes), (vec![1.0, -2.5, 300.0, 4.0], vec![1, 0]));
        assert_eq!(plain.names, ["cat", "dog"]);
        // A byte order mark, CRLF, spaces, quotes, empty lines, and semicolons.
        let odd = "\u{feff}kind;  a ;\"b;c\"\r\ndog; 1;2\r\n\r\n \"a \"\"cat\"\"\" ;3 ;4";
        let odd = read(odd, Reading::Train(Some("kind"))).unwrap();
        assert_eq!((odd.label.as_str(), odd.features), ("kind", vec!["a".into(), "b;c".into()]));
        assert_eq!((odd.names, odd.values), (vec!["a \"cat\"".into(), "dog".into()], vec![1.0, 2.0, 3.0, 4.0]));
        // Without a header, by number; classes may be numbers.
        let bare = read("7\t1\t2\n8\t3\t4\n", Reading::Train(Some("1"))).unwrap();
        assert_eq!(
            (bare.features, bare.names),
            (vec!["column2".into(), "column3".into()], vec!["7".into(), "8".into()])
        );
    }

    #[test]
    fn columns_are_found_by_their_names_in_another_order() {
        let (features, names) = (["b".to_owned(), "a".into()], ["cat".to_owned(), "dog".into()]);
        let like = Reading::Like { features: &features, label: "kind", names: &names };
        let table = read("a,more,kind,b\n1,x,dog,2\n", like).unwrap();
        assert_eq!((table.values, table.classes), (vec![2.0, 1.0], vec![1]));
        let told = |text: &str| read(text, like).unwrap_err();
        assert_eq!(told("a,kind\n1,dog\n"), "x.csv:1: found the columns a, kind, expected a column b");
        let unknown = "x.csv:2: found `cow` in column kind, expected one of the classes learned from: cat, dog";
        assert_eq!(told("a,b,kind\n1,2,cow\n"), unknown);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_column() {
        let told = |text: &[u8]| read(text, Reading::Train(None)).unwrap_err();
        assert_eq!(told(b"a,b,k\n1,2,x\n3,y,x\n"), "x.csv:3: found `y` in column b, expected a finite number");
        assert_eq!(told(b"1,2,x\n3,,x\n"), "x.csv:2: found `` in column column2, expected a finite number");
        assert_eq!(told(b"1,2,x\n3,nan,x\n"), "x.csv:2: found `nan` in column column2, expected a finite number");
        assert_eq!(told(b"1,1e39,x\n"), "x.csv:1: found `1e39` in column column2, expected a finite number");
        assert_eq!(told(b"a,b,k\n1,2,x\n3,4\n"), "x.csv:3: found 2 columns, expected 3 as in the first line");
        assert_eq!(told(b"a,b,k\n1,2,\n"), "x.csv:2: found nothing in column k, expected a class");
        assert_eq!(
            told(b"a,k\n1,\"x\n2,y\n"),
            "x.csv:2: found a quote that is not closed, expected a quote at the field's end"
        );
        assert_eq!(told(b"a,a,k\n1,2,x\n"), "x.csv:1: found two columns a, expected a name for each column");
        assert_eq!(told(b"a,b,k\n\n\r\n1,2,x\n\n3,y,x\n"), "x.csv:6: found `y` in column b, expected a finite number");
        assert_eq!(told(b"k\nx\n"), "x.csv:1: found one column, expected numbers and a class, separated by commas");
        assert_eq!(told(b" \n\n"), "x.csv: found no rows, expected lines of numbers and a class");
        assert_eq!(told(b"a,k\n"), "x.csv: found no rows below the header, expected lines of numbers and a class");
        assert_eq!(told(b"a,k\n1,x\n2,\xff\n"), "x.csv:3: found the byte 0xFF, expected UTF-8");
        let label = read("a,k\n1,x\n", Reading::Train(Some("kind"))).unwrap_err();
        assert_eq!(label, "x.csv:1: found the columns a, k, expected a column kind");
    }
}
