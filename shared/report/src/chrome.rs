//! The trace of all ranks as one file in Chrome's trace format, which Perfetto opens: a process per
//! rank, a thread per track.

use crate::Chart;
use crate::event::{Event, RankTrace, Track};
use crate::whole::{is_special, write_whole};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes what the ranks exported ([`crate::Trace::export`]; empty ones are left out). Times in
/// the file are microseconds since the first span of all, whose own time since the Unix epoch is
/// in `otherData.start_unix_ns`. Where the ranks recorded a whole training step, [`Chart`] draws
/// the last one as an SVG beside the file; beside a pipe nothing is written. Each file appears
/// whole or not at all.
///
/// # Errors
/// If a file cannot be written, or bytes are not a rank's export.
pub fn write_trace(path: &Path, ranks: &[Vec<u8>]) -> Result<()> {
    let ranks = RankTrace::read(ranks)?;
    write_whole(path, &serde_json::to_vec(&document(&ranks))?)
        .with_context(|| format!("cannot write the trace {}", path.display()))?;
    let Some(chart) = Chart::of(&ranks).filter(|_| !is_special(path)) else {
        return Ok(());
    };
    let beside = path.with_extension("svg");
    write_whole(&beside, chart.svg().as_bytes())
        .with_context(|| format!("cannot write the chart {}", beside.display()))
}

