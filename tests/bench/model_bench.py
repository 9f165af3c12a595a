#!/usr/bin/env python3
"""Training speed of step01 and step06 beside transformers' Llama: same shape, same machine, same minutes.

Each contender runs in a process of its own, in turn, for several rounds, so that a machine that
slows down slows all of them. The table shows the median over all timed steps, and the fastest step,
which is what other programs on the machine disturb least; the quotients are those of the medians.
The ceiling is a 1024 x 1024 x 1024 product of f32 matrices, measured in each round too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
BATCH, SEQ = 8, 256
OURS = ["step01", "step06"]
WARM = 3  # steps before the clock starts: allocations, thread pools, page faults
CORES = len(os.sched_getaffinity(0))


def parameters() -> int:
    hidden, layers = SHAPE["hidden_size"], SHAPE["num_hidden_layers"]
    kv = hidden * SHAPE["num_key_value_heads"] // SHAPE["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * SHAPE["intermediate_size"] + 2 * hidden
    return SHAPE["vocab_size"] * hidden + layers * layer + hidden


def flops_per_token() -> int:
    """Forward and backward: 6 per parameter, 12 * layers * hidden * seq for the attention scores."""
    return 6 * parameters() + 12 * SHAPE["num_hidden_layers"] * SHAPE["hidden_size"] * SEQ


def transformers_llama(attention: str, steps: int) -> list[float]:
    """Seconds of each timed step of transformers' Llama with torch's AdamW, all cores, f32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(CORES)
    shape = dict(SHAPE)
    rope = {"rope_type": "default", "rope_theta": shape.pop("rope_theta")}
    config = LlamaConfig(**shape, rope_parameters=rope, attn_implementation=attention)
    model = LlamaForCausalLM(config).to(torch.float32).train()
    assert sum(p.numel() for p in model.parameters()) == parameters()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    seconds = []
    for _ in range(WARM + steps):
        tokens = torch.randint(0, SHAPE["vocab_size"], (BATCH, SEQ + 1))
        start = time.perf_counter()
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - start)
    return seconds[WARM:]


def matrix_product(steps: int) -> list[float]:
    """Seconds of each product of two 1024 x 1024 f32 matrices, all cores."""
    import torch

    torch.set_num_threads(CORES)
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    seconds = []
    for _ in range(WARM + 10 * steps):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return seconds[WARM:]


def ours(directory: str, step: str, steps: int) -> list[float]:
    """Seconds of each timed step of one of our binaries on one rank, from its own metrics."""
    with tempfile.TemporaryDirectory() as work:
        data, metrics, config = (Path(work) / name for name in ("tokens.bin", "metrics.jsonl", "bench.toml"))
        # Random tokens, little-endian u16: speed does not depend on which they are.
        words = os.urandom(2 * (BATCH * SEQ * 8 + 1))
        data.write_bytes(bytes(byte & 0x0F if i % 2 else byte for i, byte in enumerate(words)))
        values = {key: str(value).lower() for key, value in SHAPE.items()}
        config.write_text("[model]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
        command = [Path(directory) / step, "--config", config, "--data", data, "--metrics", metrics, "--seq-len", SEQ]
        command += ["--micro-batch", BATCH, "--global-batch", BATCH, "--steps", WARM + steps]
        command += ["--threads-per-rank", CORES, "--dtype", "f32", "--device", "cpu", "--sample", 0]
        if step == "step06":
            command += ["--dp", 1, "--pp", 1, "--cp", 1, "--tp", 1]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [BATCH * SEQ / line["tokens_per_second"] for line in lines[WARM:]]


def measure(name: str, binaries: str | None, steps: int) -> list[float]:
    if name in OURS:
        return ours(binaries, name, steps)
    if name == "product":
        return matrix_product(steps)
    return transformers_llama(name, steps)


def apart(name: str, arguments: argparse.Namespace) -> list[float]:
    """Seconds of a contender's timed steps, measured in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--steps", str(arguments.steps)]
    if arguments.binaries:
        command += ["--binaries", arguments.binaries]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    return json.loads(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", help="where step01 and step06 are; without it, transformers alone is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed steps a round")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.binaries, arguments.steps)))
        return

    names = ["product", "eager", "sdpa"] + (OURS if arguments.binaries else [])
    seconds = {name: [] for name in names}
    for number in range(arguments.rounds):
        for name in names:
            seconds[name] += apart(name, arguments)
        print(f"round {number + 1} of {arguments.rounds} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr)

    median = {name: statistics.median(values) for name, values in seconds.items()}
    ceiling = 2 * 1024**3 / median["product"]
    labels = {"eager": "transformers, eager", "sdpa": "transformers, SDPA"} | {name: name for name in OURS}
    print(f"\n{parameters():,} parameters, {BATCH} x {SEQ} tokens a step, f32, AdamW, {CORES} cores")
    print(f"matrix product 1024^3: {ceiling / 1e9:.0f} GFLOP/s\n")
    print(f"{'':22}{'tokens/s':>10}{'fastest':>10}{'to eager':>10}{'of ceiling':>12}")
    for name in names[1:]:
        speed, fastest = BATCH * SEQ / median[name], BATCH * SEQ / min(seconds[name])
        share = speed * flops_per_token() / ceiling
        print(f"{labels[name]:22}{speed:10,.0f}{fastest:10,.0f}{median['eager'] / median[name]:9.2f}x{share:12.0%}")
    if arguments.binaries:
        print(f"\nstep06 on one rank: {median['step01'] / median['step06']:.2f} of step01")


if __name__ == "__main__":
    main()
