//! `--dry-run`: a page about a run, however large, that starts none of it.

use anyhow::{Context, Result};
use comm::{Coords, GROUPS, Layout};
use report::thousands;
use std::io::Write;

use crate::links::node;
use crate::plan::{Plan, Trainer};
use crate::predict::{OF_PEAK, assumed, balance, predict, rates};
use crate::run::Run;

/// The share of a GPU's memory that holds no tensors: CUDA's context and libraries (about 1
/// GB), NCCL's buffers (some 0.1 to 0.25 GB a communicator, of which a rank has up to ten), and
/// gaps. An assumption.
const RESERVE: f64 = 0.1;
/// Worlds up to this are shown rank by rank.
const SMALL: usize = 16;

/// Prints [`page`].
///
/// # Errors
/// If standard output is closed.
pub fn print(config: Run, trainer: Trainer) -> Result<()> {
    std::io::stdout().write_all(page(config, trainer).as_bytes()).context("cannot print")
}

/// The page. Reads no file, allocates no tensor, starts no rank.
pub fn page(config: Run, trainer: Trainer) -> String {
    let plan = Plan::new(config, trainer);
    [head(&plan), ranks(plan.config.layout), memory(&plan), bytes(&plan), time(&plan)].join("\n")
}

fn head(plan: &Plan) -> String {
    let Run { model, dtype, layout: mesh, .. } = &plan.config;
    let whole = model.weights().map(|(_, shape)| shape.iter().product::<i64>() as u64).sum();
    let (sequences, seq) = (plan.config.global_batch, plan.config.seq_len);
    let (tokens, world) = (thousands(sequences * seq), thousands(mesh.world()));
    let [whole, hidden] = [whole, plan.hidden].map(thousands);
    let (layers, vocabulary) = (model.num_hidden_layers, thousands(model.vocab_size));
    let (m, micro, sequences) = (plan.micro_batches, plan.config.micro_batch, thousands(sequences));
    let schedule = &plan.config.schedule;
    let (seq, kept) = (thousands(seq), plan.config.activations.words());
    format!(
        "dry run: nothing is allocated, read or started\n\n\
         model   {whole} parameters, {layers} layers, hidden {hidden}, vocabulary {vocabulary}\n\
         step    {sequences} sequences of {seq} = {tokens} tokens; {m} micro-batches of {micro} a \
         replica; {dtype}, {schedule}{kept}\n\
         mesh    {mesh} = {world} ranks, numbered with tp innermost, then cp, pp, dp\n"
    )
}

/// Who sits where.
fn ranks(layout: Layout) -> String {
    let world = layout.world();
    let width = thousands(world - 1).len();
    let place = |rank| format!("{:>width$}  {}", thousands(rank), layout.coords(rank));
    let mut text = "who sits where\n".to_owned();
    if world <= SMALL {
        let all: Vec<String> = (0..world).map(place).collect();
        for row in all.chunks(4) {
            text += &format!("  {}\n", row.join("     "));
        }
        return text;
    }
    text += &format!("  rank {}\n  rank {}\n", place(0), place(world - 1));
    for name in
        GROUPS.iter().filter(|kind| kind.counted_as == Some(kind.name)).map(|kind| kind.name)
    {
        let members = layout.group(name, 0).members;
        let (n, last) = (members.len(), thousands(members[members.len() - 1]));
        let shown = match n {
            1 => "0 alone".to_owned(),
            2 => format!("0, {last}"),
            3 => format!("0, {}, {last}", thousands(members[1])),
            _ => format!("0, {}, … {last}", thousands(members[1])),
        };
        let how = match members.iter().filter(|&&rank| node(rank) == 0).count() {
            _ if n == 1 => String::new(),
            here if here == n => "inside a node".to_owned(),
            1 => "between nodes".to_owned(),
            here => format!("between nodes, {here} in one"),
        };
        let row = format!("  rank 0's {name} group: {n:>5}  {shown:<24} {how}");
        text += &format!("{}\n", row.trim_end());
    }
    text
}

/// The stages that tables show.
fn shown(plan: &Plan) -> Vec<usize> {
    let n = plan.stages().len();
    if n <= 4 { (0..n).collect() } else { vec![0, 1, n / 2, n - 2, n - 1] }
}

/// The rank of a stage that is shown: if tp does not divide the vocabulary, others hold a row more.
fn at(pp: usize) -> Coords {
    Coords { pp, ..Coords::default() }
}