fn document(ranks: &[RankTrace]) -> Value {
    let events = || ranks.iter().flat_map(|rank| &rank.events);
    let origin = events().map(|event| event.start_ns).min().unwrap_or(0);
    let mut out = Vec::new();
    for rank in ranks {
        let pid = rank.rank;
        let label = |tid: usize, what: &str, key: &str, value: Value| json!({ "ph": "M", "pid": pid, "tid": tid, "name": what, "args": { key: value } });
        let name = format!("rank {pid}: {}", rank.name);
        out.push(label(0, "process_name", "name", name.into()));
        out.push(label(0, "process_sort_index", "sort_index", pid.into()));

        for (tid, (track, row, row_events)) in rows(&rank.events).into_iter().enumerate() {
            let name = match row {
                0 => track.name().to_owned(),
                _ => format!("{} ({})", track.name(), row + 1),
            };
            out.push(label(tid, "thread_name", "name", name.into()));
            out.push(label(tid, "thread_sort_index", "sort_index", tid.into()));
            out.extend(row_events.into_iter().map(|event| {
                let mut span = json!({
                    "ph": "X", "pid": pid, "tid": tid, "name": event.name, "cat": track.name(),
                    "ts": micros(event.start_ns - origin),
                    "dur": micros(event.end_ns - event.start_ns),
                });
                if let Some(bytes) = event.bytes {
                    span["args"] = json!({ "bytes": bytes });
                }
                span
            }));
        }
    }
    json!({
        "displayTimeUnit": "ms",
        "otherData": { "start_unix_ns": origin.to_string() },
        "traceEvents": out,
    })
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// The events of each track, in order of time, on as many rows as needed: in one row the format can
/// draw spans only beside or inside each other, but two transfers may overlap.
fn rows(events: &[Event]) -> Vec<(&Track, usize, Vec<&Event>)> {
    let mut tracks: BTreeMap<_, (&Track, Vec<&Event>)> = BTreeMap::new();
    for event in events {
        let row = tracks.entry(event.track.order());
        row.or_insert_with(|| (&event.track, Vec::new())).1.push(event);
    }
    let mut out = Vec::new();
    for (track, mut events) in tracks.into_values() {
        // Of two that start together, the longer is the outer one.
        events.sort_by_key(|event| (event.start_ns, std::cmp::Reverse(event.end_ns)));
        // A row, with the ends of its spans that are still open, outermost first.
        let mut rows: Vec<(Vec<&Event>, Vec<u64>)> = Vec::new();
        for event in events {
            let fits = rows.iter_mut().position(|(_, open)| {
                while open.last().is_some_and(|&end| end <= event.start_ns) {
                    open.pop();
                }
                open.last().is_none_or(|&end| event.end_ns <= end)
            });
            let row = fits.unwrap_or_else(|| {
                rows.push(Default::default());
                rows.len() - 1
            });
            rows[row].0.push(event);
            rows[row].1.push(event.end_ns);
        }
        out.extend(rows.into_iter().enumerate().map(|(i, (events, _))| (track, i, events)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trace;

    fn rank(rank: usize, spans: &[(Track, &'static str, u64, u64)]) -> Vec<u8> {
        let events = spans
            .iter()
            .map(|&(ref track, name, start_ns, end_ns)| Event {
                track: track.clone(),
                name: name.into(),
                start_ns,
                end_ns,
                bytes: None,
            })
            .collect();
        serde_json::to_vec(&RankTrace { rank, name: format!("dp{rank}"), events }).unwrap()
    }

    fn written(ranks: &[Vec<u8>]) -> Vec<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        write_trace(&path, ranks).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "no temporary file stays behind");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        file["traceEvents"].as_array().unwrap().clone()
    }

    /// (start, end) in whole ns of the spans of each (pid, tid).
    fn spans(events: &[Value]) -> BTreeMap<(u64, u64), Vec<(u64, u64)>> {
        let mut out: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for e in events.iter().filter(|e| e["ph"] == "X") {
            let ns = |key: &str| (e[key].as_f64().unwrap() * 1e3).round() as u64;
            let row = (e["pid"].as_u64().unwrap(), e["tid"].as_u64().unwrap());
            out.entry(row).or_default().push((ns("ts"), ns("ts") + ns("dur")));
        }
        out
    }

    #[test]
    fn two_ranks_line_up_and_every_track_has_its_name() {
        let origin = 1_900_000_000_000_000_000; // a time whose f64 microseconds would lose digits
        let events = written(&[
            rank(0, &[(Track::Compute, "forward", origin + 1_500, origin + 4_001)]),
            Vec::new(),
            rank(1, &[(Track::group("dp"), "all_reduce", origin, origin + 2_000)]),
        ]);
        let expected = BTreeMap::from([((0, 0), vec![(1_500, 4_001)]), ((1, 0), vec![(0, 2_000)])]);
        assert_eq!(spans(&events), expected);
        let name = |pid: u64, kind: &str| {
            let found = events.iter().find(|e| e["pid"] == pid && e["name"] == kind).unwrap();
            found["args"]["name"].as_str().unwrap().to_owned()
        };
        assert_eq!(name(0, "process_name"), "rank 0: dp0");
        assert_eq!(
            (name(0, "thread_name"), name(1, "thread_name")),
            ("compute".into(), "dp".into())
        );
    }

    #[test]
    fn spans_of_one_row_nest_and_overlapping_ones_get_rows_of_their_own() {
        let events = written(&[rank(
            0,
            &[
                (Track::group("dp"), "starts with outer", 0, 5),
                (Track::group("dp"), "inner", 10, 20),
                (Track::group("dp"), "outer", 0, 50),
                (Track::group("dp"), "crosses", 40, 60),
                (Track::group("dp"), "after", 60, 70),
                (Track::group("tp"), "elsewhere", 45, 65),
            ],
        )]);
        let rows = spans(&events);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[&(0, 0)], [(0, 50), (0, 5), (10, 20), (60, 70)]);
        assert_eq!(rows[&(0, 1)], [(40, 60)]);
    }

    #[test]
    fn a_recorded_trace_nests_on_each_track() {
        let trace = Trace::new(0, "dp0".into());
        for _ in 0..20 {
            let _step = trace.span(Track::Compute, "step");
            for _ in 0..3 {
                drop(trace.span(Track::Compute, "micro-batch"));
            }
            drop(trace.span(Track::group("dp"), "all_reduce").bytes(64));
        }
        let events = written(&[trace.export()]);
        let rows = spans(&events);
        assert_eq!(rows.keys().collect::<Vec<_>>(), [&(0, 0), &(0, 1)]);
        assert_eq!(rows[&(0, 0)].len(), 80);
        for row in rows.values() {
            let mut open: Vec<u64> = Vec::new();
            for &(start, end) in row {
                open.retain(|&e| e > start);
                assert!(open.last().is_none_or(|&e| end <= e), "{start} {end} {open:?}");
                open.push(end);
            }
        }
        assert!(events.iter().any(|e| e["args"]["bytes"] == 64));
    }

    #[test]
    fn a_chart_stands_beside_the_trace() {
        let dir = tempfile::tempdir().unwrap();
        let step = |end| {
            [
                (Track::Compute, "forward", 0, 10),
                (Track::Compute, "backward", 10, end),
                (Track::Compute, "optimizer", end, end + 1),
            ]
        };
        let ranks = [rank(0, &step(30)), rank(1, &step(20))];
        write_trace(&dir.path().join("run.json"), &ranks).unwrap();
        let mut files: Vec<_> =
            dir.path().read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["run.json", "run.svg"]);
        let svg = std::fs::read_to_string(dir.path().join("run.svg")).unwrap();
        assert_eq!(svg, Chart::read(&ranks).unwrap().unwrap().svg());

        std::fs::remove_file(dir.path().join("run.svg")).unwrap();
        std::fs::create_dir(dir.path().join("run.svg")).unwrap();
        let error = write_trace(&dir.path().join("run.json"), &ranks).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot write the chart "), "{error:#}");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let error = format!("{:#}", write_trace(Path::new("/nowhere/t.json"), &[]).unwrap_err());
        assert!(error.starts_with("cannot write the trace /nowhere/t.json: "), "{error}");
    }
}
