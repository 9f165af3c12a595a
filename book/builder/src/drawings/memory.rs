//! Peak memory of a rank against the length of the sequence, from the recorded run `step05-memory`.

use std::collections::BTreeMap;

use super::canvas::{At, Canvas};

const RECORD: &str = include_str!("../../../runs/step05-memory.txt");
const LEFT: f64 = 56.0;
const RIGHT: f64 = 452.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 300.0;

/// MB by positions, by cp. A line of the record: `1024 positions, cp 2: 196190208 bytes`.
fn measured(record: &str) -> BTreeMap<usize, Vec<(f64, f64)>> {
    let mut all: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for line in record.lines().filter(|line| !line.starts_with('$')) {
        let numbers: Vec<f64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        if let [positions, cp, bytes] = numbers[..] {
            all.entry(cp as usize).or_default().push((positions, bytes / 1e6));
        }
    }
    all
}

pub fn svg() -> String {
    let all = measured(RECORD);
    let points = || all.values().flatten();
    let longest = points().map(|p| p.0).fold(0.0, f64::max);
    let most = points().map(|p| p.1).fold(0.0, f64::max);
    let tick = if most > 500.0 { 200.0 } else { 100.0 };
    let top = (most / tick).ceil() * tick;
    let words = all.iter().map(|(cp, points)| {
        let ends = points.iter().map(|(s, mb)| format!("{mb:.0} MB at {s}"));
        format!("cp {cp}: {}.", ends.collect::<Vec<_>>().join(", "))
    });
    let desc = words.collect::<Vec<_>>().join(" ");
    let mut c = Canvas::new(520.0, 346.0, "Peak memory of rank 0 by length of the sequence", &desc);
    let x = |positions: f64| LEFT + (RIGHT - LEFT) * positions / longest;
    let y = |mb: f64| BOTTOM - (BOTTOM - TOP) * mb / top;
    c.text(2.0, 16.0, At::Start, "strong", "peak memory of rank 0, MB");
    for i in 0..=(top / tick) as usize {
        let mb = tick * i as f64;
        c.line(&[(LEFT, y(mb)), (RIGHT, y(mb))], if i == 0 { "wire" } else { "wire dashed" });
        c.text(LEFT - 8.0, y(mb) + 5.0, At::End, "small faint", &format!("{mb:.0}"));
    }
    for (positions, _) in all.values().next().into_iter().flatten() {
        c.line(&[(x(*positions), BOTTOM), (x(*positions), BOTTOM + 5.0)], "wire");
        let at = x(*positions);
        c.text(at, BOTTOM + 20.0, At::Middle, "small faint", &format!("{positions:.0}"));
    }
    c.text(
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 40.0,
        At::Middle,
        "small faint",
        "positions in a sequence",
    );
    // Names beside the ends of the lines, kept apart where the lines end close together.
    let mut free = f64::MIN;
    for (cp, points) in &all {
        let line: Vec<(f64, f64)> = points.iter().map(|(s, mb)| (x(*s), y(*mb))).collect();
        c.line(&line, "wire cp");
        line.iter().for_each(|&(x, y)| c.circle(x, y, 3.5, "cp solid"));
        if let Some((x, y)) = line.last() {
            let at = (y + 5.0).max(free);
            c.text(x + 10.0, at, At::Start, "small", &format!("cp {cp}"));
            free = at + 16.0;
        }
    }
    c.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_with_as_many_positions_need_as_much() {
        let all = measured(RECORD);
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 8]);
        let per_position = |cp: usize| {
            let points = &all[&cp];
            let (first, last) = (points[0], points[points.len() - 1]);
            (last.1 - first.1) / (last.0 - first.0) * cp as f64
        };
        for cp in [2, 4] {
            assert!((per_position(cp) / per_position(1) - 1.0).abs() < 0.35, "cp {cp}");
        }
    }
}
