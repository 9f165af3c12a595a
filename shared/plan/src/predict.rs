//! How long a step should take on a given GPU: what `plan.rs` counts, over what the GPU can do.

use cli::{Dtype, Figures, Gpu, flops_per_token};
use comm::Coords;

use crate::links::{self, OF_LINKS, cards};
use crate::plan::Plan;
use crate::run::Run;
use crate::schedule::walk;

/// The share of the peak that products reach, attention included. The best shape of cuBLAS in bf16
/// reaches 80% on an H100 and an H200 and 86% on an A100 (Bekman, *Machine Learning Engineering*:
/// 794 of 989, 268 of 312 TFLOP/s); a model's own shapes are not the best ones. Attention: on an
/// H100, where cuDNN computes it, FlashAttention-3 reaches up to 75% (Shah et al., 2024), and less
/// for short sequences and backward; on an A100 FlashAttention-2 reaches 50 to 73% (Dao, 2023).
pub const OF_PEAK: f64 = 0.70;
/// The same of FlashAttention-2 on Hopper, for which it was not written (Shah et al., 2024,
/// abstract). A ring calls it by name, since it needs its log-sum-exp.
pub const OF_PEAK_RING: f64 = 0.35;
/// The share of the memory's bandwidth that a long copy reaches: an assumption.
pub const OF_MEMORY: f64 = 0.90;

/// Seconds of one step of the slowest stage, by what it waits for. They add up to the step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// Matrix products.
    pub products: f64,
    /// Scores, softmax and weighted values.
    pub attention: f64,
    /// Everything that is bound by memory.
    pub elementwise: f64,
    /// The part of tp's sums that is not hidden behind products.
    pub tp: f64,
    /// The part of cp's rings that is not hidden behind attention.
    pub cp: f64,
    /// While other stages work and this one has nothing to do.
    pub bubble: f64,
    /// Waiting for messages between stages, which the schedule does not hide.
    pub pp: f64,
    /// The part of the gradients' sum that the last backward pass does not hide.
    pub dp: f64,
    /// The update of the weights.
    pub optimizer: f64,
}

