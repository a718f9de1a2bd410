//! Tagged files as they are read, and the column that the tags to be learned are in.

use crate::error::{Error, Result, counted};
use crate::notices::Notice;
use crate::text::Inputs;
use crate::text::conll::{Column, Conll, Form, Gold};
use crate::text::tags::{self, Kinds, Reading, Scheme};
use std::path::Path;

/// A tagged file and its tags in the scheme of a tagger.
pub struct Tagged {
    /// The file.
    pub file: Conll,
    /// Its tags.
    pub gold: Gold,
}

/// Reads a file, and converts its tags to the scheme `to` if that is given. What is odd is warned of.
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

/// As [`read_tagged`], of a text to learn from, and the form that it has: where no column is given and another than the last holds
/// tags of the same types (nested entities, of which the inner ones are rare and stand last), the one with more entities by far is taken.
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

/// A column with tags of the same types as the last has less than this share of the entities of is no annotation beside it, but the one
/// that is meant. Chunks have more tags than entities have too, but other types.
const SHARE: usize = 5;

/// The column of a file that has many more entities than the last and the same types; that others hold tags is warned of.
fn better_column(file: &Conll, inputs: &Inputs) -> Result<Option<usize>> {
    let entities = |file: &Conll, gold: &Gold| -> usize {
        file.sentences().map(|sentence| tags::spans(&gold.tags[sentence], Reading::Conlleval).len()).sum()
    };
    let others: Vec<usize> = file.other_tags().collect();
    let mut kinds = Kinds::default();
    // What is wrong with the tags is an error later.
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
            format!("tags to be learned; --column {column} takes them from column {column}, which has {most_entities}");
        return Err(Error::input(path, 0, format!("no entity in the last column, {last}: every tag is O"), expected));
    }
    let found = match related.len() {
        1 => format!("columns {column} and {last} both hold tags"),
        _ => format!("columns {nearest} to {last} all hold tags"),
    };
    let better = SHARE * own < most;
    let done = match better {
        true => format!("column {column} is used, which has {most_entities}, and not the last, which has {own}"),
        false => format!("the last is used, which has {}", counted(own, "entity")),
    };
    let other = if better { last } else { column };
    let option = format!("--column {other} takes the tags from column {other}");
    inputs.warn(Notice::of_file(path, 0, found).done(done).option(option))?;
    Ok(better.then_some(column))
}
