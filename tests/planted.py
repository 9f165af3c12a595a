#!/usr/bin/env python3
"""Plants bugs, one at a time, in a copy of this repository, and shows which tests turn red.

    python3 tests/planted.py [WORD ...]      all bugs, or those whose name contains a WORD

A suite that stays green on one of these would prove nothing. Exit code 1 if one stays green.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
S1, S2 = "steps/step01-single-device/src", "steps/step02-data-parallel/src"

# (name, test file, source file, what stands there, what the bug makes of it)
BUGS = [
    ("gradients averaged instead of summed", "step02", f"{S2}/data_parallel.rs",
     "Ok(self.work.take().map_or(Ok(()), Work::wait)?)",
     "self.work.take().map_or(Ok(()), Work::wait)?;\n        let _ = self.flat.g_div_scalar_(2.0);\n        Ok(())"),
    ("the last micro-batch skipped", "step02", f"{S2}/train.rs",
     "            loss += self.forward_backward(micro_batch, tokens)?;",
     "            if i > 0 && i + 1 == micro_batches.len() { continue }\n"
     "            loss += self.forward_backward(micro_batch, tokens)?;"),
    ("buckets sent on every micro-batch, not the last alone", "step02", f"{S2}/data_parallel.rs",
     "bucketed.armed.store(last, Relaxed)", "bucketed.armed.store(last || true, Relaxed)"),
    ("a hook that fires twice", "step02", f"{S2}/data_parallel.rs",
     "if armed.load(Relaxed) { lock(&bucket).mark_ready(&group) } else { Ok(()) }",
     "if armed.load(Relaxed) { lock(&bucket).mark_ready(&group)?; lock(&bucket).mark_ready(&group) } else { Ok(()) }"),
    ("a hook that fires twice, uncounted: the bucket is summed twice", "step02", f"{S2}/data_parallel.rs",
     "self.work = Some(group.all_reduce_async(&self.flat));",
     "group.all_reduce(&self.flat)?; self.work = Some(group.all_reduce_async(&self.flat));"),
    ("one parameter left out of its bucket", "step02", f"{S2}/data_parallel.rs",
     "self.work = Some(group.all_reduce_async(&self.flat));",
     "let all_but_one = self.flat.size()[0] - if self.parameters > 1 { 32 } else { 0 };\n"
     "            self.work = Some(group.all_reduce_async(&self.flat.narrow(0, 0, all_but_one)));"),
    ("every rank reads the same samples", "step02", f"{S2}/train.rs",
     "config.batches(mesh.coords.dp, mesh.layout.dp)?", "config.batches(0, mesh.layout.dp)?"),
    ("clipping by the local norm", "step02", f"{S2}/train.rs",
     "        self.data_parallel.finish()?;\n",
     "        let own: Vec<Tensor> = parameters.iter().map(|(_, p)| p.grad().copy()).collect();\n"
     "        self.data_parallel.finish()?;\n"
     "        let local = grad_norm(&own)?;\n"),
    ("the loss of one rank only", "step02", f"{S2}/train.rs",
     "        self.mesh.dp.all_reduce(&loss)?;\n", ""),
    ("no broadcast of the first weights", "step02", f"{S2}/data_parallel.rs",
     "            group.broadcast(&parameter.detach(), 0)?;\n", "            let _ = (parameter, group);\n"),
    ("naive: the parameter summed in place of its gradient", "step02", f"{S2}/data_parallel.rs",
     "self.group.all_reduce(&parameter.grad())?", "self.group.all_reduce(&parameter.detach())?"),
    ("the gradient divided by each micro-batch's own tokens", "step01", f"{S1}/train.rs",
     "(train.global_batch * self.config.data.seq_len) as f64", "(train.micro_batch * self.config.data.seq_len) as f64"),
    ("rotary pairs turned the wrong way", "step01", f"{S1}/rotary.rs", "x * cos + turned * sin", "x * cos - turned * sin"),
    ("rope scaling ignored", "step01", f"{S1}/rotary.rs",
     "frequency * (keep + (1.0 - keep) / scaling.factor)", "frequency * (keep + (1.0 - keep))"),
    ("weight decay on norms too", "step01", f"{S1}/optimizer.rs", "group(false, 0.0)", "group(false, weight_decay)"),
    ("the norm's epsilon outside the mean", "step01", f"{S1}/layers.rs", "self.eps)", "0.0)"),
]

# The bugs that need a second change.
ALSO = {
    "clipping by the local norm": (f"{S2}/train.rs", "clip_grads(&grads, &norm,", "clip_grads(&grads, &local,"),
}


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


def main() -> None:
    words = sys.argv[1:]
    environment = {
        "CARGO_TARGET_DIR": str(ROOT / "target"),
        "LIBTORCH": str(ROOT / ".libtorch/torch"),
        **os.environ,
    }
    green = []
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "ferrotron"
        tree.mkdir()
        copy(tree)
        for name, test, file, old, new in BUGS:
            if words and not any(word in name for word in words):
                continue
            changes = [(file, old, new)] + ([ALSO[name]] if name in ALSO else [])
            before = {file: (tree / file).read_text() for file, _, _ in changes}
            for change in changes:
                replace(tree, *change)
            command = ["cargo", "test", "--release", "-p", "parity", "--test", test]
            run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
            if "error[" in run.stderr or "could not compile" in run.stderr:
                sys.exit(f"{name}: does not compile\n{run.stderr[-3000:]}")
            red = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED", run.stdout, re.M)))
            print(f"{name}\n    " + ("\n    ".join(red) or "NOTHING TURNED RED"), flush=True)
            if not red:
                green.append(name)
            for path, text in before.items():
                (tree / path).write_text(text)
    if green:
        sys.exit(f"\nstayed green: {', '.join(green)}")


if __name__ == "__main__":
    main()
