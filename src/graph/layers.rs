//! The positions of boxes in a drawing: layers from top to bottom (Sugiyama et al. 1981).
//!
//! A box is one layer below the lowest of its inputs, a source just above its highest use. Edges over several layers are chains of
//! points. The boxes of a layer are ordered by the mean position of their neighbours, as long as this reduces the number of crossings,
//! and are then moved as near to that mean as the gaps between them allow.

/// Space between the boxes of a layer, and between layers.
const GAP: (f64, f64) = (16.0, 30.0);
/// Width of a point of an edge.
const POINT: f64 = 6.0;
/// Number of sweeps over the layers, to order the boxes and to move them.
const SWEEPS: usize = 24;

/// A position.
pub type Point = (f64, f64);

/// The positions of everything.
pub struct Placed {
    /// Centres of the boxes.
    pub boxes: Vec<Point>,
    /// For each edge, the points from box to box: from the lower side of the first to the upper side of the last.
    pub edges: Vec<Vec<Point>>,
    /// Total width and height.
    pub size: Point,
}

/// A box, or a point of an edge.
struct Item {
    layer: usize,
    width: f64,
    /// Neighbours in the layers above and below.
    next: [Vec<usize>; 2],
}

/// Places boxes of the given `sizes`; `edges` go from lower to higher numbers.
pub fn place(sizes: &[Point], edges: &[(usize, usize)]) -> Placed {
    let layers = layers(sizes.len(), edges);
    let mut items: Vec<Item> = sizes
        .iter()
        .zip(&layers)
        .map(|(&(width, _), &layer)| Item { layer, width, next: Default::default() })
        .collect();
    let mut chains = Vec::new();
    for &(from, to) in edges {
        let mut chain = vec![from];
        for layer in layers[from] + 1..layers[to] {
            items.push(Item { layer, width: POINT, next: Default::default() });
            chain.push(items.len() - 1);
        }
        chain.push(to);
        for pair in chain.windows(2) {
            items[pair[0]].next[1].push(pair[1]);
            items[pair[1]].next[0].push(pair[0]);
        }
        chains.push(chain);
    }
    let mut rows = vec![Vec::new(); layers.iter().max().map_or(0, |last| last + 1)];
    items.iter().enumerate().for_each(|(i, item)| rows[item.layer].push(i));
    order(&items, &mut rows);
    let x = across(&items, &rows);

    let left = items.iter().zip(&x).map(|(item, x)| x - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let right = items.iter().zip(&x).map(|(item, x)| x + item.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let heights = rows.iter().map(|row| row.iter().filter_map(|&i| Some(sizes.get(i)?.1)).fold(0.0, f64::max));
    let heights: Vec<f64> = heights.collect();
    let mut y = vec![0.0];
    y.extend(heights.iter().scan(0.0, |at, height| {
        *at += height + GAP.1;
        Some(*at)
    }));
    let at = |i: usize| (x[i] - left, y[items[i].layer] + heights[items[i].layer] / 2.0);
    let line = |chain: &Vec<usize>| {
        let mut points = Vec::new();
        for (place, &i) in chain.iter().enumerate() {
            let (x, y) = at(i);
            let height = sizes.get(i).map_or(0.0, |size| size.1);
            match place {
                0 => points.push((x, y + height / 2.0)),
                _ if place + 1 == chain.len() => points.push((x, y - height / 2.0)),
                _ => points.push((x, y)),
            }
        }
        points
    };
    Placed {
        boxes: (0..sizes.len()).map(at).collect(),
        edges: chains.iter().map(line).collect(),
        size: (if sizes.is_empty() { 0.0 } else { right - left }, (y[y.len() - 1] - GAP.1).max(0.0)),
    }
}

/// The layer of each box.
fn layers(n: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0usize; n];
    let mut sorted = edges.to_vec();
    sorted.sort_by_key(|&(_, to)| to);
    for &(from, to) in &sorted {
        layers[to] = layers[to].max(layers[from] + 1);
    }
    for source in 0..n {
        if edges.iter().all(|&(_, to)| to != source) {
            let uses = edges.iter().filter(|(from, _)| *from == source).map(|&(_, to)| layers[to]);
            layers[source] = uses.min().map_or(0, |first| first.saturating_sub(1));
        }
    }
    layers
}

/// Orders the rows so that few edges cross.
fn order(items: &[Item], rows: &mut Vec<Vec<usize>>) {
    let mut place = vec![0.0; items.len()];
    let note = |row: &[usize], place: &mut [f64]| (0..).zip(row).for_each(|(at, &i)| place[i] = f64::from(at));
    rows.iter().for_each(|row| note(row, &mut place));
    let (mut best, mut fewest) = (rows.clone(), crossings(items, rows, &place));
    for sweep in 0..SWEEPS {
        let (side, count) = (sweep % 2, rows.len());
        for step in 1..count {
            let row = &mut rows[if side == 0 { step } else { count - 1 - step }];
            let mean = |i: usize| mean(items[i].next[side].iter().map(|&other| place[other])).unwrap_or(place[i]);
            let mut keyed: Vec<(f64, usize)> = row.iter().map(|&i| (mean(i), i)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            row.iter_mut().zip(keyed).for_each(|(to, (_, i))| *to = i);
            note(row, &mut place);
        }
        let now = crossings(items, rows, &place);
        if now < fewest {
            (best, fewest) = (rows.clone(), now);
        }
    }
    *rows = best;
}

/// Number of pairs of edges that cross.
fn crossings(items: &[Item], rows: &[Vec<usize>], place: &[f64]) -> usize {
    let of_row = |row: &Vec<usize>| {
        let lines = row.iter().flat_map(|&i| items[i].next[1].iter().map(move |&to| (place[i], place[to])));
        let lines: Vec<(f64, f64)> = lines.collect();
        let cross = |i: usize| lines[i + 1..].iter().filter(|b| (lines[i].0 - b.0) * (lines[i].1 - b.1) < 0.0).count();
        (0..lines.len()).map(cross).sum::<usize>()
    };
    rows.iter().map(of_row).sum()
}

/// The positions of the items from left to right.
fn across(items: &[Item], rows: &[Vec<usize>]) -> Vec<f64> {
    let mut x = vec![0.0; items.len()];
    let fit = |row: &[usize], wanted: &[f64], x: &mut [f64]| {
        // Without the gaps, positions only have to ascend: the nearest ones that do are means of runs (pool adjacent violators).
        let gaps = row.windows(2).scan(0.0, |sum, pair| {
            *sum += (items[pair[0]].width + items[pair[1]].width) / 2.0 + GAP.0;
            Some(*sum)
        });
        let gaps: Vec<f64> = [0.0].into_iter().chain(gaps).collect();
        let mut runs: Vec<(f64, usize)> = Vec::new();
        for (wanted, gap) in wanted.iter().zip(&gaps) {
            runs.push((wanted - gap, 1));
            while let [.., (a, m), (b, n)] = runs[..]
                && a > b
            {
                runs.truncate(runs.len() - 2);
                runs.push(((a * m as f64 + b * n as f64) / (m + n) as f64, m + n));
            }
        }
        let places = runs.iter().flat_map(|&(at, n)| std::iter::repeat_n(at, n)).zip(gaps);
        row.iter().zip(places).for_each(|(&i, (at, gap))| x[i] = at + gap);
    };
    for row in rows {
        fit(row, &vec![0.0; row.len()], &mut x);
    }
    for sweep in 0..2 * SWEEPS {
        for step in 0..rows.len() {
            let row = &rows[if sweep % 2 == 0 { step } else { rows.len() - 1 - step }];
            let wanted = |&i: &usize| mean(items[i].next.iter().flatten().map(|&other| x[other])).unwrap_or(x[i]);
            let wanted: Vec<f64> = row.iter().map(wanted).collect();
            fit(row, &wanted, &mut x);
        }
    }
    x
}

fn mean(x: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = x.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    (count > 0.0).then_some(sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_do_not_overlap_and_edges_go_down() {
        let sizes: Vec<Point> = (0..14).map(|i| (40.0 + 9.0 * f64::from(i % 5), 34.0)).collect();
        let edges: Vec<(usize, usize)> =
            (1..14).flat_map(|to| [(to * 5 % to, to), (to / 2, to)]).filter(|(from, to)| from < to).collect();
        let Placed { boxes, edges: lines, size } = place(&sizes, &edges);
        for (i, (a, size_a)) in boxes.iter().zip(&sizes).enumerate() {
            assert!(a.0 - size_a.0 / 2.0 >= -1e-9 && a.0 + size_a.0 / 2.0 <= size.0 + 1e-9 && a.1 < size.1);
            for (b, size_b) in boxes[..i].iter().zip(&sizes) {
                let apart = (a.0 - b.0).abs() >= (size_a.0 + size_b.0) / 2.0 || (a.1 - b.1).abs() >= 34.0;
                assert!(apart, "{a:?} {b:?}");
            }
        }
        assert!(lines.iter().all(|line| line.is_sorted_by(|a, b| a.1 < b.1)), "edges go down");
    }

    /// Two edges that cross if the boxes stay in their initial order.
    #[test]
    fn crossings_are_undone() {
        let edges = [(0, 3), (1, 2)];
        let items: Vec<Item> = (0..4)
            .map(|i| Item {
                layer: i / 2,
                width: 1.0,
                next: if i < 2 { [vec![], vec![3 - i]] } else { [vec![3 - i], vec![]] },
            })
            .collect();
        let mut rows = vec![vec![0, 1], vec![2, 3]];
        assert_eq!(crossings(&items, &rows, &[0.0, 1.0, 0.0, 1.0]), 1);
        order(&items, &mut rows);
        assert_eq!(rows, [vec![0, 1], vec![3, 2]]);
        let Placed { boxes, .. } = place(&[(10.0, 10.0); 4], &edges);
        assert!((boxes[0].0 < boxes[1].0) == (boxes[3].0 < boxes[2].0));
    }
}
