//! All ranks of one run: a row each, time across.

use super::MemoryLine;
use super::drawing::{CHARACTER, Drawing, RIGHT, peak, told};
use crate::chart::labels;

const TOP: f64 = 40.0;
/// Above an area: what its highest point is.
const WORDS: f64 = 18.0;
/// Below an area: what the rank computes.
const BAND: f64 = 14.0;
/// Between two ranks.
const GAP: f64 = 8.0;
/// A character of a pass's name.
const DIGIT: f64 = 6.7;

/// The colour of a run that stands alone.
const RUN: usize = 0;

pub fn svg(lines: &[MemoryLine]) -> String {
    let names: Vec<&str> = lines.iter().map(|line| &*line.rank).collect();
    let labels = if lines.is_empty() { Vec::new() } else { labels(&names) };
    let widest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    // Few ranks are drawn larger.
    let area = (360.0 / lines.len().max(1) as f64).clamp(36.0, 160.0);
    let mut drawing = Drawing::new(lines.iter(), CHARACTER * widest as f64 + 12.0, area);
    let has_passes = lines.iter().any(|line| !line.passes.is_empty());
    let band = if has_passes { BAND + 3.0 } else { 0.0 };

    legend(&mut drawing, has_passes);
    let mut y = TOP;
    for (line, label) in lines.iter().zip(&labels) {
        let bottom = y + WORDS + area;
        drawing.text(drawing.left - 8.0, bottom - 4.0, "end", "", label);
        row(&mut drawing, line, bottom);
        y = bottom + band + GAP;
    }
    drawing.axis(y + 2.0);
    // Of equals the first.
    let most = lines.iter().zip(&labels).rev().max_by_key(|(line, _)| line.peak().1);
    let caption = most.map(|(line, label)| match lines.len() {
        1 => format!("What tensors hold, in bytes. Peak: {}.", peak(line)),
        _ => format!("What tensors hold, in bytes. The highest peak: {}, {label}.", peak(line)),
    });
    let caption = caption.unwrap_or_default();
    drawing.text(drawing.left, y + 42.0, "start", "words", &caption);

    let ranks = if lines.len() == 1 { "rank" } else { "ranks" };
    let title = format!("Memory over one training step on {} {ranks}", lines.len());
    let told: Vec<String> =
        lines.iter().zip(&labels).map(|(line, name)| told(name, line)).collect();
    drawing.finish(y + 54.0, &title, &told)
}

fn legend(drawing: &mut Drawing, has_passes: bool) {
    let (mut x, y) = (drawing.left, 17.0);
    let mut next = |drawing: &mut Drawing, name: &str, width: f64| {
        drawing.text(x + 31.0, 21.5, "start", "words", name);
        x += width;
        x - width
    };
    let at = next(drawing, "held by tensors", 146.0);
    drawing.path(&format!("area line run{RUN}"), &format!("M{at:.1} 24v-14h24v14"));
    let at = next(drawing, "when the step began", 176.0);
    drawing.path("held", &format!("M{at:.1} {y}h24"));
    if has_passes {
        for (name, width) in [("forward", 96.0), ("backward", 96.0)] {
            let at = next(drawing, name, width);
            drawing.path(name, &rect(at, 10.0, at + 24.0, 14.0));
        }
    }
}

fn row(drawing: &mut Drawing, line: &MemoryLine, bottom: f64) {
    drawing.grid(bottom, if drawing.height < 80.0 { 1 } else { 4 });
    drawing.line(line, bottom, RUN, true);
    if line.held > 0 {
        let y = drawing.y(line.held as i64, bottom);
        drawing.path("held", &format!("M{:.1} {y:.1}H{RIGHT}", drawing.left));
    }
    let (x, y) = drawing.peak(line, bottom, RUN);
    let said = peak(line);
    // Centred over the dot, but never beyond the area.
    let half = DIGIT * said.chars().count() as f64 / 2.0;
    let x = x.max(drawing.left + half).min(RIGHT - half);
    drawing.text(x, y - 6.0, "middle", "small peak", &said);
    for pass in &line.passes {
        band(drawing, pass, bottom + 2.0);
    }
}

fn band(drawing: &mut Drawing, (start, end, name): &(f64, f64, String), y: f64) {
    let (word, number) = name.split_once(' ').unwrap_or((name, ""));
    let (class, short) = match word {
        "forward" => ("forward", format!("F{number}")),
        "backward" => ("backward", format!("B{number}")),
        _ => ("other", name.clone()),
    };
    let (from, to) = (drawing.x(*start), drawing.x(*end));
    let title = crate::plot::escaped(&format!("{name}: {:.3} ms", end - start));
    let path = rect(from, y, to, BAND);
    drawing.push(&format!("<path class=\"{class}\" d=\"{path}\"><title>{title}</title></path>"));
    if to - from > DIGIT * short.chars().count() as f64 + 2.0 {
        let class = if class == "backward" { "small on" } else { "small" };
        drawing.text((from + to) / 2.0, y + 11.0, "middle", class, &short);
    }
}

/// As part of a path.
fn rect(from: f64, y: f64, to: f64, height: f64) -> String {
    let width = (to - from).max(0.3);
    format!("M{from:.1} {y:.1}h{width:.1}v{height}h-{width:.1}z")
}
