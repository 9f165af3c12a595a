//! Charts of schedules whose times are known exactly.

use super::*;

const MS: u64 = 1_000_000;

/// The traces of one step that begins at `origin`, in units of a millisecond: a forward pass takes
/// one and a backward pass two. `schedule` lists a stage's passes in order.
fn step(
    origin: u64,
    pp: usize,
    schedule: impl Fn(usize) -> Vec<(Direction, usize)>,
) -> Vec<RankTrace> {
    let schedules: Vec<_> = (0..pp).map(schedule).collect();
    // When each pass ended; both neighbours' passes are looked up in it.
    let mut ends = std::collections::BTreeMap::new();
    let mut free = vec![origin; pp];
    let mut events = vec![Vec::new(); pp];
    while (0..pp).any(|stage| events[stage].len() < schedules[stage].len()) {
        for stage in 0..pp {
            let Some(&(direction, n)) = schedules[stage].get(events[stage].len()) else {
                continue;
            };
            let (needs, time) = match direction {
                Direction::Forward if stage == 0 => (Some(origin), MS),
                Direction::Forward => (ends.get(&(stage - 1, direction, n)).copied(), MS),
                Direction::Backward if stage == pp - 1 => (Some(origin), 2 * MS),
                Direction::Backward => (ends.get(&(stage + 1, direction, n)).copied(), 2 * MS),
            };
            let Some(needs) = needs else { continue };
            let start = free[stage].max(needs);
            free[stage] = start + time;
            ends.insert((stage, direction, n), start + time);
            let name = format!("{} {n}", direction.name());
            events[stage].push(event(Track::Compute, &name, start, start + time));
        }
    }
    let end = free.iter().max().copied().unwrap_or_default();
    let ranks = events.into_iter().enumerate().map(|(stage, mut events)| {
        events.push(event(Track::Compute, "optimizer", end, end + MS));
        RankTrace { rank: stage, name: format!("dp0 pp{stage} cp0 tp0"), events }
    });
    ranks.collect()
}

fn event(track: Track, name: &str, start_ns: u64, end_ns: u64) -> Event {
    Event { track, name: name.to_owned().into(), start_ns, end_ns, bytes: None }
}

fn afab(m: usize) -> Vec<(Direction, usize)> {
    let all = |direction| (0..m).map(move |n| (direction, n));
    all(Direction::Forward).chain(all(Direction::Backward)).collect()
}

fn one_f_one_b(stage: usize, pp: usize, m: usize) -> Vec<(Direction, usize)> {
    let ahead = (pp - stage).min(m);
    let mut out: Vec<_> = (0..ahead).map(|n| (Direction::Forward, n)).collect();
    for n in 0..m {
        out.push((Direction::Backward, n));
        if n + ahead < m {
            out.push((Direction::Forward, n + ahead));
        }
    }
    out
}

/// Both steps, one after the other, on every rank.
fn after(mut first: Vec<RankTrace>, second: Vec<RankTrace>) -> Vec<RankTrace> {
    for (rank, second) in first.iter_mut().zip(second) {
        rank.events.extend(second.events);
    }
    first
}

fn chart(ranks: &[RankTrace]) -> Chart {
    let exports: Vec<Vec<u8>> = ranks.iter().map(|r| serde_json::to_vec(r).unwrap()).collect();
    Chart::read(&exports).unwrap().unwrap()
}

/// Without a wait inside a pass.
fn perfect(stages: usize, micro_batches: usize) -> Bubble {
    let ideal = (stages - 1) as f64 / (micro_batches + stages - 1) as f64;
    Bubble { measured: ideal, inside: 0.0, ideal }
}

#[test]
fn a_perfect_1f1b_step_idles_as_the_formula_says() {
    let chart = chart(&step(7 * MS, 4, |stage| one_f_one_b(stage, 4, 8)));
    assert_eq!(chart.bubble(), Some(perfect(4, 8)));
    // One column a millisecond.
    let text = "\
pp0 │0123······aa4bb5cc6dd7ee·ff·gg·hh│
pp1 │·012····aa3bb4cc5dd6ee7ff·gg·hh··│
pp2 │··01··aa2bb3cc4dd5ee6ff7gg·hh····│
pp3 │···0aa1bb2cc3dd4ee5ff6gg7hh······│
     0 1 2 … forward, a b c … backward of the same, · waiting; 33.0 ms
     idle: measured 27 %, (pp − 1)/(m + pp − 1) = 27 %
";
    assert_eq!(chart.text(39), text);
}

#[test]
fn a_perfect_afab_step_idles_as_long_and_computes_in_another_order() {
    let chart = chart(&step(0, 4, |_| afab(8)));
    assert_eq!(chart.bubble(), Some(perfect(4, 8)));
    let text = "\
pp0 │01234567·········aabbccddeeffgghh│
pp1 │·01234567······aabbccddeeffgghh··│
pp2 │··01234567···aabbccddeeffgghh····│
pp3 │···01234567aabbccddeeffgghh······│
";
    assert_eq!(chart.text(39).split_inclusive('\n').take(4).collect::<String>(), text);
}