fn memory(plan: &Plan) -> String {
    let mut text = "held by a rank of each stage\n  stage   layers     parameters     weights\
                    \x20   copies  gradients       Adam  in flight  activations      total\n"
        .to_owned();
    for pp in shown(plan) {
        let memory = plan.memory(at(pp));
        let (layers, numbers) = (&plan.stages()[pp], thousands(memory.weights / plan.weight));
        let layers = format!("{}–{}", layers.start, layers.end - 1);
        let [weights, copies] = [memory.weights, memory.copies].map(size);
        let [gradients, adam] = [memory.gradients, memory.optimizer].map(size);
        let (kept, total) = (size(memory.activations), size(memory.held()));
        let in_flight = plan.in_flight(pp);
        text += &format!("  {pp:>5}{layers:>9}{numbers:>15}{weights:>12}{copies:>10}");
        text += &format!("{gradients:>11}{adam:>11}");
        text += &format!("{in_flight:>11}{kept:>13}{total:>11}\n");
    }
    let total = |pp: usize| (plan.memory(at(pp)).total(), pp);
    let (needs, worst) = (0..plan.stages().len()).map(total).max().expect("a stage");
    let (memory, gpu) = (plan.memory(at(worst)), plan.config.gpu);
    let has = gpu.figures().memory;
    let verdict = match needs {
        _ if needs > has => "does NOT fit",
        _ if needs as f64 > (1.0 - RESERVE) * has as f64 => "is TIGHT in",
        _ => "fits",
    };
    let [held, at_work, has] = [memory.held(), memory.at_work, has].map(size);
    text += &format!(
        "  the most: stage {worst}, {held} and {at_work} at work, which {verdict} the {has} of one {gpu}\n  \
         (at work: logits, gradients on their way; a tenth of the GPU is left to CUDA, NCCL, fragmentation)\n",
    );
    text
}

fn bytes(plan: &Plan) -> String {
    let rows: Vec<_> = shown(plan).into_iter().map(|pp| (pp, plan.comm_bytes(at(pp)))).collect();
    let mut text = "sent by a rank in one step\n  stage".to_owned();
    for (name, _) in rows[0].1.iter() {
        text += &format!("{name:>12}");
    }
    for (pp, sent) in rows {
        text += &format!("\n  {pp:>5}");
        for (_, bytes) in sent.iter() {
            text += &format!("{:>12}", size(bytes));
        }
    }
    text += "\n";
    text
}

fn time(plan: &Plan) -> String {
    let (config, world) = (&plan.config, plan.config.layout.world());
    let (gpu, figures) = (config.gpu, config.gpu.figures());
    let step = predict(plan, &figures);
    let seconds = step.seconds();
    let (unit, per_second) = match seconds {
        ..0.01 => ("µs", 1e6),
        ..1.0 => ("ms", 1e3),
        _ => ("s", 1.0),
    };
    let mut text = format!("a step on {} {gpu}, predicted\n", thousands(world));
    for (name, time) in step.rows().into_iter().filter(|(name, t)| *t > 0.0 || *name == "bubble") {
        let (share, time) = (100.0 * time / seconds, time * per_second);
        let row = format!("  {name:<18}{time:>10.2} {unit:<2}{share:>7.1}%  {}", note(plan, name));
        text += &format!("{}\n", row.trim_end());
    }
    let peak = figures.peak(config.dtype);
    let mfu = |seconds| rates(config, seconds).map(|rate| 100.0 * rate / peak);
    let ([rate, _], [usual, strict]) = (rates(config, seconds), mfu(seconds));
    let tokens = config.global_batch as f64 * config.seq_len as f64 / seconds;
    let (tokens, time) = (thousands(tokens as u64), seconds * per_second);
    let short = if seconds < 1e-3 { "; starting kernels takes longer" } else { "" };
    text +=
        &format!("  step              {time:>10.2} {unit:<2}           {tokens} tokens/s{short}\n");
    text += &format!(
        "  MFU {usual:.1}%: {:.0} of {:.0} TFLOP/s, counted as 6N + 12LhS a token; {strict:.1}% strict: \
         no look-up, half of attention\n",
        rate / 1e12,
        peak / 1e12,
    );
    let faster = step.less(step.products * (1.0 - OF_PEAK / 0.8));
    let [faster, fused] = [faster, step.less(step.elementwise / 2.0)].map(|s| mfu(s)[0]);
    text += &format!(
        "  and were products at 80%: {faster:.1}%; elementwise fused to half: {fused:.1}%"
    );
    let parts = (0..plan.stages().len()).map(|pp| plan.layers(pp)).min().expect("a stage");
    if plan.stages().len() > 1 && parts > 1 {
        let [interleaved, _] = mfu(step.interleaved(parts));
        text += &format!("; interleaved, bubble / {parts}: {interleaved:.1}%");
    }
    text + "\n" + &assumed(config)
}

/// The note beside a row.
fn note(plan: &Plan, row: &str) -> String {
    let (m, pp) = (plan.micro_batches as f64, plan.stages().len() as f64);
    let cp = plan.config.layout.cp;
    match (row, plan.config.zigzag) {
        ("bubble", _) => {
            format!("(pp − 1)/(m + pp − 1) = {:.1}%", 100.0 * (pp - 1.0) / (m + pp - 1.0))
        }
        ("attention", true) if cp > 1 => "zigzag: as much on every cp rank".to_owned(),
        ("attention", false) if cp > 1 => {
            format!("contiguous: {:.0}% of ideal", 100.0 * balance(plan))
        }
        _ => String::new(),
    }
}

fn size(bytes: u64) -> String {
    let scaled = |shift: u32| bytes as f64 / (1u64 << shift) as f64;
    match bytes {
        0 => "–".to_owned(),
        1..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", scaled(10)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", scaled(20)),
        _ => format!("{:.1} GiB", scaled(30)),
    }
}
