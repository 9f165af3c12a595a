//! What both pictures are made of: scales, axes, lines, and how they look.

use super::MemoryLine;
use crate::plot::{RUNS, escaped, hex};
use std::fmt::Write;

/// Lengths are in units of the view box.
pub const WIDTH: f64 = 720.0;
/// A character of a label.
pub const CHARACTER: f64 = 7.8;
/// Where time ends.
pub const RIGHT: f64 = WIDTH - 70.0;

/// The colours are the surrounding page's where it defines them.
const STYLE: &str = "\
.memory-chart { --ink: var(--fg, #1f2328); --grid: var(--rule, #d0d7de); --pass: var(--pp, #b35900); --over: var(--on, #fff); --grey: var(--faint, #595959); --paper: var(--bg, #fff); color-scheme: light dark; print-color-adjust: exact; }
.memory-chart:root { background: #fff; width: 100%; height: auto; max-width: 1080px; }
@media screen and (prefers-color-scheme: dark) {
.memory-chart { --ink: var(--fg, #d5d9de); --grid: var(--rule, #3a424a); --pass: var(--pp, #f0a830); --over: var(--on, #10151c); --grey: var(--faint, #9aa3ad); --paper: var(--bg, #14181d); }
.memory-chart:root { background: #14181d; }
}
.memory-chart text { font: 13px ui-monospace, \"Source Code Pro\", Menlo, Consolas, \"DejaVu Sans Mono\", monospace; fill: var(--ink); }
.memory-chart text.words { font-family: \"Open Sans\", system-ui, sans-serif; }
.memory-chart text.small { font-size: 11px; }
.memory-chart text.peak { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.memory-chart text.on { fill: var(--over); }
.memory-chart text.faint { fill: var(--grey); }
.memory-chart path { fill: none; stroke: var(--ink); }
.memory-chart path.grid { stroke: var(--grid); }
.memory-chart path.held { stroke: var(--grey); stroke-dasharray: 3 3; }
.memory-chart path.line { stroke: var(--run); }
.memory-chart path.key { stroke-width: 3; }
.memory-chart path.area { fill: var(--run); fill-opacity: 0.22; }
.memory-chart circle { fill: var(--run); stroke: var(--over); }
.memory-chart path.forward { stroke: var(--pass); fill: var(--pass); fill-opacity: 0.16; }
.memory-chart path.backward { stroke: var(--over); stroke-width: 0.8; fill: var(--pass); }
.memory-chart path.other { stroke: none; fill: var(--grid); }
";

/// An element's text and the scales by which it is drawn.
pub struct Drawing {
    out: String,
    /// Where time begins.
    pub left: f64,
    /// Milliseconds.
    pub end: f64,
    /// Bytes at the top of an area.
    pub most: f64,
    /// How high an area is.
    pub height: f64,
}

impl Drawing {
    pub fn new<'a>(
        lines: impl Iterator<Item = &'a MemoryLine> + Clone,
        left: f64,
        height: f64,
    ) -> Self {
        let end = lines.clone().map(MemoryLine::end).fold(0.0, f64::max).max(1e-3);
        let most = lines.map(|line| line.peak().1).max().unwrap_or(0).max(1) as f64;
        Self { out: String::new(), left, end, most, height }
    }

    pub fn x(&self, ms: f64) -> f64 {
        self.left + (ms / self.end).clamp(0.0, 1.0) * (RIGHT - self.left)
    }

    /// `bottom` is where an area stands.
    pub fn y(&self, bytes: i64, bottom: f64) -> f64 {
        bottom - bytes.max(0) as f64 / self.most * self.height
    }

    /// The line of a rank, perhaps with the area below it. A column is as wide as the line. All
    /// lengths are whole tenths and from one corner to the next, which keeps them short.
    pub fn line(&mut self, line: &MemoryLine, bottom: f64, run: usize, has_area: bool) {
        let n = (RIGHT - self.left) as usize;
        let height = |held| tenths(bottom) - tenths(self.y(held, bottom));
        let mut at = (tenths(self.left), height(line.held as i64));
        let side = |by| if has_area { format!("v{}", of_ten(by)) } else { String::new() };
        let stands = tenths(bottom) - if has_area { 0 } else { at.1 };
        let mut path = format!("M{} {}{}", of_ten(at.0), of_ten(stands), side(-at.1));
        for column in line.columns(self.end, n) {
            let heights = [column.low, column.high, column.last].map(height);
            if heights == [at.1; 3] {
                continue;
            }
            let x = tenths(self.left + column.i as f64 + 0.5);
            let _ = write!(path, "h{}", of_ten(x - at.0));
            at.0 = x;
            for height in heights {
                if height != at.1 {
                    let _ = write!(path, "v{}", of_ten(at.1 - height));
                    at.1 = height;
                }
            }
        }
        let end = tenths(self.x(line.end())).max(at.0);
        let _ = write!(path, "h{}{}", of_ten(end - at.0), side(at.1));
        let class = if has_area { "line area" } else { "line" };
        self.path(&format!("{class} run{run}"), &path);
    }

    /// A dot at the highest point of a line; returns its place.
    pub fn peak(&mut self, line: &MemoryLine, bottom: f64, run: usize) -> (f64, f64) {
        let (at, bytes) = line.peak();
        let (x, y) = (self.x(at), self.y(bytes, bottom));
        self.push(&format!("<circle class=\"run{run}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"));
        (x, y)
    }

    /// Round numbers of bytes, at most `lines` of them, beside an area.
    pub fn grid(&mut self, bottom: f64, lines: u64) {
        let steps = (0..62).map(|power| 1u64 << power);
        let most = self.most as u64;
        let step = steps.into_iter().find(|step| most / step <= lines).unwrap_or(u64::MAX);
        for bytes in (0..=most / step).map(|i| (i * step) as i64) {
            let y = self.y(bytes, bottom);
            let class = if bytes == 0 { "axis" } else { "grid" };
            self.path(class, &format!("M{:.1} {y:.1}H{RIGHT}", self.left));
            let said = if bytes == 0 { "0".to_owned() } else { amount(bytes) };
            self.text(RIGHT + 6.0, y + 4.0, "start", "small faint", &said);
        }
    }

    /// Time, below everything: 1, 2 or 5 of a power of ten, and at most ten of them.
    pub fn axis(&mut self, y: f64) {
        let ticks = (-3..15).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)));
        let tick = ticks.into_iter().find(|tick| self.end / tick <= 10.0).unwrap_or(self.end);
        let mut path = format!("M{:.1} {y:.1}H{RIGHT}", self.left);
        for i in 0..=(self.end / tick) as u32 {
            let ms = f64::from(i) * tick;
            let x = self.x(ms);
            let _ = write!(path, "M{x:.1} {y:.1}v5");
            let ms = (ms * 1e3).round() / 1e3; // 3 · 0.1 is not 0.3
            self.text(x, y + 19.0, "middle", "faint", &ms.to_string());
        }
        self.text(RIGHT + 14.0, y + 19.0, "start", "faint", "ms");
        self.path("axis", &path);
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = escaped(text);
        self.push(&format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub fn path(&mut self, class: &str, path: &str) {
        self.push(&format!("<path class=\"{class}\" d=\"{path}\"/>"));
    }

    pub fn push(&mut self, element: &str) {
        self.out += element;
        self.out.push('\n');
    }

    /// The whole picture, with what a reader who cannot see it is told.
    pub fn finish(self, height: f64, title: &str, told: &[String]) -> String {
        let (mut light, mut dark) = (String::new(), String::new());
        for (run, (name, colour, shown)) in RUNS.into_iter().enumerate() {
            let rule = |colour: &str| {
                format!(".memory-chart .run{run} {{ --run: var({name}, {colour}); }}\n")
            };
            light += &rule(&hex(colour));
            dark += &rule(shown);
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"memory-chart\" role=\"img\" \
             width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
             <title>{}</title>\n<desc>{}</desc>\n<style>\n{STYLE}{light}\
             @media screen and (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n{}</svg>\n",
            escaped(title),
            escaped(&told.join(" ")),
            self.out
        )
    }
}

/// A length in whole tenths of a unit.
fn tenths(length: f64) -> i64 {
    (length * 10.0).round() as i64
}

/// And as it is written.
fn of_ten(tenths: i64) -> f64 {
    tenths as f64 / 10.0
}

/// A line in words.
pub fn told(name: &str, line: &MemoryLine) -> String {
    let last = line.levels().last().map_or(line.held as i64, |level| level.1);
    let (begins, ends) = (amount(line.held as i64), amount(last));
    format!("{name}: begins with {begins}, peak {}, ends with {ends}.", peak(line))
}

/// The highest point in words.
pub fn peak(line: &MemoryLine) -> String {
    let (at, bytes) = line.peak();
    let digits = if at < 10.0 { 1 } else { 0 };
    format!("{} at {at:.digits$} ms", amount(bytes))
}

/// Bytes in the unit in which they are a small number.
pub fn amount(bytes: i64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = "bytes";
    for larger in units {
        if amount.abs() < 999.5 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    let digits = usize::from(unit != "bytes" && amount.abs() < 99.95 && amount.fract() != 0.0);
    format!("{amount:.digits$} {unit}")
}