#[test]
fn the_last_whole_step_is_drawn() {
    // 2 micro-batches, then 3, then the beginning of a step that never ended.
    let mut ranks = after(step(0, 2, |_| afab(2)), step(40 * MS, 2, |_| afab(3)));
    for rank in &mut ranks {
        rank.events.push(event(Track::Compute, "forward 0", 90 * MS, 99 * MS));
    }
    let text = "pp0 │012···aabbcc│\npp1 │·012aabbcc··│\n";
    assert!(chart(&ranks).text(18).starts_with(text), "{}", chart(&ranks).text(18));

    // One rank was stopped before its last update: the step before is the last that all ended.
    ranks[1].events.retain(|event| event.name != "optimizer" || event.start_ns < 40 * MS);
    let text = "pp0 │0011······aaaabbbb│\npp1 │··0011aaaabbbb····│\n";
    assert!(chart(&ranks).text(24).starts_with(text), "{}", chart(&ranks).text(24));
}

#[test]
fn without_a_whole_step_there_is_no_chart() {
    let none = |ranks: &[RankTrace]| Chart::of(ranks).is_none();
    assert!(Chart::read(&[Vec::new(), Vec::new()]).unwrap().is_none());
    let mut ranks = step(0, 2, |_| afab(2));
    assert!(!none(&ranks));
    ranks[1].events.retain(|event| event.name != "optimizer");
    assert!(none(&ranks), "the step has not ended on rank 1");
    for rank in &mut ranks {
        rank.events = vec![event(Track::Compute, "optimizer", 5, 6)];
    }
    assert!(none(&ranks), "nothing was computed");
    assert!(Chart::read(&[b"?".to_vec()]).is_err());
}

#[test]
fn a_wait_inside_a_pass_is_waiting_but_no_bubble() {
    let mut ranks = step(0, 2, |_| afab(1));
    let before = chart(&ranks).bubble().unwrap();
    assert_eq!(before.measured, 0.5);
    // Forward 0 of stage 1 lasts from 1 to 2 ms. One wait lies inside another, and the last was
    // over when the pass began.
    for (start, end) in [(12, 16), (13, 14), (18, 30), (2, 9)] {
        ranks[1].events.push(event(Track::Wait, "all_reduce", start * MS / 10, end * MS / 10));
    }
    let chart = chart(&ranks);
    // 0.4 and 0.2 ms of forward 0, and the first 1 ms of backward 0, of 2 × 6 ms.
    let bubble = chart.bubble().unwrap();
    assert_eq!(bubble, Bubble { inside: 1.6 / 12.0, ..before });
    let told = "idle: measured 50 %, (pp − 1)/(m + pp − 1) = 50 %; waiting inside passes: 13 %";
    assert_eq!(bubble.to_string(), told);
    let row = "pp1 │··········00····00············aaaaaaaaaa····················│";
    assert!(chart.text(66).contains(row), "{}", chart.text(66));
}

#[test]
fn a_pass_inside_another_is_part_of_it() {
    let mut ranks = step(0, 2, |_| afab(1));
    let before = chart(&ranks).bubble();
    // What the backward pass computes again.
    ranks[0].events.push(event(Track::Compute, "forward 0", 4 * MS, 5 * MS));
    assert_eq!(chart(&ranks).bubble(), before);
    // Where two overlap, the time counts once.
    ranks[0].events.push(event(Track::Compute, "forward 1", 5 * MS, 7 * MS));
    assert_eq!(chart(&ranks).bubble().unwrap().measured, (7.0 * 2.0 - 7.0) / 14.0);
}

#[test]
fn a_row_is_named_by_what_tells_the_ranks_apart() {
    assert_eq!(labels(&["one device"]), ["one device"]);
    assert_eq!(labels(&["dp0 pp0 cp0 tp0", "dp0 pp0 cp0 tp1"]), ["tp0", "tp1"]);
    let corners = ["dp0 pp0 cp0 tp0", "dp0 pp1 cp0 tp0", "dp1 pp0 cp0 tp0", "dp1 pp1 cp0 tp0"];
    assert_eq!(labels(&corners), ["dp0 pp0", "dp0 pp1", "dp1 pp0", "dp1 pp1"]);
}

#[test]
fn without_a_pipeline_passes_are_arrows() {
    let passes = [("forward", 0, 1), ("backward", 1, 3), ("forward", 3, 4), ("backward", 4, 6)];
    let mut events: Vec<_> =
        passes.map(|(name, a, b)| event(Track::Compute, name, a * MS, b * MS)).into();
    events.push(event(Track::Compute, "optimizer", 6 * MS, 7 * MS));
    let ranks = [RankTrace { rank: 0, name: "one device".into(), events }];
    let text = "\
one device │>><<<<>><<<<│
            > forward, < backward, · waiting; 6.0 ms
";
    assert_eq!(chart(&ranks).text(25), text);
    assert_eq!(chart(&ranks).bubble(), None);
}

#[test]
fn the_picture_shows_every_pass_and_says_what_it_shows() {
    let chart = chart(&step(0, 4, |stage| one_f_one_b(stage, 4, 12)));
    let svg = chart.svg();
    let count = |text: &str| svg.matches(text).count();
    // One of each in the legend.
    assert_eq!((count("class=\"forward\""), count("class=\"backward\"")), (49, 49));
    assert_eq!(
        (count("<title>forward 11: 1.000 ms"), count("<title>backward 11: 2.000 ms")),
        (4, 4)
    );
    assert_eq!((count(">11</text>"), count(">pp3</text>"), count("role=\"img\"")), (8, 1, 1));
    let caption = "idle: measured 20 %, (pp − 1)/(m + pp − 1) = 20 %";
    assert_eq!(count(caption), 2, "drawn, and told to those who cannot see it");
    // Twelve micro-batches of 3 ms, in 45.
    let rows = "pp2: busy 80 %, waits longest from 41.0 to 45.0 ms. pp3: busy 80 %, ";
    assert_eq!(count(rows), 1, "{svg}");
}
