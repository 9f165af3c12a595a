//! Lines whose heights are known exactly.

use super::*;

const MIB: i64 = 1 << 20;

/// `held` at first, then the changes a millisecond apart, from the first on.
fn line(rank: &str, held: u64, changes: &[i64]) -> MemoryLine {
    let changes = changes.iter().enumerate().map(|(i, &bytes)| (i as f64 + 1.0, bytes)).collect();
    MemoryLine { rank: rank.into(), held, changes, passes: Vec::new() }
}

/// A step of 1F1B with 8 micro-batches on 2 stages, as 16 ranks could record it: each pass
/// allocates and frees `each` temporaries, forward keeps what backward frees.
fn one_f_one_b(each: usize) -> Vec<MemoryLine> {
    let ranks = (0..16).map(|i| (i / 8, i / 4 % 2, i / 2 % 2, i % 2));
    ranks
        .map(|(dp, pp, cp, tp)| {
            let mut order: Vec<_> = (0..2 - pp).map(|n| (true, n)).collect();
            for n in 0..8 {
                order.push((false, n));
                order.extend((n + 2 - pp < 8).then_some((true, n + 2 - pp)));
            }
            let mut at = pp as f64 * 3.0 + 0.1 * (cp + tp) as f64;
            let (mut changes, mut passes) = (Vec::new(), Vec::new());
            for (is_forward, n) in order {
                let (length, kept) = if is_forward { (3.0, 1) } else { (6.0, -1) };
                for i in 0..each {
                    let now = at + length * i as f64 / each as f64;
                    changes.push((now, MIB / 2 + (i % 7) as i64 * 4096));
                    changes.push((now + 0.2 / each as f64, kept * 3 * MIB / each as i64));
                    let freed = -(MIB / 2 + (i % 7) as i64 * 4096);
                    changes.push((now + 0.4 / each as f64, freed));
                }
                let name = if is_forward { "forward" } else { "backward" };
                passes.push((at, at + length, format!("{name} {n}")));
                at += length + 0.05;
            }
            passes.push((at, at + 1.5, "optimizer".into()));
            let rank = format!("dp{dp} pp{pp} cp{cp} tp{tp}");
            MemoryLine { rank, held: 2 * MIB as u64, changes, passes }
        })
        .collect()
}

/// Where the lines of a run's colour go: their corners, in units of the picture.
fn corners(svg: &str, run: usize) -> Vec<Vec<(f64, f64)>> {
    let class = format!(" run{run}\" d=\"M");
    let paths = svg.lines().filter(|line| line.starts_with("<path class=\"line"));
    let paths = paths.filter_map(|line| line.split_once(&class)?.1.split('"').next());
    let corners = paths.map(|path| {
        let path = path.replace('h', " h").replace('v', " v");
        let mut words = path.split(' ');
        let mut number = || words.next().unwrap().parse().unwrap();
        let mut at: (f64, f64) = (number(), number());
        let step = |word: &str| {
            let (way, by) = word.split_at(1);
            *if way == "h" { &mut at.0 } else { &mut at.1 } += by.parse::<f64>().unwrap();
            at
        };
        words.map(step).collect()
    });
    corners.collect()
}

/// As [`corners`], from the height of the first.
fn rises(corners: &[(f64, f64)]) -> Vec<f64> {
    corners.iter().map(|at| ((corners[0].1 - at.1) * 10.0).round() / 10.0).collect()
}

#[test]
fn a_peak_counts_what_was_held_before_and_is_the_first_of_its_height() {
    let step = line("dp0", 100, &[50, -50, 50, -150, 10]);
    assert_eq!(step.peak(), (1.0, 150));
    assert_eq!(line("dp0", 100, &[-50, 20]).peak(), (0.0, 100));
    assert_eq!(MemoryLine::default().peak(), (0.0, 0));
}

#[test]
fn a_column_shows_the_highest_and_the_lowest_of_many_changes() {
    let columns = line("dp0", 10, &[5, 90, -100, 1, 0, 0, 0, 7]).columns(8.0, 2);
    let column = |i, low, high, last| Column { i, low, high, last };
    assert_eq!(columns, [column(0, 5, 105, 5), column(1, 6, 13, 13)]);
    assert_eq!(line("dp0", 10, &[]).columns(8.0, 2), []);
    // What lasts for less than a column is drawn all the same.
    let short = vec![(50.0, 4 * MIB), (50.001, -4 * MIB), (100.0, MIB)];
    let svg = ranks::svg(&[MemoryLine { changes: short, ..MemoryLine::default() }]);
    let rises = rises(&corners(&svg, 0)[0]);
    assert_eq!(rises, [0.0, 0.0, 160.0, 0.0, 0.0, 40.0, 40.0, 0.0]);
}

