//! What travels while its rank computes. A rank that waits too early computes the same numbers,
//! only later. So these tests look at the order of events, not at how long anything took, and do
//! not care what else the machine does: whatever is read after the rank has begun to wait is
//! spoilt, and what is waited for comes only then.

mod common;

use anyhow::{Result, ensure};
use checkpoint::Placement;
use comm::Mesh;
use common::Model;
use parity::{Step, parse};
use report::{Clock, Mark};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Far more than anything here takes; only what never comes is waited for as long.
const NEVER: Duration = Duration::from_secs(30);

/// A clock for a rank's trace. A trace asks its clock at both ends of all spans of computing
/// and of waiting, on the thread that computes or waits; this one tells somebody the how
/// manieth time it is.
struct Asked<F>(AtomicUsize, F);

struct NoTime;

impl Mark for NoTime {
    fn ns(&self) -> u64 {
        0
    }
}

impl<F: Fn(usize) + Send + Sync> Clock for Asked<F> {
    fn start(&self) {}

    fn mark(&self) -> Box<dyn Mark> {
        (self.1)(self.0.fetch_add(1, SeqCst) + 1);
        Box::new(NoTime)
    }
}

/// From now on, `heard` runs whenever this rank begins or ends to compute or to wait.
fn listen(mesh: &Mesh, heard: impl Fn(usize) + Send + Sync + 'static) {
    mesh.trace.set_clock(Arc::new(Asked(AtomicUsize::new(0), heard)));
    mesh.trace.start();
}

/// What one rank tells another, past the groups.
struct Line(Sender<usize>, Mutex<Receiver<usize>>);

impl Line {
    fn new() -> Self {
        let (sender, receiver) = channel();
        Self(sender, Mutex::new(receiver))
    }

    /// Returns once the other rank waits in its `phase`.
    fn hear(&self, phase: usize) -> Result<()> {
        while self.1.lock().unwrap().recv_timeout(NEVER)? != phase {}
        Ok(())
    }
}

/// Whenever this rank waits, spoils `tensor` and then tells so.
fn spoil_when_waiting(mesh: &Mesh, tensor: &Tensor, phase: &Arc<AtomicUsize>, line: &Line) {
    let (tensor, phase) = (Mutex::new(tensor.detach()), phase.clone());
    let told = line.0.clone();
    listen(mesh, move |_| {
        let _ = tensor.lock().unwrap().fill_(f64::NAN);
        let _ = told.send(phase.load(SeqCst));
    });
}

fn is_whole(tensor: &Tensor) -> bool {
    tensor.isnan().any().int64_value(&[]) == 0
}

/// Numbers that are not all the same.
fn numbers(shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.7).sin().view(shape)
}

type Attention<C> = fn(&C, &Mesh, [&Tensor; 3]) -> Result<Tensor>;

/// On the first of two ranks, which attends to its own block alone: whether the output is
/// computed before the rank waits for the other block, and gradients before it waits for what the
/// other adds to them.
fn attends_before_it_waits<C: Step>(attention: Attention<C>) -> [bool; 2] {
    let (rows, heads, kv_heads, head_dim) = (8, 4, 2, 4);
    let flags =
        format!("--seq-len {} --dp 1 --pp 1 --cp 2 --tp 1 --cp-layout contiguous", 2 * rows);
    let config = parse::<C>(&Model::default().flags(&flags)).unwrap();
    let line = Line::new();
    let outcomes = launch::launch(&config.launch(), move |mesh| {
        if mesh.cp.rank() == 1 {
            // What the other rank does by itself, but only when the first one waits for it.
            let block = numbers(&[2, 1, kv_heads, rows, head_dim]);
            let received = block.empty_like();
            // Keys and values, forward; then the gradients of this rank's, which the first one has
            // kept, against those of its own.
            for phase in [1, 2] {
                mesh.cp.recv(&received, 0)?;
                line.hear(phase)?;
                mesh.cp.send(&block, 0)?;
            }
            return Ok([true; 2]);
        }
        let [q, k, v] = [heads, kv_heads, kv_heads]
            .map(|heads| numbers(&[1, rows, heads, head_dim]).set_requires_grad(true));
        let (kept, phase) = (q.detach().copy(), Arc::new(AtomicUsize::new(1)));
        spoil_when_waiting(mesh, &q, &phase, &line);
        let out = attention(&config, mesh, [&q, &k, &v])?;
        ensure!(!is_whole(&q), "it never waited");
        q.detach().copy_(&kept);
        phase.store(2, SeqCst);
        autograd::backward_with(&out, &numbers(&out.size()))?;
        ensure!(!is_whole(&q), "it never waited in its backward pass");
        Ok([is_whole(&out), [q, k, v].iter().all(|t| is_whole(&t.grad()))])
    });
    outcomes.unwrap()[0]
}

