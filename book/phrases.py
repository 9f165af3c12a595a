"""Runs the PyTorch lines of src/rust-for-pytorch.md, in their order, in a world of one rank.

    python3 book/phrases.py      without torch: whether they are Python at all
"""

import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace

PAGE = Path(__file__).parent / "src/rust-for-pytorch.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
assert len(BLOCKS) > 15, f"only {len(BLOCKS)} phrases found"
for number, block in enumerate(BLOCKS, 1):
    compile(block, f"phrase {number}", "exec")

try:
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
except ImportError:
    sys.exit(print(f"{len(BLOCKS)} phrases are Python; there is no torch here to run them with"))

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def tensor(*shape):
    return torch.ones(shape, requires_grad=True)


class Model:
    """Stands in for the model of step 1."""

    def __call__(self, tokens):
        return torch.zeros(1, 4, 7)

    def loss(self, inputs, targets):
        return torch.zeros([])


class Naive:
    def zero_grad_naively(self):
        pass


class Bucketed:
    def zero_buckets(self):
        pass


class Bucket(SimpleNamespace):
    def mark_ready(self, group):
        self.ready += 1


with_grad = tensor(2, 3)
with_grad.grad = torch.ones(2, 3)
coords, heads = None, [4, 2, 2]
mine = SimpleNamespace(is_first=lambda at: True, tensor=with_grad)
names = {
    "torch": torch, "dist": dist, "Model": Model, "Naive": Naive, "Bucketed": Bucketed, "Bucket": Bucket,
    "config": SimpleNamespace(tie_word_embeddings=True), "embed_tokens": tensor(7, 4), "model": Model(),
    "load": lambda name, shape: tensor(*shape), "embedding": [7, 4], "group": dist.group.WORLD,
    "parameter": tensor(2, 3), "flat": torch.zeros(12), "start": 0, "length": 6, "tokens": None, "last": 3,
    "qkv": torch.zeros(1, 4, 8, 2), "heads": heads, "softmax": torch.ones(3, 5), "grad": torch.ones(3),
    "theirs": torch.ones(3), "dtype": torch.float32, "device": "cpu", "micro_batches": 2 * [SimpleNamespace(inputs=None, targets=None)],
    "forward_backward": lambda micro_batch, tokens: torch.ones([]), "target_tokens": 8.0, "x": tensor(2, 3),
    "norm": torch.ones([]), "loss_and_grads": lambda x, weight, targets: (x, x, x), "weight": None, "targets": None,
    "received": None, "output": tensor(1).sum(), "hooks": [], "is_last_pass": True,
    "bucket": Bucket(ready=0), "maximum": torch.ones(2), "work": None,
    "mesh": init_device_mesh("cpu", (1, 1), mesh_dim_names=("dp", "tp")), "row": torch.tensor([[5]]),
    "parameters": [mine], "coords": None, "q": tensor(1, 4, 2, 3), "k": tensor(1, 4, 2, 3), "v": tensor(1, 4, 2, 3),
    "members": [1, 2],
}
for number, block in enumerate(BLOCKS, 1):
    try:
        exec(compile(block, f"phrase {number}", "exec"), names)
    except Exception as error:
        sys.exit(f"phrase {number} does not run: {error!r}\n{block}")

# What the lines above only define or begin.
names["finish"]([SimpleNamespace(grad=torch.ones(2))], dist.group.WORLD)
names["zero_grad"](Naive()), names["zero_grad"](Bucketed())
names["y"].sum().backward()
assert torch.equal(names["x"].grad, torch.ones(2, 3)), "F hands the gradient on"
assert names["bucket"].members == 2
late = tensor(2)
late.register_post_accumulate_grad_hook(names["hook"])
late.sum().backward()
assert names["bucket"].ready == 1, "the hook has run"
broken = SimpleNamespace(ready=2, members=2)
try:
    names["mark_ready"](broken, None)
    sys.exit("mark_ready accepts a gradient that is ready twice")
except RuntimeError:
    pass
inspect.signature(dist.isend).bind(late, group_dst=1, group=None)  # `exchange` wants two ranks: its arguments exist
inspect.signature(dist.recv).bind(late, group_src=1, group=None)
inspect.signature(dist.irecv).bind(late, group_src=1)
dist.destroy_process_group()
print(f"{len(BLOCKS)} phrases run")
