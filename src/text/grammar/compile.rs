//! From rules to states.

use super::file::{Body, Item, Row, Source};
use super::{Choice, END, Emission, Grammar, State, running_sum};
use crate::error::Result;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Maximum number of positions in all expanded sentences, before equal ones are merged.
const MAX_PLACES: usize = 1_000_000;

/// The type of the entity that a word is part of, and whether the word begins it; None outside of entities.
type Entity<'a> = Option<(&'a str, bool)>;

/// A distribution over the next state: `(state or END, probability)`, sorted by state.
type Next = Rc<[(u32, f64)]>;

/// The position in a sentence where something is expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Context<'a> {
    /// The entity it is part of, and whether its first word begins the entity.
    entity: Entity<'a>,
    /// Whether its first word begins the sentence.
    first: bool,
}

impl<'a> Context<'a> {
    /// The context of whatever follows a word here.
    fn inside(self) -> Self {
        Context { entity: self.entity.map(|(tag, _)| (tag, false)), first: false }
    }

    /// The context below a rule with this tag.
    fn below(self, tag: Option<&'a str>) -> Self {
        Context { entity: self.entity.or(tag.map(|tag| (tag, true))), ..self }
    }
}

/// Creates states from the end of the sentence to its beginning; equal states are created once.
pub(super) struct Compiler<'a> {
    source: &'a Source,
    /// Emissions by class name (or word, with `true`) and whether the first letter is capitalised.
    emissions: HashMap<(&'a str, bool, bool), u32>,
    distributions: Vec<Vec<(String, f64)>>,
    states: Vec<(u32, Entity<'a>, Next)>,
    known: HashMap<StateKey<'a>, u32>,
    places: usize,
}

/// The emission, entity tag and bits of the transitions of a state.
type StateKey<'a> = (u32, Entity<'a>, Vec<(u32, u64)>);

