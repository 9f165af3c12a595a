//! What every drawing is made of: boxes, words, lines and arrows. Classes carry the colours, which
//! the theme gives: `dp`, `tp`, `pp`, `cp` for the dimensions and `plain` for the rest.

use std::fmt::Write;

use crate::listing::escaped;

/// Where a word stands relative to its point.
#[derive(Clone, Copy)]
pub enum At {
    Start,
    Middle,
    End,
}

/// A drawing under way. Lengths are in units of the view box; text is 15 units high, so a width of
/// about 520 stays readable on a phone.
pub struct Canvas {
    body: String,
    size: (f64, f64),
}

impl Canvas {
    /// `title` names the drawing and `desc` says in words what it shows.
    pub fn new(width: f64, height: f64, title: &str, desc: &str) -> Self {
        let body = format!("<title>{}</title>\n<desc>{}</desc>\n", escaped(title), escaped(desc));
        Self { body, size: (width, height) }
    }

    pub fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, class: &str) {
        self.push(&format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"3\"/>"
        ));
    }

    /// A line of text; `class` may hold `small`, `strong`, `mono` or `faint`.
    pub fn text(&mut self, x: f64, y: f64, at: At, class: &str, text: &str) {
        let anchor = match at {
            At::Start => "start",
            At::Middle => "middle",
            At::End => "end",
        };
        let text = escaped(text);
        self.push(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A box with text in its middle.
    pub fn labelled(&mut self, (x, y, w, h): (f64, f64, f64, f64), class: &str, text: &str) {
        self.rect(x, y, w, h, class);
        self.text(x + w / 2.0, y + h / 2.0 + 5.0, At::Middle, "", text);
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(&format!("<polyline class=\"{class}\" points=\"{}\"/>", path.join(" ")));
    }

    /// A line through `points` with a head at the last. The head is a shape of its own rather than
    /// a marker: markers need ids, and two drawings on a page would share them.
    pub fn arrow(&mut self, points: &[(f64, f64)], class: &str) {
        let [.., (x0, y0), (x1, y1)] = *points else { return };
        let length = (x1 - x0).hypot(y1 - y0).max(1e-9);
        let (dx, dy) = ((x1 - x0) / length, (y1 - y0) / length);
        let (bx, by) = (x1 - 7.0 * dx, y1 - 7.0 * dy);
        let mut shaft = points.to_vec();
        shaft.pop();
        shaft.push((bx, by));
        self.line(&shaft, class);
        let (sx, sy) = (-dy * 4.0, dx * 4.0);
        self.push(&format!(
            "<polygon class=\"head {class}\" points=\"{x1:.1},{y1:.1} {:.1},{:.1} {:.1},{:.1}\"/>",
            bx + sx,
            by + sy,
            bx - sx,
            by - sy
        ));
    }

    pub fn circle(&mut self, x: f64, y: f64, r: f64, class: &str) {
        self.push(&format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\"/>"));
    }

    pub fn finish(self) -> String {
        let (w, h) = self.size;
        format!("<svg role=\"img\" viewBox=\"0 0 {w:.0} {h:.0}\">\n{}</svg>\n", self.body)
    }

    fn push(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}
