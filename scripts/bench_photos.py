"""Many photos through `units` and `embed`: throughput, peak memory, and kills that a run goes on from.

    python scripts/bench_photos.py --folder build/photos --counts 1000 100000 --write docs/measurements.md
    python scripts/bench_photos.py --folder build/photos --counts --kills 10

The photos are made first: JPEGs of 300x260 pixels, all different, in eight classes; those that are there already stay.
Each run is a process of its own. What a photo costs, in seconds of one core, is measured right before and after a run,
by as many processes as there are cores at the same time, as the run has them busy: reading and decoding, making the
input of it, and the forward pass of the plain model, eight photos at a time. The share is what a run reaches of
cores / (decode + forward). A run that is killed is started again until it ends; then its bytes are compared with those
of one that was left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tables
from numpy.typing import NDArray

HEIGHT, WIDTH, KINDS = 260, 300, ("disc", "ring", "square", "frame", "bar", "cross", "triangle", "dots")
SPOT = 4000  # photos per job that makes them
STUDIES = ("units", "embed")
SHARES = {"share": ("read", "prepare", "forward"), "strict": ("read", "forward")}
RUN = """
import json, resource, sys, time
from pathlib import Path
from onnx_inspect import Engine, load
from onnx_inspect.studies.registry import every
model, photos, study, out = sys.argv[1:]
function = every()[study]
start, busy = time.perf_counter(), time.process_time()
result = function(load(model), photos, engine=Engine("cpu"), out=out)
seconds, busy = time.perf_counter() - start, time.process_time() - busy
result.save(Path(out) / study)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"peak": peak, "seconds": seconds, "busy": busy, "skipped": len(result.skipped)}))
"""
COST = """
import json, sys, time
import numpy as np
from onnx_inspect import Engine, image, load
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.photos.source import gather
model, photos, start, count = load(sys.argv[1]), gather(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
how, engine, name = guess_preprocessing(model)[0], Engine("cpu", threads=1), model.inputs[0].name
which = [(start + k) % len(photos) for k in range(count)]
clock = time.thread_time
def timed(function, items):
    before = clock()
    found = [function(item) for item in items]
    spent[function.__name__] = spent.get(function.__name__, 0) + clock() - before
    return found
def read(i): return photos.read(i)
def prepare(photo): return how.apply(photo)
def forward(samples): return engine.run(model, {name: samples})
with image.single_threaded():
    spent = {}
    for part in [which[:8], *(which[i : i + 8] for i in range(0, count, 8))]:
        timed(forward, [np.stack(timed(prepare, timed(read, part)))])
        spent = {} if part is which[:8] else spent
print(json.dumps({k: 1000 * v / count for k, v in spent.items()}))
"""


# Photos.


def photo(number: int) -> NDArray[np.uint8]:
    """Smooth noise, and a shape of its class on it."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (7, 8, 3), np.uint8)
    picture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(picture, rng.integers(0, 24, picture.shape, np.uint8))
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    size = int(rng.integers(30, 90))
    x, y = int(rng.integers(size, WIDTH - size)), int(rng.integers(size, HEIGHT - size))
    low, high = (x - size, y - size), (x + size, y + size)
    kind = KINDS[number % len(KINDS)]
    if kind in ("disc", "ring"):
        cv2.circle(picture, (x, y), size, colour, -1 if kind == "disc" else 12)
    elif kind in ("square", "frame"):
        cv2.rectangle(picture, low, high, colour, -1 if kind == "square" else 12)
    elif kind in ("bar", "cross"):
        cv2.line(picture, low, high, colour, 16)
        if kind == "cross":
            cv2.line(picture, (low[0], high[1]), (high[0], low[1]), colour, 16)
    elif kind == "triangle":
        cv2.fillPoly(picture, [np.array([low, (high[0], low[1]), (x, high[1])], np.int32)], colour)
    else:
        for corner in (low, high, (low[0], high[1]), (high[0], low[1])):
            cv2.circle(picture, corner, 14, colour, -1)
    return np.asarray(picture, np.uint8)


def path_of(number: int) -> Path:
    return Path(KINDS[number % len(KINDS)]) / f"{number:06}.jpg"


def make(folder: Path, start: int, stop: int) -> None:
    cv2.setNumThreads(1)
    for number in range(start, stop):
        path = folder / path_of(number)
        if not path.exists():
            draft = path.with_name(f".{path.name}")
            draft.write_bytes(cv2.imencode(".jpg", photo(number), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
            draft.replace(path)


def listed(folder: Path, count: int) -> Path:
    """The first photos, made where they are missing, and the list that names them with their classes."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    starts = range(0, count, SPOT)
    with ProcessPoolExecutor(cores()) as pool:
        list(pool.map(partial(make, folder), starts, [min(s + SPOT, count) for s in starts]))
    path = folder / f"first-{count}.csv"
    lines = (f"{path_of(number).as_posix()},{path_of(number).parent}" for number in range(count))
    path.write_text("\n".join(["path,label", *lines]) + "\n", encoding="utf-8")
    return path


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Runs.


def start(code: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def costs(model: Path, photos: Path, count: int = 400) -> dict[str, float]:
    """Milliseconds of a core per photo, with all cores busy."""
    found = [ended(p) for p in [start(COST, model, photos, k * count, count) for k in range(cores())]]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def measured(study: str, model: Path, photos: Path, count: int, work: Path) -> dict[str, float]:
    before = costs(model, photos)
    shutil.rmtree(work, ignore_errors=True)
    found = ended(start(RUN, model, photos, study, work))
    after = costs(model, photos)
    cost = {name: (before[name] + after[name]) / 2 for name in before}
    rate = count / found["seconds"]
    possible = {name: 1000 * cores() / sum(cost[k] for k in parts) for name, parts in SHARES.items()}
    return found | cost | {"rate": rate} | {name: rate / most for name, most in possible.items()}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def kills(study: str, model: Path, photos: Path, count: int, work: Path, seed: int) -> tuple[int, int]:
    """Kill a run so many times, at random; how many kills hit it while it ran, and how many files differ at last."""
    chance = random.Random(seed)
    alone, killed = work / "alone", work / "killed"
    shutil.rmtree(work, ignore_errors=True)
    begin = time.perf_counter()
    ended(start(RUN, model, photos, study, alone))
    whole = time.perf_counter() - begin
    hits = 0
    for _ in range(count):
        process = start(RUN, model, photos, study, killed)
        time.sleep(chance.uniform(0, whole / 2))
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        print(f"   killed with {len(list(killed.rglob('*.parquet')))} files in place", flush=True)
    ended(start(RUN, model, photos, study, killed))
    wanted, got = content(alone), content(killed)
    return hits, sum(wanted.get(name) != got.get(name) for name in {*wanted, *got})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where photos are made, and results go meanwhile")
    parser.add_argument("--model", type=Path, nargs="*", default=[Path("models/signs/clean.onnx")])
    parser.add_argument("--study", nargs="*", default=STUDIES, choices=STUDIES)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 100_000])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--photos", type=int, default=6000, help="for the runs that are killed")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()
    work, rows, killed = args.folder / "results", [], []
    for model in args.model:
        for study in args.study:
            first = 0.0
            for count in args.counts:
                found = measured(study, model, listed(args.folder, count), count, work)
                first = first or found["peak"]
                rows.append(
                    (
                        f"{study}, {model.name}",
                        f"{count:,}",
                        *(f"{found[k]:.2f}" for k in ("read", "prepare", "forward")),
                        f"{found['rate']:.0f}",
                        f"{found['share']:.0%}",
                        f"{found['strict']:.0%}",
                        f"{found['peak']:.0f}",
                        f"{found['peak'] / first - 1:+.1%}",
                    )
                )
                print(*rows[-1], f"busy {found['busy'] / found['seconds']:.2f} cores", flush=True)
            if args.kills:
                hits, differ = kills(study, model, listed(args.folder, args.photos), args.kills, work, 0)
                killed.append((f"{study}, {model.name}", f"{args.photos:,}", hits, differ))
                print(*killed[-1], flush=True)
    shutil.rmtree(work, ignore_errors=True)
    head = (
        "",
        "photos",
        "read, ms",
        "prepare, ms",
        "forward, ms",
        "photos/s",
        "share",
        "strict",
        "peak, MiB",
        "more",
    )
    parts = [tables.markdown(head, rows)] if rows else []
    if killed:
        parts.append(tables.markdown(("kill -9", "photos", "kills while it ran", "files that differ"), killed))
    print("\n\n".join(parts))
    if args.write:
        note = (
            f"JPEGs of {WIDTH}x{HEIGHT} pixels. What a photo costs is CPU time of a core while all {cores()} are busy; "
            "the share is what the run reaches of cores / (read + prepare + forward), the strict one counts preparing "
            "the input as lost; the last column is peak memory against the first run's."
        )
        name = f"photos-{max(args.counts)}" if rows else "kills"
        head_line = f"## Up to {max(args.counts):,} photos" if rows else "## Runs that are killed"
        tables.write(args.write, name, "\n\n".join([head_line, tables.conditions(), note, *parts]))


if __name__ == "__main__":
    main()