#[test]
fn a_line_rises_and_falls_by_its_bytes_on_a_scale_that_all_ranks_share() {
    let high = line("dp0 tp0", 0, &[4 * MIB, -3 * MIB]);
    let low = line("dp0 tp1", 2 * MIB as u64, &[-MIB]);
    let svg = ranks::svg(&[high, low]);
    let rows = corners(&svg, 0);
    // 160 units are 4 MiB. In a picture y counts downwards, and the area ends where it stands.
    assert_eq!(rises(&rows[0]), [0.0, 0.0, 160.0, 160.0, 40.0, 40.0, 0.0]);
    assert_eq!(rises(&rows[1]), [0.0, 0.0, -40.0, -40.0, -80.0]);
    let across: Vec<f64> = rows[0].iter().map(|at| at.0).collect();
    let middle = (across[0] + across[5]) / 2.0;
    assert!((across[1] - middle).abs() <= 1.0 && across[1] == across[2], "{across:?}");
    for said in [">tp0<", ">tp1<", ">4 MiB at 1.0 ms<", ">2 MiB at 0.0 ms<", ">1 MiB<"] {
        assert!(svg.contains(said), "{said}: {svg}");
    }
    assert!(svg.contains("tp1: begins with 2 MiB, peak 2 MiB at 0.0 ms, ends with 1 MiB."));
    assert!(svg.contains("The highest peak: 4 MiB at 1.0 ms, tp0."));
}

#[test]
fn sixteen_ranks_of_many_changes_make_a_small_file() {
    let svg = ranks::svg(&one_f_one_b(200));
    assert!(svg.len() < 200_000, "{}", svg.len());
    for (band, most) in [(">F0<", 16), (">B7<", 16)] {
        assert_eq!(svg.matches(band).count(), most, "{band}");
    }
    assert_eq!(svg.matches("<title>optimizer: 1.500 ms</title>").count(), 16);
}

#[test]
fn colours_follow_the_page_or_the_dark() {
    for svg in
        [ranks::svg(&one_f_one_b(2)), overlay(&[("a".into(), one_f_one_b(2))], None).unwrap()]
    {
        let (style, drawn) = svg.split_once("</style>").unwrap();
        assert!(!drawn.contains('#'), "every colour is a class's");
        assert!(style.contains("prefers-color-scheme: dark"));
        assert!(style.contains(".run0 { --run: var(--dp, #0B5394); }"));
        assert!(style.contains(".run0 { --run: var(--dp, #6cb6ff); }"));
    }
}

#[test]
fn runs_are_drawn_over_each_other_with_their_peaks() {
    let run = |name: &str, peak| {
        let lines = ["dp0 pp0", "dp0 pp1"].map(|rank| line(rank, 0, &[peak, 1 - peak]));
        (name.to_owned(), lines.to_vec())
    };
    let runs = [run("none", 40 * MIB), run("layer & all", 10 * MIB)];
    let svg = overlay(&runs, Some("pp1")).unwrap();
    assert!(svg.contains(">none: peak 40 MiB at 1.0 ms<"), "{svg}");
    assert!(svg.contains(">layer &amp; all: peak 10 MiB at 1.0 ms<"));
    assert!(svg.contains(">dp0 pp1<"));
    let highest = |run| rises(corners(&svg, run).last().unwrap()).into_iter().fold(0.0, f64::max);
    assert_eq!((highest(0), highest(1)), (300.0, 75.0), "they share a scale");

    let said = |runs: &[_], rank| format!("{:#}", overlay(runs, rank).unwrap_err());
    assert_eq!(
        said(&runs, Some("dp0 pp2")),
        "none: there is no rank dp0 pp2, only dp0 pp0, dp0 pp1"
    );
    let many = vec![run("a", 1); 7];
    assert_eq!(said(&many, None), "7 runs are too many for one picture: draw 6");
}

#[test]
fn the_data_stands_beside_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let lines = rounded(&one_f_one_b(2));
    write_memory(&at("run.svg"), &lines).unwrap();
    assert_eq!(std::fs::read_to_string(at("run.svg")).unwrap(), ranks::svg(&lines));
    assert_eq!(read_memory(&at("run.json")).unwrap(), lines);
    assert_eq!(dir.path().read_dir().unwrap().count(), 2, "nothing else");
    let error = write_memory(&at("run.json"), &lines).unwrap_err().to_string();
    assert!(error.ends_with("run.json would be overwritten by its data: let its name end in .svg"));
    assert_eq!(read_memory(&at("run.json")).unwrap(), lines, "nothing was written");
    let error = format!("{:#}", write_memory(Path::new("/nowhere/m.svg"), &lines).unwrap_err());
    assert!(error.starts_with("cannot write the picture of memory /nowhere/m.svg: "), "{error}");

    let said = |text: &str| {
        std::fs::write(at("other.json"), text).unwrap();
        format!("{:#}", read_memory(&at("other.json")).unwrap_err())
    };
    let other = "other.json: it is not what a run has written beside its picture of memory";
    assert!(said("{}").contains(other), "{}", said("{}"));
    assert!(said("[]").ends_with("other.json holds no rank"));
}

#[test]
fn bytes_are_said_in_the_unit_in_which_they_are_few() {
    let cases = [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2048, "2 KiB"),
        (150_000, "146 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (3_565_158, "3.4 MiB"),
        (251_255_586_816, "234 GiB"),
        (-1536, "-1.5 KiB"),
    ];
    for (bytes, said) in cases {
        assert_eq!(drawing::amount(bytes), said);
    }
}
