//! One run writes a checkpoint, and what is read is what was written.

mod common;

use checkpoint::saved::{CheckpointReader, CheckpointWriter, RankFile, delete_older, named_in};
use common::{commit, piece};
use std::path::Path;
use tch::Tensor;

fn save(dir: &Path, step: usize) {
    let writer = CheckpointWriter::new(dir, step);
    writer.begin().unwrap();
    commit(writer, step, vec![]);
}

#[test]
fn of_two_runs_that_write_to_one_directory_the_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = CheckpointWriter::new(dir.path(), 3);
    first.begin().unwrap();
    let error = CheckpointWriter::new(dir.path(), 3).begin().unwrap_err().to_string();
    let shown = dir.path().display();
    assert_eq!(error, format!("another run is saving to {shown}: give each its own --save"));
    commit(first, 3, vec![]);

    // What a broken run has left is in nobody's way, unless it is something else.
    CheckpointWriter::new(dir.path(), 4).begin().unwrap();
    save(dir.path(), 6);
    assert!(!dir.path().join(".step-000004.partial").exists());
    std::fs::write(dir.path().join(".step-000005.partial"), "").unwrap();
    let error = CheckpointWriter::new(dir.path(), 5).begin().unwrap_err().to_string();
    assert_eq!(
        error,
        format!("cannot remove {shown}/.step-000005.partial, which an interrupted run has left")
    );
}

#[test]
fn of_the_older_checkpoints_only_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for step in [2, 10, 8, 4, 6] {
        save(dir.path(), step);
    }
    std::fs::create_dir(dir.path().join("step-notes")).unwrap();
    let after = |step: usize, keep: usize| {
        delete_older(dir.path(), step, keep).unwrap();
        let mut steps: Vec<_> =
            named_in(dir.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        steps.sort();
        steps
    };
    assert_eq!(after(8, 5), [2, 4, 6, 8, 10], "there are not that many");
    assert_eq!(after(8, 3), [4, 6, 8, 10], "later ones are not counted");
    assert_eq!(after(8, 1), [8, 10]);
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 4, "these two, the lock, and what is no checkpoint");
}

#[test]
fn a_checkpoint_is_called_after_the_updates_that_it_has_made() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 3);
    let as_ = |name: &str| dir.path().join(name);
    std::fs::rename(as_("step-000003"), as_("step-000004")).unwrap();
    let error = CheckpointReader::open(dir.path()).unwrap_err().to_string();
    let shown = dir.path().display();
    assert_eq!(error, format!("{shown}/step-000004 has made 3 updates, but its name says 4"));
    std::fs::rename(as_("step-000004"), as_("best")).unwrap();
    assert_eq!(CheckpointReader::open(&as_("best")).unwrap().progress().step, 3);
}

/// Opening one reads its whole header, and there are many tensors.
#[test]
fn a_file_of_tensors_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let writer = CheckpointWriter::new(dir.path(), 3);
    writer.begin().unwrap();
    // "rows" is split between the files, and each has one of its own.
    let parts = [0, 1].map(|rank| {
        let rows = piece("rows", &[4], &[2 * rank as i64], &[2]);
        let own = piece(&format!("own {rank}"), &[1], &[0], &[1]);
        let numbers = |n: &[i64]| Tensor::from_slice(n).to_kind(tch::Kind::Float);
        let first = 10 * rank as i64;
        let tensors = vec![(rows, numbers(&[first, first + 1])), (own, numbers(&[first + 2]))];
        writer.write(rank, tensors).unwrap()
    });
    commit(writer, 3, parts.into());

    let reader = CheckpointReader::open(dir.path()).unwrap();
    let read = |name: &str, n| {
        let wanted = piece(name, &[n], &[0], &[n]);
        reader.read(&wanted).map(|t| Vec::<f32>::try_from(t).unwrap()).map_err(|e| e.to_string())
    };
    assert_eq!(read("rows", 4).unwrap(), [0., 1., 10., 11.]);
    for file in ["rank-00000.safetensors", "rank-00001.safetensors"] {
        std::fs::remove_file(dir.path().join("step-000003").join(file)).unwrap();
    }
    assert_eq!(read("own 0", 1).unwrap(), [2.]);
    assert_eq!(read("own 1", 1).unwrap(), [12.]);
    let shown = dir.path().join("step-000003");
    let lacks = format!("checkpoint {} lacks [0..1] of other", shown.display());
    assert_eq!(read("other", 1).unwrap_err(), lacks);
}

/// By name, step-1000000 comes before step-999999.
#[test]
fn the_newest_is_that_of_the_most_updates_however_long_its_name() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1_000_000, 999_999, 10_000_000, 9_999_999] {
        save(dir.path(), step);
    }
    let newest = || CheckpointReader::open(dir.path()).unwrap().progress().step;
    assert_eq!(newest(), 10_000_000);
    std::fs::remove_dir_all(dir.path().join("step-10000000")).unwrap();
    assert_eq!(newest(), 9_999_999);
    save(dir.path(), 10_000_000);
    assert_eq!(
        CheckpointReader::open_step(dir.path(), 1_000_000).unwrap().progress().step,
        1_000_000
    );
    let kept = |keep: usize| {
        delete_older(dir.path(), 10_000_000, keep).unwrap();
        let named = named_in(dir.path()).unwrap().into_iter();
        let mut steps: Vec<_> = named.map(|(step, _)| step).collect();
        steps.sort();
        steps
    };
    assert_eq!(kept(3), [1_000_000, 9_999_999, 10_000_000]);
    assert_eq!(kept(2), [9_999_999, 10_000_000]);
    // A directory that is not whole is none, however new it is called.
    std::fs::create_dir(dir.path().join("step-20000000")).unwrap();
    assert_eq!(newest(), 10_000_000);
}

/// Ranks divide the files among themselves: as many as wrote them, fewer or more.
#[test]
fn every_file_is_compared_with_what_was_written_by_one_rank_or_another() {
    let dir = tempfile::tempdir().unwrap();
    let writer = CheckpointWriter::new(dir.path(), 3);
    writer.begin().unwrap();
    let write = |rank: usize| {
        let all = piece(&format!("{rank}"), &[2], &[0], &[2]);
        writer.write(rank, vec![(all, Tensor::from_slice(&[1f32, 2.0]))]).unwrap()
    };
    let files: Vec<RankFile> = (0..5).map(write).collect();
    commit(writer, 3, files);
    let reader = CheckpointReader::open(dir.path()).unwrap();
    let verify = |ranks: usize| (0..ranks).try_for_each(|rank| reader.verify(rank, ranks));
    for rank in 0..5 {
        let path = dir.path().join(format!("step-000003/rank-{rank:05}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for ranks in 1..=7 {
            verify(ranks).unwrap();
            std::fs::write(&path, &flipped).unwrap();
            let error = verify(ranks).unwrap_err().to_string();
            let expected =
                format!("{} is not what was written: its SHA-256 differs", path.display());
            assert_eq!(error, expected, "{ranks} ranks");
            std::fs::write(&path, &bytes).unwrap();
        }
    }
}
