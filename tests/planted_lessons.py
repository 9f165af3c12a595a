"""Wrong solutions of the lessons: mistakes that a learner may make, and checks that the contract asks for and a solution
leaves out. Each says which test of the lesson must be the first red one.
"""

C = "shared/comm/src/ring.rs"
S1, S2 = "steps/step01-single-device/src", "steps/step02-data-parallel/src"
S3 = "steps/step03-tensor-parallel/src"
S4 = "steps/step04-pipeline-parallel/src"
S5 = "steps/step05-context-parallel/src"
S6 = "steps/step06-four-d/src"
S7 = "steps/step07-activations/src"
A = "shared/autograd/src/recompute.rs"


def of(lesson: str, file: str, bugs: list[tuple[str, str, str, str]]) -> list[tuple[str, ...]]:
    """(name, first red test, what stands there, what the bug makes of it) for one file of a lesson."""
    return [(f"{lesson.split(':')[1]}: {name}", lesson, file, old, new, first) for name, first, old, new in bugs]


# (name, package:test file, source file, what stands there, what the bug makes of it, the first red test)
LESSONS = [
    # collectives
    *of("comm:lesson", C, [
        ("chunks that walk to the left", "a_reduce_scatter_leaves_each_rank_the_sum_of_its_chunk",
         "        for step in 1..n {\n            let send = chunks[(self.rank + n - step) % n].clone();\n"
         "            let receive = chunks[(self.rank + 2 * n - step - 1) % n].clone();",
         "        for step in 1..n {\n            let send = chunks[(self.rank + step) % n].clone();\n"
         "            let receive = chunks[(self.rank + step + 1) % n].clone();"),
        ("a reduce-scatter that starts with its own chunk", "a_reduce_scatter_leaves_each_rank_the_sum_of_its_chunk",
         "for step in 1..n {", "for step in 0..n - 1 {"),
        ("a reduce-scatter that does not hear of errors", "an_error_of_a_neighbour_is_passed_on",
         "            self.step(data, send, receive, Some(combine))?;", "            self.step(data, send, receive, Some(combine)).ok();"),
        ("an all-gather that begins with another's chunk", "an_all_gather_puts_every_ranks_chunk_in_its_place",
         "for step in 0..n - 1 {", "for step in 1..n {"),
        ("an all-gather that does not hear of errors", "an_error_of_a_neighbour_is_passed_on",
         "            self.step(data, send, receive, None)?;", "            self.step(data, send, receive, None).ok();"),
        ("an all-gather that makes a whole round", "an_all_gather_sends_every_chunk_but_the_right_neighbours",
         "for step in 0..n - 1 {", "for step in 0..if n > 1 { n } else { 0 } {"),
    ]),
    # step 1
    *of("lessons:step01", f"{S1}/rotary.rs", [
        ("frequencies of i over d", "pair_i_turns_by_theta_to_the_minus_2i_over_d_a_position",
         "powf(-2.0 * i as f64 / head_dim as f64)", "powf(-i as f64 / head_dim as f64)"),
        ("a scaling that blends the wrong way round", "llama_31_slows_the_pairs_that_turn_seldom",
         "frequency * (keep + (1.0 - keep) / scaling.factor)", "frequency * (1.0 - keep + keep / scaling.factor)"),
        ("a scaling that divides all frequencies", "llama_31_slows_the_pairs_that_turn_seldom",
         "            frequency * (keep + (1.0 - keep) / scaling.factor)", "            frequency * keep.max(1.0 / scaling.factor)"),
        ("positions from one on", "pair_i_turns_by_theta_to_the_minus_2i_over_d_a_position",
         "let angles = positions.outer(&frequencies);", "let angles = (positions + 1.0).outer(&frequencies);"),
        ("angles in the dtype of the products", "angles_are_computed_in_f64_whatever_the_model_computes_in",
         "let angles = positions.outer(&frequencies);", "let angles = positions.to_kind(kind).outer(&frequencies.to_kind(kind));"),
    ]),
    *of("lessons:step01", f"{S1}/layers.rs", [
        ("a norm without its gain", "a_norm_divides_by_the_root_of_the_mean_square_and_multiplies_by_its_gain",
         "x.rms_norm(weight.size(), Some(&weight), self.eps)", "x.rms_norm(weight.size(), None::<&Tensor>, self.eps)"),
        ("a norm with libtorch's epsilon", "a_norm_divides_by_the_root_of_the_mean_square_and_multiplies_by_its_gain",
         "Some(&weight), self.eps)", "Some(&weight), 1e-6)"),
    ]),
    *of("lessons:step01", f"{S1}/optimizer.rs", [
        ("small gradients scaled up to the limit", "gradients_below_the_limit_are_left_alone",
         "&factor.clamp_max(1.0)", "&factor"),
        ("a limit of 0 that leaves nothing", "gradients_below_the_limit_are_left_alone",
         "    if clip == 0.0 {\n        return Ok(());\n    }\n", ""),
        ("clipping by the square of the norm", "gradients_above_the_limit_are_scaled_down_to_it",
         "(norm + 1e-6).reciprocal()", "(norm.square() + 1e-6).reciprocal()"),
        ("a warm-up that begins with nothing", "the_learning_rate_warms_up_falls_along_half_a_cosine_and_stays",
         "train.lr * (step + 1) as f64", "train.lr * step as f64"),
        ("a learning rate that rises again at the end", "the_learning_rate_warms_up_falls_along_half_a_cosine_and_stays",
         "    if step >= train.steps {\n        return train.min_lr;\n    }\n", ""),
    ]),
    *of("lessons:step01", f"{S1}/train.rs", [
        ("a loss divided by its own tokens", "the_first_loss_is_that_of_transformers",
         "&micro_batch.targets)? / target_tokens",
         "&micro_batch.targets)? / target_tokens.min(micro_batch.targets.numel() as f64)"),
        ("a loss divided behind its backward pass", "the_gradient_norm_is_that_of_transformers",
         "&micro_batch.targets)? / target_tokens\n        };\n"
         "        let _span = self.trace.span(Track::Compute, \"backward\");\n"
         "        autograd::backward(&loss)?;\n        Ok(loss.detach())",
         "&micro_batch.targets)?\n        };\n"
         "        let _span = self.trace.span(Track::Compute, \"backward\");\n"
         "        autograd::backward(&loss)?;\n        Ok(loss.detach() / target_tokens)"),
    ]),
    # step 2
    *of("lessons:step02", f"{S2}/data_parallel.rs", [
        ("naive, a mean in place of the sum", "naive_sums_every_gradient_over_the_replicas",
         "            self.group.all_reduce(&parameter.grad())?;",
         "            self.group.all_reduce(&parameter.grad())?;\n"
         "            let _ = parameter.grad().g_div_scalar_(self.group.size() as f64);"),
        ("naive, an error that nobody hears of", "an_error_of_the_sum_is_passed_on",
         "self.group.all_reduce(&parameter.grad())?;", "self.group.all_reduce(&parameter.grad()).ok();"),
        ("naive, the last parameter forgotten", "naive_sums_every_gradient_over_the_replicas",
         "        for parameter in &self.parameters {", "        for parameter in self.parameters.iter().skip(1) {"),
        ("a bucket that is full taken for over-full", "buckets_follow_each_other_and_hold_at_most_so_much",
         "filled + size <= most", "filled + size < most"),
        ("a bucket counted on from the one before", "buckets_follow_each_other_and_hold_at_most_so_much",
         "                filled = 0;\n", ""),
        ("mark_ready without its check", "a_gradient_that_is_ready_twice_is_refused",
         "        ensure!(self.ready <= self.members, \"a gradient was ready twice in one backward pass\");\n", ""),
        ("a bucket sent with its first gradient", "a_bucket_is_sent_when_its_last_gradient_is_ready_and_not_before",
         "if self.ready == self.members {", "if self.ready == 1 {"),
        ("a hook that waits for the sum", "a_bucket_travels_while_the_backward_pass_goes_on",
         "self.work = Some(group.all_reduce_async(&self.flat));", "self.work = Some(Work::done(group.all_reduce(&self.flat)?));"),
        ("finish without its check", "a_bucket_that_is_not_full_is_refused_at_the_end",
         "        let (ready, members) = (std::mem::take(&mut self.ready), self.members);\n"
         "        ensure!(ready == members, \"{ready} of a bucket's {members} gradients were ready\");\n",
         "        self.ready = 0;\n"),
        ("finish that lets an empty bucket pass", "a_bucket_that_is_not_full_is_refused_at_the_end",
         "ensure!(ready == members,", "ensure!(ready == 0 || ready == members,"),
        ("a count that goes on in the next step", "each_step_counts_its_gradients_anew",
         "std::mem::take(&mut self.ready)", "self.ready"),
        ("a sum that nobody waits for", "finish_waits_until_every_gradient_is_the_sum",
         "Ok(self.work.take().map_or(Ok(()), Work::wait)?)", "drop(self.work.take().map(|_| Work::done(())));\n        Ok(())"),
        ("buckets, an error that nobody hears of", "an_error_of_the_sum_is_passed_on",
         "Ok(self.work.take().map_or(Ok(()), Work::wait)?)", "self.work.take().map(Work::wait);\n        Ok(())"),
    ]),
    # step 3
    *of("lessons:step03", f"{S3}/tensor_parallel.rs", [
        ("g whose gradient is summed too", "the_gradient_of_g_goes_on_as_it_is",
         "        autograd::custom([&partial], &sum, |grad| Ok([grad.shallow_clone()]))",
         "        let group = self.group.clone();\n"
         "        autograd::custom([&partial], &sum, move |grad| {\n"
         "            group.all_reduce(grad)?;\n            Ok([grad.shallow_clone()])\n        })"),
        ("g without a way back", "the_gradient_of_g_goes_on_as_it_is",
         "        autograd::custom([&partial], &sum, |grad| Ok([grad.shallow_clone()]))", "        Ok(sum)"),
        ("g that does not hear of errors", "an_error_of_the_group_is_passed_on",
         "        self.group.all_reduce(&sum)?;", "        self.group.all_reduce(&sum).ok();"),
        ("f without its sum", "the_gradient_of_f_is_the_sum_over_the_ranks",
         "            group.all_reduce(grad)?;", "            debug_assert!(group.size() > 0);"),
        ("f that does not hear of errors", "an_error_of_the_group_is_passed_on",
         "            group.all_reduce(grad)?;", "            group.all_reduce(grad).ok();"),
        ("f that sums forward", "f_leaves_its_input_as_it_is",
         "        autograd::custom([x], &x.detach(), move |grad| {",
         "        let sum = x.detach().copy();\n        group.all_reduce(&sum)?;\n"
         "        autograd::custom([x], &sum, move |grad| {"),
        ("f_overlapped without its sum", "both_forms_of_f_give_a_product_the_same_gradients",
         "let sum = group.all_reduce_async(&grad);", "let sum = group.all_reduce_async(&grad.zeros_like());"),
        ("f_overlapped that starts its sum late",
         "the_overlapped_sum_sets_out_before_the_weights_gradient_is_there",
         "            let sum = group.all_reduce_async(&grad);\n            Ok(move || {\n                sum.wait()?;\n",
         "            let group = group.clone();\n            Ok(move || {\n                group.all_reduce(&grad)?;\n"),
        ("f_overlapped that does not hear of errors", "an_error_of_the_overlapped_sum_is_passed_on",
         "                sum.wait()?;", "                sum.wait().ok();"),
        ("f_overlapped that waits early", "the_overlapped_sum_is_waited_for_after_the_weights_gradient",
         "let sum = group.all_reduce_async(&grad);",
         "group.all_reduce_async(&grad).wait()?;\n            let sum = comm::Work::<()>::done(());"),
    ]),
    *of("lessons:step03", f"{S3}/vocab_parallel.rs", [
        ("a shard that begins one word late", "a_rank_finds_the_words_of_its_own_rows_and_zeros_for_the_others",
         "ids.lt(start)", "ids.le(start)"),
        ("rows counted from the first word", "a_rank_finds_the_words_of_its_own_rows_and_zeros_for_the_others",
         "((ids - start).masked_fill(&outside, 0), outside)",
         "((ids - start).masked_fill(&outside, 0) * i64::from(start == 0), outside)"),
        ("words of other ranks taken for row 0", "a_rank_finds_the_words_of_its_own_rows_and_zeros_for_the_others",
         "found.masked_fill(&outside.unsqueeze(-1), 0.0)", "found.masked_fill(&outside.unsqueeze(-1).logical_not(), 0.0)"),
        ("words of other ranks hidden from autograd", "the_embedding_gives_each_row_the_gradient_of_its_own_words",
         "        found.masked_fill(&outside.unsqueeze(-1), 0.0)",
         "        let _ = found.detach().masked_fill_(&outside.unsqueeze(-1), 0.0);\n        found"),
        ("the highest score of a rank's own words", "the_loss_is_that_of_the_whole_vocabulary",
         "            self.group.all_reduce_op(&max, ReduceOp::Max)?;\n",
         "            self.group.all_reduce_op(&max.copy(), ReduceOp::Max)?;\n"),
        ("no highest score taken off", "scores_of_a_thousand_overflow_on_no_rank",
         "            logits -= max; // so that no exponential overflows\n", "            logits -= max * 0.0;\n"),
        ("the softmax of a rank's own words", "the_loss_is_that_of_the_whole_vocabulary",
         "            self.group.all_reduce(&sums)?;", "            self.group.all_reduce(&sums.copy())?;"),
        ("an evaluation of nothing", "a_loss_that_nobody_differentiates_is_the_same",
         "            loss += (sum.log() - target).sum(None);\n            if is_evaluation {\n                continue;\n            }\n",
         "            if is_evaluation {\n                continue;\n            }\n            loss += (sum.log() - target).sum(None);\n"
         "            let sum = sum.shallow_clone();\n"),
        ("a target taken off by every rank", "the_gradients_of_the_loss_are_those_of_a_ranks_own_words",
         "outside.to_kind(acc_kind) - 1.0", "outside.zeros_like().to_kind(acc_kind) - 1.0"),
        ("the head's gradient of the last chunk", "the_gradients_of_the_loss_are_those_of_a_ranks_own_words",
         "autograd::add_product(&grad_weight, &grad.tr(), x)?;",
         "grad_weight.shallow_clone().copy_(&grad.tr().matmul(x));"),
        ("two sums sent one by one", "three_numbers_a_token_cross_the_ranks_and_no_logits",
         "            self.group.all_reduce(&sums)?;",
         "            self.group.all_reduce(&sums.narrow(1, 0, 1))?;\n"
         "            self.group.all_reduce(&sums.narrow(1, 1, 1))?;\n            self.group.all_reduce(&sums.copy())?;"),
    ]),
    *of("lessons:step03", f"{S3}/optimizer.rs", [
        ("a norm that counts replicated gradients on every rank", "the_norm_counts_each_number_of_the_gradient_once",
         "parameters.iter().filter(|p| p.is_first(mesh.coords))", "parameters.iter()"),
        ("a norm that does not hear of errors", "an_error_in_the_norm_is_passed_on",
         "    mesh.tp.all_reduce(&squares)?;", "    mesh.tp.all_reduce(&squares).ok();"),
        ("a norm of a rank's own shards", "the_norm_counts_each_number_of_the_gradient_once",
         "    mesh.tp.all_reduce(&squares)?;\n", ""),
    ]),
    # step 4
    *of("lessons:step04", f"{S4}/schedule.rs", [
        ("a backward pass before any forward", "every_pass_is_made_once_and_in_order",
         "micro_batches.min(stages - stage)", "micro_batches.min(stages - stage - 1)"),
        ("one micro-batch more than needed", "a_stage_keeps_as_many_micro_batches_as_its_schedule_says",
         "micro_batches.min(stages - stage)", "micro_batches.min(stages - stage + 1)"),
        ("the same list on all stages", "a_stage_keeps_as_many_micro_batches_as_its_schedule_says",
         "micro_batches.min(stages - stage)", "micro_batches.min(stages.max(stage))"),
        ("a tie that goes to the first stage", "stages_share_the_layers_and_the_head_counts",
         "(0..stages).rev().min_by_key(least)", "(0..stages).min_by_key(least)"),
        ("a head that is no work", "stages_share_the_layers_and_the_head_counts",
         "    work[stages - 1] += hidden * config.vocab_size;\n", ""),
        ("stages that may be empty", "stages_share_the_layers_and_the_head_counts",
         "(layers[stage] > 0, work[stage])", "work[stage]"),
    ]),
    *of("lessons:step04", f"{S4}/pipeline_parallel.rs", [
        ("a last stage that waits for a gradient", "a_stage_passes_on_the_activations_of_each_micro_batch",
         "            Pass::Backward(_) if self.is_last() => return None,\n", ""),
        ("gradients asked of the stage before", "a_stage_passes_on_the_activations_of_each_micro_batch",
         "            Pass::Backward(_) => stage + 1,", "            Pass::Backward(_) => stage.saturating_sub(1),"),
        ("a loss that is passed on", "a_stage_passes_on_the_activations_of_each_micro_batch",
         "(Pass::Forward(_), Some(output)) if !self.is_last() =>", "(Pass::Forward(_), Some(output)) =>"),
        ("gradients sent to the stage behind", "a_stage_passes_on_the_activations_of_each_micro_batch",
         "(grad, self.group.rank() - 1)", "(grad, self.group.rank() + 1)"),
        ("the loss of the last micro-batch alone", "the_loss_is_the_last_stages_and_zero_on_the_others",
         "                        loss += &output;", "                        loss = output.shallow_clone();"),
        ("the wrong end of the queue", "a_stage_passes_back_the_gradient_of_what_it_received",
         "in_flight.pop_front()", "in_flight.pop_back()"),
        ("the first backward pass announced as the last", "the_last_backward_pass_and_no_other_is_announced_as_the_last",
         "before_backward(i + 1 == micro_batches.len());", "before_backward(i == 0);"),
        ("every backward pass announced as the last", "the_last_backward_pass_and_no_other_is_announced_as_the_last",
         "before_backward(i + 1 == micro_batches.len());", "before_backward(i < micro_batches.len());"),
        ("the tied gradient summed on the last stage alone", "the_gradients_of_a_tied_embedding_are_summed_over_both_its_stages",
         "            let _ = grad.shallow_clone().g_add_(&theirs);\n",
         "            if self.is_last() {\n                let _ = grad.shallow_clone().g_add_(&theirs);\n            }\n"),
        ("the tied gradient replaced by the other's", "the_gradients_of_a_tied_embedding_are_summed_over_both_its_stages",
         "            let _ = grad.shallow_clone().g_add_(&theirs);\n",
         "            grad.shallow_clone().copy_(&theirs);\n"),
        ("the tied gradient of a stage that is gone", "an_error_of_a_message_ends_the_step",
         "            self.group.recv(&theirs, peer)?;\n            sent.wait()?;",
         "            self.group.recv(&theirs, peer).ok();\n            sent.wait().ok();"),
        ("a pipeline of one stage that sends to itself",
         "the_gradients_of_a_tied_embedding_are_summed_over_both_its_stages",
         "p.pp == Placement::Partial && last > 0", "p.pp == Placement::Partial"),
    ]),
    # step 5
    *of("lessons:step05", f"{S5}/context_parallel.rs", [
        ("targets that a rank finds in its own tokens", "a_rank_has_the_tokens_of_its_positions_and_the_token_after_each",
         "targets: self.shard_tokens(targets) }", "targets: self.shard_tokens(inputs).roll([-1], [1]).to_kind(targets.kind()) }"),
        ("the first tokens on every rank", "a_rank_has_the_tokens_of_its_positions_and_the_token_after_each",
         "inputs: self.shard_tokens(inputs),", "inputs: inputs.narrow(1, 0, self.positions.size()[0]),"),
        ("a contiguous rank that sees what follows", "every_query_meets_every_key_before_it_once_and_no_other",
         "(CpLayout::Contiguous, false) => return None,", "(CpLayout::Contiguous, false) => (first, all),"),
        ("the halves of a later block exchanged", "every_query_meets_every_key_before_it_once_and_no_other",
         "(CpLayout::Zigzag, false) => (second, all),", "(CpLayout::Zigzag, false) => (first, all),"),
        ("blocks merged by halves", "two_blocks_are_merged_into_one_softmax",
         "let share = (block_lse - lse).sigmoid().unsqueeze(-1);",
         "let share = (block_lse.ones_like() / 2.0).unsqueeze(-1);"),
        ("shares from the exponentials themselves", "blocks_of_very_different_scores_are_merged_without_overflow",
         "let share = (block_lse - lse).sigmoid().unsqueeze(-1);",
         "let share = (block_lse.exp() / (block_lse.exp() + lse.exp())).unsqueeze(-1);"),
        ("a log-sum-exp that is not merged", "a_ring_of_any_length_attends_as_one_device",
         "    lse.shallow_clone().copy_(&lse.logaddexp(block_lse)); // [batch, heads, rows]\n", ""),
        ("one's own block without its mask", "the_first_of_two_ranks_attends_to_its_own_block_alone",
         "attention_block(q, &kv.get(0), &kv.get(1), true)", "attention_block(q, &kv.get(0), &kv.get(1), false)"),
        ("a neighbour's block that may be missing", "an_error_of_the_ring_is_passed_on",
         "        let neighbour = passing.wait()?;", "        let neighbour = passing.wait().unwrap_or_else(|_| kv.zeros_like());"),
        ("blocks taken for those of the ranks behind", "a_ring_of_any_length_attends_as_one_device",
         " // travels while this one is attended to\n            let from = (rank + ranks - hop) % ranks;",
         "\n            let from = (rank + hop) % ranks;"),
        ("the log-sum-exp of one block", "the_gradients_of_queries_keys_and_values_are_those_of_one_device",
         "            // `out` and `lse` are those of all blocks together, not of this one.\n",
         "            let lse = attention_block(&q, &k, &v, tile.causal).1;\n"),
        ("the share of one's own block forgotten", "the_gradients_of_queries_keys_and_values_are_those_of_one_device",
         "        add(0, own, &grad_own); // while the last gradients travel home\n", ""),
        ("shares of earlier ranks lost", "the_gradients_of_queries_keys_and_values_are_those_of_one_device",
         "                grad_kv += follower.wait()?; // from the ranks that had this block before\n",
         "                follower.wait()?;\n"),
        ("a block that goes round once too often", "blocks_visit_each_rank_once_and_gradients_come_home",
         "let (mut kv, mut follower) = (neighbour.shallow_clone(), None::<Passing>);",
         "let (mut kv, mut follower) = (self.pass_on(own).wait()?, None::<Passing>);\n"
         "        debug_assert_eq!(kv.size(), neighbour.size());"),
    ]),
    # step 6
    *of("lessons:step06", f"{S6}/sharded_checkpoint.rs", [
        ("every shard at the first row", "a_checkpoint_holds_every_weight_in_its_place",
         "region: tp.region(global_shape, mesh.coords.tp, mesh.layout.tp),",
         "region: tp.region(global_shape, 0, mesh.layout.tp),"),
        ("the moments exchanged", "a_checkpoint_holds_the_first_moments_in_their_places",
         '(piece(".exp_avg"), exp_avg), (piece(".exp_avg_sq"), exp_avg_sq)]',
         '(piece(".exp_avg"), exp_avg_sq), (piece(".exp_avg_sq"), exp_avg)]'),
        ("a second moment that is the first", "a_checkpoint_holds_the_second_moments_in_their_places",
         '(piece(".exp_avg"), exp_avg), (piece(".exp_avg_sq"), exp_avg_sq)]',
         '(piece(".exp_avg"), exp_avg), (piece(".exp_avg_sq"), exp_avg_sq.square())]'),
        ("what all hold written by all", "a_checkpoint_holds_every_weight_in_its_place",
         "    all.retain(|(parameter, _)| parameter.is_first(mesh.coords)); // others leave it to the first\n",
         "    all.retain(|(parameter, _)| parameter.pp.is_first(mesh.coords.pp));\n"),
        ("replicas that all write everything", "a_checkpoint_holds_every_weight_in_its_place",
         "all.into_iter().skip(mesh.dp_cp.rank()).step_by(mesh.dp_cp.size())", "all.into_iter()"),
        ("one replica that writes everything", "replicas_share_the_writing",
         "all.into_iter().skip(mesh.dp_cp.rank()).step_by(mesh.dp_cp.size())",
         "all.into_iter().filter(|_| mesh.dp_cp.rank() == 0)"),
        ("AdamW's count from the start", "the_weights_after_a_checkpoint_are_those_of_a_run_without_one",
         "    optimizer.set_step(step);\n", ""),
        ("moments that are not read", "the_weights_after_a_checkpoint_are_those_of_a_run_without_one",
         "            tensor.copy_(&reader.read(&piece)?);",
         "            if piece.name.ends_with(\".weight\") {\n                tensor.copy_(&reader.read(&piece)?);\n            }"),
        ("a step number that is one too high", "a_run_goes_on_with_its_next_step_number_and_learning_rate",
         "    Ok(step)\n}", "    Ok(step + 1)\n}"),
        ("resume without its look at the data", "other_data_is_refused",
         '    ensure!(then == now, "the data had {then} samples and now has {now}: it is not the same");\n',
         '    ensure!(then > 0 && now > 0, "the data has no samples");\n'),
        ("resume without verifying", "a_damaged_file_is_refused_before_anything_is_overwritten",
         "    reader.verify(mesh.rank, mesh.world.size())?;\n", ""),
        ("resume that reads before all have verified", "rank_0_decides_from_which_checkpoint_all_go_on",
         "    mesh.untimed.barrier()?; // the other ranks' files are intact too\n", ""),
        ("each rank resumes from its own newest", "rank_0_decides_from_which_checkpoint_all_go_on",
         "CheckpointReader::open_step(dir, step)", "CheckpointReader::open(dir)"),
    ]),
    # step 7
    *of("lessons:step07", f"{S7}/sequence_parallel.rs", [
        ("tokens joined along the batch", "the_tokens_of_all_ranks_come_in_their_order",
         "Ok(self.group.all_gather_dim(mine, SEQ)?)", "Ok(self.group.all_gather_dim(mine, 0)?)"),
        ("tokens joined along the batch, in the right shape", "the_tokens_of_all_ranks_come_in_their_order",
         "Ok(self.group.all_gather_dim(mine, SEQ)?)",
         "Ok(self.group.all_gather(mine)?.view([mine.size()[0], -1, mine.size()[2]]))"),
        ("the last rank's tokens first", "the_tokens_of_all_ranks_come_in_their_order",
         "Ok(self.group.all_gather_dim(mine, SEQ)?)",
         "{\n            let ranks = self.group.all_gather_dim(mine, SEQ)?.split(mine.size()[1], 1);\n"
         "            Ok(Tensor::cat(&ranks.into_iter().rev().collect::<Vec<_>>(), 1))\n        }"),
        ("a gather by a sum with zeros", "a_rank_sends_its_tokens_once_to_each_of_the_others",
         "Ok(self.group.all_gather_dim(mine, SEQ)?)",
         "{\n            let (tokens, rank) = (mine.size()[1], self.group.rank() as i64);\n"
         "            let all = mine.zeros_like().repeat([1, self.group.size() as i64, 1]);\n"
         "            all.narrow(1, tokens * rank, tokens).copy_(mine);\n"
         "            self.group.all_reduce(&all)?;\n            Ok(all)\n        }"),
        ("a gather that does not hear of errors", "an_error_of_the_group_is_passed_on",
         "Ok(self.group.all_gather_dim(mine, SEQ)?)",
         "{\n            let ranks = self.group.size() as i64;\n"
         "            Ok(self.group.all_gather_dim(mine, SEQ).unwrap_or_else(|_| mine.repeat([1, ranks, 1])))\n        }"),
        ("a sum that is left with the batch's parts", "each_rank_is_left_the_sum_of_its_own_tokens",
         "return Ok(self.group.reduce_scatter_dim(partial, SEQ)?);",
         "let tokens = partial.flatten(0, 1);\n"
         "            let own = self.group.reduce_scatter(&tokens)?;\n"
         "            return Ok(own.view([partial.size()[0], -1, partial.size()[2]]));"),
        ("a rank's own part that is not summed", "each_rank_is_left_the_sum_of_its_own_tokens",
         "return Ok(self.group.reduce_scatter_dim(partial, SEQ)?);",
         "let tokens = partial.size()[1] / self.group.size() as i64;\n"
         "            return Ok(partial.narrow(1, tokens * self.group.rank() as i64, tokens).contiguous());"),
        ("a sum of all tokens of which a part is kept", "a_sum_sends_half_of_what_an_all_reduce_does",
         "return Ok(self.group.reduce_scatter_dim(partial, SEQ)?);",
         "let ranks = self.group.size() as i64;\n"
         "            anyhow::ensure!(partial.size()[1] % ranks == 0, \"tokens cannot be shared\");\n"
         "            let tokens = partial.size()[1] / ranks;\n            self.group.all_reduce(partial)?;\n"
         "            return Ok(partial.narrow(1, tokens * self.group.rank() as i64, tokens).contiguous());"),
        ("a token that nobody gets", "tokens_that_the_ranks_cannot_share_are_refused",
         "return Ok(self.group.reduce_scatter_dim(partial, SEQ)?);",
         "let (seq, ranks) = (partial.size()[1], self.group.size() as i64);\n"
         "            let shared = partial.narrow(1, 0, seq / ranks * ranks).contiguous();\n"
         "            return Ok(self.group.reduce_scatter_dim(&shared, SEQ)?);"),
        ("tokens that are always shared out", "without_sequence_parallelism_every_rank_has_all_tokens",
         "        if !self.sequence {\n            return Ok(mine.shallow_clone());\n        }\n", ""),
        ("a sum that does not hear of errors", "an_error_of_the_group_is_passed_on",
         "        self.group.all_reduce(partial)?;\n", "        self.group.all_reduce(partial).ok();\n"),
        ("norms that nobody sums", "the_gradient_of_a_norm_is_the_sum_over_the_ranks",
         "        let buffer = Tensor::cat(&grads, 0); // [norms·hidden]\n",
         "        let buffer = Tensor::cat(&grads, 0).zeros_like(); // [norms·hidden]\n        return Ok(());\n"
         "        #[expect(unreachable_code)]\n"),
        ("norms that are summed twice", "the_gradient_of_a_norm_is_the_sum_over_the_ranks",
         "        self.group.all_reduce(&buffer)?;\n        let mut start",
         "        self.group.all_reduce(&buffer)?;\n        self.group.all_reduce(&buffer)?;\n        let mut start"),
        ("every norm given the sum of the first", "the_gradient_of_a_norm_is_the_sum_over_the_ranks",
         "            start += length;\n", "            start += 0 * length;\n"),
        ("norms and matrices summed", "gradients_of_shards_and_of_what_all_compute_stay_as_they_are",
         "let partial = parameters.iter().filter(|p| p.tp == Placement::Partial);",
         "let partial = parameters.iter();"),
        ("norms and all that is not sharded summed", "gradients_of_shards_and_of_what_all_compute_stay_as_they_are",
         "filter(|p| p.tp == Placement::Partial)", "filter(|p| !matches!(p.tp, Placement::Shard(_)))"),
        ("sums in tensors of their own", "the_sum_is_where_the_gradient_was",
         "        for mut grad in grads {\n            let length = grad.size()[0];\n"
         "            grad.copy_(&buffer.narrow(0, start, length));\n",
         "        for p in parameters.iter().filter(|p| p.tp == Placement::Partial) {\n"
         "            let length = p.tensor.size()[0];\n"
         "            autograd::set_grad(&p.tensor, &buffer.narrow(0, start, length))?;\n"),
        ("ranks that add in an order of their own", "every_rank_has_the_same_bits",
         "        self.group.all_reduce(&buffer)?;\n        let mut start",
         "        let all = self.group.all_gather(&buffer.unsqueeze(0))?;\n"
         "        let (rank, ranks) = (self.group.rank() as i64, self.group.size() as i64);\n"
         "        let buffer = (1..ranks).fold(buffer.copy(), |sum, hop| sum + all.get((rank + hop) % ranks));\n"
         "        let mut start"),
        ("one message a norm", "all_norms_travel_in_one_buffer",
         "        let buffer = Tensor::cat(&grads, 0); // [norms·hidden]\n        self.group.all_reduce(&buffer)?;\n",
         "        for grad in &grads {\n            self.group.all_reduce(grad)?;\n        }\n"
         "        let buffer = Tensor::cat(&grads, 0); // [norms·hidden]\n"),
        ("no norms put together", "where_nothing_is_partial_nothing_is_sent",
         "        if grads.is_empty() {\n            return Ok(());\n        }\n", ""),
        ("a sum of norms that does not hear of errors", "an_error_of_the_sum_of_norms_is_passed_on",
         "        self.group.all_reduce(&buffer)?;\n        let mut start",
         "        self.group.all_reduce(&buffer).ok();\n        let mut start"),
    ]),
    *of("autograd:lesson", A, [
        ("an output that has no way back", "the_output_is_that_of_forward",
         "    custom([x], &out, move |grad| {\n"
         "        let x = input.detach().set_requires_grad(true); // the start of a graph of its own\n"
         "        let out = tch::with_grad(|| forward(&x))?;\n"
         "        backward_with(&out, grad)?;\n        Ok([x.grad()])\n    })", "    Ok(out)"),
        ("a first run with history", "the_forward_pass_records_no_history",
         "    let out = tch::no_grad(|| forward(&input))?;", "    let out = forward(&input)?.detach();"),
        ("what was made, kept", "nothing_is_kept_until_the_backward_pass",
         "    let input = x.detach();\n    let out = tch::no_grad(|| forward(&input))?;\n    custom([x], &out, move |grad| {\n"
         "        let x = input.detach().set_requires_grad(true); // the start of a graph of its own\n"
         "        let out = tch::with_grad(|| forward(&x))?;\n"
         "        backward_with(&out, grad)?;\n        Ok([x.grad()])\n    })",
         "    let input = x.detach().set_requires_grad(true);\n    let made = Mutex::new(forward(&input)?);\n"
         "    let out = made.lock().unwrap().detach();\n    custom([x], &out, move |grad| {\n"
         "        backward_with(&made.lock().unwrap(), grad)?;\n        Ok([input.grad()])\n    })"),
        ("a second run made ahead, and kept", "nothing_is_kept_until_the_backward_pass",
         "    custom([x], &out, move |grad| {\n"
         "        let x = input.detach().set_requires_grad(true); // the start of a graph of its own\n"
         "        let out = tch::with_grad(|| forward(&x))?;\n",
         "    let x2 = input.detach().set_requires_grad(true);\n"
         "    let made = Mutex::new(tch::with_grad(|| forward(&x2))?);\n"
         "    custom([x], &out, move |grad| {\n        let (x, out) = (&x2, made.lock().unwrap());\n"),
        ("a second run without history", "the_backward_pass_computes_it_again_with_history",
         "tch::with_grad(|| forward(&x))?", "forward(&x)?"),
        ("a second run that is made twice", "the_backward_pass_computes_it_again_with_history",
         "        let out = tch::with_grad(|| forward(&x))?;\n",
         "        forward(&x)?;\n        let out = tch::with_grad(|| forward(&x))?;\n"),
        ("a second run that goes back into the graph before", "the_gradient_of_the_input_is_that_without_recomputation",
         "    let input = x.detach();\n    let out = tch::no_grad(|| forward(&input))?;\n    custom([x], &out, move |grad| {\n"
         "        let x = input.detach().set_requires_grad(true); // the start of a graph of its own\n",
         "    let input = x.shallow_clone();\n    let out = tch::no_grad(|| forward(&input))?;\n"
         "    custom([x], &out, move |grad| {\n        let x = input.shallow_clone();\n"),
        ("the gradient that comes in left out", "the_gradient_of_the_input_is_that_without_recomputation",
         "backward_with(&out, grad)?;", "backward_with(&out, &grad.ones_like())?;"),
        ("gradients of parameters added twice", "the_gradient_of_a_parameter_is_added_once",
         "        let out = tch::with_grad(|| forward(&x))?;\n        backward_with(&out, grad)?;\n        Ok([x.grad()])",
         "        let out = tch::with_grad(|| forward(&x))?;\n        backward_with(&tch::with_grad(|| &out + &out), grad)?;\n"
         "        Ok([x.grad() * 0.5])"),
        ("gradients of parameters left out", "the_gradient_of_a_parameter_is_added_once",
         "        backward_with(&out, grad)?;\n        Ok([x.grad()])",
         "        let sum = tch::with_grad(|| (&out * grad).sum(None));\n"
         "        let grads = Tensor::f_run_backward(&[sum], &[&x], false, false)?;\n"
         "        Ok([grads[0].shallow_clone()])"),
        ("a backward function that owns itself", "what_it_holds_is_freed_with_its_output",
         "    custom([x], &out, move |grad| {\n"
         "        let x = input.detach().set_requires_grad(true); // the start of a graph of its own\n"
         "        let out = tch::with_grad(|| forward(&x))?;\n"
         "        backward_with(&out, grad)?;\n        Ok([x.grad()])\n    })",
         "    let own = Arc::new(Mutex::new(None));\n    let known = own.clone();\n"
         "    let result = custom([x], &out, move |grad| {\n        let _ = &known;\n"
         "        let x = input.detach().set_requires_grad(true);\n"
         "        let out = tch::with_grad(|| forward(&x))?;\n"
         "        backward_with(&out, grad)?;\n        Ok([x.grad()])\n    })?;\n"
         "    *own.lock().unwrap() = Some(result.shallow_clone());\n    Ok(result)"),
        ("an input that asks for no gradient, all the same", "an_input_without_a_gradient_is_computed_once",
         "    if !x.requires_grad() {\n        return forward(x);\n    }\n", ""),
        ("a second error that nobody hears of", "an_error_of_the_second_run_ends_the_backward_pass",
         "let out = tch::with_grad(|| forward(&x))?;", "let out = tch::with_grad(|| forward(&x)).unwrap_or_else(|_| x.shallow_clone());"),
        ("a first error that nobody hears of", "an_error_of_forward_is_passed_on",
         "tch::no_grad(|| forward(&input))?", "tch::no_grad(|| forward(&input)).unwrap_or_else(|_| input.copy())"),
    ]),
]

