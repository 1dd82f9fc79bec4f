"""What a single picture costs from the shell: whole processes, timed from outside.

    python scripts/bench_start.py MODEL PHOTO

Four commands run in turn: a bare script that imports onnxruntime and runs the model once on zeros; `gradcam` from the
shell to the PNG, cold (--no-cache) and warm, when an earlier run has left what it found; and `--help`. CPU time is
user and system time over all threads; memory is the peak resident set. `--profile` says where the time of `gradcam`
goes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tables

BARE = """
import sys
import numpy as np
import onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
spec = session.get_inputs()[0]
shape = [d if isinstance(d, int) else 224 if axis > 1 else 1 for axis, d in enumerate(spec.shape)]
session.run(None, {spec.name: np.zeros(shape, np.uint8 if "uint8" in spec.type else np.float32)})
"""

# Every stage is timed without the stages inside it, so that they add up.
PROFILE = """
import builtins, importlib, json, sys, time
from collections import Counter
from functools import wraps

spent, inside = Counter(), ["other"]
start = last = time.perf_counter()

def switch():
    global last
    now = time.perf_counter()
    spent[inside[-1]] += now - last
    last = now

def timed(stage, function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        switch()
        inside.append(stage)
        try:
            return function(*args, **kwargs)
        finally:
            switch()
            inside.pop()
    return wrapper

builtins.__import__ = timed("imports", builtins.__import__)
importlib.import_module = timed("imports", importlib.import_module)
from onnx_inspect import attribution, cli, engine, image, model, preprocess, rewrite, sessions
from onnx_inspect.autodiff import gradient
for home, name, stage in (
    (model.Model, "load", "load"),
    (image, "read", "photo"),
    (preprocess.Preprocessing, "batch", "photo"),
    (engine.Engine, "__init__", "device probe"),
    (gradient, "differentiate", "rewrite"),
    (rewrite, "expose", "rewrite"),
    (rewrite, "cut", "rewrite"),
    (sessions.Sessions, "_open", "session"),
    (sessions.Session, "run", "run"),
    (attribution.Attribution, "write", "draw"),
):
    setattr(home, name, timed(stage, getattr(home, name)))
try:
    cli.cli(sys.argv[1:], standalone_mode=False)
except SystemExit:
    pass
switch()
print(json.dumps(spent))
"""


@dataclass(frozen=True)
class Cost:
    """Of one process, in seconds and MiB."""

    wall: float
    cpu: float
    memory: float


def cost(command: list[str]) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def measure(commands: dict[str, list[str]], runs: int) -> dict[str, list[Cost]]:
    """Costs per command; the first round only warms the disk cache."""
    rounds = [{name: cost(command) for name, command in commands.items()} for _ in range(runs + 1)]
    return {name: [r[name] for r in rounds[1:]] for name in commands}


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def report(found: dict[str, list[Cost]]) -> str:
    rows = [
        (name, spread([c.wall for c in costs]), spread([c.cpu for c in costs]), spread([c.memory for c in costs], 0))
        for name, costs in found.items()
    ]
    for kind in ("cold", "warm"):
        pairs = list(zip(found[f"gradcam, {kind}"], found["bare onnxruntime"], strict=True))
        wall, cpu, memory = ([getattr(a, f) - getattr(b, f) for a, b in pairs] for f in ("wall", "cpu", "memory"))
        rows.append((f"{kind} less bare", spread(wall), spread(cpu), spread(memory, 0)))
    return tables.markdown(["", "wall, s", "CPU, s", "peak memory, MiB"], rows)


def stages(arguments: list[str], runs: int) -> str:
    """Medians of what each stage took, in one process."""
    command = [sys.executable, "-c", PROFILE, *arguments]
    outputs = [subprocess.run(command, capture_output=True, check=True, text=True).stdout for _ in range(runs)]
    found = [json.loads(text.splitlines()[-1]) for text in outputs]
    medians = {stage: statistics.median(r.get(stage, 0) for r in found) for stage in found[0]}
    return tables.markdown(["stage", "s"], [(s, f"{t:.3f}") for s, t in by_size(medians)])


def imports(arguments: list[str]) -> str:
    """Time spent in the modules of each package, the rest of Python's own library in one row."""
    command = [sys.executable, "-X", "importtime", "-m", "onnx_inspect", *arguments]
    text = subprocess.run(command, capture_output=True, check=True, text=True).stderr
    spent: Counter[str] = Counter()
    for micros, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", text):
        package = module.partition(".")[0]
        spent["(standard library)" if package in sys.stdlib_module_names else package] += int(micros)
    rows = [(p, f"{t / 1e6:.3f}") for p, t in by_size(spent) if t >= 5000]
    return tables.markdown(["import", "s"], [*rows, ("all", f"{sum(spent.values()) / 1e6:.3f}")])


def by_size(spent: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda item: -item[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--profile", action="store_true", help="also where the time of gradcam goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNX_INSPECT_CACHE"] = str(Path(folder, "cache"))
        gradcam = ["gradcam", str(args.model), str(args.photo), "-o", str(Path(folder, "out.png"))]
        cli = [sys.executable, "-m", "onnx_inspect"]
        commands = {
            "bare onnxruntime": [sys.executable, "-c", BARE, str(args.model)],
            "gradcam, cold": [*cli, *gradcam, "--no-cache"],
            "gradcam, warm": [*cli, *gradcam],
            "--help": [*cli, "--help"],
        }
        found = measure(commands, args.runs)
        parts = [report(found)]
        if args.profile:
            cold = [*gradcam, "--no-cache"]
            parts += ["Of the cold run:", stages(cold, args.runs), imports(cold), "Of the warm run:", imports(gradcam)]
    text = "\n\n".join(parts)
    print(text)
    if args.json:
        args.json.write_text(json.dumps({n: [vars(c) for c in costs] for n, costs in found.items()}, indent=2))
    if args.write:
        note = f"Medians of {args.runs} runs in turn (least to most); differences are taken run by run."
        heading = f"## One picture from the shell: {args.model.name}"
        tables.write(args.write, "start", "\n\n".join([heading, tables.conditions(), note, text]))


if __name__ == "__main__":
    main()
