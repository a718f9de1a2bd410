//! The confusion matrix of a tagger as a drawing.

use super::Confusion;

impl Confusion {
    /// The matrix as a drawing (SVG): gold in rows, predicted in columns; a cell shows its count, and is darker the larger its share of
    /// its row is.
    pub fn svg(&self, title: &str) -> String {
        const CELL: usize = 44;
        let longest = self.tags.iter().map(|tag| tag.chars().count()).max().unwrap_or(0);
        let margin = 40 + 8 * longest;
        let (side, top) = (CELL * self.tags.len(), margin + 30);
        let (width, height) = ((margin + side + 20).max(40 + 9 * title.chars().count()), top + side + 20);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"20\" y=\"24\" font-size=\"15\">{}</text>\n\
             <text x=\"{margin}\" y=\"44\" fill=\"#555\">predicted →</text>\n\
             <text x=\"20\" y=\"{}\" fill=\"#555\">gold ↓</text>\n",
            escape(title),
            top - 8
        );
        for (i, tag) in self.tags.iter().enumerate() {
            let (tag, middle) = (escape(tag), i * CELL + CELL / 2);
            let (x, y) = (margin - 6, top + middle + 4);
            out += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{tag}</text>\n");
            let (x, y) = (margin + middle + 4, top - 6);
            out += &format!("<text transform=\"translate({x} {y}) rotate(-90)\">{tag}</text>\n");
        }
        for (i, counts) in self.counts.iter().enumerate() {
            let sum = counts.iter().sum::<u64>().max(1) as f64;
            for (j, &count) in counts.iter().enumerate() {
                let share = count as f64 / sum;
                // White to blue if the tag is correct, white to red if it is not.
                let (full, ink) =
                    (if i == j { [33, 102, 172] } else { [178, 24, 43] }, if share > 0.5 { "white" } else { "black" });
                let [r, g, b] = full.map(|c| (255.0 - share.sqrt() * (255.0 - f64::from(c))).round() as u8);
                let (x, y) = (margin + j * CELL, top + i * CELL);
                out += &format!(
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"rgb({r},{g},{b})\" stroke=\"#ccc\">\
                     <title>{} as {}: {count} ({:.1} %)</title></rect>\n",
                    escape(&self.tags[i]),
                    escape(&self.tags[j]),
                    100.0 * share
                );
                if count > 0 {
                    let (x, y) = (x + CELL / 2, y + CELL / 2 + 4);
                    let size = if count < 1_000_000 { 11 } else { 8 };
                    out += &format!(
                        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" font-size=\"{size}\" fill=\"{ink}\">{count}</text>\n"
                    );
                }
            }
        }
        out + "</svg>\n"
    }
}

/// Escapes text for XML. Control characters, which XML does not allow, become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