impl Step {
    /// Each part under the name that the page gives it, in seconds.
    pub fn rows(&self) -> [(&'static str, f64); 9] {
        [
            ("matrix products", self.products),
            ("attention", self.attention),
            ("elementwise, casts", self.elementwise),
            ("tp, not hidden", self.tp),
            ("cp, not hidden", self.cp),
            ("bubble", self.bubble),
            ("pp, not hidden", self.pp),
            ("dp, not hidden", self.dp),
            ("optimiser", self.optimizer),
        ]
    }

    /// Of the whole step.
    pub fn seconds(&self) -> f64 {
        self.rows().iter().map(|(_, seconds)| seconds).sum()
    }

    /// While the stage has something to do.
    pub fn busy(&self) -> f64 {
        self.products + self.attention + self.elementwise + self.tp + self.cp
    }

    /// The step with `saved` seconds less of work, and the bubble shorter in proportion.
    pub fn less(&self, saved: f64) -> f64 {
        self.seconds() - saved * (1.0 + self.bubble / self.busy())
    }

    /// The step with each stage cut into `parts` that take turns (Narayanan et al., 2021). The
    /// pipeline fills in passes of a part each; the messages, `parts` times as many, are taken for
    /// hidden as now.
    pub fn interleaved(&self, parts: u64) -> f64 {
        self.seconds() - self.bubble * (1.0 - 1.0 / parts as f64)
    }
}

/// Operations per second of each GPU that are the model's own, where a step takes `seconds`: in the
/// usual count (`report::flops_per_token`) and in the strict one.
pub fn rates(config: &Run, seconds: f64) -> [f64; 2] {
    let tokens = (config.global_batch * config.seq_len) as f64 / config.layout.world() as f64;
    flops_per_token(&config.model, config.seq_len).map(|flops| flops * tokens / seconds)
}

/// The step of `plan` on GPUs with these figures.
pub fn predict(plan: &Plan, gpu: &Figures) -> Step {
    let stages: Vec<Step> = (0..plan.stages().len())
        .map(|pp| micro_batch(plan, gpu, Coords { pp, ..Coords::default() }))
        .collect();
    let slowest = *stages.iter().max_by(|a, b| a.busy().total_cmp(&b.busy())).expect("a stage");
    let (m, layout) = (plan.micro_batches as f64, plan.config.layout);
    let busy: Vec<f64> = stages.iter().map(Step::busy).collect();
    let message = |from, to| links::message(gpu, links::crosses(layout, from, to));
    let sent = (plan.own_tokens * plan.hidden * plan.compute) as f64;
    let hops: Vec<f64> = (1..layout.pp).map(|to| sent / message(to - 1, to)).collect();
    let walk = |hops: &[f64]| walk(&plan.trainer.passes, &busy, hops);
    let (at_once, with_messages) = (walk(&vec![0.0; hops.len()]), walk(&hops));
    let ends = plan.sum_tied_grad(Coords::default()) as f64 / message(0, layout.pp - 1);
    let data = links::collective(gpu, cards(layout, links::data));
    let after = |pp: usize| {
        let at = Coords { pp, ..Coords::default() };
        let sums = plan.comm_bytes(at)["dp"] as f64 / data;
        // Buckets travel during the last backward pass, a later stage's also while it waits: it
        // ends that pass earlier.
        let own = if plan.config.bucket_bytes.is_some() { 1.0 } else { 0.0 };
        (sums - 2.0 / 3.0 * slowest.busy() * (own + pp as f64)).max(0.0)
    };
    // Zeroed, summed for the norm, scaled; AdamW reads four numbers and writes three. Then weights
    // are cast and put side by side.
    let held = plan.parameters(Coords::default()).iter().sum::<u64>() * plan.weight;
    let copies = plan.copied(Coords::default()) * (plan.weight + 3 * plan.compute);
    Step {
        products: m * slowest.products,
        attention: m * slowest.attention,
        elementwise: m * slowest.elementwise,
        tp: m * slowest.tp,
        cp: m * slowest.cp,
        bubble: (at_once - m * slowest.busy()).max(0.0),
        pp: with_messages - at_once + ends,
        dp: (0..plan.stages().len()).map(after).fold(0.0, f64::max),
        optimizer: (11 * held + copies) as f64 / (gpu.memory_bandwidth * OF_MEMORY),
    }
}

/// One micro-batch, forward and backward, on one stage.
fn micro_batch(plan: &Plan, gpu: &Figures, at: Coords) -> Step {
    let Plan { tokens: t, hidden: h, q, kv, intermediate: i, weight, compute, .. } = *plan;
    let config = &plan.config;
    let (layers, (first, last)) = (plan.layers(at.pp), plan.ends(at.pp));
    let flops = |n: f64| n / (gpu.peak(config.dtype) * OF_PEAK);
    let (per_layer, head) = (h * (2 * q + 2 * kv + 3 * i), u64::from(last) * h * plan.vocab(at.tp));
    let matrices = layers * per_layer + head;
    // Half of the scores are masked. Two products forward; five backward, with the
    // scores once more.
    let scores = (t * config.seq_len as u64 * q) as f64 / balance(plan);
    let attention = |n: f64| n / (gpu.peak(config.dtype) * of_attention(config));
    let (forward, backward) = (attention(2.0 * scores), attention(5.0 * scores));

    // A weight's gradient is read and written by the product that adds to it, the head's in each
    // chunk; that is then scaled (read, written) and added (read twice, written).
    let grads = layers * per_layer * 2 + head * (2 * t.div_ceil(plan.trainer.chunk_len) + 5);
    // Logits: the largest (read), what is subtracted, exponentials, their division (read, written),
    // their sum (read), and the cast.
    let cast = if compute < plan.softmax { plan.softmax + compute } else { 0 };
    let logits = u64::from(last) * t * plan.vocab(at.tp) * (8 * plan.softmax + cast);
    let traffic = (grads * weight + logits + plan.elementwise(at)) as f64;

    let layout = config.layout;
    // Two sums a layer forward, not hidden. Backward, each beside the gradient of a weight. With
    // sequence parallelism only a half of these is; the other half, a gather, is not, and if what
    // was read is gathered again, that is beside the gradient to it.
    let share = 2.0 * (layout.tp - 1) as f64 / layout.tp as f64;
    let sum = share * (t * h * compute) as f64 / links::collective(gpu, cards(layout, links::tp));
    let settings = config.activations;
    let again = if settings.layers_again() { 1.0 } else { 0.0 };
    let beside = |outs: u64| {
        let hidden = if config.overlapped_tp { flops((2 * t * h * outs) as f64) } else { 0.0 };
        match (settings.sequence_parallel, settings.gather_twice) {
            (false, _) => (sum - hidden).max(0.0),
            (true, twice) => {
                let half = (0.5 * sum - hidden).max(0.0);
                0.5 * sum + half * if twice { 2.0 } else { 1.0 }
            }
        }
    };
    let mut tp = layers as f64 * ((2.0 + 2.0 * again) * sum + beside(q + 2 * kv) + beside(2 * i));
    let end = if settings.sequence_parallel { sum } else { beside(plan.vocab(at.tp)) };
    tp += if first { sum } else { 0.0 } + if last { end } else { 0.0 };

    // A block travels while the one before is attended to; backward its gradients travel
    // too, at last alone.
    let (hops, kv_numbers) = ((layout.cp - 1) as f64, (2 * t * kv) as f64);
    let link = links::message(gpu, cards(layout, links::cp).is_some());
    let ring = |bytes: u64| kv_numbers * bytes as f64 / link;
    let exposed = |bytes, attention: f64| (ring(bytes) - attention / layout.cp as f64).max(0.0);
    let both = (hops - 1.0).max(0.0) * exposed(compute + plan.softmax, backward);
    let last_hop = hops.min(1.0) * exposed(plan.softmax, backward);
    let cp = (1.0 + again) * hops * exposed(compute, forward) + both + last_hop;
    Step {
        products: flops(
            (6.0 * matrices as f64 + 2.0 * again * (layers * per_layer) as f64) * t as f64,
        ),
        attention: layers as f64 * ((1.0 + again) * forward + backward),
        elementwise: traffic / (gpu.memory_bandwidth * OF_MEMORY),
        tp,
        cp: layers as f64 * cp,
        ..Step::default()
    }
}

/// How evenly the cp ranks share the causal mask: mean over busiest. In contiguous blocks the last
/// of c ranks attends to c − 1 whole ones and half of its own, the mean is c/2.
pub fn balance(plan: &Plan) -> f64 {
    let cp = plan.config.layout.cp as f64;
    if plan.config.zigzag { 1.0 } else { cp / (2.0 * cp - 1.0) }
}

/// The share of the peak that attention reaches in this run.
fn of_attention(config: &Run) -> f64 {
    let hopper = matches!(config.gpu, Gpu::H100 | Gpu::H200);
    let is_ring = config.layout.cp > 1 && config.dtype == Dtype::Bf16;
    if is_ring && hopper { OF_PEAK_RING } else { OF_PEAK }
}

/// What the prediction rests on, in words.
pub fn assumed(config: &Run) -> String {
    let shares = [OF_PEAK, of_attention(config), OF_MEMORY, OF_LINKS];
    let [peak, ring, memory, links] = shares.map(|part| 100.0 * part);
    let products = if ring < peak {
        format!("products at {peak:.0}% of peak, attention at {ring:.0}% (FlashAttention-2)")
    } else {
        format!("products and attention at {peak:.0}% of peak")
    };
    format!(
        "assumed: {products}, memory at {memory:.0}%, links at {links:.0}%,\n  no latency, a network card \
         for each GPU; attention fused; memory suffices. Hidden, where a GPU has room\n  for both: backward \
         tp sums behind weights' gradients, dp behind the last backward pass, cp behind\n  attention. Not \
         counted: data, checkpoints, stragglers. Compared with no measurement yet.\n"
    )
}