#[test]
fn keys_and_values_travel_while_a_rank_attends() {
    let step05: Attention<step05::config::Config> = |config, mesh, [q, k, v]| {
        step05::context_parallel::ContextParallel::new(config, mesh).attention(q, k, v)
    };
    let step06: Attention<step06::config::Config> = |config, mesh, [q, k, v]| {
        step06::context_parallel::ContextParallel::new(config, mesh).attention(q, k, v)
    };
    let step07: Attention<step07::config::Config> = |config, mesh, [q, k, v]| {
        step07::context_parallel::ContextParallel::new(config, mesh).attention(q, k, v)
    };
    let all = [
        attends_before_it_waits(step05),
        attends_before_it_waits(step06),
        attends_before_it_waits(step07),
    ];
    assert_eq!(all, [[true; 2]; 3], "forward and backward");
}

type Column<C> = fn(&C, &Mesh, [&Tensor; 2]) -> Result<Tensor>;

/// On rank 0 of two tp ranks, what `watch` says of a column-parallel product of `x` with a weight.
fn column_parallel<C: Step>(
    column: Column<C>,
    flags: &str,
    watch: impl Fn(&Mesh, [&Tensor; 2], Tensor) -> Result<bool> + Send + Sync + 'static,
) -> bool {
    let step = C::NUMBER;
    let only = if step == 3 { "" } else { "--pp 1" };
    let config = format!("--dp 1 {only} --tp 2 {flags}");
    let config = if step > 4 { format!("{config} --cp 1") } else { config };
    let config = parse::<C>(&Model::default().flags(&config)).unwrap();
    let outcomes = launch::launch(&config.launch(), move |mesh| {
        let [x, weight] =
            [&[2, 3, 8][..], &[4, 8]].map(|size| numbers(size).set_requires_grad(true));
        let out = column(&config, mesh, [&x, &weight])?;
        watch(mesh, [&x, &weight], out)
    });
    outcomes.unwrap()[0]
}

/// Whether a rank computes the gradient of a column-parallel weight before it waits for the sum of
/// the gradient of what the weight was multiplied with.
fn multiplies_before_it_waits<C: Step>(column: Column<C>, flags: &str) -> bool {
    let line = Line::new();
    column_parallel(column, flags, move |mesh, [_, weight], out| {
        let grad = numbers(&out.size()); // which the weight's gradient needs
        match mesh.tp.rank() {
            0 => spoil_when_waiting(mesh, &grad, &Arc::new(AtomicUsize::new(1)), &line),
            _ => line.hear(1)?,
        }
        autograd::backward_with(&out, &grad)?;
        ensure!(mesh.tp.rank() == 1 || !is_whole(&grad), "it never waited");
        Ok(is_whole(&weight.grad()))
    })
}

