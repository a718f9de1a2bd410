//! Tables of a few columns, one row a line: words and labels.
//!
//! Columns are separated by tabs if any line holds one (then words may hold spaces), else by runs of spaces. Lines of white space
//! only are passed over. CRLF, a byte order mark, and a missing last line end make no difference.

use super::Inputs;
use crate::{Error, Result};
use std::path::Path;

/// Calls `row` with the number (from 1) and the columns of every row of the file at `path`, which `expected` describes.
///
/// # Errors
/// The file cannot be read, is not UTF-8, is a page of HTML, has no rows, or a row of other than `N` columns or an empty one; what
/// `row` returns.
pub fn read<const N: usize>(
    path: &Path,
    expected: &str,
    inputs: &Inputs,
    mut row: impl FnMut(usize, [&str; N]) -> Result<()>,
) -> Result<()> {
    let text = inputs.text(path, &format!("lines of {expected}"))?;
    let tabs = text.contains('\t');
    let mut rows = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end_matches('\r');
        if line.trim_matches([' ', '\t']).is_empty() {
            continue;
        }
        let wrong = |found: String| Err(Error::input(path, number, found, expected));
        let mut columns = [""; N];
        let mut count = 0;
        let mut put = |column| {
            if let Some(place) = columns.get_mut(count) {
                *place = column;
            }
            count += 1;
        };
        if tabs {
            line.split('\t').map(|column| column.trim_matches(' ')).for_each(&mut put);
        } else {
            line.split(' ').filter(|column| !column.is_empty()).for_each(&mut put);
        }
        if count != N {
            return wrong(format!("{count} column{}", if count == 1 { "" } else { "s" }));
        }
        if let Some(empty) = columns.iter().position(|column| column.is_empty()) {
            return wrong(format!("an empty column {}", empty + 1));
        }
        row(number, columns)?;
        rows += 1;
    }
    if rows == 0 {
        return Err(Error::input(path, 0, "no rows", format!("lines of {expected}")));
    }
    Ok(())
}
