//! A tensor that was written in pieces is read as any box of it.

mod common;

use checkpoint::saved::{CheckpointReader, CheckpointWriter};
use common::{commit, piece};
use std::path::Path;
use tch::Tensor;

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

#[test]
fn a_tensor_that_is_not_what_its_note_says_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let writer = CheckpointWriter::new(dir.path(), 3);
    writer.begin().unwrap();
    let note = piece("grid", &[5, 7], &[0, 0], &[5, 6]);
    let error = writer.write(0, vec![(note, grid())]).unwrap_err().to_string();
    assert_eq!(error, "grid has shape [5, 7], and its note says [5, 6]");
}
