#!/usr/bin/env python3
"""Plants bugs, one at a time, in a copy of this repository, and shows which tests turn red.

    python3 tests/planted.py [WORD ...]      all bugs, or those of a test file (step03) or a crate (data), or with a WORD
                                             in their name
    python3 tests/planted.py --first [...]   goes on to the next bug as soon as one test is red
    python3 tests/planted.py --check         builds nothing: whether every bug still finds its place
    python3 tests/planted.py --hunt STEP [N] leaves a bug of a step (its N-th for hunting, or any) in the checkout

A suite that stays green on one of these would prove nothing. Exit code 1 if one stays green.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from planted_lessons import LESSONS

ROOT = Path(__file__).resolve().parent.parent
S1, S2 = "steps/step01-single-device/src", "steps/step02-data-parallel/src"
S3 = "steps/step03-tensor-parallel/src"
S4 = "steps/step04-pipeline-parallel/src"
S5 = "steps/step05-context-parallel/src"
S6 = "steps/step06-four-d/src"
S7 = "steps/step07-activations/src"
CLI, REPORT = "shared/cli/src", "shared/report/src"
DATA = "shared/data/src"

# (name, test, source file, what stands there, what the bug makes of it). The test is a file of the parity suite, a crate
# with tests of its own, or a test file of another package: lessons:step03.
BUGS = [
    ("gradients averaged instead of summed", "step02", f"{S2}/data_parallel.rs",
     "Ok(self.work.take().map_or(Ok(()), Work::wait)?)",
     "self.work.take().map_or(Ok(()), Work::wait)?;\n        let _ = self.flat.g_div_scalar_(2.0);\n        Ok(())"),
    ("the last micro-batch skipped", "step02", f"{S2}/train.rs",
     "            loss += self.forward_backward(micro_batch, target_tokens)?;",
     "            if i > 0 && i + 1 == micro_batches.len() { continue }\n"
     "            loss += self.forward_backward(micro_batch, target_tokens)?;"),
    ("buckets sent on every micro-batch, not the last alone", "step02", f"{S2}/data_parallel.rs",
     "bucketed.is_last_pass.store(is_last, Relaxed)", "bucketed.is_last_pass.fetch_or(is_last, Relaxed)"),
    ("a hook that fires twice", "step02", f"{S2}/data_parallel.rs",
     "bucket.lock().expect(\"a hook panicked\").mark_ready(&group)",
     "bucket.lock().unwrap().mark_ready(&group)?;\n"
     "                    bucket.lock().unwrap().mark_ready(&group)"),
    ("a hook that fires twice, uncounted: the bucket is summed twice", "step02", f"{S2}/data_parallel.rs",
     "self.work = Some(group.all_reduce_async(&self.flat));",
     "group.all_reduce(&self.flat)?; self.work = Some(group.all_reduce_async(&self.flat));"),
    ("one parameter left out of its bucket", "step02", f"{S2}/data_parallel.rs",
     "self.work = Some(group.all_reduce_async(&self.flat));",
     "let all_but_one = self.flat.size()[0] - if self.members > 1 { 32 } else { 0 };\n"
     "            self.work = Some(group.all_reduce_async(&self.flat.narrow(0, 0, all_but_one)));"),
    ("every rank reads the same samples", "step02", f"{S2}/train.rs",
     "batches(config, text, mesh.coords.dp, mesh.layout.dp)?", "batches(config, text, 0, mesh.layout.dp)?"),
    ("clipping by the local norm", "step02", f"{S2}/train.rs",
     "        self.data_parallel.finish()?;\n",
     "        let own: Vec<Tensor> = parameters.iter().map(|p| p.tensor.grad().copy()).collect();\n"
     "        self.data_parallel.finish()?;\n"
     "        let local = grad_norm(&own)?;\n"),
    ("the loss of one rank only", "step02", f"{S2}/train.rs",
     "        self.mesh.dp.all_reduce(&loss)?;\n", ""),
    ("no broadcast of the first weights", "step02", f"{S2}/data_parallel.rs",
     "            group.broadcast(&parameter.tensor.detach(), 0)?;\n", "            let _ = (parameter, group);\n"),
    ("naive: the parameter summed in place of its gradient", "step02", f"{S2}/data_parallel.rs",
     "self.group.all_reduce(&parameter.grad())?", "self.group.all_reduce(&parameter.detach())?"),
    ("every rank holds the first part of each matrix", "step03", f"{S3}/layers.rs",
     "self.weights.shard(name, global_shape, dim, rank, ranks)?",
     "self.weights.shard(name, global_shape, dim, rank / ranks, ranks)?"),
    ("key/value heads of another rank", "step03", f"{S3}/layers.rs",
     "self.weights.shard(name, global_shape, dim, rank, ranks)?",
     "{\n"
     "                let kv = name.contains(\"k_proj\") || name.contains(\"v_proj\");\n"
     "                let part = if kv { (rank + 1) % ranks } else { rank };\n"
     "                self.weights.shard(name, global_shape, dim, part, ranks)?\n"
     "            }"),
    ("no sum backward before a column-parallel matrix", "step03", f"{S3}/tensor_parallel.rs",
     "let sum = group.all_reduce_async(&grad);", "let sum = comm::Work::done(());\n            let _ = &group;"),
    ("no sum forward behind a row-parallel matrix", "step03", f"{S3}/layers.rs",
     "self.tp.g(self.weight.linear(x)?)", "self.tp.f(&self.weight.linear(x)?)"),
    ("the gradient of a sum summed once more", "step03", f"{S3}/tensor_parallel.rs",
     "        autograd::custom([&partial], &sum, |grad| Ok([grad.shallow_clone()]))",
     "        let group = self.group.clone();\n"
     "        autograd::custom([&partial], &sum, move |grad| {\n"
     "            let grad = grad.copy();\n"
     "            group.all_reduce(&grad)?;\n"
     "            Ok([grad])\n"
     "        })"),
    ("the residual inside the row-parallel sum, added tp times", "step03", f"{S3}/model.rs",
     "let x = x + self.self_attn.forward(", "let x = x * (16 / self.self_attn.heads[0]) + self.self_attn.forward("),
    ("gradients of norms summed over tp", "step03", f"{S3}/train.rs",
     "        self.data_parallel.finish()?;\n",
     "        self.data_parallel.finish()?;\n"
     "        for p in parameters.iter().filter(|p| p.tp == checkpoint::Placement::Replicate) {\n"
     "            self.mesh.tp.all_reduce(&p.tensor.grad())?;\n"
     "        }\n"),
    ("norms counted tp times in the gradient norm", "step03", f"{S3}/optimizer.rs",
     "filter(|p| p.is_first(mesh.coords))", "filter(|p| p.tp.is_first(mesh.coords.dp))"),
    ("the gradient norm of a rank's own parts", "step03", f"{S3}/optimizer.rs",
     "    mesh.tp.all_reduce(&squares)?;\n", ""),
    ("rows of the vocabulary off by one", "step03", f"{S3}/vocab_parallel.rs",
     "((ids - start).masked_fill(", "((ids - start - 1).clamp_min(0).masked_fill("),
    ("words that an uneven vocabulary leaves over", "step03", f"{S3}/vocab_parallel.rs",
     "shard_range(size, group.rank(), group.size())",
     "shard_range(size - size % group.size() as i64, group.rank(), group.size())"),
    ("the highest score of a rank's own words", "step03", f"{S3}/vocab_parallel.rs",
     "            self.group.all_reduce_op(&max, ReduceOp::Max)?;\n", "            let _ = ReduceOp::Max;\n"),
    ("the softmax of a rank's own words", "step03", f"{S3}/vocab_parallel.rs",
     "            self.group.all_reduce(&sums)?;", "            "),
    ("a target counted by every rank", "step03", f"{S3}/vocab_parallel.rs",
     "outside.to_kind(acc_kind) - 1.0", "outside.zeros_like().to_kind(acc_kind) - 1.0"),
    ("no sum of the gradient to the head's input", "step03", f"{S3}/model.rs",
     "self.tp.f(&self.hidden(tokens)?)?", "self.hidden(tokens)?"),
    ("the head gathered in the wrong order", "step03", f"{S3}/vocab_parallel.rs",
     "logits.narrow(0, self.ids.start, shard.size()[0])",
     "logits.narrow(0, self.size - self.ids.end, shard.size()[0])"),
    ("no one taken off at the target", "step01", "shared/autograd/src/cross_entropy.rs",
     "Tensor::full_like(&targets, -1)", "Tensor::full_like(&targets, 0)"),
    ("the loss without the highest score taken off the target's", "step01", "shared/autograd/src/cross_entropy.rs",
     "        let target = logits.gather(1, &targets, false);",
     "        let target = x.matmul(&weight.tr()).to_kind(acc_kind).gather(1, &targets, false);"),
    ("the gradient divided by each micro-batch's own tokens", "step01", f"{S1}/train.rs",
     "(train.global_batch * data.seq_len) as f64", "(train.micro_batch * data.seq_len) as f64"),
    ("the embedding of a token that pads left as it is", "step01", f"{S1}/model.rs",
     "Tensor::embedding(&self.embed_tokens, tokens, -1, false, false)",
     "Tensor::embedding(&self.embed_tokens, tokens, tokens.int64_value(&[0, 0]), false, false)"),
    ("rotary pairs turned the wrong way", "step01", "shared/autograd/src/rotary.rs",
     "let (back, sin) = ", "let (sin, back) = "),
    ("a rotation's gradient turned on", "step01", "shared/autograd/src/rotary.rs",
     "self.back.shallow_clone()", "self.sin.shallow_clone()"),
    ("stacked weights that all get the gradient of the first", "step01", "shared/autograd/src/linear.rs",
     "            start += outs;\n", ""),
    ("as many passes ahead on every stage", "predict", f"{S6}/schedule.rs",
     "micro_batches.min(stages - stage)", "micro_batches.min(stages)"),
    ("an attribute that ends in the middle of its text", "book", "book/builder/src/lex.rs", "(Kind::Attribute, attribute(rest))", "(Kind::Attribute, rest.find(']').map_or(rest.len(), |i| i + 1))"),
    ("a megabyte of 1,048,576 bytes in the answers of the page", "book", "book/theme/questions.js", "M: 1e6", "M: 2 ** 20"),
    ("lines at every step, whatever the pace", "report", "shared/report/src/pace.rs",
     "None => now - self.printed >= PAUSE,", "None => true,"),
    ("the time left reckoned with the cold first step", "report", "shared/report/src/pace.rs",
     "Some((first, at)) if step > first => (now - at).as_secs_f64() / (step - first) as f64,",
     "Some((first, _)) if step > first => (now - self.started).as_secs_f64() / (step - first) as f64,"),
    ("the last line of a run that ends early left out", "report", "shared/report/src/display.rs",
     "self.pending.take().map_or(Ok(()), |line| print_line(&line))?;", "self.pending.take();"),
    ("a validation loss that no line shows", "report", "shared/report/src/display.rs",
     "let due = self.pace.is_due(stats.step, now) || validation.is_some();",
     "let due = self.pace.is_due(stats.step, now);"),
    ("a failed run without its curve", "report", "shared/report/src/picture.rs",
     "        if !self.is_drawn {\n", "        if self.is_drawn {\n"),
    ("a resumed run's curve without the steps before it", "report", "shared/report/src/picture.rs",
     "options.metrics.as_deref().filter(|path| options.start > 0 && path.is_file())",
     "options.metrics.as_deref().filter(|path| options.start > 0 && path.is_dir())"),
    ("a curve whose colours stay dark in the dark", "report", "shared/report/src/plot.rs",
     "dark += &recolour(name, drawn, shown);", "dark += &recolour(name, drawn, &hex(drawn));"),
    ("memory that a step allocates without what was held", "report", f"{REPORT}/memory.rs",
     ".scan(self.held as i64,", ".scan(0,"),
    ("a short peak of memory that no column shows", "report", f"{REPORT}/memory.rs",
     "self.high = self.high.max(held);", "self.high = held;"),
    ("a column of memory drawn by where it ends", "report", f"{REPORT}/memory/drawing.rs",
     "[column.low, column.high, column.last].map(height)", "[column.last; 3].map(height)"),
    ("memory on the scale of the rank that holds least", "report", f"{REPORT}/memory/drawing.rs",
     "lines.map(|line| line.peak().1).max()", "lines.map(|line| line.peak().1).min()"),
    ("the first rank's memory, whichever is asked for", "report", f"{REPORT}/memory/overlay.rs",
     "lines.iter().find(fits)", "lines.iter().find(|line| fits(line) || true)"),
    ("a picture of memory overwritten by its data", "report", f"{REPORT}/memory.rs",
     "path != beside,", "path != beside || true,"),
    ("a TensorBoard record without its mask", "report", "shared/report/src/tensorboard.rs",
     "crc.rotate_right(15).wrapping_add(0xa282_ead8)", "crc.rotate_right(15)"),
    ("a TensorBoard file that does not say where it goes on", "report", "shared/report/src/tensorboard.rs",
     "events.record(start + 1, What::SessionLog", "events.record(0, What::SessionLog"),
    ("greedy that draws", "data", "shared/data/src/sampling.rs",
     "if self.temperature == 0.0 {", "if self.temperature < 0.0 {"),
    ("a temperature that multiplies", "data", "shared/data/src/sampling.rs",
     "((logits[token] - logits[highest]) / self.temperature).exp()",
     "((logits[token] - logits[highest]) * self.temperature).exp()"),
    ("top-k that keeps one more", "data", "shared/data/src/sampling.rs",
     "tokens.truncate(k.max(1));", "tokens.truncate(k + 1);"),
    ("a part cut where a match may have begun before it", "data", "shared/data/src/pieces.rs",
     "let [_, between @ .., _] = &open[..] else { return Ok(None) };",
     "let [between @ .., _] = &open[..] else { return Ok(None) };"),
    ("a part cut at the end of what is seen", "data", "shared/data/src/pieces.rs",
     "let [_, between @ .., _] = &open[..] else { return Ok(None) };",
     "let [_, between @ ..] = &open[..] else { return Ok(None) };"),
    ("a touched text encoded again", "data", "shared/data/src/cache.rs",
     "Some(Tokens::Mapped { bytes, .. }) => copy(&draft, &bytes, &changed),",
     "Some(Tokens::Mapped { bytes, .. }) if bytes.is_empty() => copy(&draft, &bytes, &changed),"),
    ("a text read whole by every process", "data", "shared/data/src/cache.rs",
     "    let encoding = Encoding { bytes, tokenizer, path, say: cache.say };\n",
     "    as_text(bytes)?;\n    let encoding = Encoding { bytes, tokenizer, path, say: cache.say };\n"),
    ("a changed text with the tokens of the old one", "data", "shared/data/src/cache.rs",
     "|header| header[CHANGED] == changed)", "|header| header[CHANGED].len() == changed.len())"),
    ("no end token behind a document", "tokenize", "shared/tokenize/src/workers.rs",
     "                ids.push(end);\n                *documents += 1;\n            }\n        }\n        Piece::Part",
     "                *documents += 1;\n            }\n        }\n        Piece::Part"),
    ("an end token behind every part of a long text", "tokenize", "shared/tokenize/src/workers.rs",
     "            if is_last {", "            if is_last || !ids.is_empty() {"),
    ("what failed stays as a draft", "tokenize", "shared/tokenize/src/output.rs",
     "let _ = fs::remove_file(&self.draft); // where it is whole, it has another name", ""),
    ("u16 that wraps", "tokenize", "shared/tokenize/src/output.rs",
     "width == 4 || highest <= u16::MAX.into(),", "width == 4 || highest <= u32::MAX,"),
    ("an export that lets generate run on", "checkpoint", "shared/checkpoint/src/beside.rs",
     "            add_missing(&mut model.token_ids, special.ids());\n", ""),
    ("an id that transformers assumes taken for the tokenizer's", "checkpoint", "shared/checkpoint/src/beside.rs",
     "            forget_assumed(&mut model.token_ids, &special, home);\n", ""),
    ("an input's gradient that waits for the weights'", "autograd", "shared/autograd/src/linear.rs",
     "            let finish = start(grad_x())?;\n            grads.add(grad, &x()?)?; // meanwhile\n",
     "            grads.add(grad, &x()?)?;\n            let finish = start(grad_x())?;\n"),
    ("a free by another thread that nobody counts", "autograd", "shared/autograd/src/memory.cpp",
     "entry.account->add(-entry.bytes);",
     "if (entry.account.get() == account) entry.account->add(-entry.bytes);"),
    ("memory held before a recording forgotten", "autograd", "shared/autograd/src/memory.cpp",
     "    held += bytes;\n    if (!is_recording) return;\n", "    if (!is_recording) return;\n    held += bytes;\n"),
    ("one account for the memory of all threads", "autograd", "shared/autograd/src/memory.cpp",
     "owner.account = std::make_shared<Account>();",
     "static auto all = std::make_shared<Account>();\n      owner.account = all;"),
    ("a recording of memory that goes on when it is dropped", "autograd", "shared/autograd/src/memory.rs",
     "    fn drop(&mut self) {\n        stop();", "    fn drop(&mut self) {\n        let _ = stop;"),
    ("SwiGLU by the wrong one of two weights", "autograd", "shared/autograd/src/kernels.rs",
     "    let [gate, up] = halves(&both);\n    let silu", "    let [up, gate] = halves(&both);\n    let silu"),
    ("a gradient that forgets the micro-batches before", "step01", "shared/autograd/src/kernels.rs",
     "(true, _) => sum.f_addmm_(a, b)?", "(true, _) => sum.f_zero_()?.f_addmm_(a, b)?"),
    ("products with the weights of the step before", "step01", "shared/autograd/src/shim.cpp",
     "param.unsafeGetTensorImpl()->bump_version()", "(void)param"),
    ("rope scaling ignored", "step01", f"{S1}/rotary.rs",
     "frequency * (keep + (1.0 - keep) / scaling.factor)", "frequency * (keep + (1.0 - keep))"),
    ("rope scaling ignored by replicas", "step02", f"{S2}/rotary.rs",
     "frequency * (keep + (1.0 - keep) / scaling.factor)", "frequency * (keep + (1.0 - keep))"),
    ("the next token scored at the position before", "step02", f"{S2}/model.rs", ".i((0, last))", ".i((0, last - 1))"),
    ("gains of norms taken for matrices", "step01", f"{S1}/layers.rs", "decays: shape.len() == 2", "decays: !shape.is_empty()"),
    ("weight decay on norms too", "step01", f"{S1}/optimizer.rs", "group(false, 0.0)", "group(false, weight_decay)"),
    ("the norm's epsilon outside the mean", "step01", f"{S1}/layers.rs", "self.eps)", "0.0)"),
    ("gradients scaled by the number of micro-batches", "step04", f"{S4}/pipeline_parallel.rs",
     "let graph = in_flight.pop_front().context(\"nothing in flight\")?;",
     "let mut graph: Graph = in_flight.pop_front().context(\"nothing in flight\")?;\n"
     "                    if self.is_last() {\n"
     "                        graph.output = graph.output.g_mul_scalar(micro_batches.len() as f64);\n"
     "                    }"),
    ("the targets of another micro-batch on the last stage", "step04", f"{S4}/pipeline_parallel.rs",
     "self.forward(model, &micro_batches[i], received, target_tokens)?;",
     "{\n"
     "                        let inputs = micro_batches[i].inputs.shallow_clone();\n"
     "                        let targets = micro_batches[micro_batches.len() - 1 - i].targets.shallow_clone();\n"
     "                        let mixed = MicroBatch { inputs, targets };\n"
     "                        self.forward(model, &mixed, received, target_tokens)?\n"
     "                    };"),
    ("a gradient for the wrong pass", "step04", f"{S4}/pipeline_parallel.rs", "in_flight.pop_front()", "in_flight.pop_back()"),
    ("a stage that keeps one micro-batch more than it must", "step04", f"{S4}/schedule.rs",
     "micro_batches.min(stages - stage)", "micro_batches.min(stages - stage + 1)"),
    ("replicas summed after the first backward pass", "step04", f"{S4}/pipeline_parallel.rs",
     "before_backward(i + 1 == micro_batches.len());", "before_backward(i == 0);"),
    ("the tied gradient summed on one side only", "step04", f"{S4}/pipeline_parallel.rs",
     "            let _ = grad.shallow_clone().g_add_(&theirs);\n",
     "            if peer == 0 {\n                let _ = grad.shallow_clone().g_add_(&theirs);\n            }\n"),
    ("the tied embedding counted twice in the norm", "step04", f"{S4}/layers.rs",
     " && self.pp.is_first(at.pp)", ""),
    ("a tied embedding that each stage takes for its own", "step04", f"{S4}/layers.rs",
     "pp: if is_tied { Placement::Partial }", "pp: if is_tied { Placement::Replicate }"),
    ("the gradient norm of one stage", "step04", f"{S4}/optimizer.rs", "    mesh.pp.all_reduce(&squares)?;\n", ""),
    ("the loss known to the last stage alone", "step04", f"{S4}/train.rs",
     "        self.mesh.pp.all_reduce(&loss)?; // zero on all stages but the last\n", ""),
    ("a head that counts as no work", "step04", f"{S4}/schedule.rs",
     "work[stages - 1] += hidden * config.vocab_size;", "work[stages - 1] += hidden;"),
    ("a checkpoint without the second moments", "step06", f"{S6}/sharded_checkpoint.rs",
     "            tensor.copy_(&reader.read(&piece)?);",
     "            if !piece.name.ends_with(\".exp_avg_sq\") { tensor.copy_(&reader.read(&piece)?); }"),
    ("a run that resumes one sample too far", "step06", f"{S6}/sharded_checkpoint.rs",
     "    Ok(step)\n}", "    Ok(step + 1)\n}"),
    ("AdamW's own counter not resumed", "step06", f"{S6}/sharded_checkpoint.rs",
     "    optimizer.set_step(step);", "    optimizer.set_step(0);"),
    ("the norms counted tp times in clipping", "step06", f"{S6}/optimizer.rs",
     "filter(|p| p.is_first(mesh.coords))", "filter(|p| p.pp.is_first(mesh.coords.pp))"),
    ("each rank resumes with the first part of a matrix", "step06", f"{S6}/sharded_checkpoint.rs",
     "region: tp.region(global_shape, mesh.coords.tp, mesh.layout.tp),",
     "region: checkpoint::Region::whole(&tensor.size()),"),
    ("a norm written by every tp rank", "step06", f"{S6}/sharded_checkpoint.rs",
     "parameter.is_first(mesh.coords)", "parameter.pp.is_first(mesh.coords.pp)"),
    ("a tied embedding exported by both of its stages", "step06", f"{S6}/hugging_face.rs",
     "filter(|p| p.pp.is_first(mesh.coords.pp))", "filter(|p| p.pp.is_first(mesh.coords.dp))"),
    ("an exported matrix put together in the wrong order", "step06", f"{S6}/hugging_face.rs",
     "        shards.push(shard);", "        shards.insert(0, shard);"),
    ("the validation loss of the training text", "step06", f"{S6}/train.rs",
     "let micro_batches = batches.once(samples)?;", "let micro_batches = self.batches.once(samples)?;"),
    ("a validation loss summed over its batches", "step06", f"{S6}/train.rs",
     "samples * self.config.data.seq_len", "self.config.train.global_batch * self.config.data.seq_len"),
    ("held-out samples that count twice where there are few", "validation", f"{S6}/train.rs",
     "let micro_batches = batches.once(samples)?;",
     "let samples = self.config.evaluation.eval_batches * self.config.train.global_batch;\n"
     "        let target_tokens = samples * self.config.data.seq_len;\n"
     "        let micro_batches: Vec<MicroBatch> = (0..self.config.evaluation.eval_batches)\n"
     "            .map(|batch| batches.step(batch)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();"),
    ("a last micro-batch that is received as if it were full", "validation", f"{S6}/pipeline_parallel.rs",
     "self.receive(pass, [batch, self.shape[1], self.shape[2]])", "self.receive(pass, [self.shape[0].max(batch), self.shape[1], self.shape[2]])"),
    ("held-out samples that an uneven share leaves out", "validation", "shared/data/src/batches/once.rs",
     "samples * dp_rank / dp..samples * (dp_rank + 1) / dp", "samples / dp * dp_rank..samples / dp * (dp_rank + 1)"),
    ("held-out samples in the order of the training text", "validation", f"{S6}/held_out.rs",
     "DataConfig { shuffle: false, ..config.data.clone() }", "DataConfig { ..config.data.clone() }"),
    ("an evaluation that reads on", "validation", f"{S6}/train.rs",
     "let micro_batches = batches.once(samples)?;",
     "let mut micro_batches = vec![];\n"
     "        for batch in 0..self.config.evaluation.eval_batches {\n"
     "            micro_batches.extend(batches.step(self.step + batch)?);\n"
     "        }"),
    ("a validation loss added up in bf16", "validation", f"{S6}/pipeline_parallel.rs",
     "loss_kind: config.run.weights_kind(),", "loss_kind: config.run.kind(),"),
    ("the validation loss on the line of the next step", "validation", f"{S6}/train.rs",
     "        reporter.step(&stats)?;\n", ""),
    ("the validation loss of the weights before the step", "validation", f"{S6}/train.rs",
     "        let stats = trainer.step()?;\n", ""),
    ("no validation where no step is due", "validation", f"{S6}/train.rs",
     "|n| step % n == 0 || step == train.steps", "|n| step % n == 0"),
    ("scores of the next token that one cp rank has", "step06", f"{S6}/train.rs",
     "        self.mesh.cp.all_reduce(&logits)?; // zeros,", "        // zeros,"),
    ("an export's rope scaling without its type", "step06", "shared/checkpoint/src/export.rs",
     'rope.insert("rope_type".into(), "llama3".into());', "let _ = rope;"),
    ("an export by every cp rank", "step06", f"{S6}/hugging_face.rs", " && mesh.coords.cp == 0", ""),
    ("the learning rate of a longer run changed in silence", "step06", f"{S6}/sharded_checkpoint.rs",
     "        tell_changes(config, reader.progress(), |train| learning_rate(train, step))?;\n",
     "        let _ = learning_rate;\n"),
    ("the learning rate of the update before, told of a run that goes on", "step06", f"{S6}/sharded_checkpoint.rs",
     "learning_rate(train, step))?", "learning_rate(train, step - 1))?"),
    ("a checkpoint by every cp rank", "step06", f"{S6}/sharded_checkpoint.rs",
     "skip(mesh.dp_cp.rank()).step_by(mesh.dp_cp.size())", "skip(mesh.dp.rank()).step_by(mesh.dp.size())"),
    ("a checkpoint by the first replica alone", "step06", f"{S6}/sharded_checkpoint.rs",
     "skip(mesh.dp_cp.rank()).step_by(mesh.dp_cp.size())",
     "take(if mesh.dp_cp.rank() == 0 { usize::MAX } else { 0 })"),
    ("an epoch of the step instead of the sample", "data", f"{DATA}/batches.rs",
     "let (epoch, index) = (position / samples, position % samples);",
     "let step = position / self.options.global_batch * self.options.global_batch;\n"
     "        let (epoch, index) = (step / samples, position % samples);"),
    ("the order of an epoch drawn from seed + epoch", "data", f"{DATA}/batches.rs",
     "Random::new(seed, epoch)", "Random::new(seed.wrapping_add(epoch), 0)"),
    ("validation text shuffled with the training seed", "cli", f"{S6}/held_out.rs",
     "DataConfig { shuffle: false, ..config.data.clone() }", "DataConfig { ..config.data.clone() }"),
    ("text with what a template adds to a sentence", "data", f"{DATA}/tokenizer.rs",
     "let encode = || pieces::encode(&self.tokenizer, cuts, text, part, WINDOW, take);",
     "let mut take = take;\n"
     "        let encode = || match self.tokenizer.encode(text, true) {\n"
     "            Ok(all) if !text.is_empty() => take(all.get_ids(), text.len()),\n"
     "            _ => pieces::encode(&self.tokenizer, cuts, text, part, WINDOW, take),\n"
     "        };"),
    ("a window of text that begins at the cut", "data", f"{DATA}/pieces.rs",
     "let start = whole_before(text, done.saturating_sub(back));",
     "let start = whole_before(text, done.saturating_sub(back - 1));"),
    ("a cut at the last open place of a window", "data", f"{DATA}/pieces.rs",
     ".filter(|&at| is_open(cuts, text, at)).skip(1)", ".filter(|&at| is_open(cuts, text, at)).skip(0)"),
    ("a cut inside a run of one class", "data", f"{DATA}/cuts/pattern.rs",
     "joins: once.joins || again", "joins: once.joins || again && false"),
    ("a cut inside an added token", "data", f"{DATA}/cuts/pipeline.rs", "(apart && !joined", "((apart || true) && !joined"),
    ("a cut inside a merge", "data", f"{DATA}/cuts/vocabulary.rs", "!self.pairs.contains(&(x, y))", "true"),
    ("tokens kept under the name of the text alone", "data", f"{DATA}/cache.rs",
     "map(path, key, |header| header[DIGEST] == digest)?", "map(path, key, |_| true)?"),
    ("tokens kept whatever the tokenizer", "data", f"{DATA}/cache.rs", "sum.update(self.tokenizer.digest);", ""),
    ("a draft of tokens that keeps what a killed run has left", "data", f"{DATA}/cache.rs",
     "        draft.set_len(0)?;\n", ""),
    ("tokens that two processes encode at once", "data", f"{DATA}/cache.rs",
     "                    draft.lock()?;\n", ""),
    ("a text whose tokens are not all looked at", "data", f"{DATA}/cache.rs",
     "let highest = header[HIGHEST].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));",
     "let highest = header[HIGHEST].first_chunk().map(|bytes| 0 & u32::from_le_bytes(*bytes));"),
    ("a checkpoint that is visible before it is whole", "step06", "shared/checkpoint/src/saved/writer.rs",
     "(dir.join(partial_of(step)), dir.join(name_of(step)))", "(dir.join(name_of(step)), dir.join(name_of(step)))"),
    ("a checkpoint deleted as soon as it is written", "step06", "shared/checkpoint/src/saved/names.rs",
     "filter(|(of, _)| *of < step)", "filter(|(of, _)| *of <= step)"),
    ("ranks that clip at different norms", "cli", f"{CLI}/common.rs",
     "    pub clip: f64,", "    #[serde(skip_serializing)]\n    pub clip: f64,"),
    ("ranks that train in different dtypes", "cli", f"{CLI}/common.rs",
     "    pub dtype: Dtype,", "    #[serde(skip_serializing)]\n    pub dtype: Dtype,"),
    ("data of the same size taken for the same data", "cli", f"{CLI}/start.rs",
     "(text.samples(), text.fingerprint())", "(text.samples(), 0)"),
    ("a file with another path on another host taken for other data", "cli", f"{CLI}/words.rs",
     "path.as_ref().map(|_| GIVEN).serialize(to)", "path.serialize(to)"),
    ("a setting of which an earlier step knows nothing", "every_step", f"{CLI}/later.rs",
     "&[\"eval-every\", \"eval-batches\"]", "&[\"eval-every\"]"),
    ("data that cannot be opened taken for a run that failed", "cli", f"{CLI}/program.rs",
     "let opened = open(&mut start)?;",
     "let opened = open(&mut start).unwrap_or_else(|error| {\n"
     "        eprintln!(\"error: {error:#}\");\n"
     "        std::process::exit(1)\n"
     "    });"),
    ("a prompt's hyphen taken for a flag", "cli", f"{CLI}/args.rs",
     "let args = hyphens::joined(program, keys, args)?;",
     "let args: Vec<OsString> = args.into_iter().collect();"),
    ("a trial that a file's warm-up forbids", "cli", f"{CLI}/build.rs",
     "!values.is_above(\"steps\", \"warmup\")",
     "values.is_given(\"warmup\") || !values.is_above(\"steps\", \"warmup\")"),
    ("a warm-up shortened in silence", "cli", f"{CLI}/build.rs",
     "notes.extend(shorten_warmup(&mut values));", "let _ = shorten_warmup(&mut values);"),
    ("a weight decay that becomes another in silence", "cli", f"{CLI}/resumed.rs",
     "const UNTOLD: [&str; 5] = [", "const UNTOLD: [&str; 6] = [\"weight-decay\", "),
    ("notes that nobody reads", "cli", f"{CLI}/program.rs",
     'start.notes.iter().for_each(|note| eprintln!("warning: {}", in_one_line(note)));', "let _ = &start.notes;"),
    ("bytes counted for another dimension", "report", f"{REPORT}/comm_bytes.rs",
     "*bytes -= before[group]", "*bytes -= before[match *group { \"pp\" => \"cp\", \"cp\" => \"pp\", other => other }]"),
    ("the speed of a run from all its tokens over half its seconds", "report", f"{REPORT}/reporter.rs",
     "let tokens = (late.len() * self", "let tokens = (self.durations.len() * self"),
    ("the speed of a run with its slow first half", "report", f"{REPORT}/reporter.rs",
     "&self.durations[self.durations.len() / 2..]", "&self.durations[..]"),
    ("a step's time from the start of the run", "report", f"{REPORT}/reporter.rs",
     "        self.last += duration;\n", ""),
    ("a validation loss on every line from its own on", "report", f"{REPORT}/reporter.rs",
     "let validation = self.validation.take();", "let validation = self.validation;"),
    ("an export without the rows that an uneven vocabulary leaves over", "step06", f"{S6}/hugging_face.rs",
     "    Ok(Some(Tensor::cat(&shards, dim as i64)))",
     "    let part = parameter.shape[dim] / tp.size() as i64;\n"
     "    let equal: Vec<Tensor> = shards.iter().map(|shard| shard.narrow(dim as i64, 0, part)).collect();\n"
     "    Ok(Some(Tensor::cat(&equal, dim as i64)))"),
    ("a config.json that names what a bf16 run computes in, and not what its file holds", "step06",
     f"{S6}/hugging_face.rs", "config.run.weights_kind()", "config.run.kind()"),
    ("each rank verifies one file alone", "step06", "shared/checkpoint/src/saved/reader.rs",
     "skip(rank).step_by(ranks)", "skip(rank).take(ranks.min(1))"),
    ("each rank verifies one file alone, in its crate", "checkpoint", "shared/checkpoint/src/saved/reader.rs",
     "skip(rank).step_by(ranks)", "skip(rank).take(ranks.min(1))"),
    ("pieces put together by their rows alone", "checkpoint", "shared/checkpoint/src/saved/reader.rs",
     "both.inside(&wanted.region).into_iter().enumerate()", "both.inside(&wanted.region).into_iter().enumerate().take(1)"),
    ("a part that is in two files taken from the last", "checkpoint", "shared/checkpoint/src/saved/reader.rs",
     "Some((other, own.overlap(&both)?))", "Some((other, own.overlap(&both)?)).filter(|_| false)"),
    ("a part that is in no file left as it is", "checkpoint", "shared/checkpoint/src/saved/reader.rs",
     "if let Some(part) = missing.first() {", "if let Some(part) = missing.first().filter(|_| overlaps.is_empty()) {"),
    ("a format that is not asked for", "checkpoint", "shared/checkpoint/src/saved/reader.rs",
     "            format == FORMAT,\n", "            format == FORMAT || true,\n"),
    ("what lies behind a hole taken for found", "checkpoint", "shared/checkpoint/src/placement.rs",
     "[all.start..inside.start, inside.end..all.end]", "[all.start..inside.start, inside.end..inside.end]"),
    ("the newest checkpoint by its name", "checkpoint", "shared/checkpoint/src/saved/names.rs",
     "complete.max().map(|(_, path)| path)", "complete.map(|(_, path)| path).max()"),
    ("the oldest checkpoint by its name", "checkpoint", "shared/checkpoint/src/saved/names.rs",
     "    older.sort();\n", "    older.sort_by_key(|(_, path)| path.clone());\n"),
    ("F16 files read as bf16", "checkpoint", "shared/checkpoint/src/mapped.rs",
     "Dtype::F16 => Kind::Half,", "Dtype::F16 => Kind::BFloat16,"),
    ("a tensor in two files, of which the first is taken", "checkpoint", "shared/checkpoint/src/safetensors_dir.rs",
     "file.tensor(&name)? == files[first].tensor(&name)?,", "true || file.tensor(&name)? == files[first].tensor(&name)?,"),
    ("an untied model's head in the place of its embedding", "checkpoint", "shared/checkpoint/src/safetensors_dir.rs",
     "let is_tied = is_tied(dir);", "let is_tied = is_tied(dir) || true;"),
    ("rope_parameters unread where rope_scaling stands too", "checkpoint", "shared/checkpoint/src/hf_rope.rs",
     "            ours == theirs,\n", "            ours == theirs || true,\n"),
    ("the rope_theta inside of a table unread", "checkpoint", "shared/checkpoint/src/hf_rope.rs",
     "table.rope_theta.or(theta).unwrap_or_else", "theta.unwrap_or_else"),
    ("the rope_theta outside of a table unread", "checkpoint", "shared/checkpoint/src/hf_rope.rs",
     "            inside == outside,\n", "            inside == outside || true,\n"),
    ("the original length outside of a table unread", "checkpoint", "shared/checkpoint/src/hf_rope.rs",
     "original.unwrap_or(longest)", "longest"),
    ("a key of a config.json that nobody knows passed over in silence", "checkpoint", "shared/checkpoint/src/hf_keys.rs",
     "None => unknown.push(key.clone()),", "None => {}"),
    ("is_causal taken to be harmless", "checkpoint", "shared/checkpoint/src/hf_keys.rs",
     '("is_causal", "[true]"),', '("is_causal", "[true, false]"),'),
    ("any number taken for one that changes nothing", "checkpoint", "shared/checkpoint/src/hf_keys.rs",
     '(value.is_null() && key != "is_causal") ||', "value.is_null() || value.is_f64() ||"),
    ("an earlier export's tokenizer left", "checkpoint", "shared/checkpoint/src/export.rs",
     " || beside::is_beside(whole(&name))", ""),
    ("an earlier export's chat templates left", "checkpoint", "shared/checkpoint/src/export.rs",
     "    beside::remove_templates(dir)?;\n", ""),
    ("an export whose text ends with transformers' default token", "checkpoint", "shared/checkpoint/src/export.rs",
     "config.insert(name.into(), Value::Null);", "let _ = name;"),
    ("the model's ids with another tokenizer", "checkpoint", "shared/checkpoint/src/beside.rs",
     "if hf_model.is_none() || !special.ids().is_empty()", "if hf_model.is_none()"),
    ("the model's tokenizer where another was given", "checkpoint", "shared/checkpoint/src/beside.rs",
     "(Some(path), Some(theirs)) => read(path)? == read(theirs)?,", "(Some(_), Some(_)) => true,"),
    ("a token beyond the vocabulary that ends a text", "checkpoint", "shared/checkpoint/src/special_tokens.rs",
     "is_ok_and(|id| id < vocab_size)", "is_ok_and(|_| vocab_size > 0)"),
    ("the first of two tokens that may end a text", "checkpoint", "shared/checkpoint/src/special_tokens.rs",
     "called.next().is_none().then(|| first.to_owned())", "Some(first.to_owned())"),
    ("an export into the directory of what it reads by a link", "cli", "shared/cli/src/validate/overwriting.rs",
     "is_in(file) || file.canonicalize().is_ok_and(|file| is_in(&file))", "is_in(file)"),
    ("an export over what the run reads", "cli", "shared/cli/src/validate/overwriting.rs",
     "        export(dir, asked, &others)?;\n", ""),
    ("what a user should know told by every rank", "cli", "shared/cli/src/program.rs",
     '!Launcher::has_started(&env) && env("RANK").is_none_or(|rank| rank == "0")', "!Launcher::has_started(&env)"),
    ("an evaluation that computes gradients", "step06", f"{S6}/vocab_parallel.rs",
     "let is_evaluation = !x.requires_grad();", "let is_evaluation = false;"),
    ("positions of the piece next door", "step05", f"{S5}/context_parallel.rs",
     "CpLayout::Contiguous => piece(rank, ranks),", "CpLayout::Contiguous => piece((rank + 1) % ranks, ranks),"),
    ("rotary angles of the first positions on every rank", "step05", f"{S5}/rotary.rs",
     "let positions = positions.to_device(Device::Cpu).to_kind(Kind::Double);",
     "let positions = Tensor::arange(positions.size()[0], (Kind::Double, Device::Cpu));"),
    ("the target at a piece's edge taken from this rank's next row", "step05", f"{S5}/context_parallel.rs",
     "targets: self.shard_tokens(targets) }",
     "targets: {\n            let own = self.shard_tokens(inputs).roll([-1], [1]);\n"
     "            let end = own.size()[1] - 1;\n            let last = self.shard_tokens(targets).narrow(1, end, 1);\n"
     "            Tensor::cat(&[own.narrow(1, 0, end), last], 1)\n        } }"),
    ("a block of another rank masked like one's own", "step05", f"{S5}/context_parallel.rs",
     "causal: false })", "causal: matches!(layout, CpLayout::Contiguous) })"),
    ("the wrong half of an earlier rank's block", "step05", f"{S5}/context_parallel.rs",
     "(CpLayout::Zigzag, true) => (all, first),", "(CpLayout::Zigzag, true) => (all, second),"),
    ("the wrong half of the queries for a later rank's block", "step05", f"{S5}/context_parallel.rs",
     "(CpLayout::Zigzag, false) => (second, all),", "(CpLayout::Zigzag, false) => (first, all),"),
    ("a block's own log-sum-exp in the backward pass", "step05", f"{S5}/context_parallel.rs",
     "            // `out` and `lse` are those of all blocks together, not of this one.\n",
     "            let lse = autograd::attention_block(&q, &k, &v, tile.causal).1;\n"),
    ("blocks averaged instead of weighed", "step05", f"{S5}/context_parallel.rs",
     "let share = (block_lse - lse).sigmoid()", "let share = (block_lse - lse).sigmoid() * 0.0 + 0.5; let share = share"),
    ("gradients summed over dp and not over cp", "step05", f"{S5}/train.rs",
     "DataParallel::new(model.parameters(), &mesh.dp_cp,", "DataParallel::new(model.parameters(), &mesh.dp,"),
    ("the gradients of keys and values one hop short of home", "step05", f"{S5}/context_parallel.rs",
     "follower = Some(self.pass_on(&grad_kv));", "follower = (hop + 1 < ranks || hop == 1).then(|| self.pass_on(&grad_kv));"),
    ("the loss summed over dp and not over cp", "step05", f"{S5}/train.rs",
     "self.mesh.dp_cp.all_reduce(&loss)?;", "self.mesh.dp.all_reduce(&loss)?;"),
    ("keys and values taken for those of another rank", "step05", f"{S5}/context_parallel.rs",
     " // travels while this one is attended to\n            let from = (rank + ranks - hop) % ranks;",
     "\n            let from = (rank + hop) % ranks;"),
    ("a bucket that is filled beyond its size foretold", "dry_run", f"{S6}/data_parallel.rs",
     "Some(last) if filled + size <= most", "Some(last) if filled <= most"),
    ("micro-batches foretold as kept for ever", "dry_run", "shared/plan/src/schedule.rs",
     "Pass::Backward(_) => kept -= 1,", "Pass::Backward(_) => kept -= 0,"),
    ("a schedule foretold that is not the trainer's", "dry_run", f"{S6}/dry_run.rs",
     "passes(config.parallel.schedule, stage, pp, micro_batches);", "passes(config.parallel.schedule, stage / pp, pp, micro_batches);"),
    ("micro-batches kept for ever on paper", "plan", "shared/plan/src/schedule.rs",
     "Pass::Backward(_) => kept -= 1,", "Pass::Backward(_) => kept -= 0,"),
    ("messages of a border that all travel at once", "plan", "shared/plan/src/schedule.rs",
     "free[stage].max(last[way][next]) + hops", "free[stage].max(0.0 * last[way][next]) + hops"),
    ("sums over tp foretold as hidden whatever was asked for", "dry_run", "shared/plan/src/predict.rs",
     "let hidden = if config.overlapped_tp {", "let hidden = if true || config.overlapped_tp {"),
    ("sums of gradients foretold as hidden whatever was asked for", "dry_run", "shared/plan/src/predict.rs",
     "let own = if plan.config.bucket_bytes.is_some() { 1.0 } else { 0.0 };", "let own = 1.0;"),
    ("a contiguous ring foretold to be as balanced as zigzag", "dry_run", "shared/plan/src/predict.rs",
     "if plan.config.zigzag { 1.0 } else { cp / (2.0 * cp - 1.0) }", "if plan.config.zigzag || cp > 0.0 { 1.0 } else { 0.0 }"),
    ("memory for what a ring receives, taken when it sends already", "stand_in", f"{S6}/context_parallel.rs",
     "irecv(&received,", "irecv(&received.empty_like(),"),
    ("gradients asked for while a forward pass runs", "stand_in", f"{S6}/pipeline_parallel.rs",
     "            (Pass::Forward(_), Pass::Backward(_)) => None,\n", ""),
    ("chunks counted in 32 bits", "comm", "shared/comm/src/ring.rs",
     "    numel * c / n..numel * (c + 1) / n",
     "    let at = |c: usize| (numel as u32).wrapping_mul(c as u32) as usize / n;\n    at(c)..at(c + 1)"),
    ("elements counted in 32 bits", "launch", "shared/launch/src/tcp/header.rs",
     "bytes[8..].copy_from_slice(&header.numel.to_le_bytes());",
     "bytes[8..12].copy_from_slice(&(header.numel as u32).to_le_bytes());"),
    ("eight bytes combined when four have come", "launch", "shared/launch/src/tcp/message.rs",
     "self.waiting & !7", "self.waiting & !3"),
    ("bytes left over from a piece, lost", "launch", "shared/launch/src/tcp/message.rs",
     "        self.workspace.copy_within(ready..self.waiting, 0);\n", ""),
    ("a timeout that counts from the start of a transfer over TCP", "comm", "shared/launch/src/tcp.rs",
     "                waited = Waited::from_now();\n                yields = 0;", "                yields = 0;"),
    ("a timeout that counts while a thread reads", "comm", "shared/comm/src/thread_transport.rs",
     "            READING => self.abort.check(), // the peer is here, and may have much to combine\n", ""),
    ("ranks that do not hear of all", "comm", "shared/comm/src/rounds.rs", "distance *= 2;", "distance *= 3;"),
    ("a world of one that looks for its rendezvous", "launch", "shared/launch/src/env.rs",
     "if size == 1 {", "if size == 0 {"),
    ("a signal that only rank 0 hears", "endings", "shared/comm/src/mesh.rs",
     "self.interrupts.told().unwrap_or(0);", "self.interrupts.told().filter(|_| self.rank == 0).unwrap_or(0);"),
    ("a signal that is passed on counts twice", "endings", "shared/launch/src/signals.rs",
     "const AGAIN: Duration = Duration::from_secs(1);", "const AGAIN: Duration = Duration::ZERO;"),
    ("a launcher that keeps a signal to itself", "endings", "shared/launch/src/processes.rs",
     "drop(say(&rank.line, &Word::Stop(signal)))", "drop((&rank.line, Word::Stop(signal)))"),
    ("a limit on the size of files that kills", "endings", "shared/launch/src/signals.rs",
     "signal_hook::flag::register(SIGXFSZ, Arc::default()).context(cannot)?;", "let _ = SIGXFSZ;"),
    ("half a file that stays", "endings", "shared/checkpoint/src/safetensors_dir.rs",
     ".inspect_err(|_| drop(std::fs::remove_file(path)))", ""),
    ("weights that must have their threads", "endings", "shared/checkpoint/src/seeded.rs",
     "thread::Builder::new().spawn_scoped(scope, &work).is_err()", "scope.spawn(&work).is_finished() && false"),
]

# What several steps do alike, and so may each do wrong: their tests look at every one of them.
STEPS = {1: S1, 2: S2, 3: S3, 4: S4, 5: S5, 6: S6, 7: S7}
for step, source in STEPS.items():
    # The loss of the first two is an operation of autograd; the third opens it.
    loss = "shared/autograd/src/cross_entropy.rs" if step < 3 else f"{source}/vocab_parallel.rs"
    if step != 2:
        autograd = "" if step < 3 else "autograd::"
        BUGS += [
            (f"a head that learns from the last chunk of the loss alone, step {step}", "every_step", loss,
             f"{autograd}add_product(&grad_weight, &grad.tr(), x)?;",
             "grad_weight.shallow_clone().copy_(&grad.tr().matmul(x));"),
            (f"the loss of a micro-batch added up in bf16, step {step}", "every_step", loss,
             "Tensor::zeros([], (acc_kind, x.device()))", "Tensor::zeros([], (x.kind(), x.device()))"),
        ]
    # Whole numbers are exact up to 256 only in bf16.
    BUGS.append((
        f"rotary tables from rounded positions, step {step}", "every_step", f"{source}/rotary.rs",
        "let angles = positions.outer(&frequencies);",
        "let angles = positions.to_kind(kind).to_kind(Kind::Double).outer(&frequencies);"))
    BUGS += [
        (f"rotary angles that are rounded, step {step}", "every_step", f"{source}/rotary.rs",
         "let angles = positions.outer(&frequencies);",
         "let angles = positions.outer(&frequencies).to_kind(kind).to_kind(Kind::Double);"),
        (f"a warm-up from min_lr, step {step}", "every_step", f"{source}/optimizer.rs",
         "return train.lr * (step + 1) as f64 / train.warmup as f64;",
         "return train.min_lr + (train.lr - train.min_lr) * (step + 1) as f64 / train.warmup as f64;"),
        (f"a warm-up that begins with 0, step {step}", "every_step", f"{source}/optimizer.rs",
         "return train.lr * (step + 1) as f64", "return train.lr * step as f64"),
        (f"a learning rate that falls from the first step on, step {step}", "every_step", f"{source}/optimizer.rs",
         "(step - train.warmup) as f64 / (train.steps - train.warmup) as f64", "step as f64 / train.steps as f64"),
    ]
    BUGS += [
        (f"losses of micro-batches added up in bf16, step {step}", "every_step",
         f"{source}/{'train' if step < 4 else 'pipeline_parallel'}.rs",
         "(run.weights_kind(), run.device())" if step < 4 else "loss_kind: config.run.weights_kind(),",
         "(run.kind(), run.device())" if step < 4 else "loss_kind: config.run.kind(),"),
    ]
    if step >= 2:
        BUGS.append((
            f"buckets with gradients from all over the model, step {step}", "overlap", f"{source}/data_parallel.rs",
            "parameters.iter().rev().map(|p| &p.tensor).collect();",
            "(0..2).flat_map(|odd| parameters.iter().rev().skip(odd).step_by(2)).map(|p| &p.tensor).collect();"))
        BUGS.append((
            f"a bucket for every gradient, step {step}", "dry_run", f"{source}/data_parallel.rs",
            "Some(last) if filled + size <= most", "Some(last) if filled + size <= 0 * most"))
        BUGS.append((
            f"a bucket that is waited for where it is filled, step {step}", "overlap", f"{source}/data_parallel.rs",
            "self.work = Some(group.all_reduce_async(&self.flat));",
            "self.work = Some(Work::done(group.all_reduce(&self.flat)?));"))
    if step >= 3:
        BUGS += [
            (f"a vocabulary cut into equal parts, step {step}", "every_step", f"{source}/vocab_parallel.rs",
             "let ids = shard_range(size, group.rank(), group.size());",
             "let ids = shard_range(size, group.rank(), group.size());\n"
             "        let ids = ids.start..ids.start + size / group.size() as i64;"),
            (f"no broadcast of the first weights, step {step}", "every_step", f"{source}/data_parallel.rs",
             "            group.broadcast(&parameter.tensor.detach(), 0)?;\n", "            let _ = (parameter, group);\n"),
        ]
    if 3 <= step <= 6:
        BUGS += [
            (f"sums over tp that are waited for at once, step {step}", "overlap", f"{source}/tensor_parallel.rs",
             "let sum = group.all_reduce_async(&grad);", "let sum = comm::Work::done(group.all_reduce(&grad)?);"),
            (f"sums over tp that set out behind the weights' gradients, step {step}", "overlap",
             f"{source}/tensor_parallel.rs", "TpSync::Overlapped => self.f_overlapped(x),",
             "TpSync::Overlapped => self.f(x)?.into(),"),
            (f"sums over tp that do not block, step {step}", "overlap", f"{source}/tensor_parallel.rs",
             "TpSync::Blocking => self.f(x)?.into(),", "TpSync::Blocking => self.f_overlapped(x),"),
        ]
    if step >= 4:
        BUGS += [
            (f"messages that are received when the pass before is over, step {step}", "overlap",
             f"{source}/pipeline_parallel.rs", "(_, next) => self.receive(next, self.shape),", "(_, next) => self.receive(next, self.shape).filter(|_| false),"),
            (f"activations that have to arrive before a stage goes on, step {step}", "overlap",
             f"{source}/pipeline_parallel.rs", "        before.map_or(Ok(()), Work::wait)?;\n        Ok(Some(sent))",
             "        let _ = (before, sent.wait()?);\n        Ok(None)"),
        ]
    if step >= 5:
        ring = f"{source}/context_parallel.rs"
        BUGS += [
            (f"first weights that cp ranks draw for themselves, step {step}", "every_step", f"{source}/data_parallel.rs",
             "            group.broadcast(&parameter.tensor.detach(), 0)?;\n",
             "            if group.name() == \"dp\" {\n"
             "                group.broadcast(&parameter.tensor.detach(), 0)?;\n            }\n"),
            (f"gradients that are summed after the backward pass, step {step}", "overlap", f"{source}/data_parallel.rs",
             "if config.dp_sync == DpSync::Naive || group", "if config.dp_sync != DpSync::Naive || group"),
            (f"the layout of the sequence ignored, step {step}", "every_step", ring,
             "(mesh.cp.clone(), config.parallel.cp_layout)", "(mesh.cp.clone(), CpLayout::Contiguous)"),
            (f"zigzag whatever was asked for, step {step}", "every_step", ring,
             "(mesh.cp.clone(), config.parallel.cp_layout)", "(mesh.cp.clone(), CpLayout::Zigzag)"),
            (f"a block that has to arrive before a rank attends, step {step}", "overlap", ring,
             "let passing = self.pass_on(kv);\n",
             "let arrived = Work::done(self.pass_on(kv).wait()?);\n"
             "        let passing = Passing { sent: Work::done(()), arrived };\n"),
            (f"gradients that have to come home before a rank attends to its own block, step {step}", "overlap", ring,
             "        add(0, own, &grad_own); // while the last gradients travel home\n",
             "        let mut follower = follower;\n"
             "        if let Some(follower) = follower.take() {\n"
             "            grad_own += follower.wait()?;\n        }\n"
             "        add(0, own, &grad_own);\n"),
            (f"outputs of blocks merged in bf16, step {step}", "every_step", ring,
             "let out = own_out.to_kind(lse.kind());", "let out = own_out;"),
            (f"the gradient of queries added up in bf16, step {step}", "every_step", ring,
             "(grad_q, mut grad_own) = (zeros(q), zeros(own));",
             "(grad_q, mut grad_own) = (q.zeros_like(), zeros(own));"),
            (f"the gradients of keys and values added up in bf16, step {step}", "every_step", ring,
             "(grad_q, mut grad_own) = (zeros(q), zeros(own));",
             "(grad_q, mut grad_own) = (zeros(q), own.zeros_like());"),
        ]

# Of step 7, and of what was made for it: each rank's own tokens, and what is kept of a forward pass.
SEQUENCE, AGAIN = f"{S7}/sequence_parallel.rs", "shared/autograd/src/recompute.rs"
BUGS += [
    ("gains that learn from a rank's own tokens alone", "step07", f"{S7}/train.rs",
     "        self.model.tp.sum_partial_grads(parameters)?;\n", ""),
    ("gains that learn from every token once more", "step07", f"{S7}/train.rs",
     "        self.data_parallel.finish()?;\n",
     "        self.data_parallel.finish()?;\n        self.model.tp.sum_partial_grads(parameters)?;\n"),
    ("gains that count on every tp rank in the norm, step 7", "step07", f"{S7}/optimizer.rs",
     "filter(|p| p.is_first(mesh.coords))", "filter(|p| p.pp.is_first(mesh.coords.pp))"),
    ("tokens that are put together from the next rank on", "step07", SEQUENCE,
     "        Ok(self.group.all_gather_dim(mine, SEQ)?)\n",
     "        let tokens = mine.size()[SEQ];\n"
     "        Ok(self.group.all_gather_dim(mine, SEQ)?.roll([tokens], [SEQ as i64]))\n"),
    ("tokens on their way that are put together from the next rank on", "step07", SEQUENCE,
     "        let whole = self.group.all_gather_dim_async(&mine, SEQ);\n        Ok(Box::new(|| Ok(whole.wait()?)))\n",
     "        let (tokens, whole) = (mine.size()[SEQ], self.group.all_gather_dim_async(&mine, SEQ));\n"
     "        Ok(Box::new(move || Ok(whole.wait()?.roll([tokens], [SEQ as i64]))))\n"),
    ("a sequence whose tokens are dealt out over tp before it is cut for cp", "step07", f"{S7}/context_parallel.rs",
     "        Self { group, layout, positions }\n",
     "        let tp = if config.activations.sequence_parallel { mesh.layout.tp as i64 } else { 1 };\n"
     "        let positions = positions.view([-1, tp]).tr().reshape([-1]);\n"
     "        Self { group, layout, positions }\n"),
    ("a gradient's memory cleared as soon as it is on its way", "step07", SEQUENCE,
     "            let sum = self.group.reduce_scatter_dim_async(&partial, SEQ);\n",
     "            let sum = self.group.reduce_scatter_dim_async(&partial, SEQ);\n"
     "            let _ = partial.shallow_clone().zero_();\n"),
    ("weights that decay before the last backward pass", "step07", f"{S7}/train.rs",
     "            self.data_parallel.before_backward(is_last)\n",
     "            if is_last {\n"
     "                let keep = 1.0 - learning_rate(train, self.step) * train.weight_decay;\n"
     "                for p in parameters.iter().filter(|p| p.decays) {\n"
     "                    let _ = p.tensor.detach().g_mul_scalar_(keep);\n"
     "                }\n"
     "            }\n"
     "            self.data_parallel.before_backward(is_last)\n"),
    ("a layer's input added to in place where no history is recorded", "step07", f"{S7}/model.rs",
     "        let x = x + self.self_attn.forward(read, rotary, cp)?;\n",
     "        let attended = self.self_attn.forward(read, rotary, cp)?;\n"
     "        let x = if attended.requires_grad() { x + attended } else { x.shallow_clone().g_add_(&attended) };\n"),
    ("gradients of two runs instead of one", "step07", AGAIN,
     "        backward_with(&out, grad)?;\n        Ok([x.grad()])\n",
     "        backward_with(&out, grad)?;\n"
     "        let own = x.grad().copy();\n"
     "        backward_with(&tch::with_grad(|| forward(&x))?, grad)?;\n"
     "        Ok([own])\n"),
    ("gradients of two runs instead of one, in its crate", "autograd", AGAIN,
     "        backward_with(&out, grad)?;\n        Ok([x.grad()])\n",
     "        backward_with(&out, grad)?;\n"
     "        let own = x.grad().copy();\n"
     "        backward_with(&tch::with_grad(|| forward(&x))?, grad)?;\n"
     "        Ok([own])\n"),
    ("a forward pass that keeps its history and runs once", "autograd", AGAIN,
     "    if !x.requires_grad() {\n", "    if x.defined() {\n"),
    ("a first run that records history", "autograd", AGAIN,
     "let out = tch::no_grad(|| forward(&input))?;", "let out = forward(&input)?;"),
    ("a first run whose history is kept to the end", "autograd", AGAIN,
     "    let out = tch::no_grad(|| forward(&input))?;\n    custom([x], &out, move |grad| {\n",
     "    let first = forward(&input.copy().set_requires_grad(true))?;\n"
     "    custom([x], &first.detach(), move |grad| {\n        let _ = &first;\n"),
    ("a product that keeps what it can make again", "autograd", "shared/autograd/src/linear.rs",
     "        let by_feature = value.stride().last() != Some(&1);\n",
     "        let by_feature = value.stride().last() != Some(&1);\n        let read = value.shallow_clone();\n"),
    ("what is sent kept beside what makes it again", "autograd", "shared/autograd/src/input.rs",
     "    again.unwrap_or_else(|| Box::new(move || done(value.shallow_clone())))\n",
     "    match again {\n        Some(again) => Box::new(move || {\n            let _ = &value;\n            again()\n        }),\n"
     "        None => Box::new(move || done(value.shallow_clone())),\n    }\n"),
    ("a norm that is kept for the product behind it", "step07", f"{S7}/layers.rs",
     "        Input::again(&out, move || Ok(norm.forward(&x)))\n",
     "        let (kept, _) = (out.detach(), (norm, x));\n"
     "        Input::again(&out, move || Ok(kept.shallow_clone()))\n"),
    ("halves of an MLP that are kept beside what they come to", "step07", f"{S7}/layers.rs",
     "Ok(Input::again(&recompute(&both, swiglu)?, move || swiglu(&kept)))",
     "let out = swiglu(&both)?;\n        Ok(Input::again(&out, move || swiglu(&kept)))"),
    ("all tokens kept where they were to be gathered twice", "step07", f"{S7}/tensor_parallel.rs",
     "settings.sp_gather == SpGather::Once", "settings.sp_gather == SpGather::Twice"),
    ("all tokens gathered twice where they were to be kept", "step07", f"{S7}/tensor_parallel.rs",
     "sequence && settings.sp_gather == SpGather::Once", "!sequence && settings.sp_gather == SpGather::Once"),
    ("sums of which a rank throws most away", "step07", SEQUENCE,
     "            return Ok(self.group.reduce_scatter_dim(partial, SEQ)?);\n",
     "            self.group.all_reduce(partial)?;\n"
     "            let own = partial.size()[SEQ] / self.group.size() as i64;\n"
     "            return Ok(partial.narrow(SEQ as i64, own * self.group.rank() as i64, own).contiguous());\n"),
    ("the next token from a row of a rank's own", "step07", f"{S7}/model.rs",
     "norm.forward(&self.tp.whole(x)?.i((0, row)))", "norm.forward(&x.i((0, row % x.size()[1])))"),
    ("stages that expect the tokens of all tp ranks", "step07", f"{S7}/pipeline_parallel.rs",
     "let parts = if config.activations.sequence_parallel { cp * tp } else { cp };",
     "let (parts, _) = (cp, tp);"),
    ("a sequence that tp cannot share out", "cli", f"{S7}/activations.rs",
     "seq.is_multiple_of(parts)", "seq.is_multiple_of(cp * pieces)"),
    ("a sequence that an odd tp cannot share out in zigzag", "cli", f"{S7}/activations.rs",
     "let (seq, parts) = (config.data.seq_len, cp * tp * pieces);",
     "let (seq, parts) = (config.data.seq_len, cp * tp * pieces / pieces);"),
    ("the first of several pieces of memory sent to all", "comm", "shared/comm/src/ring.rs",
     "for strip in cut(data.len(), strips) {", "for strip in cut(data.len(), strips).take(1) {"),
    ("the first of several pieces of memory summed", "comm", "shared/comm/src/ring.rs",
     "for strip in cut(input.len(), strips) {", "for strip in cut(input.len(), strips).take(1) {"),
    ("a tensor that counts as one piece of memory", "comm", "shared/comm/src/cpu.rs",
     "let (strips, width) = (strips(&tensor.size(), dim), tensor.kind().elt_size_in_bytes());",
     "let (strips, width) = (strips(&tensor.size(), 0), tensor.kind().elt_size_in_bytes());"),
    ("a rank's own part put in the first place", "comm", "shared/comm/src/cpu.rs",
     "self.rank as i64 * tensor.size()[dim]);", "0 * self.rank as i64);"),
    ("sums over tp that a layer makes again not foretold", "activations", "shared/plan/src/traffic.rs",
     "let again = if settings.layers_again() { forward } else { 0 };",
     "let again = if settings.layers_again() { forward - forward } else { 0 };"),
    ("keys and values that travel again not foretold", "activations", "shared/plan/src/traffic.rs",
     "let again = if settings.layers_again() { hops * c } else { 0 };",
     "let again = if settings.layers_again() { hops - hops } else { 0 };"),
    ("tokens that are gathered again not foretold", "activations", "shared/plan/src/traffic.rs",
     "(true, twice) => (4 * half, if twice { 2 * half } else { 0 }),",
     "(true, twice) => (4 * half, if twice { half - half } else { 0 }),"),
    ("gains whose gradients are summed not foretold", "activations", "shared/plan/src/traffic.rs",
     "let norms = if settings.sequence_parallel { (2 * layers + u64::from(last)) * h } else { 0 };",
     "let norms = if settings.sequence_parallel { (layers + u64::from(last)) * h } else { 0 };"),
    ("tokens that have to be here before the gradient of the input is computed", "overlap", SEQUENCE,
     "        let whole = self.group.all_gather_dim_async(&mine, SEQ);\n        Ok(Box::new(|| Ok(whole.wait()?)))\n",
     "        done(self.group.all_gather_dim_async(&mine, SEQ).wait()?)\n"),
    ("tokens that are waited for as soon as they are asked for", "autograd", "shared/autograd/src/input.rs",
     "let again: Again = Box::new(move || there(before()?()?));",
     "let again: Again = Box::new(move || done(there(before()?()?)?()?));"),
    ("sums of whole gradients that are waited for at once, step 7", "overlap", SEQUENCE,
     "        let sum = self.group.all_reduce_async(&partial);\n        Ok(Box::new(|| {\n            sum.wait()?;\n",
     "        self.group.all_reduce_async(&partial).wait()?;\n        Ok(Box::new(|| {\n"),
]

# The bugs that need a second change.
ALSO = {
    "weights that decay before the last backward pass": (
        f"{S7}/train.rs", "Optimizer::new(model.parameters(), config.train.weight_decay)",
        "Optimizer::new(model.parameters(), 0.0)"),
    "a product that keeps what it can make again": (
        "shared/autograd/src/linear.rs", "            let grad_x = || backward(grad, &w.tr());",
        "            let _ = &read;\n            let grad_x = || backward(grad, &w.tr());"),
    "the validation loss on the line of the next step": (
        f"{S6}/train.rs", "        if is_due(config.evaluation.eval_every) {\n",
        "        reporter.step(&stats)?;\n        if is_due(config.evaluation.eval_every) {\n"),
    "the validation loss of the weights before the step": (
        f"{S6}/train.rs", "        reporter.step(&stats)?;\n",
        "        let stats = trainer.step()?;\n        reporter.step(&stats)?;\n"),
    "clipping by the local norm": (f"{S2}/train.rs", "clip_grads(&grads, &norm,", "clip_grads(&grads, &local,"),
    **{f"outputs of blocks merged in bf16, step {step}": (
        f"{STEPS[step]}/context_parallel.rs", "sigmoid().unsqueeze(-1);", "sigmoid().unsqueeze(-1).to_kind(out.kind());")
       for step in (5, 6, 7)},
    **{f"the gradients of keys and values added up in bf16, step {step}": (
        f"{STEPS[step]}/context_parallel.rs", "let mut grad_kv = zeros(&kv);", "let mut grad_kv = kv.zeros_like();")
       for step in (5, 6, 7)},
}


# In the code that step 7's lesson leaves as it is.
BUGS += [
    ("layers that keep all that they compute, whatever was asked for", "step07", AGAIN,
     "if again { recompute(x, lock) } else { lock(x) }", "let _ = again;\n        lock(x)"),
    ("a sum on a GPU that goes to the first piece of memory", "gpu", "shared/nccl/src/cuda.rs",
     "                    let to = output.data_ptr().byte_add(strip * (bytes(output) / strips));\n"
     "                    (nccl.reduce_scatter)",
     "                    let to = output.data_ptr().byte_add(strip / strips);\n"
     "                    (nccl.reduce_scatter)"),
    ("tokens on a GPU that come from the first piece of memory", "gpu", "shared/nccl/src/cuda.rs",
     "let from = from(input).byte_add(strip * n);", "let from = from(input).byte_add(strip / strips * n);"),
    ("tokens on a GPU that lie one beside the other", "gpu", "shared/nccl/src/cuda.rs",
     "                    let to = output.data_ptr().byte_add(strip * (bytes(output) / strips));\n"
     "                    (nccl.all_gather)",
     "                    let to = output.data_ptr().byte_add(strip * n);\n                    (nccl.all_gather)"),
    ("shares of sums that do not block, step 7", "overlap", SEQUENCE,
     "        match self.sync {\n",
     "        match if self.sequence { TpSync::Overlapped } else { self.sync } {\n"),
    ("a rank's share of a sum that has to be here before the weights' gradient is computed", "overlap", SEQUENCE,
     "            let sum = self.group.reduce_scatter_dim_async(&partial, SEQ);\n            return Ok(Box::new(|| Ok(sum.wait()?)));\n",
     "            return done(self.group.reduce_scatter_dim_async(&partial, SEQ).wait()?);\n"),
    ("the time of what is computed again left out of a plan", "activations", "shared/plan/src/predict.rs",
     "let again = if settings.layers_again() { 1.0 } else { 0.0 };", "let again = 0.0;"),
    ("the memory of a layer that is computed again left out of a plan", "activations", "shared/plan/src/activations.rs",
     "let layer = if settings.layers_again() { whole } else { 0 };", "let layer = whole.min(0);"),
    ("what norms hand on kept in a plan, whatever is computed again", "activations", "shared/plan/src/activations.rs",
     "            _ if elementwise => 0,\n", ""),
    ("norms taken for whole where each rank has its own tokens", "lessons:step07", f"{S7}/layers.rs",
     "if self.tp.sequence { Placement::Partial } else { Placement::Replicate }", "Placement::Replicate"),
    ("the gradient behind g divided among the ranks", "lessons:step07", f"{S7}/tensor_parallel.rs",
     "move |grad| Ok([tp.whole(grad)?])", "move |grad| Ok([tp.whole(&(grad / tp.group.size() as f64))?])"),
    ("a norm with another epsilon where it is computed again", "lessons:step07", f"{S7}/layers.rs",
     "let norm = Self { weight: self.weight.detach(), eps: self.eps };",
     "let norm = Self { weight: self.weight.detach(), eps: 1e-6 };"),
]

BUGS += [bug[:5] for bug in LESSONS]
# Of a lesson's bugs: the test that must be the first red one, in the lesson's order.
FIRST = {name: first for name, *_, first in LESSONS}


def target(test: str) -> list[str]:
    """What cargo is to test: a file of the parity suite, all of a crate, or a test file of a package."""
    if ":" in test:
        package, test = test.split(":")
        return ["-p", package, "--test", test]
    return ["-p", "parity", "--test", test] if (ROOT / f"tests/tests/{test}.rs").exists() else ["-p", test]


def in_order(test: str) -> list[str]:
    """The tests of a lesson, from the easiest on."""
    package, file = test.split(":")
    for lesson in sorted((ROOT / "book/lessons").glob("*.toml")):
        text = lesson.read_text()
        if f'\npackage = "{package}"\n' in text and f'\ntests = "{file}"\n' in text:
            return re.findall(r'^\[\[test\]\]\nname = "(\w+)"', text, re.M)
    return []


def copy(to: Path) -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def replace(tree: Path, file: str, old: str, new: str) -> None:
    path = tree / file
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"planted.py is out of date: {file} has {text.count(old)} places that read {old!r}")
    path.write_text(text.replace(old, new))


def check() -> None:
    """Ends with every bug whose place has gone or become several."""
    stale = []
    changes = [(name, *change) for name, _, *change in BUGS] + [(name, *change) for name, change in ALSO.items()]
    for name, file, old, new in changes:
        count = (ROOT / file).read_text().count(old)
        if count != 1 or old == new:
            stale.append(f"{name}: {file} has {count} places that read {old!r}")
    names = [name for name, *_ in BUGS]
    stale += [f"two bugs are called {name!r}" for name in set(names) if names.count(name) > 1]
    stale += [f"{name}: there is no bug of that name" for name in ALSO if name not in names]
    places = ("tests/tests/{}.rs", "shared/{}/Cargo.toml", "{}/builder/Cargo.toml")
    known = {test for _, test, *_ in BUGS if any((ROOT / place.format(test)).exists() for place in places)}
    known |= {test for _, test, *_ in BUGS if ":" in test and in_order(test)}
    stale += [f"{name}: {test} has no test {FIRST[name]}"
              for name, test, *_ in BUGS if name in FIRST and FIRST[name] not in in_order(test)]
    stale += [f"--hunt {step}: there is no bug {name!r}" for step in HUNTS for name in HUNTS[step] if name not in names]
    stale += [f"{test}: no such test file or crate" for _, test, *_ in BUGS if test not in known]
    if stale:
        sys.exit("\n".join(stale))
    print(f"{len(BUGS)} bugs, each with one place to go")


# Bugs for a room: each in code that was given, found by its lesson's tests, which name a number, and by the book's table
# of how to read it. The compiler does not warn of any.
HUNTS = {
    "step01": ["the gradient divided by each micro-batch's own tokens", "weight decay on norms too",
               "a rotation's gradient turned on"],
    "step02": ["gradients averaged instead of summed", "the loss of one rank only", "the last micro-batch skipped"],
    "step03": ["gradients of norms summed over tp", "key/value heads of another rank",
               "no sum of the gradient to the head's input", "no sum forward behind a row-parallel matrix"],
    "step04": ["a tied embedding that each stage takes for its own", "the loss known to the last stage alone",
               "gradients scaled by the number of micro-batches"],
    "step05": ["rotary angles of the first positions on every rank", "gradients summed over dp and not over cp",
               "positions of the piece next door"],
    "step06": ["the norms counted tp times in clipping", "a run that resumes one sample too far",
               "AdamW's own counter not resumed"],
    "step07": ["norms taken for whole where each rank has its own tokens",
               "the gradient behind g divided among the ranks",
               "a norm with another epsilon where it is computed again"],
}


def hunt(words: list[str]) -> None:
    """Plants one bug, and does not say which."""
    step = words[0] if words else ""
    if step not in HUNTS:
        sys.exit(f"--hunt: name one of {', '.join(HUNTS)}, not {step!r}")
    bugs = {name: change for name, _, *change in BUGS}
    hunts = HUNTS[step]
    number = words[1] if len(words) > 1 else str(random.randint(1, len(hunts)))
    if not number.isdecimal() or not 1 <= int(number) <= len(hunts):
        sys.exit(f"--hunt: {number} is no number from 1 to {len(hunts)}")
    if subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT).returncode:
        sys.exit("--hunt: `git status` shows changes: commit or restore them, so that nothing but the bug is new")
    name = hunts[int(number) - 1]
    for change in [bugs[name]] + ([ALSO[name]] if name in ALSO else []):
        replace(ROOT, *change)
    print(
        f"Hunt {number} of {len(hunts)} for {step} is in the code.\n"
        f"    cargo test -p lessons --test {step}    says which number is wrong\n"
        "    git restore steps shared                takes it out"
    )


def main() -> None:
    words = sys.argv[1:]
    if words == ["--check"]:
        return check()
    if words[:1] == ["--hunt"]:
        return hunt(words[1:])
    first = "--first" in words
    words = [word for word in words if word != "--first"]
    environment = {
        # Its own: to cargo, a crate of the copy is the crate of ROOT, which would go on with what a bug has left.
        "CARGO_TARGET_DIR": str(ROOT / "target/planted"),
        "LIBTORCH": str(ROOT / ".libtorch/torch"),
        "CPLUS_INCLUDE_PATH": str(ROOT / "shared/setup/no-libtorch"),  # as in .cargo/config.toml
        "LD_LIBRARY_PATH": str(ROOT / ".libtorch/torch/lib"),
        **os.environ,
    }
    green = []
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "ferrotron"
        tree.mkdir()
        copy(tree)
        for name, test, file, old, new in BUGS:
            if words and not any(word == test or word in name for word in words):
                continue
            changes = [(file, old, new)] + ([ALSO[name]] if name in ALSO else [])
            before = {file: (tree / file).read_text() for file, _, _ in changes}
            for change in changes:
                replace(tree, *change)
            command = ["cargo", "test", "--no-fail-fast", *target(test)]
            build = subprocess.run([*command, "--no-run"], cwd=tree, env=environment, capture_output=True, text=True)
            if build.returncode:
                sys.exit(f"{name}: does not compile\n{build.stderr[-3000:]}")
            run = subprocess.Popen(
                command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )
            red = []
            for line in run.stdout:
                if failed := re.match(r"test (\S+) +\.\.\. FAILED", line):
                    red.append(failed[1])
                    if first:
                        os.killpg(run.pid, signal.SIGKILL)
                        break
            run.wait()
            order = in_order(test) if ":" in test else []
            red.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
            print(f"{name}\n    " + ("\n    ".join(red) or "NOTHING TURNED RED"), flush=True)
            if not red:
                green.append(name)
            elif name in FIRST and not first and red[0] != FIRST[name]:
                print(f"    BUT THE FIRST SHOULD BE {FIRST[name]}", flush=True)
                green.append(name)
            for path, text in before.items():
                (tree / path).write_text(text)
    if green:
        sys.exit(f"\nstayed green: {', '.join(green)}")


if __name__ == "__main__":
    main()
