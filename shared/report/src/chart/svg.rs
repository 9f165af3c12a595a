//! The chart as a picture that stands alone, or inside a page.

use super::{Chart, Direction, Pass, Row};
use std::fmt::Write;

/// Lengths are in units of the view box; text is 13 of them high.
const WIDTH: f64 = 720.0;
const CHARACTER: f64 = 7.8;
/// A character of a number in a box.
const DIGIT: f64 = 6.7;
const TOP: f64 = 40.0;
const ROW: f64 = 30.0;
const BOX: f64 = 24.0;

/// Uses the colours that the surrounding page defines, otherwise its own. Forward is pale and
/// backward is full, so that they differ in black and white, too.
const STYLE: &str = "\
.pipeline-chart { --ink: var(--fg, #1f2328); --pass: var(--pp, #b35900); --over: var(--on, #fff); --grey: var(--faint, #595959); color-scheme: light dark; print-color-adjust: exact; }
.pipeline-chart:root { background: #fff; width: 100%; height: auto; max-width: 1080px; }
@media screen and (prefers-color-scheme: dark) {
.pipeline-chart { --ink: var(--fg, #d5d9de); --pass: var(--pp, #f0a830); --over: var(--on, #10151c); --grey: var(--faint, #9aa3ad); }
.pipeline-chart:root { background: #14181d; }
}
.pipeline-chart text { font: 13px ui-monospace, \"Source Code Pro\", Menlo, Consolas, \"DejaVu Sans Mono\", monospace; fill: var(--ink); }
.pipeline-chart text.words { font-family: \"Open Sans\", system-ui, sans-serif; }
.pipeline-chart text.number { font-size: 11px; }
.pipeline-chart text.on { fill: var(--over); }
.pipeline-chart text.faint { fill: var(--grey); }
.pipeline-chart path { stroke: var(--pass); stroke-width: 1; fill: var(--pass); fill-opacity: 0.16; }
.pipeline-chart path.backward { fill-opacity: 1; stroke: var(--over); stroke-width: 0.8; }
.pipeline-chart path.waiting { fill: none; stroke: var(--grey); stroke-dasharray: 3 3; }
.pipeline-chart path.axis { fill: none; stroke: var(--ink); }
";

impl Chart {
    /// Ranks down, time across.
    pub fn svg(&self) -> String {
        let label = self.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
        let left = CHARACTER * label as f64 + 12.0;
        let bottom = TOP + ROW * self.rows.len() as f64;
        let caption = self.bubble().map(|bubble| bubble.to_string());
        let height = bottom + if caption.is_some() { 62.0 } else { 38.0 };
        let mut drawing = Drawing { out: String::new(), left, length_ns: self.length_ns };

        drawing.legend();
        for (i, row) in self.rows.iter().enumerate() {
            let y = TOP + ROW * i as f64;
            drawing.text(left - 8.0, y + 16.5, "end", "", &row.label);
            drawing.row(row, y);
        }
        drawing.axis(bottom + 2.0);
        if let Some(caption) = &caption {
            drawing.text(left, bottom + 52.0, "start", "words", caption);
        }
        let ranks = if self.rows.len() == 1 { "rank" } else { "ranks" };
        let title = format!("Pipeline chart: one training step on {} {ranks}", self.rows.len());
        let rows: Vec<String> = self.rows.iter().map(|row| self.told(row)).collect();
        let desc = format!(
            "{:.1} ms from the first forward pass to the last backward pass. {} {}",
            self.length_ns as f64 / 1e6,
            rows.join(" "),
            caption.unwrap_or_default()
        );
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"pipeline-chart\" role=\"img\" \
             width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n<title>{title}</title>\n<desc>{}</desc>\n\
             <style>\n{STYLE}</style>\n{}</svg>\n",
            desc.trim_end(),
            drawing.out
        )
    }

    /// A row in words, for readers who cannot see it.
    fn told(&self, row: &Row) -> String {
        let busy: Vec<_> = row.passes.iter().flat_map(|pass| pass.busy(0)).collect();
        let sum: u64 = busy.iter().map(|(start, end)| end - start).sum();
        let share = 100.0 * sum as f64 / self.length_ns.max(1) as f64;
        let ends = [0].into_iter().chain(busy.iter().map(|stretch| stretch.1));
        let starts = busy.iter().map(|stretch| stretch.0).chain([self.length_ns]);
        let longest = ends.zip(starts).max_by_key(|(from, to)| to - from);
        let shows = |(from, to): &(u64, u64)| to - from > self.length_ns / 1000;
        let wait = longest.filter(shows).map(|(from, to)| {
            let [from, to] = [from, to].map(|ns| ns as f64 / 1e6);
            format!(", waits longest from {from:.1} to {to:.1} ms")
        });
        format!("{}: busy {share:.0} %{}.", row.label, wait.unwrap_or_default())
    }
}

struct Drawing {
    out: String,
    /// Where time begins.
    left: f64,
    length_ns: u64,
}

impl Drawing {
    fn scale(&self) -> f64 {
        (WIDTH - 12.0 - self.left) / self.length_ns.max(1) as f64
    }

    fn x(&self, ns: u64) -> f64 {
        self.left + ns as f64 * self.scale()
    }

    fn row(&mut self, row: &Row, y: f64) {
        // Gaps narrower than a line would only draw lines.
        let least = (1.5 / self.scale()) as u64;
        let mut gaps = Vec::new();
        let mut since = 0;
        for pass in &row.passes {
            let busy = pass.busy(least);
            for &(start, end) in &busy {
                gaps.push((since, start));
                since = end;
            }
            self.pass(pass, &busy, y);
        }
        gaps.push((since, self.length_ns));
        // Drawn between the outlines of the neighbours; dashes in a smaller gap would be noise.
        gaps.retain(|&(start, end)| self.x(end) - self.x(start) > 7.0);
        let waiting: String = gaps
            .iter()
            .map(|&(a, b)| rect(self.x(a) + 1.5, y + 0.5, self.x(b) - 1.5, BOX - 1.0))
            .collect();
        if !waiting.is_empty() {
            self.push(&format!("<path class=\"waiting\" d=\"{waiting}\"/>"));
        }
    }

    fn pass(&mut self, pass: &Pass, busy: &[(u64, u64)], y: f64) {
        let name = pass.direction.name();
        let number = pass.micro_batch.map(|n| n.to_string()).unwrap_or_default();
        let milliseconds = (pass.end_ns - pass.start_ns) as f64 / 1e6;
        let mut pieces: String =
            busy.iter().map(|&(a, b)| rect(self.x(a), y, self.x(b), BOX)).collect();
        if busy.len() > 1 {
            // A line that joins the pieces into one pass.
            pieces += &rect(self.x(pass.start_ns), y + BOX - 2.0, self.x(pass.end_ns), 2.0);
        }
        self.push(&format!(
            "<path class=\"{name}\" d=\"{pieces}\"><title>{}: {milliseconds:.3} ms</title></path>",
            format!("{name} {number}").trim_end()
        ));
        let widest = busy.iter().max_by_key(|(start, end)| end - start);
        let Some((from, to)) = widest.map(|&(start, end)| (self.x(start), self.x(end))) else {
            return;
        };
        if !number.is_empty() && to - from > DIGIT * number.len() as f64 + 1.0 {
            let class = if pass.direction == Direction::Backward { "number on" } else { "number" };
            self.text((from + to) / 2.0, y + 16.5, "middle", class, &number);
        }
    }

    fn legend(&mut self) {
        let mut x = self.left;
        for name in ["forward", "backward", "waiting"] {
            self.push(&format!("<path class=\"{name}\" d=\"{}\"/>", rect(x, 10.0, x + 24.0, 14.0)));
            self.text(x + 31.0, 21.5, "start", "words", name);
            x += 112.0;
        }
    }

    fn axis(&mut self, y: f64) {
        // 1, 2 or 5 of a power of ten nanoseconds, and at most ten of them.
        let ticks = (0..19).flat_map(|power| [1, 2, 5].map(|n| n * 10_u64.pow(power)));
        let tick = ticks.into_iter().find(|tick| self.length_ns / tick <= 10).unwrap_or(u64::MAX);
        let mut path = format!("M{:.2} {y}H{:.2}", self.left, self.x(self.length_ns));
        for ns in (0..=self.length_ns / tick).map(|i| i * tick) {
            let x = self.x(ns);
            let _ = write!(path, "M{x:.2} {y}v5");
            self.text(x, y + 19.0, "middle", "faint", &(ns as f64 / 1e6).to_string());
        }
        self.text(self.left - 14.0, y + 19.0, "end", "faint", "ms");
        self.push(&format!("<path class=\"axis\" d=\"{path}\"/>"));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.push(&format!(
            "<text class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn push(&mut self, element: &str) {
        self.out += element;
        self.out.push('\n');
    }
}

/// As part of a path.
fn rect(from: f64, y: f64, to: f64, height: f64) -> String {
    let width = (to - from).max(0.3);
    format!("M{from:.2} {y:.2}h{width:.2}v{height:.2}h-{width:.2}z")
}
