//! Loss curves as a picture that stands alone, or inside a page.

use crate::Curve;
use crate::curve::thinned;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (720, 420);

/// More than this many points in a curve show nothing that fewer do not.
const POINTS: usize = 600;

const INK: RGBColor = RGBColor(31, 35, 40);
const GRID: RGBColor = RGBColor(208, 215, 222);

/// What a surrounding page calls its colours, and ours: on white, and in the dark.
const PAGE: [(&str, RGBColor, &str); 2] = [("--fg", INK, "#d5d9de"), ("--rule", GRID, "#3a424a")];

/// The same for each run. They differ in lightness too.
pub(crate) const RUNS: [(&str, RGBColor, &str); 6] = [
    ("--dp", RGBColor(11, 83, 148), "#6cb6ff"),
    ("--pp", RGBColor(179, 89, 0), "#f0a830"),
    ("--tp", RGBColor(26, 127, 55), "#56d364"),
    ("--cp", RGBColor(130, 80, 223), "#d2a8ff"),
    ("--fifth", RGBColor(191, 34, 79), "#ff8fab"),
    ("--faint", RGBColor(89, 89, 89), "#b8bfc7"),
];

/// What is drawn, in one picture: each run's training loss as a line, and the validation losses
/// as circles on a thinner line.
///
/// # Errors
/// If there is nothing to draw, or more runs than colours.
pub fn svg(curves: &[Curve]) -> Result<String> {
    let drawn = || curves.iter().flat_map(|curve| curve.losses.iter().chain(&curve.validation));
    let steps = drawn().map(|point| point.0);
    let (Some(first), Some(last)) = (steps.clone().min(), steps.max()) else {
        return Err(anyhow!("there is no step to draw"));
    };
    if curves.len() > RUNS.len() {
        return Err(anyhow!(
            "{} runs are too many for one picture: draw {}",
            curves.len(),
            RUNS.len()
        ));
    }
    let highest = drawn().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let lowest = drawn().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let room = (0.04 * (highest - lowest)).max(1e-6 * highest.abs()).max(1e-9);
    let across = first as f64..(last as f64).max(first as f64 + 1.0);

    let mut out = String::new();
    let mut each = 1;
    {
        let area = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(20)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(across, lowest - room..highest + room)?;
        let words = |size: i32| ("sans-serif", size).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(words(14))
            .axis_desc_style(words(15))
            .x_desc("step")
            .y_desc("loss (nats a token)")
            .x_label_formatter(&|step| crate::thousands(step.round()))
            .draw()?;
        for (curve, (_, colour, _)) in curves.iter().zip(RUNS) {
            let (points, mean_of) = thinned(&curve.losses, POINTS);
            each = each.max(mean_of);
            let key = move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(2));
            if !points.is_empty() {
                let line = LineSeries::new(points, colour.stroke_width(2));
                chart.draw_series(line)?.label(legend(curve, "training")).legend(key);
            }
            let (points, _) = thinned(&curve.validation, POINTS);
            if !points.is_empty() {
                let circle = move |(x, y)| {
                    EmptyElement::at((x + 11, y)) + Circle::new((0, 0), 4, colour.filled())
                };
                chart.draw_series(LineSeries::new(points.clone(), colour))?;
                let circles = points.into_iter().map(|at| Circle::new(at, 4, colour.filled()));
                chart.draw_series(circles)?.label(legend(curve, "validation")).legend(circle);
            }
        }
        let beside = Pos::new(HPos::Left, VPos::Center);
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(14)
            .legend_area_size(30)
            .label_font(words(14).pos(beside))
            .draw()?;
        area.present()?;
    }
    styled(&out, curves, each)
}

fn legend(curve: &Curve, what: &str) -> String {
    if curve.name.is_empty() { what.to_owned() } else { format!("{}, {what}", curve.name) }
}

pub(crate) fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// With what a reader who cannot see it is told, and with colours that follow the page, or the
/// dark.
fn styled(drawn: &str, curves: &[Curve], each: usize) -> Result<String> {
    let cannot = || anyhow!("the drawing is not as expected");
    let (_, after) = drawn.split_once("<svg ").ok_or_else(cannot)?;
    let (attributes, body) = after.split_once('>').ok_or_else(cannot)?;
    let recolour = |name: &str, drawn: RGBColor, shown: &str| {
        let from = hex(drawn);
        let rule = |what: &str| {
            format!(".loss-curve [{what}=\"{from}\"] {{ {what}: var({name}, {shown}); }}\n")
        };
        rule("stroke") + &rule("fill")
    };
    let (mut light, mut dark) = (String::new(), String::new());
    for (name, drawn, shown) in PAGE.into_iter().chain(RUNS) {
        light += &recolour(name, drawn, &hex(drawn));
        dark += &recolour(name, drawn, shown);
    }
    let told: Vec<String> = curves.iter().map(told).collect();
    let mean =
        if each > 1 { format!(" A point is the mean of {each} steps.") } else { String::new() };
    Ok(format!(
        "<svg class=\"loss-curve\" role=\"img\" {attributes}>\n<title>Loss by step</title>\n\
         <desc>{}{mean}</desc>\n<style>\n\
         .loss-curve {{ print-color-adjust: exact; }}\n\
         .loss-curve:root {{ background: #fff; width: 100%; height: auto; max-width: 1080px; }}\n\
         .loss-curve text {{ font-family: \"Open Sans\", system-ui, sans-serif; }}\n{light}\
         @media screen and (prefers-color-scheme: dark) {{\n\
         .loss-curve:root {{ background: #14181d; }}\n{dark}}}\n</style>{body}",
        escaped(&told.join(" "))
    ))
}

/// A run in words.
fn told(curve: &Curve) -> String {
    let ends = |points: &[(usize, f64)]| {
        let ((from, first), (to, last)) = (points.first()?, points.last()?);
        Some(format!("{first:.4} at step {from} to {last:.4} at step {to}"))
    };
    let about = |what: &str, points| {
        ends(points).map(|ends| format!("{}: from {ends}.", legend(curve, what)))
    };
    let all = [about("training", &curve.losses), about("validation", &curve.validation)];
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
