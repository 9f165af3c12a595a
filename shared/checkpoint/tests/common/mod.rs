//! What the tests of checkpoints share.
#![allow(dead_code)] // each test file uses its part

use checkpoint::saved::{CheckpointWriter, Piece, Progress, RankFile};
use checkpoint::{LlamaConfig, Region};

/// Makes a checkpoint of these files visible.
pub fn commit(writer: CheckpointWriter, step: usize, parts: Vec<RankFile>) {
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

/// A note of a box of the tensor `name`.
pub fn piece(name: &str, global_shape: &[i64], offsets: &[i64], extents: &[i64]) -> Piece {
    let region = Region { offsets: offsets.to_vec(), extents: extents.to_vec() };
    Piece { name: name.into(), global_shape: global_shape.to_vec(), region }
}
