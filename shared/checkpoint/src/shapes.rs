//! Which weights a model has, and whether a directory holds them.

use crate::LlamaConfig;
use crate::safetensors_dir::{EMBEDDING, HEAD, SafetensorsDir, is_ignored};
use anyhow::{Result, anyhow, bail, ensure};
use std::collections::BTreeSet;

impl LlamaConfig {
    /// Every weight, in the order of the computation: its Hugging Face name and its shape. A head
    /// that is tied to the embedding is none.
    pub fn weights(&self) -> impl Iterator<Item = (String, Vec<i64>)> {
        let (vocab, hidden) = (self.vocab_size, self.hidden_size);
        let queries = self.num_attention_heads * self.head_dim();
        let (keys, inner) = (self.kv_heads() * self.head_dim(), self.intermediate_size);
        let layers = (0..self.num_hidden_layers).flat_map(move |layer| {
            let weights = [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![queries, hidden]),
                ("self_attn.k_proj", vec![keys, hidden]),
                ("self_attn.v_proj", vec![keys, hidden]),
                ("self_attn.o_proj", vec![hidden, queries]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
            ];
            weights.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape))
        });
        let head = (!self.tie_word_embeddings).then(|| (HEAD.to_owned(), vec![vocab, hidden]));
        std::iter::once((EMBEDDING.to_owned(), vec![vocab, hidden]))
            .chain(layers)
            .chain([("model.norm.weight".to_owned(), vec![hidden])])
            .chain(head)
    }
}

impl SafetensorsDir {
    /// As [`crate::check_weights`].
    pub(crate) fn check(&self, config: &LlamaConfig) -> Result<()> {
        let mut expected = BTreeSet::new();
        for (name, shape) in config.weights() {
            self.find(&name, &shape).map_err(|what| anyhow!("weight {name} {what:#}"))?;
            expected.insert(name);
        }
        for name in self.names().filter(|name| !expected.contains(*name)) {
            if is_ignored(name) {
                continue;
            }
            // transformers ignores a saved head if the head is tied: no harm, as long as
            // both are the same.
            if config.tie_word_embeddings && name == HEAD {
                let same = self.tensor(HEAD)? == self.tensor(EMBEDDING)?;
                ensure!(same, "tie_word_embeddings is true, but {HEAD} is not {EMBEDDING}");
                continue;
            }
            bail!(
                "weight {name} is in the model's files, but does not belong to the model of its config"
            );
        }
        Ok(())
    }
}
