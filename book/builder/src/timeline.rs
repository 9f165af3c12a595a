//! Draws one training step from the trace of a real run: what each rank computed,
//! waited for and sent.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::directive::Directive;
use crate::drawings::canvas::{At, Canvas};
use crate::picture::figure;
use crate::runs::trace_path;

/// A trace file, as far as the drawing needs it.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    ph: String,
    pid: usize,
    name: String,
    /// The track; absent in events that only name things.
    #[serde(default)]
    cat: String,
    /// Microseconds since the first span of the run.
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    name: String,
}

/// The step drawn of one run.
struct Panel {
    title: String,
    /// What the ranks are called.
    ranks: Vec<String>,
    spans: Vec<Span>,
}

/// A span of the step drawn, in milliseconds since the step began.
struct Span {
    rank: usize,
    track: String,
    name: String,
    start: f64,
    end: f64,
}

const LEFT: f64 = 112.0;
const RIGHT: f64 = 516.0;
const ROW: f64 = 22.0;
/// Height of a rank's two rows, and of a whole panel without its ranks.
const RANK: f64 = 2.0 * ROW + 14.0;
const PANEL: f64 = 34.0;

/// `{{#timeline NAME caption="…"}}` draws the fastest step of a recorded run that wrote a trace:
/// the one that other programs disturbed least. Several names, `NAME,NAME`, are drawn one above the
/// other to one scale, under their `titles`.
///
/// # Errors
/// When a run is not recorded, or its trace holds no whole step.
pub fn timeline(ask: &Directive, book: &Path) -> Result<String> {
    let [names] = ask.shape(["name,name"], &["caption", "titles"])?;
    let titles: Vec<&str> = ask.named("titles").unwrap_or(names).split(',').collect();
    let mut panels = Vec::new();
    for (i, name) in names.split(',').enumerate() {
        let path = trace_path(book, name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("`{name}` has no recorded trace {}", path.display()))?;
        let file: File = serde_json::from_str(&text)?;
        let spans = fastest_step(&file).with_context(|| format!("the trace of `{name}`"))?;
        let title = titles.get(i).copied().unwrap_or(name).trim().to_owned();
        panels.push(Panel { title, ranks: ranks(&file), spans });
    }
    figure(&draw(&panels), ask.named("caption"))
}

/// The names of the ranks, without the coordinates in which all agree: of `rank 1: dp0 pp0 cp0 tp1`
/// in a world of two, `tp1`.
fn ranks(file: &File) -> Vec<String> {
    let names = file.events.iter().filter(|e| e.ph == "M" && e.name == "process_name");
    let names: Vec<Vec<&str>> =
        names.map(|e| e.args.name.rsplit(": ").next().unwrap_or("").split(' ').collect()).collect();
    let differs = |i: usize| names.iter().any(|name| name.get(i) != names[0].get(i));
    let short = |name: &Vec<&str>| {
        let parts = name.iter().enumerate().filter(|(i, _)| differs(*i)).map(|(_, part)| *part);
        parts.collect::<Vec<_>>().join(" ")
    };
    names.iter().map(short).collect()
}

fn fastest_step(file: &File) -> Result<Vec<Span>> {
    let steps = file.events.iter().filter(|e| e.pid == 0 && e.name == "optimizer").count();
    let steps: Vec<Vec<Span>> = (1..=steps).map(|n| step_of(file, n)).collect::<Result<_>>()?;
    let length = |spans: &Vec<Span>| spans.iter().map(|s| s.end).fold(0.0, f64::max);
    let fastest = steps.into_iter().min_by(|a, b| length(a).total_cmp(&length(b)));
    fastest.context("holds no step that ends")
}

