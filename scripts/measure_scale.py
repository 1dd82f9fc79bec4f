"""What a photo costs among a few, and among many: seconds and memory, by the number of photos.

    python scripts/measure_scale.py --counts 100 1000 10000 --write docs/benchmarks.md

Each run is a process of its own. The photos are names of one JPEG of 128x128 pixels, made here; the model is a bundled
one. What each further photo costs is read off two runs: it has to stay what it was. Seconds are those of the processor,
of all threads together, so that a busy machine counts less. Nothing beyond the last count is measured: what is said
of 100,000 photos carries on the line through the last two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import tables

MODEL = Path(__file__).parent.parent / "models/signs/clean.onnx"
FAR = 100_000
RUNS = {
    "gradcam, command line, a picture each": "cli(['gradcam', model, photos, '-o', out, '-q'])",
    "gradcam, command line, --manifest": "cli(['gradcam', model, photos, '-o', out, '-q', '--manifest'])",
    "saliency, a call each": "each(oi.saliency)",
    "activations, a call each": "each(oi.activations, tensors=['features.5'])",
    "embed, a study": "oi.embed(model, photos, out=out, engine=engine)",
}
CODE = """
import contextlib, json, os, sys, time
import numpy as np, onnx_inspect as oi
from onnx_inspect.cli import cli as group
model, photos, out, count = *sys.argv[1:4], int(sys.argv[4])
engine = oi.Engine("cpu", threads=1)

def cli(words):
    with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.suppress(SystemExit):
        group([*words, "--threads", "1"], standalone_mode=False)

def each(method, **how):
    loaded = oi.load(model)
    x = np.random.default_rng(0).normal(size=(64, 3, 96, 96)).astype(np.float32)
    for i in range(count):
        method(loaded, x[i % 64 : i % 64 + 1], engine=engine, **how)

start = time.process_time()
{call}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([time.process_time() - start, int(status["VmHWM"].split()[0]) / 1024]))
"""


def photos(folder: Path, count: int) -> None:
    """So many names of a photo."""
    folder.mkdir()
    first = folder / "000000.jpg"
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(rng.integers(0, 256, (128, 128, 3), np.uint8), (0, 0), 4)
    cv2.imwrite(str(first), blurred)
    for i in range(1, count):
        os.link(first, folder / f"{i:06}.jpg")


def measure(call: str, count: int) -> tuple[float, float]:
    """Seconds of the processor, and the most memory in MiB, of a process that explains so many photos."""
    with TemporaryDirectory() as folder:
        photos(Path(folder) / "photos", count)
        out = Path(folder) / "out"
        words = [str(MODEL), str(Path(folder) / "photos"), str(out), str(count)]
        done = subprocess.run(
            [sys.executable, "-c", CODE.replace("{call}", call), *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def row(name: str, found: dict[int, tuple[float, float]]) -> list[str]:
    """Per photo, between each two counts, and carried on to many."""
    cells = [name]
    for few, many in pairwise(found):
        (a, low), (b, high) = found[few], found[many]
        time, memory = 1000 * (b - a) / (many - few), 1024 * (high - low) / (many - few)
        cells += [f"{time:.2f} ms", f"{memory:.2f} KiB"]
    last, (_, peak) = many, found[many]
    return [*cells, f"{peak:.0f} MiB", f"{peak + (FAR - last) * memory / 1024:.0f} MiB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its markers there")
    args = parser.parse_args()
    rows = []
    for name, call in RUNS.items():
        if args.only in name:
            rows.append(row(name, {count: measure(call, count) for count in sorted(args.counts)}))
            print(*rows[-1], sep=" | ", flush=True)
    header = [""]
    for few, many in pairwise(sorted(args.counts)):
        header += [f"a photo, {few:,} to {many:,}", "memory"]
    header += [f"peak at {max(args.counts):,}", f"at {FAR:,}, by that line"]
    text = f"""## Scale

What each further photo costs: seconds of one core, and memory that is not given back. The bundled model of
signs, 96x96, photos of 128x128. Runs of the command line begin at one of two levels of memory, about 54 MiB apart;
where the two runs of a row differ in that, it shows as growth (within one run of 5,000 photos with --manifest: 166 MiB
after the first and after the last).

{tables.markdown(header, rows)}

{tables.conditions()}"""
    if args.write:
        tables.write(args.write, "scale", text)


if __name__ == "__main__":
    main()