impl<'a> Compiler<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Compiler {
            source,
            emissions: HashMap::new(),
            distributions: Vec::new(),
            states: Vec::new(),
            known: HashMap::new(),
            places: 0,
        }
    }

    pub(super) fn grammar(mut self) -> Result<Grammar> {
        let end: Next = Rc::new([(END, 1.0)]);
        let context = Context { entity: None, first: self.source.capitalise };
        let start = self.rule(&self.source.start, context, &end)?;

        let mut words: Vec<String> = self.distributions.iter().flatten().map(|(word, _)| word.clone()).collect();
        words.sort_unstable();
        words.dedup();
        let ids: HashMap<String, u32> = words.iter().enumerate().map(|(i, word)| (word.clone(), i as u32)).collect();
        let mut emitters = vec![Vec::new(); words.len()];
        let mut emissions = Vec::new();
        for (number, distribution) in self.distributions.iter().enumerate() {
            let of: Vec<u32> = distribution.iter().map(|(word, _)| ids[word]).collect();
            for (&word, (_, p)) in of.iter().zip(distribution) {
                emitters[word as usize].push((number as u32, *p));
            }
            let cumulative = running_sum(distribution.iter().map(|(_, p)| *p));
            emissions.push(Emission { words: of, cumulative });
        }
        let mut kinds: Vec<&str> = self.states.iter().filter_map(|(_, tag, _)| tag.map(|(kind, _)| kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut tags = vec!["O".to_owned()];
        tags.extend(kinds.iter().flat_map(|kind| [format!("B-{kind}"), format!("I-{kind}")]));
        let number = |tag: Option<(&str, bool)>| match tag {
            None => 0,
            Some((kind, begins)) => {
                let kind = kinds.binary_search(&kind).unwrap_or_else(|_| unreachable!("every kind is in the list"));
                1 + 2 * kind as u32 + u32::from(!begins)
            }
        };
        let states = self
            .states
            .iter()
            .map(|(emission, tag, next)| State { emission: *emission, tag: number(*tag), next: Choice::new(next) })
            .collect();
        Ok(Grammar { words, ids, tags, emissions, emitters, states, start: Choice::new(&start) })
    }

    /// The distribution over the first states of `name`, given that over the states after it.
    fn rule(&mut self, name: &'a str, context: Context<'a>, then: &Next) -> Result<Next> {
        let (name, rule) =
            self.source.rules.get_key_value(name).unwrap_or_else(|| unreachable!("references are checked"));
        let context = context.below(rule.tag.as_deref());
        match &rule.body {
            Body::Class(_) => self.state(name, false, context, then),
            Body::Phrase(rows) => {
                let mut ways = Vec::with_capacity(rows.len());
                for row in rows {
                    ways.push((row.probability, self.row(row, context, then)?));
                }
                Ok(mix(&ways))
            }
        }
    }

    /// The distribution over the first states of a row: built from its last item to its first, given that an item of the row precedes
    /// (`inner`) and, as long as all preceding items are optional, given that none does (`outer`).
    fn row(&mut self, row: &'a Row, context: Context<'a>, then: &Next) -> Result<Next> {
        let sure = |item: &Item| !matches!(item, Item::Reference { chance, .. } if *chance < 1.0);
        let lead = row.items.iter().position(sure).unwrap_or(row.items.len());
        let (mut inner, mut outer) = (then.clone(), then.clone());
        for (i, item) in row.items.iter().enumerate().rev() {
            let (name, chance) = match item {
                Item::Word(word) => (word, 1.0),
                Item::Reference { name, chance } => (name, *chance),
            };
            let mut ways = |context, without: &Next| {
                let with = match item {
                    Item::Word(_) => self.state(name, true, context, &inner)?,
                    Item::Reference { .. } => self.rule(name, context, &inner)?,
                };
                Ok(if chance < 1.0 { mix(&[(chance, with), (1.0 - chance, without.clone())]) } else { with })
            };
            if i <= lead {
                outer = ways(context, &outer)?;
            }
            if i > 0 {
                let next = ways(context.inside(), &inner)?;
                inner = next;
            }
        }
        Ok(outer)
    }

    /// The state that emits a word of class `name` (or the word `name`) and continues with `then`.
    fn state(&mut self, name: &'a str, literal: bool, context: Context<'a>, then: &Next) -> Result<Next> {
        self.places += 1;
        if self.places > MAX_PLACES {
            let expected = "phrases that expand to fewer";
            return Err(self.source.wrong(0, format!("a grammar of more than {MAX_PLACES} places"), expected));
        }
        let emission = self.emission(name, literal, context.first);
        let bits = then.iter().map(|&(state, p)| (state, p.to_bits())).collect();
        let fresh = self.states.len() as u32;
        let state = *self.known.entry((emission, context.entity, bits)).or_insert(fresh);
        if state == fresh {
            self.states.push((emission, context.entity, then.clone()));
        }
        Ok(Rc::new([(state, 1.0)]))
    }

    fn emission(&mut self, name: &'a str, literal: bool, capital: bool) -> u32 {
        let fresh = self.emissions.len() as u32;
        let number = *self.emissions.entry((name, literal, capital)).or_insert(fresh);
        if number == fresh {
            let alone = [(name.to_owned(), 1.0)];
            let words = match self.source.rules.get(name).map(|rule| &rule.body) {
                Some(Body::Class(words)) if !literal => words.as_slice(),
                _ => &alone,
            };
            let mut merged: BTreeMap<String, f64> = BTreeMap::new();
            for (word, p) in words {
                *merged.entry(if capital { capitalised(word) } else { word.clone() }).or_insert(0.0) += p;
            }
            self.distributions.push(merged.into_iter().collect());
        }
        number
    }
}

/// The word with its first letter in upper case.
fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The weighted sum of distributions.
fn mix(parts: &[(f64, Next)]) -> Next {
    let mut sum: BTreeMap<u32, f64> = BTreeMap::new();
    for (weight, next) in parts {
        for (to, p) in next.iter() {
            *sum.entry(*to).or_insert(0.0) += weight * p;
        }
    }
    sum.into_iter().collect()
}