/// The spans of step `number`, from 1. On each rank a step ends with its `optimizer` span.
fn step_of(file: &File, number: usize) -> Result<Vec<Span>> {
    let mut events: Vec<&Event> = file.events.iter().filter(|e| e.ph == "X").collect();
    events.sort_by(|a, b| a.ts.total_cmp(&b.ts));
    let mut spans = Vec::new();
    for rank in 0..=events.iter().map(|e| e.pid).max().unwrap_or(0) {
        let ends: Vec<f64> = events
            .iter()
            .filter(|e| e.pid == rank && e.name == "optimizer")
            .map(|e| e.ts + e.dur)
            .collect();
        let Some(&end) = number.checked_sub(1).and_then(|i| ends.get(i)) else {
            bail!("rank {rank} has no step {number}");
        };
        let start = if number > 1 { ends[number - 2] } else { f64::MIN };
        let own = events.iter().filter(|e| e.pid == rank && e.ts >= start && e.ts < end);
        // Before its first forward pass a rank still reads the numbers of the step before.
        let own = own.skip_while(|e| e.name != "forward");
        spans.extend(own.map(|e| Span {
            rank,
            track: e.cat.clone(),
            name: e.name.clone(),
            start: e.ts / 1e3,
            end: (e.ts + e.dur) / 1e3,
        }));
    }
    let origin = spans.iter().map(|s| s.start).fold(f64::MAX, f64::min);
    for span in &mut spans {
        span.start -= origin;
        span.end -= origin;
    }
    Ok(spans)
}

fn draw(panels: &[Panel]) -> String {
    let length = panels.iter().flat_map(|p| &p.spans).map(|s| s.end).fold(0.0, f64::max);
    let height: f64 = panels.iter().map(|p| PANEL + RANK * p.ranks.len() as f64).sum();
    let mut c = Canvas::new(520.0, height + 36.0, "Measured time lines", &description(panels));
    let x = |time: f64| LEFT + (RIGHT - LEFT) * time / length;
    let mut y = 0.0;
    for Panel { title, ranks, spans } in panels {
        c.text(2.0, y + 18.0, At::Start, "strong", title);
        y += PANEL - 6.0;
        for (rank, name) in ranks.iter().enumerate() {
            c.text(2.0, y + 15.0, At::Start, "mono small", name);
            c.text(LEFT - 6.0, y + 15.0, At::End, "small", "compute");
            c.text(LEFT - 6.0, y + ROW + 15.0, At::End, "small", "all-reduce");
            let own = || spans.iter().filter(|s| s.rank == rank);
            own().for_each(|span| bar(&mut c, span, y, x(span.start), x(span.end)));
            // Above the waiting that lies in a pass.
            own().for_each(|span| label(&mut c, span, y, x(span.start), x(span.end)));
            y += RANK;
        }
        y += 6.0;
    }
    axis(&mut c, y, length, x);
    c.finish()
}

/// One span: computing above, with dashed boxes for waiting, and what travels below.
fn bar(c: &mut Canvas, span: &Span, y: f64, from: f64, to: f64) {
    let width = (to - from).max(0.6);
    let (y, class) = match span.track.as_str() {
        "compute" => (y, "plain".to_owned()),
        "wait" => (y, "idle blank".to_owned()),
        track => (y + ROW, format!("{track} solid")),
    };
    c.rect(from, y, width, ROW - 3.0, &class);
}

fn label(c: &mut Canvas, span: &Span, y: f64, from: f64, to: f64) {
    let text = if span.name == "optimizer" { "AdamW" } else { &span.name };
    if span.track == "compute" && to - from > 8.0 * text.len() as f64 {
        c.text((from + to) / 2.0, y + 14.5, At::Middle, "small halo", text);
    }
}

fn axis(c: &mut Canvas, y: f64, length: f64, x: impl Fn(f64) -> f64) {
    let tick = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        .into_iter()
        .find(|tick| length / tick <= 8.0)
        .unwrap_or(5000.0);
    c.line(&[(LEFT, y), (RIGHT, y)], "wire");
    for i in 0..=(length / tick) as usize {
        let time = i as f64 * tick;
        c.line(&[(x(time), y), (x(time), y + 5.0)], "wire");
        c.text(x(time), y + 19.0, At::Middle, "small faint", &format!("{time:.0}"));
    }
    c.text(LEFT - 6.0, y + 19.0, At::End, "small faint", "ms");
}

