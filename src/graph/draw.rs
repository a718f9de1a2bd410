//! Drawings of graphs: DOT for Graphviz, and SVG.

use super::layers::{Placed, Point, place};
use super::{Graph, Info, Op, Side};
use std::fmt::Write;

/// Colours of placeholders, variables, computed nodes, and the backward pass.
const COLOURS: [(&str, &str); 4] =
    [("placeholder", "#d5e8f6"), ("variable", "#fbe3c0"), ("computed", "#f4f4f2"), ("backward", "#ead9f0")];
/// Sizes in pixels: font size, width of a letter, height of a box, margin.
const LETTER: f64 = 12.0;
const WIDTH: f64 = 7.2;
const HEIGHT: f64 = 36.0;
const MARGIN: f64 = 20.0;

fn colour(node: &Info) -> &'static str {
    let kind = match node.op {
        Op::Placeholder | Op::Ids { .. } => 0,
        Op::Variable(_) => 1,
        _ if node.backward => 3,
        _ => 2,
    };
    COLOURS[kind].1
}

/// The text in a node's box: its name and operation, and its shape.
fn lines(node: &Info) -> [String; 2] {
    let source = matches!(node.op, Op::Placeholder | Op::Ids { .. } | Op::Variable(_));
    let what = match node.op {
        Op::Slice(Side::Rows, from) => format!("rows {from} to {}", from + node.shape.0 - 1),
        Op::Slice(Side::Columns, from) => format!("columns {from} to {}", from + node.shape.1 - 1),
        _ => node.op.to_string(),
    };
    let first = match &node.name {
        Some(name) if source => name.clone(),
        Some(name) => format!("{name} = {what}"),
        None => what,
    };
    let second = match node.op {
        Op::Ids { below } => format!("{} below {below}", node.shape_text()),
        _ => node.shape_text(),
    };
    [first, second]
}

impl Graph {
    /// In the DOT language of Graphviz.
    pub fn dot(&self) -> String {
        let mut dot = String::from(
            "digraph wordmill {\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n",
        );
        let mut line = |text: String| dot += &(text + "\n");
        for (id, node) in self.nodes() {
            let label = lines(node).map(|line| line.replace('\\', "\\\\").replace('"', "\\\"")).join("\\n");
            line(format!("  n{} [label=\"{label}\", fillcolor=\"{}\"];", id.0, colour(node)));
        }
        for (id, node) in self.nodes() {
            node.inputs.iter().for_each(|input| line(format!("  n{} -> n{};", input.0, id.0)));
        }
        dot + "}\n"
    }

    /// As a drawing.
    pub fn svg(&self, title: &str) -> String {
        let nodes: Vec<&Info> = self.nodes.iter().collect();
        let texts: Vec<[String; 2]> = nodes.iter().map(|node| lines(node)).collect();
        let width = |text: &[String; 2]| {
            let letters = text.iter().map(|line| line.chars().count()).max().unwrap_or(0);
            letters as f64 * WIDTH + 14.0
        };
        let sizes: Vec<Point> = texts.iter().map(|text| (width(text), HEIGHT)).collect();
        let edges: Vec<(usize, usize)> =
            nodes.iter().enumerate().flat_map(|(to, node)| node.inputs.iter().map(move |from| (from.0, to))).collect();
        let Placed { boxes, edges, size } = place(&sizes, &edges);
        let top = MARGIN + 44.0;
        let (all_width, all_height) = ((size.0 + 2.0 * MARGIN).max(420.0), size.1 + top + MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all_width:.0}\" height=\"{all_height:.0}\" \
             viewBox=\"0 0 {all_width:.0} {all_height:.0}\" font-family=\"DejaVu Sans, sans-serif\" font-size=\"{LETTER}\">\n\
             <defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#777\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut line = |text: std::fmt::Arguments| writeln!(svg, "{text}").expect("a string takes all");
        line(format_args!("<text x=\"{MARGIN}\" y=\"{}\" font-size=\"15\">{}</text>", MARGIN + 4.0, escaped(title)));
        let backward = nodes.iter().any(|node| node.backward);
        for (i, (kind, colour)) in COLOURS.iter().take(if backward { 4 } else { 3 }).enumerate() {
            let (x, y) = (MARGIN + 104.0 * i as f64, MARGIN + 16.0);
            line(format_args!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\" stroke=\"#999\"/>"
            ));
            line(format_args!("<text x=\"{}\" y=\"{}\" fill=\"#444\">{kind}</text>", x + 17.0, y + 11.0));
        }
        for points in &edges {
            let points: Vec<Point> = points.iter().map(|(x, y)| (x + MARGIN, y + top)).collect();
            line(format_args!("<path d=\"{}\" fill=\"none\" stroke=\"#999\" marker-end=\"url(#a)\"/>", curve(&points)));
        }
        for (((x, y), (width, height)), (text, node)) in boxes.iter().zip(&sizes).zip(texts.iter().zip(&nodes)) {
            let (x, y) = (x + MARGIN, y + top);
            let (left, upper) = (x - width / 2.0, y - height / 2.0);
            line(format_args!(
                "<rect x=\"{left:.1}\" y=\"{upper:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"5\" fill=\"{}\" stroke=\"#888\"/>",
                colour(node)
            ));
            for (text, (dy, fill)) in text.iter().zip([(-3.0, "#111"), (12.0, "#666")]) {
                let (text, y) = (escaped(text), y + dy);
                line(format_args!(
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"{fill}\">{text}</text>"
                ));
            }
        }
        svg + "</svg>\n"
    }
}

/// A smooth path downwards through the points.
fn curve(points: &[Point]) -> String {
    let mut path = format!("M{:.1} {:.1}", points[0].0, points[0].1);
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let middle = (y0 + y1) / 2.0;
        path += &format!(" C{x0:.1} {middle:.1} {x1:.1} {middle:.1} {x1:.1} {y1:.1}");
    }
    path
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
