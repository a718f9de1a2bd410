//! The order of sums over units (shards, groups of words, rows of a gradient), which is the same whoever computes how many of them.
//!
//! Units are the leaves of a binary tree by the bits of their numbers: a node joins the 2ᵏ⁻¹ units on its left with as many on its right, and
//! is its left half where there are none on the right. So the sum of units i·2ᵏ .. (i + 1)·2ᵏ is a node of every tree that has them, however
//! many there are in all: a thread, or a machine, may have it ready.

/// Most levels of a tree.
const LEVELS: usize = 32;

/// A sum of units that are told one after the other.
pub struct Sum<T> {
    units: usize,
    /// Of the nodes that have both halves, and that no other such node holds: one of 2ᵏ units where bit k of `units` is set.
    nodes: [T; LEVELS],
}

impl<T: Copy> Sum<T> {
    /// Of nothing. `any` value is what the places of nodes hold before there are any.
    #[inline(always)]
    pub fn new(any: T) -> Self {
        Sum { units: 0, nodes: [any; LEVELS] }
    }

    /// One more unit.
    #[inline(always)]
    pub fn add(&mut self, unit: T, add: impl Fn(T, T) -> T) {
        let (mut node, mut level) = (unit, 0);
        while self.units >> level & 1 == 1 {
            node = add(self.nodes[level], node);
            level += 1;
        }
        self.nodes[level] = node;
        self.units += 1;
    }

    /// The sum of all, if there are any; the next unit begins another one.
    #[inline(always)]
    pub fn total(&mut self, add: impl Fn(T, T) -> T) -> Option<T> {
        let mut rest = std::mem::take(&mut self.units);
        let mut total = None;
        while rest > 0 {
            let node = self.nodes[rest.trailing_zeros() as usize];
            total = Some(total.map_or(
                node,
                #[inline(always)]
                |right| add(node, right),
            ));
            rest &= rest - 1;
        }
        total
    }
}

/// The sum of numbers.
pub fn sum(units: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Sum::new(0.0);
    units.into_iter().for_each(|unit| sum.add(unit, |a, b| a + b));
    sum.total(|a, b| a + b).unwrap_or(0.0)
}

/// How many of `units` units, of which there are two at least, the left half of their tree has.
pub fn left(units: usize) -> usize {
    units.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree of some units as text, by its definition.
    fn written(from: usize, units: usize) -> String {
        match units {
            0 => "0".into(),
            1 => from.to_string(),
            _ => format!("({} {})", written(from, left(units)), written(from + left(units), units - left(units))),
        }
    }

    #[test]
    fn units_told_one_by_one_make_the_tree() {
        assert_eq!(written(0, 7), "(((0 1) (2 3)) ((4 5) 6))");
        // Texts are not Copy: numbers stand for them.
        for units in 0..=70 {
            let texts = std::cell::RefCell::new(vec!["0".to_string()]);
            let add = |a: usize, b: usize| {
                let mut texts = texts.borrow_mut();
                let text = format!("({} {})", texts[a], texts[b]);
                texts.push(text);
                texts.len() - 1
            };
            let mut sum = Sum::new(0);
            for unit in 0..units {
                texts.borrow_mut().push(unit.to_string());
                let text = texts.borrow().len() - 1;
                sum.add(text, add);
            }
            let total = sum.total(add).unwrap_or(0);
            assert_eq!(texts.borrow()[total], written(0, units));
            assert_eq!(sum.total(add), None);
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(sum([]), 0.0);
        assert_eq!(sum([1e100, 1.0, -1e100, 3.0, 2.0]), (1e100 + 1.0) + (-1e100 + 3.0) + 2.0);
    }
}
