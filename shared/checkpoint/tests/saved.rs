//! One run writes a checkpoint, and what is read is what was written.

use checkpoint::LlamaConfig;
use checkpoint::saved::{Draft, Progress, Saved};
use std::path::Path;

fn commit(draft: Draft, step: usize) {
    let text = r#"{"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 8,
        "num_attention_heads": 4}"#;
    let model = LlamaConfig::from_hf_json(text).unwrap();
    let progress =
        Progress { step, global_batch: 1, seq_len: 1, shuffle: None, samples: 1, data: 1 };
    draft.commit(&model, progress, vec![]).unwrap();
}

fn save(dir: &Path, step: usize) {
    let draft = Draft::new(dir, step);
    draft.begin().unwrap();
    commit(draft, step);
}

#[test]
fn of_two_runs_that_write_to_one_directory_the_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Draft::new(dir.path(), 3);
    first.begin().unwrap();
    let error = Draft::new(dir.path(), 3).begin().unwrap_err().to_string();
    let shown = dir.path().display();
    assert_eq!(error, format!("another run is saving to {shown}: give each its own --save"));
    commit(first, 3);

    // What a broken run has left is in nobody's way, unless it is something else.
    Draft::new(dir.path(), 4).begin().unwrap();
    save(dir.path(), 4);
    std::fs::write(dir.path().join(".step-000005.partial"), "").unwrap();
    let error = Draft::new(dir.path(), 5).begin().unwrap_err().to_string();
    assert_eq!(error, format!("cannot remove {shown}/.step-000005.partial, left by a broken run"));
}

#[test]
fn a_checkpoint_is_called_after_the_updates_that_it_has_made() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 3);
    let as_ = |name: &str| dir.path().join(name);
    std::fs::rename(as_("step-000003"), as_("step-000004")).unwrap();
    let error = Saved::open(dir.path()).unwrap_err().to_string();
    let shown = dir.path().display();
    assert_eq!(error, format!("{shown}/step-000004 has made 3 updates, and its name says 4"));
    std::fs::rename(as_("step-000004"), as_("best")).unwrap();
    assert_eq!(Saved::open(&as_("best")).unwrap().progress().step, 3);
}
