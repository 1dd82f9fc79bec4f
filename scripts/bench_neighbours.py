"""The search for neighbours: how long one query takes among a million vectors on disk, and in how much memory.

    python scripts/bench_neighbours.py --vectors 1000000 --features 512 --write docs/measurements.md

The vectors are rectified noise; the answer is compared with a search in float64. "search" is the search itself in
vectors that are mapped from the file; "neighbours" the whole study on two folders as `embed` writes them, with the
names of the photos, labels, precision and a contact sheet (the photos do not exist, so it is blank). Memory is what the
process has of its own, beyond what it has with package and model loaded; pages of the mapped file, which the system
takes back when it likes, stand beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tables

MODEL = Path(__file__).parents[1] / "models" / "signs" / "clean.onnx"
CODE = """
import json, sys, threading, time
from pathlib import Path
import numpy as np, onnx_inspect as oi
from onnx_inspect.features.nearest import nearest
from onnx_inspect.studies.neighbours import neighbours

def status(name):
    return next(int(l.split()[1]) / 1024 for l in open("/proc/self/status") if l.startswith(name))

peak, going = dict(RssAnon=0.0, RssFile=0.0), True
def watch():
    while going:
        for name in peak:
            peak[name] = max(peak[name], status(name))
        time.sleep(0.02)

big, small, what, repeats = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
metric, whole = what.split()[1], what.split()[0] == "neighbours"
queries = np.load(Path(small, "vectors.npy"))[:1]
model = oi.load(sys.argv[5])
def once():
    if whole:
        return neighbours(model, small, among=big, metric=metric).arrays.values()
    return nearest(queries, np.load(Path(big, "vectors.npy"), mmap_mode="r"), 10, metric)
before = status("RssAnon")
threading.Thread(target=watch, daemon=True).start()
once()
seconds = []
for _ in range(repeats):
    start = time.perf_counter()
    which, far = once()
    seconds.append(time.perf_counter() - start)
going = False
print(json.dumps(dict(seconds=seconds, own=peak["RssAnon"] - before, file=peak["RssFile"], which=which[0].tolist())))
"""


def folder(path: Path, count: int, width: int, seed: int) -> None:
    """What `embed` would write for photos that are not there."""
    from onnx_inspect.methods.inputs import guess_preprocessing
    from onnx_inspect.model import load

    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    vectors = np.lib.format.open_memmap(path / "vectors.npy", "w+", np.float32, (count, width))
    for i in range(0, count, 20000):
        vectors[i : i + 20000] = np.maximum(rng.standard_normal((min(20000, count - i), width), np.float32) + 0.3, 0)
    vectors.flush()
    names = pa.array([f"photos{seed}/{i:07}.jpg" for i in range(count)])
    labels = pa.array([f"class {i % 100}" for i in range(count)])
    pq.write_table(
        pa.table({"photo": range(count), "path": names, "label": labels, "prediction": labels}),
        path / "embeddings.parquet",
    )
    model = load(MODEL)
    record = {
        "models": [{"name": MODEL.name, "sha256": model.source.sha256}],
        "provider": "CPUExecutionProvider",
        "photos": count,
        "skipped": [],
        "preprocessing": guess_preprocessing(model)[0].to_json(),
        "notes": [],
        "layer": "reshape_1",
        "params": {"folder": str(path)},
    }
    (path / "embed.json").write_text(json.dumps(record))


def exact(query: np.ndarray, vectors: np.ndarray, metric: str) -> list[int]:
    q, far = query.astype(np.float64), np.empty(len(vectors))
    for i in range(0, len(vectors), 20000):
        v = vectors[i : i + 20000].astype(np.float64)
        far[i : i + 20000] = (
            -(v @ q) / np.linalg.norm(v, axis=1) if metric == "cosine" else np.linalg.norm(v - q, axis=1)
        )
    return np.argsort(far, kind="stable")[:10].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for the files, several GB; a temporary one by default")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its markers there")
    args = parser.parse_args()
    rows = []
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=args.folder) as root:
        big, small = Path(root, "big"), Path(root, "small")
        folder(big, args.vectors, args.features, 0)
        folder(small, 1, args.features, 1)
        start = time.perf_counter()
        np.load(big / "vectors.npy").sum()
        reading = time.perf_counter() - start
        query, vectors = np.load(small / "vectors.npy")[0], np.load(big / "vectors.npy", mmap_mode="r")
        for what in ("search cosine", "search l2", "neighbours cosine"):
            done = subprocess.run(
                [sys.executable, "-c", CODE, str(big), str(small), what, str(args.repeats), str(MODEL)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            right = "yes" if found["which"] == exact(query, vectors, what.split()[1]) else "NO"
            median, worst = np.median(found["seconds"]), max(found["seconds"])
            rows.append(
                [what, f"{median:.2f} s", f"{worst:.2f} s", f"{found['own']:.0f} MB", f"{found['file']:.0f} MB", right]
            )
            print(*rows[-1], sep="  ", flush=True)
    header = ["one query, top 10", "median", "slowest", "own memory", "mapped pages", "as in float64"]
    text = (
        f"## Neighbours among {args.vectors:,} vectors of {args.features}\n\n{tables.markdown(header, rows)}\n\n"
        f"Warm: the file is in the page cache; NumPy reads it once in {reading:.1f} s. {args.repeats} repeats.\n\n"
        f"{tables.conditions()}"
    )
    print(text)
    if args.write:
        tables.write(args.write, "neighbours", text)


if __name__ == "__main__":
    main()
