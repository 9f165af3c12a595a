//! One run writes a checkpoint, and what is read is what was written.

use checkpoint::saved::{
    CheckpointReader, CheckpointWriter, Piece, Progress, RankFile, delete_older, named_in,
};
use checkpoint::{LlamaConfig, Region};
use std::path::Path;
use tch::Tensor;

fn commit(writer: CheckpointWriter, step: usize, parts: Vec<RankFile>) {
    let text = r#"{"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 8,
        "num_attention_heads": 4}"#;
    let model = LlamaConfig::from_hf_json(text).unwrap().0;
    let progress = Progress {
        step,
        global_batch: 1,
        seq_len: 1,
        shuffle: None,
        samples: 1,
        data: 1,
        settings: Default::default(),
    };
    writer.commit(&model, progress, parts).unwrap();
}

fn piece(name: &str, global_shape: &[i64], offsets: &[i64], extents: &[i64]) -> Piece {
    let region = Region { offsets: offsets.to_vec(), extents: extents.to_vec() };
    Piece { name: name.into(), global_shape: global_shape.to_vec(), region }
}

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

/// Numbers of a 5 × 7 tensor, each of which says where it stands.
fn grid() -> Tensor {
    Tensor::arange(35, (tch::Kind::Float, tch::Device::Cpu)).view([5, 7])
}

/// A checkpoint of [`grid`] in pieces, a file for each: offsets, then extents.
fn in_pieces(dir: &Path, pieces: &[[[i64; 2]; 2]]) -> CheckpointReader {
    let writer = CheckpointWriter::new(dir, 3);
    writer.begin().unwrap();
    let files = pieces.iter().enumerate().map(|(rank, [offsets, extents])| {
        let part = grid().narrow(0, offsets[0], extents[0]).narrow(1, offsets[1], extents[1]);
        writer.write(rank, vec![(piece("grid", &[5, 7], offsets, extents), part)]).unwrap()
    });
    let files = files.collect();
    commit(writer, 3, files);
    CheckpointReader::open(dir).unwrap()
}

/// Cut by rows, by columns, and by both with borders that do not meet.
#[test]
fn any_box_is_put_together_from_any_pieces() {
    for pieces in [
        vec![[[0, 0], [5, 7]]],
        vec![[[0, 0], [2, 7]], [[2, 0], [3, 7]]],
        vec![[[0, 4], [5, 3]], [[0, 0], [5, 4]]],
        vec![[[0, 0], [2, 3]], [[0, 3], [3, 4]], [[2, 0], [3, 3]], [[3, 3], [2, 4]]],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let reader = in_pieces(dir.path(), &pieces);
        for (top, left) in (0..5).flat_map(|top| (0..7).map(move |left| (top, left))) {
            for (rows, columns) in
                (1..=5 - top).flat_map(|rows| (1..=7 - left).map(move |columns| (rows, columns)))
            {
                let wanted = piece("grid", &[5, 7], &[top, left], &[rows, columns]);
                let expected = grid().narrow(0, top, rows).narrow(1, left, columns);
                let read = reader.read(&wanted).unwrap();
                assert!(read.equal(&expected), "{wanted:?} from {pieces:?}: {read}");
            }
        }
    }
}

#[test]
fn a_part_that_is_in_no_file_or_in_two_is_named() {
    let refusal = |pieces: &[[[i64; 2]; 2]], wanted: [[i64; 2]; 2]| {
        let dir = tempfile::tempdir().unwrap();
        let wanted = piece("grid", &[5, 7], &wanted[0], &wanted[1]);
        let error = in_pieces(dir.path(), pieces).read(&wanted).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    };
    let all = [[0, 0], [5, 7]];
    let corners = [[[0, 0], [5, 4]], [[0, 4], [3, 3]], [[4, 4], [1, 3]]];
    assert_eq!(refusal(&corners, all), "checkpoint DIR/step-000003 lacks [3..4, 4..7] of grid");
    assert_eq!(
        refusal(&corners, [[2, 3], [2, 2]]),
        "checkpoint DIR/step-000003 lacks [3..4, 4..5] of grid"
    );
    let twice = [[[0, 0], [3, 7]], [[2, 0], [3, 7]]];
    assert_eq!(
        refusal(&twice, all),
        "DIR/step-000003: [2..3, 0..7] of grid is in rank-00000.safetensors and in rank-00001.safetensors"
    );
    // As many numbers as are wanted, but not these.
    let wrong = [[[0, 0], [3, 7]], [[1, 0], [2, 7]]];
    assert!(refusal(&wrong, all).contains("[1..3, 0..7] of grid is in"));
    // What is not wanted may be anywhere.
    let dir = tempfile::tempdir().unwrap();
    let wanted = piece("grid", &[5, 7], &[0, 0], &[2, 7]);
    assert!(in_pieces(dir.path(), &twice).read(&wanted).unwrap().equal(&grid().narrow(0, 0, 2)));

    let dir = tempfile::tempdir().unwrap();
    let wanted = piece("grid", &[7, 5], &[0, 0], &[5, 5]);
    let error = in_pieces(dir.path(), &[all]).read(&wanted).unwrap_err().to_string();
    assert_eq!(error, "grid has shape [5, 7], not [7, 5]");
}

#[test]
fn another_format_and_a_piece_that_fits_nowhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    in_pieces(dir.path(), &[[[0, 0], [5, 7]]]);
    let manifest = dir.path().join("step-000003/checkpoint.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let note = r#"{"name":"grid","global_shape":[5,7],"offsets":[0,0],"extents":[5,7]}"#;
    assert!(text.contains(note), "{text}");
    let refusal = |old: &str, new: &str| {
        assert!(text.contains(old), "{text} has no {old}");
        std::fs::write(&manifest, text.replace(old, new)).unwrap();
        let error = CheckpointReader::open(dir.path()).unwrap_err();
        format!("{error:#}").replace(&dir.path().display().to_string(), "DIR")
    };
    // As the version before wrote it.
    let before = r#"{"name":"grid","shape":[5,7],"split":[0,{"start":0,"end":5}]}"#;
    let text_before = text.replace(note, before).replace(r#""format":2"#, r#""format":1"#);
    std::fs::write(&manifest, text_before).unwrap();
    let error = CheckpointReader::open(dir.path()).unwrap_err();
    assert_eq!(
        format!("{error:#}").replace(&dir.path().display().to_string(), "DIR"),
        "DIR/step-000003 has format 1, and this program reads format 2: resume with the version of the \
         program that saved it"
    );
    let damaged =
        |what: &str| format!("DIR/step-000003/checkpoint.json is damaged: grid has no {what}");
    for (extents, what) in
        [("[5,8]", "[0..5, 0..8], for it is [5, 7]"), ("[-1,7]", "[0..-1, 0..7], for it is [5, 7]")]
    {
        let error = refusal(r#""extents":[5,7]"#, &format!(r#""extents":{extents}"#));
        assert_eq!(error, damaged(what));
    }
    let error = refusal(r#""offsets":[0,0]"#, r#""offsets":[0]"#);
    assert!(error.contains("checkpoint.json is damaged"), "{error}");
}