LESSONS += [
    *of("lessons:buckets", "book/lessons/buckets/reference.rs", [
        ("every bucket like the first", "buckets_are_as_full_as_they_may_be", "if buckets.len() <= 1 { first } else { most }", "first.min(most)"),
        ("a bucket counted on from the one before", "buckets_are_as_full_as_they_may_be", "                filled = 0;\n", ""),
        ("parameters in their own order", "every_parameter_once_and_in_order", "for &parameter in ready {", "for parameter in 0..ready.len() {"),
        ("a parameter that may be ready twice", "what_cannot_be_is_refused",
         '        ensure!(!seen[parameter], "parameter {parameter} was ready twice");\n',
         '        ensure!(seen.len() == sizes.len(), "parameter {parameter}");\n'),
        ("a parameter that is never ready", "what_cannot_be_is_refused",
         '        anyhow::bail!("the backward pass did not reach parameter {missing}");',
         "        buckets.push(vec![missing]);"),
    ]),
    *of("lessons:likeliest", "book/lessons/likeliest/reference.rs", [
        ("an id counted from the rank's first word", "the_likeliest_word_is_that_of_the_whole_vocabulary",
         "let minus_id = -(row + first);", "let minus_id = -(row + 0 * first);"),
        ("a say for ranks without the highest logit", "the_likeliest_word_is_that_of_the_whole_vocabulary",
         "minus_id.masked_fill(&own.ne_tensor(&best), i64::MIN)", "minus_id.shallow_clone()"),
        ("ids of equal words that are summed", "of_equal_words_the_one_with_the_smaller_id_wins",
         "    let minus_id = minus_id.masked_fill(&own.ne_tensor(&best), i64::MIN);\n"
         "    group.all_reduce_op(&minus_id, ReduceOp::Max)?;",
         "    let minus_id = minus_id.masked_fill(&own.ne_tensor(&best), 0);\n    group.all_reduce(&minus_id)?;"),
        ("the larger id of equal words", "of_equal_words_the_one_with_the_smaller_id_wins",
         "    let minus_id = -(row + first);\n"
         "    let minus_id = minus_id.masked_fill(&own.ne_tensor(&best), i64::MIN);\n"
         "    group.all_reduce_op(&minus_id, ReduceOp::Max)?;\n    Ok((-minus_id, best))",
         "    let id = (row + first).masked_fill(&own.ne_tensor(&best), -1);\n"
         "    group.all_reduce_op(&id, ReduceOp::Max)?;\n    Ok((id, best))"),
        ("a highest logit from a gather", "two_numbers_a_token_are_sent",
         "    let best = own.copy();\n    group.all_reduce_op(&best, ReduceOp::Max)?;\n",
         "    let best = group.all_gather(&own.unsqueeze(0))?.amax(0, false);\n"),
        ("a likeliest word that does not hear of errors", "what_cannot_be_is_refused",
         "    group.all_reduce_op(&best, ReduceOp::Max)?;\n"
         "    // The smallest id is the largest with its sign turned. Who has not the best one has no say.\n"
         "    let minus_id = -(row + first);\n"
         "    let minus_id = minus_id.masked_fill(&own.ne_tensor(&best), i64::MIN);\n"
         "    group.all_reduce_op(&minus_id, ReduceOp::Max)?;\n",
         "    group.all_reduce_op(&best, ReduceOp::Max).ok();\n"
         "    let minus_id = -(row + first);\n"
         "    let minus_id = minus_id.masked_fill(&own.ne_tensor(&best), i64::MIN);\n"
         "    group.all_reduce_op(&minus_id, ReduceOp::Max).ok();\n"),
        ("candidates filled up with zeros", "the_k_likeliest_are_those_of_the_whole_vocabulary",
         "candidates(&logits, f64::NEG_INFINITY)?", "candidates(&logits, 0.0)?"),
        ("candidates in the order of the ranks", "the_k_likeliest_are_those_of_the_whole_vocabulary",
         "    let (logits, order) = logits.sort_stable(true, -1, true);\n    let ids = ids.gather(-1, &order, false);\n", ""),
        ("equal words with the larger ids first", "of_equal_words_the_smaller_ids_come_first",
         "    let (logits, rows) = logits.sort_stable(true, -1, true);",
         "    let (logits, rows) = logits.flip([-1]).sort_stable(true, -1, true);\n"
         "    let rows = logits.size()[last] - 1 - rows;"),
        ("candidates gathered by a sum with zeros", "k_candidates_of_each_rank_are_sent",
         "        Ok(group.all_gather_dim(&of.contiguous(), last)?) // [.., k·tp]",
         "        let mut shape = of.size();\n        shape[last] = k * group.size() as i64;\n"
         "        let all = Tensor::zeros(shape, (of.kind(), of.device()));\n"
         "        all.narrow(-1, k * group.rank() as i64, k).copy_(&of);\n"
         "        group.all_reduce(&all)?;\n        Ok(all)"),
        ("words that are not there", "what_cannot_be_is_refused",
         '    ensure!(k <= words, "the {k} likeliest words are asked for, and there are only {words}");\n',
         '    ensure!(words > 0, "there are no words");\n'),
    ]),
    *of("lessons:interleaved", "book/lessons/interleaved/reference.rs", [
        ("chunks that go back in the order forward", "no_rank_waits_for_ever", "chunk: v - 1 - chunk(n),", "chunk: chunk(n),"),
        ("one forward pass fewer ahead", "no_rank_waits_for_ever", "2 * (p - rank - 1) + (v - 1) * p }", "p - rank - 1 + (v - 1) * p }"),
        ("1F1B that runs ahead like two chunks", "a_rank_keeps_no_more_than_it_must", "if v == 1 { p - rank - 1 } else {", "if v == 0 { p } else {"),
        ("micro-batches one group after the other", "every_pass_is_made_once", "n / (p * v) * p + n % p", "n / (p * v) * p + n / v % p"),
        ("a last group that is not full", "micro_batches_that_do_not_divide_are_refused",
         "    ensure!(\n        m.is_multiple_of(p),\n",
         "    ensure!(\n        p > 0,\n"),
    ]),
]