/// The same in words.
fn description(panels: &[Panel]) -> String {
    let panel = |Panel { title, spans, .. }: &Panel| {
        let end = |name: &str| {
            spans
                .iter()
                .filter(|s| s.rank == 0 && s.name == name)
                .map(|s| s.end)
                .fold(0.0, f64::max)
        };
        let own = || spans.iter().filter(|s| s.rank == 0);
        let sums = own().filter(|s| s.track != "compute" && s.track != "wait");
        let waits: f64 = own().filter(|s| s.track == "wait").map(|s| s.end - s.start).sum();
        let during = sums.clone().filter(|s| s.start < end("backward")).count();
        format!(
            "{title}: on rank 0 the backward pass ends after {:.1} ms and the step after {:.1} ms; \
             {during} of {} all-reduces start before the backward pass has ended, and the rank waits \
             {waits:.1} ms for them.",
            end("backward"),
            end("optimizer"),
            sums.count()
        )
    };
    panels.iter().map(panel).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps of one rank: forward 2 ms, backward 4 ms, a sum that starts inside it, the update.
    fn trace() -> String {
        let events: Vec<String> = [0.0, 10e3]
            .iter()
            .flat_map(|at| {
                [
                    ("forward", "compute", 0e3, 2e3),
                    ("backward", "compute", 2e3, 4e3),
                    ("all_reduce", "dp", 5e3, 2e3),
                    ("all_reduce", "wait", 6e3, 1e3),
                    ("optimizer", "compute", 7e3, 1e3),
                ]
                .map(|(name, cat, ts, dur)| {
                    let ts = at + ts;
                    format!(r#"{{"ph":"X","pid":0,"name":"{name}","cat":"{cat}","ts":{ts},"dur":{dur}}}"#)
                })
            })
            .collect();
        format!(
            r#"{{"traceEvents":[{{"ph":"M","pid":0,"name":"process_name"}},{}]}}"#,
            events.join(",")
        )
    }

    #[test]
    fn a_step_is_cut_out_whole_and_starts_at_zero() {
        let file: File = serde_json::from_str(&trace()).unwrap();
        let spans = step_of(&file, 2).unwrap();
        assert_eq!(spans.len(), 5);
        assert_eq!((spans[0].start, spans[4].end), (0.0, 8.0));
        assert!(step_of(&file, 3).err().unwrap().to_string().contains("no step 3"));
        assert!(step_of(&file, 0).is_err());
    }

    #[test]
    fn the_fastest_step_is_drawn() {
        // The first forward pass takes 1 ms longer than the second.
        let slower = trace().replacen("\"ts\":0,\"dur\":2000", "\"ts\":-1000,\"dur\":3000", 1);
        assert_ne!(slower, trace());
        let fastest = |text: &str| fastest_step(&serde_json::from_str::<File>(text).unwrap());
        let end = fastest(&slower).unwrap().iter().map(|s| s.end).fold(0.0, f64::max);
        assert_eq!(end, 8.0);
        assert!(fastest(r#"{"traceEvents":[]}"#).is_err());
    }

    #[test]
    fn the_words_tell_what_overlaps() {
        let file: File = serde_json::from_str(&trace()).unwrap();
        let (spans, ranks) = (fastest_step(&file).unwrap(), ranks(&file));
        let panels = [Panel { title: "bucketed".to_owned(), ranks, spans }];
        let words = description(&panels);
        assert!(words.contains("1 of 1 all-reduces start before"), "{words}");
        assert!(words.contains("the rank waits 1.0 ms"), "{words}");
        assert!(draw(&panels).contains("dp solid"));
    }

    #[test]
    fn ranks_are_called_by_what_tells_them_apart() {
        let named = |name: &str| {
            format!(r#"{{"ph":"M","pid":0,"name":"process_name","args":{{"name":"{name}"}}}}"#)
        };
        let text = |names: &[&str]| {
            let events: Vec<String> = names.iter().map(|name| named(name)).collect();
            format!(r#"{{"traceEvents":[{}]}}"#, events.join(","))
        };
        let of = |names: &[&str]| ranks(&serde_json::from_str(&text(names)).unwrap());
        assert_eq!(of(&["rank 0: dp0 tp0", "rank 1: dp0 tp1"]), ["tp0", "tp1"]);
        assert_eq!(of(&["rank 0: dp0 tp0", "rank 1: dp1 tp1"]), ["dp0 tp0", "dp1 tp1"]);
    }
}
