#!/usr/bin/env python3
"""Speed on NVIDIA GPUs, beside PyTorch on the same card in the same minutes: `make bench-gpu`.

Training: SmolLM-1.7B, sequences of 2,048, bf16 products on f32 weights, fused AdamW, on one GPU. Contenders
are step01 and step06, and transformers' Llama with fused attention through SDPA: eager under autocast (which
is what ours does), eager with weights in bf16 (faster, and without f32 weights to add small updates to), and
torch.compile of model and loss under autocast. Which kernel attention takes is libtorch's choice, for ours as
for theirs: on an H100 it is cuDNN's. Each runs in a process of its own; the table shows the median step.

All-reduce of bf16 over all ranks: our wrapper of NCCL beside torch.distributed, both with the same settings,
one rank a card or, where there are more ranks than cards, all of them through the loopback device. Bus
bandwidth is nccl-tests': 2(n-1)/n times the bytes, over the time of one all-reduce.

`--device cpu --small` runs the same on a CPU with a tiny model, to try the script itself.
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

SMOLLM = {
    "vocab_size": 49152,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
SMALL = SMOLLM | {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
}
CONTENDERS = {
    "step01": "step01",
    "step06": "step06 on one rank",
    "autocast": "transformers, eager, autocast",
    "bf16": "transformers, eager, bf16 weights",
    "compile": "transformers, torch.compile, autocast",
}
# Dense bf16 FLOP/s, as NVIDIA states them, under the names by which drivers call the cards. Other forms of
# them (an H100 for PCIe) are slower.
PEAK = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}
SIZES = [1 << 20, 16 << 20, 128 << 20, 512 << 20]  # bytes; as in bandwidth.rs
BATCHES, REPEATS = 5, 10


def parameters(shape: dict) -> int:
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    kv = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * shape["intermediate_size"] + 2 * hidden
    return shape["vocab_size"] * hidden + layers * layer + hidden


def flops_per_token(shape: dict, seq: int) -> int:
    """6N + 12LhS, as Picotron and PaLM count."""
    return 6 * parameters(shape) + 12 * shape["num_hidden_layers"] * shape["hidden_size"] * seq


def transformers_llama(name: str, a: argparse.Namespace) -> list[float]:
    """Seconds of each timed step."""
    import torch
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def causal(module, query, key, value, attention_mask, **more):
        # While it is compiled, "sdpa" is handed a mask in full, which no fused causal kernel takes.
        assert attention_mask is None
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)

    AttentionInterface.register("causal", causal)  # a name for which transformers makes no mask
    torch.manual_seed(0)
    device, shape = torch.device(a.device), dict(a.shape)
    rope = {"rope_type": "default", "rope_theta": shape.pop("rope_theta")}
    config = LlamaConfig(**shape, rope_parameters=rope, attn_implementation="causal")
    model = LlamaForCausalLM(config).to(device, torch.bfloat16 if name == "bf16" else torch.float32).train()
    assert sum(p.numel() for p in model.parameters()) == parameters(a.shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss_of(inputs, targets):
        with torch.autocast(device.type, torch.bfloat16, enabled=name != "bf16"):
            logits = model(input_ids=inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    loss_of = torch.compile(loss_of) if name == "compile" else loss_of
    seconds = []
    for _ in range(a.warm + a.steps):
        tokens = torch.randint(0, shape["vocab_size"], (a.accumulate, a.micro_batch, a.seq + 1), device=device)
        start = time.perf_counter()
        total = torch.zeros((), device=device)
        for part in tokens:
            loss = loss_of(part[:, :-1], part[:, 1:])
            (loss / a.accumulate).backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total.item()
        seconds.append(time.perf_counter() - start)
    return seconds[a.warm :]


def ours(step: str, a: argparse.Namespace) -> list[float]:
    """Seconds of each timed step of one of our binaries on one rank, from its own metrics."""
    batch = a.micro_batch * a.accumulate
    with tempfile.TemporaryDirectory() as work:
        data, metrics, config = (Path(work) / name for name in ("tokens.bin", "metrics.jsonl", "bench.toml"))
        # Random tokens, little-endian u16 below 1,024: speed does not depend on which they are.
        words = os.urandom(2 * (batch * a.seq * 2 + 1))
        data.write_bytes(bytes(byte & 0x03 if i % 2 else byte for i, byte in enumerate(words)))
        values = {key: str(value).lower() for key, value in a.shape.items()}
        config.write_text("[model]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
        command = [Path(a.binaries) / step, "--config", config, "--data", data, "--metrics", metrics, "--sample", 0]
        command += ["--seq-len", a.seq, "--micro-batch", a.micro_batch, "--global-batch", batch]
        command += ["--steps", a.warm + a.steps, "--dtype", "bf16", "--device", a.device]
        if step == "step06":
            command += ["--dp", 1, "--pp", 1, "--cp", 1, "--tp", 1]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [batch * a.seq / line["tokens_per_second"] for line in lines[a.warm :]]


def torch_rank(rank: int, ranks: int, store: str, device: str, shared: bool) -> None:
    """One rank of torch.distributed's all-reduces; rank 0 prints bytes and seconds as bandwidth.rs does."""
    import torch
    import torch.distributed as dist

    if device == "cuda":  # the settings of our launcher, and for ranks that share a card
        os.environ.update({"CUDA_DEVICE_MAX_CONNECTIONS": "32", "NCCL_RUNTIME_CONNECT": "0"})
    if shared:
        quiet = {"P2P_DISABLE": "1", "SHM_DISABLE": "1", "NET": "Socket", "SOCKET_IFNAME": "lo"}
        os.environ.update({f"NCCL_{key}": value for key, value in quiet.items()} | {"NCCL_HOSTID": f"rank-{rank}"})
    cuda = device == "cuda"
    where = torch.device("cuda", rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if cuda else "gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    wait = torch.cuda.synchronize if cuda else (lambda: None)
    for size in SIZES:
        tensor, times = torch.zeros(size // 2, dtype=torch.bfloat16, device=where), []
        for _ in range(1 + BATCHES):
            wait()
            dist.barrier()
            wait()
            start = time.perf_counter()
            for _ in range(REPEATS):
                dist.all_reduce(tensor)
            wait()
            times.append((time.perf_counter() - start) / REPEATS)
        if rank == 0:
            print(size, min(times[1:]), flush=True)
    dist.destroy_process_group()


def torch_all_reduce(ranks: int, a: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, __file__, "--device", a.device, "--ranks", str(ranks), "--store", f"{work}/store"]
        started = [
            subprocess.Popen(command + ["--rank", str(rank)], stdout=subprocess.PIPE, text=True)
            for rank in range(ranks)
        ]
        outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("torch.distributed failed: its message is above")
    return outputs[0]


def all_reduces(ranks: int, a: argparse.Namespace) -> None:
    """The table of one number of ranks."""
    command = [str(Path(a.binaries) / "bandwidth"), "--dp", str(ranks), "--pp", "1", "--cp", "1", "--tp", "1"]
    command += ["--device", a.device, "--launcher", "processes", "--micro-batch", "1", "--global-batch", str(ranks)]
    mine = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    table = [dict(map(float, line.split()) for line in text.splitlines()) for text in (mine, torch_all_reduce(ranks, a))]
    for size in SIZES:
        ours_gb, torch_gb = (2 * (ranks - 1) / ranks * size / times[size] / 1e9 for times in table)
        print(f"{ranks:5}{size >> 20:8} MiB{ours_gb:12.2f}{torch_gb:12.2f}{ours_gb / torch_gb:9.2f}x")


def apart(name: str, a: argparse.Namespace) -> list[float] | None:
    """Seconds of a contender's timed steps in a process of its own; `None` where it failed."""
    command = [sys.executable, __file__, "--one", name, "--device", a.device, "--binaries", a.binaries]
    for key in ("micro_batch", "accumulate", "steps", "warm"):
        command += [f"--{key.replace('_', '-')}", str(getattr(a, key))]
    command += ["--small"] if a.small else []
    answer = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        return json.loads(answer.stdout.splitlines()[-1]) if answer.returncode == 0 else None
    except (IndexError, ValueError):  # the last line is the answer, others may be anybody's
        return None


def card_name() -> str:
    """Of the first card, as the driver's own tool gives it: PyTorch would open the card, and hold it while others
    are timed; one that lets in a single process would then shut all of them out."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "-i", first]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", default="target/debug", help="where step01, step06 and bandwidth are")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model")
    parser.add_argument("--micro-batch", type=int, default=4, help="sequences at a time")
    parser.add_argument("--accumulate", type=int, default=8, help="micro-batches a step")
    parser.add_argument("--steps", type=int, default=8, help="timed steps")
    parser.add_argument("--warm", type=int, default=3, help="steps before the clock starts")
    parser.add_argument("--only", nargs="*", choices=[*CONTENDERS, "all-reduce"], help="leave the others out")
    for hidden in ("--one", "--store"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--rank", "--ranks"):
        parser.add_argument(hidden, type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    a.shape = SMALL if a.small else SMOLLM
    a.seq = a.shape["max_position_embeddings"]
    if a.one:
        print(json.dumps(ours(a.one, a) if a.one.startswith("step") else transformers_llama(a.one, a)))
        return

    import torch

    cards = torch.cuda.device_count()
    if a.device == "cuda" and cards == 0:
        sys.exit("bench: PyTorch finds no GPU here (`nvidia-smi` shows what the driver sees); --device cpu --small tries the script")
    if a.rank is not None:
        torch_rank(a.rank, a.ranks, a.store, a.device, shared=a.device == "cuda" and a.ranks > cards)
        return

    card = card_name() if a.device == "cuda" else "CPU"
    peak = PEAK.get(card)
    chosen = [name for name in CONTENDERS if not a.only or name in a.only]
    if chosen:
        print(f"{card}, torch {torch.__version__}: {parameters(a.shape):,} parameters, bf16, ", end="")
        print(f"{a.accumulate} micro-batches of {a.micro_batch} x {a.seq} tokens a step\n")
        print(f"{'':40}{'ms a step':>11}{'tokens/s':>11}{'MFU':>8}{'to eager':>10}", flush=True)
    medians = {}
    for name in sorted(chosen, key=lambda name: name != "autocast"):  # what the others are compared with
        seconds = apart(name, a)
        if seconds is None:
            print(f"{CONTENDERS[name]:40}{'failed: its message is above':>40}", flush=True)
            continue
        medians[name] = statistics.median(seconds)
        speed = a.micro_batch * a.accumulate * a.seq / medians[name]
        mfu = f"{speed * flops_per_token(a.shape, a.seq) / peak:8.1%}" if peak else f"{'?':>8}"
        ratio = f"{medians['autocast'] / medians[name]:9.2f}x" if "autocast" in medians else f"{'?':>10}"
        print(f"{CONTENDERS[name]:40}{1e3 * medians[name]:11,.1f}{speed:11,.0f}{mfu}{ratio}", flush=True)
    if not a.only or "all-reduce" in a.only:
        print(f"\nall-reduce of bf16, {cards} card(s)\nranks        size    ours GB/s  torch GB/s    ours to torch")
        for ranks in sorted({2, 4, max(cards, 2)}):
            all_reduces(ranks, a)


if __name__ == "__main__":
    main()