/// Whether that sum is on its way before the gradient of the weight is there. What never sets out
/// is waited for as long as `patience`.
fn sums_before_it_multiplies<C: Step>(column: Column<C>, flags: &str, patience: Duration) -> bool {
    column_parallel(column, flags, move |mesh, [_, weight], out| {
        let (group, before) = (mesh.tp.clone(), mesh.tp.bytes_sent());
        let (summed, when_ready) = (Arc::new(Mutex::new(None)), Instant::now());
        let seen = summed.clone();
        let _hook = autograd::on_grad_ready(weight, move || {
            while group.bytes_sent() == before && when_ready.elapsed() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
            *seen.lock().unwrap() = Some(group.bytes_sent() > before);
            Ok(())
        })?;
        autograd::backward_with(&out, &numbers(&out.size()))?;
        ensure!(mesh.tp.bytes_sent() > before, "nothing is summed");
        let summed = summed.lock().unwrap().take();
        Ok(summed.expect("the weight has a gradient"))
    })
}

macro_rules! overlaps {
    ($step:ident) => {
        overlaps!($step, "")
    };
    ($step:ident, $flags:literal) => {{
        let column: Column<$step::config::Config> = |config, mesh, [x, weight]| {
            let tp = $step::tensor_parallel::TensorParallel::new(config, mesh);
            let weights = autograd::Stacked::new(vec![weight.shallow_clone()]);
            weights.linear(tp.before_product(x)?)
        };
        let step = concat!(stringify!($step), " ", $flags);
        let overlapped = concat!("--tp-sync overlapped ", $flags);
        assert!(sums_before_it_multiplies(column, overlapped, NEVER), "{step} sums too late");
        assert!(multiplies_before_it_waits(column, overlapped), "{step} waits too early");
        let (blocking, briefly) =
            (concat!("--tp-sync blocking ", $flags), Duration::from_millis(100));
        assert!(!sums_before_it_multiplies(column, blocking, briefly), "{step} does not block");
    }};
}

#[test]
fn a_sum_over_tp_travels_while_the_weights_gradient_is_computed() {
    overlaps!(step03);
    overlaps!(step04);
    overlaps!(step05);
    overlaps!(step06);
    overlaps!(step07, "--sequence-parallel=false");
    overlaps!(step07, "--sp-gather once");
}

/// What a product reads is gathered a second time in the backward pass: a rank computes its gradient
/// with the weight before it waits for that.
#[test]
fn what_is_gathered_again_travels_while_its_gradient_is_computed() {
    let column: Column<step07::config::Config> = |config, mesh, [x, weight]| {
        let tp = step07::tensor_parallel::TensorParallel::new(config, mesh);
        autograd::Stacked::new(vec![weight.shallow_clone()]).linear(tp.before_product(x)?)
    };
    let line = Line::new();
    let early = column_parallel(column, "--sp-gather twice", move |mesh, [x, weight], out| {
        match mesh.tp.rank() {
            0 => spoil_when_waiting(mesh, weight, &Arc::new(AtomicUsize::new(1)), &line),
            _ => line.hear(1)?,
        }
        autograd::backward_with(&out, &numbers(&out.size()))?;
        ensure!(mesh.tp.rank() == 1 || !is_whole(weight), "it never waited");
        Ok(is_whole(&x.grad()))
    });
    assert!(early, "it waits too early");
}

