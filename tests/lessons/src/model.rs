//! The model that lessons train, and the numbers that they feed.

use data::{MicroBatch, Random};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Small enough to be trained within a blink, with every mechanism in it: grouped-query attention,
/// heads that do not make up the hidden size, two layers, an intermediate size that is no power of
/// two, scaled rotary frequencies. Without clipping, which would hide a factor in the gradients.
const MODEL: &str = r#"
[model]
vocab_size = VOCAB
hidden_size = 32
intermediate_size = 48
num_hidden_layers = LAYERS
num_attention_heads = 8
num_key_value_heads = 4
head_dim = 6
rms_norm_eps = 1e-5
rope_theta = 10000.0
max_position_embeddings = 64
rope_scaling = { factor = 8.0, low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_position_embeddings = 16 }
tie_word_embeddings = TIED

[data]
seq-len = 16

[train]
steps = 4
lr = 1e-2
min-lr = 1e-3
warmup = 1
weight-decay = 0.1
clip = 0.0
seed = 7

[run]
dtype = "f64"
sample = 0
timeout = 8.0
"#;

/// What lessons vary in the model.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Whether head and embedding are one.
    pub tied: bool,
    /// Decoder layers.
    pub layers: i64,
    /// Words.
    pub vocab: i64,
}

impl Default for Model {
    /// 259 words, which no even number of ranks divides.
    fn default() -> Self {
        Self { tied: false, layers: 2, vocab: 259 }
    }
}

impl Model {
    /// The flags of a run on it.
    pub fn flags(self, run: &str) -> Vec<String> {
        let mut flags = vec!["--config".into(), self.file().display().to_string()];
        flags.extend(run.split_whitespace().map(str::to_owned));
        flags
    }

    fn file(self) -> PathBuf {
        let Self { tied, layers, vocab } = self;
        let path = scratch(&format!("lesson-{tied}-{layers}-{vocab}.toml"));
        // Tests run side by side: each writes the same text under its own name, then moves it
        // into place.
        let own = path.with_extension(format!(
            "{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let text = MODEL.replace("TIED", &tied.to_string());
        let text = text.replace("LAYERS", &layers.to_string());
        std::fs::write(&own, text.replace("VOCAB", &vocab.to_string())).expect("can be written");
        std::fs::rename(&own, &path).expect("can be moved");
        path
    }
}

/// Token ids of the whole vocabulary in random order: `[batch, seq]`.
pub fn tokens(seed: u64, batch: i64, seq: i64, vocab: i64) -> Tensor {
    let mut random = Random::new(seed, 0);
    let count = (batch * seq) as usize;
    let mut ids = vec![];
    while ids.len() < count {
        ids.extend(random.permutation(vocab as usize).into_iter().map(|id| id as i64));
    }
    Tensor::from_slice(&ids[..count]).view([batch, seq])
}

/// `count` micro-batches of `batch` sequences of 16 tokens, which differ from one to the next.
pub fn micro_batches(count: usize, batch: i64, vocab: i64) -> Vec<MicroBatch> {
    let one = |i: usize| {
        let text = tokens(3 + i as u64, batch, 17, vocab);
        MicroBatch { inputs: text.narrow(1, 0, 16), targets: text.narrow(1, 1, 16) }
    };
    (0..count).map(one).collect()
}

/// Numbers in f64, between −1 and 1, that are not all the same and differ from seed to seed.
pub fn numbers(seed: i64, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let at = Tensor::arange(count, (Kind::Double, Device::Cpu)) + 97.0 * seed as f64;
    (at * 0.7).sin().view(shape)
}

/// A place for a file of the running tests.
pub fn scratch(name: &str) -> PathBuf {
    // Beside the test's binary: target/debug.
    let binary = std::env::current_exe().expect("this program is a file");
    let dir = binary.with_file_name("lessons-scratch");
    std::fs::create_dir_all(&dir).expect("target can be written to");
    dir.join(name)
}
