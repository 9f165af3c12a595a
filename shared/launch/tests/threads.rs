//! Worlds of threads: results, and how one rank's failure ends them all.

use anyhow::{bail, ensure};
use comm::{Layout, Mesh};
use launch::{Launch, launch};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tch::Tensor;

const SIXTEEN: Layout = Layout { dp: 2, pp: 2, cp: 2, tp: 2 };

/// The product's, not a measurement: all is over so long after a rank has failed.
const PROMISE: Duration = Duration::from_secs(5);

fn world(layout: Layout) -> Launch {
    Launch { layout, ..Launch::default() }
}

/// The error of a world in which a rank fails. A world that does not end fails the test.
fn failure<T: Send + 'static>(
    layout: Layout,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T> + Send + Sync + 'static,
) -> String {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(launch(&world(layout), rank_main).map(|_| ())));
    let outcome = end.recv_timeout(Duration::from_secs(120)).expect("the world ends");
    format!("{:#}", outcome.expect_err("a rank fails"))
}

/// Sums 1 over the world until something stops it.
fn keep_talking(mesh: &Mesh) -> anyhow::Result<()> {
    loop {
        mesh.world.all_reduce(&Tensor::from(1.0))?;
    }
}

#[test]
fn results_come_in_rank_order_and_threads_bear_coordinates() {
    let names = launch(&world(SIXTEEN), |mesh| {
        let name = std::thread::current().name().map(str::to_string);
        ensure!(name == Some(mesh.coords.to_string()), "{name:?}");
        Ok(mesh.coords.to_string())
    });
    let expected: Vec<_> = (0..16).map(|rank| SIXTEEN.coords(rank).to_string()).collect();
    assert_eq!(names.unwrap(), expected);
}

#[test]
fn who_waits_for_a_disk_waits_as_long_as_it_takes() {
    let timeout = Duration::from_millis(100);
    let hurried = Launch { timeout, ..world(Layout { dp: 3, ..Layout::default() }) };
    let gathered = launch(&hurried, move |mesh| {
        if mesh.rank == 1 {
            std::thread::sleep(4 * timeout);
        }
        let gathered = mesh.gather((mesh.rank != 1).then_some(mesh.rank))?;
        if mesh.is_leader() {
            std::thread::sleep(4 * timeout);
        }
        mesh.untimed.barrier()?;
        Ok(gathered)
    });
    assert_eq!(gathered.unwrap(), [vec![0, 2], vec![], vec![]]);

    let error = failure(SIXTEEN, |mesh| match mesh.rank {
        5 => bail!("the disk is full"),
        _ => Ok(mesh.untimed.barrier()?),
    });
    assert_eq!(error, "rank dp0 pp1 cp0 tp1 failed: the disk is full");
}

#[test]
fn every_group_joins_the_ranks_it_should() {
    let sums = launch(&world(SIXTEEN), |mesh| {
        let groups = [&mesh.world, &mesh.dp, &mesh.pp, &mesh.cp, &mesh.tp, &mesh.dp_cp];
        let mut sums = [0; 6];
        for (sum, group) in sums.iter_mut().zip(groups) {
            let rank = Tensor::from(1_i64 << mesh.rank); // one bit for each rank
            group.all_reduce(&rank)?;
            *sum = rank.int64_value(&[]);
        }
        Ok(sums)
    });
    for (rank, sums) in sums.unwrap().into_iter().enumerate() {
        let bits = ["world", "dp", "pp", "cp", "tp", "dp_cp"].map(|name| {
            let members = SIXTEEN.group(name, rank).members;
            members.into_iter().map(|rank| 1 << rank).sum::<i64>()
        });
        assert_eq!(sums, bits, "rank {rank}");
    }
}

#[test]
fn bytes_are_counted_by_dimension_and_once() {
    // With cp 1 the group dp_cp is the group dp, and what goes over it counts once.
    for cp in [1, 2] {
        let layout = Layout { dp: 2, cp, ..Layout::default() };
        let bytes = launch(&world(layout), |mesh| {
            let eight = Tensor::zeros([8], (tch::Kind::Double, tch::Device::Cpu)); // [8]
            mesh.dp_cp.all_reduce(&eight)?;
            mesh.world.barrier()?;
            let after_dp_cp = mesh.comm_bytes();
            mesh.dp.all_reduce(&eight)?;
            Ok((after_dp_cp, mesh.comm_bytes()))
        });
        for (after_dp_cp, after_dp) in bytes.unwrap() {
            let n = 2 * cp as u64;
            assert_eq!(after_dp_cp["dp"], 2 * (n - 1) * 64 / n, "cp {cp}");
            assert_eq!(after_dp["dp"] - after_dp_cp["dp"], 64, "cp {cp}");
            assert_eq!((after_dp["tp"], after_dp["pp"], after_dp["cp"]), (0, 0, 0));
        }
    }
}

#[test]
fn an_error_ends_all_ranks_and_names_its_own() {
    let error = failure(SIXTEEN, |mesh| {
        if mesh.rank == 9 {
            bail!("the loss is not finite");
        }
        keep_talking(mesh)
    });
    assert_eq!(error, "rank dp1 pp0 cp0 tp1 failed: the loss is not finite");
}