/// Two replicas with six parameters in buckets of two. A backward pass goes on to the parameters in
/// front without waiting for a bucket that it has filled, and then only when this has come through.
macro_rules! sums_within_the_backward_pass {
    ($step:ident, $number:literal, $flags:literal, $parameter:expr) => {{
        const NUMBERS: usize = 1024;
        let bucket = 2 * NUMBERS * size_of::<f64>();
        let run = format!("--dp 2 {} --bucket-mb {}", $flags, bucket as f64 / 1048576.0);
        let config = parse::<$step::config::Config>(&Model::default().flags(&run)).unwrap();
        let line = Arc::new(Line::new());
        launch::launch(&config.launch(), move |mesh| {
            let tensor = |_| numbers(&[NUMBERS as i64]).set_requires_grad(true);
            let parameters: Vec<$step::layers::Parameter> =
                (0..6).map(tensor).map($parameter).collect();
            let sums =
                $step::data_parallel::DataParallel::new(&parameters, &mesh.dp, &config.parallel)?;
            let sent = mesh.dp.bytes_sent();
            let mut x = parameters[0].tensor.shallow_clone();
            for (i, parameter) in parameters.iter().enumerate().skip(1) {
                let (group, behind) = (mesh.dp.clone(), parameters.len() - i);
                let line = line.clone();
                x = autograd::custom([&x], &x.detach(), move |grad| {
                    // The second rank fills its first bucket only when the first one has gone on.
                    match (group.rank(), behind) {
                        (0, 2) => line.0.send(behind)?,
                        (1, 1) => line.hear(2)?,
                        _ => (),
                    }
                    let (filled, since) = ((behind / 2) * bucket, Instant::now());
                    while group.bytes_sent() < sent + filled as u64 {
                        ensure!(since.elapsed() < NEVER, "step {}: nothing is summed", $number);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Ok([grad.shallow_clone()])
                })?;
                x = &x + &parameter.tensor;
            }
            sums.zero_grad()?;
            sums.before_backward(true);
            autograd::backward(&x.sum(Kind::Double))?;
            sums.finish()?;
            let two =
                |p: &$step::layers::Parameter| p.tensor.grad().eq(2.0).all().int64_value(&[]) == 1;
            ensure!(parameters.iter().all(two), "not summed over both");
            Ok(())
        })
        .unwrap();
    }};
}

#[test]
fn a_bucket_travels_as_soon_as_the_backward_pass_has_filled_it() {
    sums_within_the_backward_pass!(step02, 2, "", |tensor| step02::layers::Parameter {
        name: String::new(),
        tensor,
        decays: false
    });
    sums_within_the_backward_pass!(step03, 3, "--tp 1", |tensor| step03::layers::Parameter {
        name: String::new(),
        tensor,
        global_shape: vec![],
        decays: false,
        tp: Placement::Replicate,
    });
    macro_rules! parameter {
        ($step:ident) => {
            |tensor| $step::layers::Parameter {
                name: String::new(),
                tensor,
                global_shape: vec![],
                decays: false,
                tp: Placement::Replicate,
                pp: Placement::Alone,
            }
        };
    }
    sums_within_the_backward_pass!(step04, 4, "--tp 1 --pp 1", parameter!(step04));
    sums_within_the_backward_pass!(step05, 5, "--tp 1 --pp 1 --cp 1", parameter!(step05));
    sums_within_the_backward_pass!(step06, 6, "--tp 1 --pp 1 --cp 1", parameter!(step06));
    sums_within_the_backward_pass!(step07, 7, "--tp 1 --pp 1 --cp 1", parameter!(step07));
}

/// Of two stages, the real one is `stage`. The other only passes messages: it sends two, and says
/// when the second has been taken. Only then does it take the last one that it gets, and the real
/// one begins its first backward pass.
macro_rules! messages_travel_while_it_computes {
    ($step:ident, $number:literal, $flags:literal, $stage:literal) => {{
        let run = "--dp 1 --pp 2 --global-batch 2 --micro-batch 1 --timeout 30";
        let config =
            parse::<$step::config::Config>(&Model::default().flags(&format!("{run} {}", $flags)))
                .unwrap();
        let line = Line::new();
        launch::launch(&config.launch(), move |mesh| {
            let trainer = $step::train::Trainer::new(&config, config.texts(), mesh)?;
            if mesh.pp.rank() != $stage {
                let message = numbers(&[1, config.data.seq_len as i64, config.model.hidden_size]);
                let before = 1 - $stage; // of two activations, the first is taken at once
                (0..before).try_for_each(|_| mesh.pp.recv(&message, $stage))?;
                (0..2).try_for_each(|_| mesh.pp.send(&message, $stage))?;
                line.0.send(1)?;
                (before..2).try_for_each(|_| mesh.pp.recv(&message, $stage))?;
                return Ok(());
            }
            let micro_batches = config.batches(0, 1)?.step(0)?;
            let pipeline = $step::pipeline_parallel::PipelineParallel::new(&config, mesh);
            let _ = pipeline.run(&trainer.model, &micro_batches, 1.0, |is_last| {
                if !is_last {
                    line.hear(1).expect("the second message was taken");
                }
            })?;
            Ok(())
        })
        .unwrap();
    }};
}

#[test]
fn a_stage_computes_while_its_messages_travel() {
    messages_travel_while_it_computes!(step04, 4, "--tp 1", 0);
    messages_travel_while_it_computes!(step04, 4, "--tp 1", 1);
    messages_travel_while_it_computes!(step05, 5, "--tp 1 --cp 1", 0);
    messages_travel_while_it_computes!(step05, 5, "--tp 1 --cp 1", 1);
    messages_travel_while_it_computes!(step06, 6, "--tp 1 --cp 1", 0);
    messages_travel_while_it_computes!(step06, 6, "--tp 1 --cp 1", 1);
    messages_travel_while_it_computes!(step07, 7, "--tp 1 --cp 1", 0);
    messages_travel_while_it_computes!(step07, 7, "--tp 1 --cp 1", 1);
}

/// A name's place in the forward pass: the embedding, the layers, what comes behind them.
fn place(name: &str) -> i64 {
    match name.strip_prefix("model.layers.") {
        Some(rest) => rest.split('.').next().unwrap().parse().unwrap(),
        None if name == "model.embed_tokens.weight" => -1,
        None => i64::MAX,
    }
}

/// The names of the parameters as their gradients become ready, in one step of three micro-batches.
macro_rules! order_of_gradients {
    ($step:ident, $number:literal, $flags:literal) => {{
        let run = "--global-batch 3 --micro-batch 1";
        let config =
            parse::<$step::config::Config>(&Model::default().flags(&format!("{run} {}", $flags)))
                .unwrap();
        let mut orders = launch::launch(&config.launch(), move |mesh| {
            let mut trainer = $step::train::Trainer::new(&config, config.texts(), mesh)?;
            let order = Arc::new(Mutex::new(Vec::<String>::new()));
            let parameters = trainer.model.parameters().iter();
            let hooks = parameters.map(|parameter| {
                let (order, name) = (order.clone(), parameter.name.clone());
                autograd::on_grad_ready(&parameter.tensor, move || {
                    order.lock().unwrap().push(name.clone());
                    Ok(())
                })
            });
            let hooks = hooks.collect::<Result<Vec<_>>>()?;
            trainer.step()?;
            drop(hooks);
            Ok(std::mem::take(&mut *order.lock().unwrap()))
        });
        orders.as_mut().unwrap().remove(0)
    }};
}

/// Otherwise sums over dp that could travel during the pass would all start at its end, and the
/// gradients themselves would be held until then.
#[test]
fn in_each_backward_pass_gradients_are_ready_from_the_last_layer_to_the_first() {
    let orders = [
        order_of_gradients!(step02, 2, "--dp 1"),
        order_of_gradients!(step03, 3, "--dp 1 --tp 1"),
        order_of_gradients!(step04, 4, "--dp 1 --tp 1 --pp 1"),
        order_of_gradients!(step05, 5, "--dp 1 --tp 1 --pp 1 --cp 1"),
        order_of_gradients!(step06, 6, "--dp 1 --tp 1 --pp 1 --cp 1"),
        order_of_gradients!(step06, 6, "--dp 1 --tp 1 --pp 1 --cp 1 --dtype bf16"),
        order_of_gradients!(step07, 7, "--dp 1 --tp 1 --pp 1 --cp 1"),
        order_of_gradients!(step07, 7, "--dp 1 --tp 1 --pp 1 --cp 1 --recompute layer"),
    ];
    for (run, order) in orders.iter().enumerate() {
        for pass in order.chunks(order.len() / 3) {
            assert_eq!(
                pass.iter().collect::<BTreeSet<_>>().len(),
                pass.len(),
                "run {run}: {pass:?}"
            );
            assert!(pass.is_sorted_by_key(|name| -place(name)), "run {run}: {pass:?}");
        }
    }
}
