//! Reading of tagged files, and choice of the column of the tags.

use crate::error::{Error, Result, counted};
use crate::notices::Notice;
use crate::text::Inputs;
use crate::text::conll::{Column, Conll, Form, Gold};
use crate::text::tags::{self, Kinds, Reading, Scheme};
use std::path::Path;

/// A tagged file, with its tags in the scheme of a tagger.
pub struct Tagged {
    /// The file.
    pub file: Conll,
    /// Its tags.
    pub gold: Gold,
}

/// Reads a file, and converts its tags to the scheme `to` if given. Warns about irregularities.
pub fn read_tagged(path: &Path, form: Form, to: Option<Scheme>, kinds: &mut Kinds, inputs: &Inputs) -> Result<Tagged> {
    tagged(read_conll(path, form, inputs)?, to, kinds, inputs)
}

fn read_conll(path: &Path, form: Form, inputs: &Inputs) -> Result<Conll> {
    let file = Conll::read(path, form, inputs)?;
    if file.tokens() == 0 {
        return Err(Error::input(path, 0, "no tokens", "lines of a word and its tag"));
    }
    Ok(file)
}

fn tagged(file: Conll, to: Option<Scheme>, kinds: &mut Kinds, inputs: &Inputs) -> Result<Tagged> {
    let mut gold = file.gold(None, kinds)?;
    file.notices().iter().chain(gold.notices()).try_for_each(|notice| inputs.warn(notice.clone()))?;
    if let Some(to) = to
        && to != gold.scheme
    {
        for sentence in file.sentences() {
            tags::convert(&mut gold.tags[sentence], to);
        }
        gold.scheme = to;
    }
    Ok(Tagged { file, gold })
}

/// As [`read_tagged`], for a training text; also returns its form. If no column is given and a column other than the last contains tags
/// of the same types (nested entities, whose rarer inner ones come last), the column with far more entities is chosen.
pub fn read_to_learn(path: &Path, form: Form, to: Option<Scheme>, inputs: &Inputs) -> Result<(Tagged, Kinds, Form)> {
    let last = read_conll(path, form, inputs)?;
    let mut kinds = Kinds::default();
    let (file, form) = match better_column(&last, inputs)? {
        Some(column) => (last.with_tags_of(column)?, Form { tags: Column::Number(column), ..form }),
        None => (last, form),
    };
    let tagged = tagged(file, to, &mut kinds, inputs)?;
    Ok((tagged, kinds, form))
}

/// If the last column has fewer than one in `SHARE` of the entities of another column with tags of the same types, the other column is
/// the intended one. Chunk columns also have more tags, but of other types.
const SHARE: usize = 5;

/// The column of a file that has many more entities than the last, of the same types; warns if several columns contain tags.
fn better_column(file: &Conll, inputs: &Inputs) -> Result<Option<usize>> {
    let entities = |file: &Conll, gold: &Gold| -> usize {
        file.sentences().map(|sentence| tags::spans(&gold.tags[sentence], Reading::Conlleval).len()).sum()
    };
    let others: Vec<usize> = file.other_tags().collect();
    let mut kinds = Kinds::default();
    // Errors in the tags are reported later.
    let (Some(&nearest), Ok(gold)) = (others.last(), file.gold(None, &mut kinds)) else { return Ok(None) };
    let (path, last, own) = (file.path(), file.columns(), entities(file, &gold));
    let mut related = Vec::new();
    for column in others {
        let (other, mut names) = (file.with_tags_of(column)?, Kinds::default());
        let Ok(gold) = other.gold(None, &mut names) else { continue };
        let shared = kinds.names().iter().filter(|name| names.get(name).is_some()).count();
        if 2 * shared >= kinds.len() {
            related.push((entities(&other, &gold), column));
        }
    }
    let Some(&(most, column)) = related.iter().max() else { return Ok(None) };
    let most_entities = counted(most, "entity");
    if own == 0 {
        let expected =
            format!("tags to train on; --column {column} reads them from column {column}, which has {most_entities}");
        return Err(Error::input(path, 0, format!("no entity in the last column, {last}: every tag is O"), expected));
    }
    let found = match related.len() {
        1 => format!("columns {column} and {last} both contain tags"),
        _ => format!("columns {nearest} to {last} all contain tags"),
    };
    let better = SHARE * own < most;
    let done = match better {
        true => format!("using column {column}, which has {most_entities}, rather than the last, which has {own}"),
        false => format!("using the last, which has {}", counted(own, "entity")),
    };
    let other = if better { last } else { column };
    let option = format!("--column {other} reads the tags from column {other}");
    inputs.warn(Notice::of_file(path, 0, found).done(done).option(option))?;
    Ok(better.then_some(column))
}