#[test]
fn a_panic_ends_all_ranks_and_names_its_own() {
    let error = failure(SIXTEEN, |mesh| {
        assert!(mesh.rank != 5, "index {} is out of bounds", 7);
        keep_talking(mesh)
    });
    assert!(error.starts_with("rank dp0 pp1 cp0 tp1 panicked at "), "{error}");
    assert!(error.ends_with("index 7 is out of bounds"), "{error}");
}

#[test]
fn what_a_group_refuses_is_told_with_the_rank() {
    let error = failure(Layout { dp: 2, ..Layout::default() }, |mesh| {
        if mesh.rank == 1 {
            mesh.dp.send(&Tensor::from(1.0), 1)?; // to itself
        }
        keep_talking(mesh)
    });
    assert!(error.starts_with("rank dp1 pp0 cp0 tp0 failed: send on group dp"), "{error}");
}

#[test]
fn a_rank_deep_in_a_computation_is_left_behind() {
    // Dropped when the test ends, so that the sleeper does not outlive it.
    let (_awake, asleep) = mpsc::channel::<()>();
    let asleep = std::sync::Mutex::new(asleep);
    let start = Instant::now();
    let error = failure(Layout { dp: 3, ..Layout::default() }, move |mesh| match mesh.rank {
        0 => bail!("no space left"),
        1 => {
            let _ = asleep.lock().unwrap().recv_timeout(Duration::from_secs(3600));
            Ok(())
        }
        _ => keep_talking(mesh),
    });
    assert_eq!(error, "rank dp0 pp0 cp0 tp0 failed: no space left");
    assert!(start.elapsed() < PROMISE, "{:?}", start.elapsed());
}

/// The failing rank still expects a message from a peer that has gone on to something else.
#[test]
fn an_error_ends_all_ranks_while_a_message_is_in_flight() {
    let start = Instant::now();
    let error = failure(Layout { dp: 2, ..Layout::default() }, |mesh| {
        if mesh.rank == 0 {
            let _on_its_way = mesh.dp.irecv(&Tensor::from(0.0), 1);
            bail!("no space left");
        }
        keep_talking(mesh)
    });
    assert_eq!(error, "rank dp0 pp0 cp0 tp0 failed: no space left");
    assert!(start.elapsed() < PROMISE, "{:?}", start.elapsed());
}

#[test]
fn what_a_group_refuses_ends_the_run_though_nobody_waits_for_it() {
    let error = failure(Layout { dp: 2, ..Layout::default() }, |mesh| {
        if mesh.rank == 1 {
            drop(mesh.dp.isend(&Tensor::from(1.0), 1)); // to itself
        }
        keep_talking(mesh)
    });
    assert!(error.contains("send on group dp names rank 1"), "{error}");
}

/// Takes its time, as what libtorch keeps for a thread might.
struct Slow(mpsc::Sender<()>);

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(300));
        let _ = self.0.send(());
    }
}

thread_local! {
    static SLOW: std::cell::RefCell<Option<Slow>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn ranks_that_have_ended_are_gone_when_a_failure_is_told() {
    let (gone, all_gone) = mpsc::channel();
    let error = failure(Layout { dp: 2, ..Layout::default() }, move |mesh| {
        SLOW.set(Some(Slow(gone.clone())));
        match mesh.rank {
            0 => bail!("no space left"),
            _ => keep_talking(mesh),
        }
    });
    assert!(error.ends_with("no space left"), "{error}");
    assert_eq!(all_gone.try_iter().count(), 2);
}

#[test]
fn intra_op_threads_are_set_for_each_rank() {
    let threads = |layout, threads_per_rank| {
        let settings = Launch { layout, threads_per_rank, ..Launch::default() };
        launch(&settings, |mesh| {
            mesh.world.barrier()?; // all have set theirs
            Ok(tch::get_num_threads())
        })
    };
    let two = Layout { tp: 2, ..Layout::default() };
    let one = Launch::default().threads_per_rank;
    assert_eq!(threads(two, one).unwrap(), [1, 1]);
    assert_eq!(threads(two, 3).unwrap(), [3, 3]);
    assert_eq!(threads(Layout::default(), one).unwrap(), [1]);
}

#[test]
fn traces_of_all_ranks_are_written_by_rank_0() {
    let path = std::env::temp_dir().join(format!("ferrotron-trace-{}.json", std::process::id()));
    let settings = Launch { trace: true, ..world(Layout { dp: 2, tp: 2, ..Layout::default() }) };
    let to = path.clone();
    let run = launch(&settings, move |mesh| {
        let name = format!("mark of {}", mesh.rank);
        drop(mesh.trace.span(report::Track::Compute, name));
        mesh.write_trace(&to)
    });
    let text = run.and_then(|_| Ok(std::fs::read_to_string(&path)?));
    let _ = std::fs::remove_file(&path);
    let text = text.unwrap();
    for rank in 0..4 {
        assert!(text.contains(&format!("mark of {rank}")), "rank {rank}");
    }
    assert!(text.contains("dp1 pp0 cp0 tp1"));
}

#[test]
fn a_dimension_of_size_zero_is_refused() {
    let error = failure(Layout { cp: 0, ..Layout::default() }, |_| Ok(()));
    assert!(error.contains("cp is 0"), "{error}");
}
