"""Peak memory of long methods on a 4K photo: integrated gradients and RISE.

    python scripts/bench_memory.py --steps 300 --masks 8000 --write docs/measurements.md

The model is a small convolutional network with open height and width, made here; each run is a process of its own,
which says how much memory it had at most beyond what the package itself takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import tables

RUNS = {
    "saliency": "oi.saliency(model, x, target=1, engine=engine)",
    "integrated gradients, {steps} steps": "oi.integrated_gradients(model, x, target=1, steps={steps}, engine=engine)",
    "RISE, {masks} masks": "oi.rise(model, x, target=1, samples={masks}, engine=engine)",
}
CODE = """
import json, resource, sys, time
import numpy as np, onnx_inspect as oi
from onnx_inspect.preprocess import Preprocessing
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
model = oi.load(sys.argv[1])
engine = oi.Engine("cpu", threads=int(sys.argv[3]), max_memory=sys.argv[2])
x = np.random.default_rng(0).random((1, 3, 2160, 3840), np.float32)
oi.saliency(model, x[:, :, :64, :64], engine=engine)  # everything is imported
before, start = peak(), time.perf_counter()
result = {call}
print(json.dumps({{"before": before, "peak": peak(), "seconds": time.perf_counter() - start, "notes": result.notes}}))
"""


def network(path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng, n = np.random.default_rng(0), helper.make_node
    shapes = {"w1": (8, 3, 3, 3), "w2": (16, 8, 3, 3), "w3": (16, 4)}
    nodes = [
        n("Conv", ["x", "w1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["c1"], ["r1"]),
        n("Conv", ["r1", "w2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["c2"], ["r2"]),
        n("GlobalAveragePool", ["r2"], ["p"]),
        n("Flatten", ["p"], ["f"]),
        n("MatMul", ["f", "w3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "open",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), k) for k, s in shapes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-memory", default="2GB", metavar="SIZE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--masks", type=int, default=8000)
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        network(Path(folder) / "open.onnx")
        for name, call in RUNS.items():
            numbers = {"steps": args.steps, "masks": args.masks}
            words = [
                sys.executable,
                "-c",
                CODE.format(call=call.format(**numbers)),
                f"{folder}/open.onnx",
                args.max_memory,
            ]
            done = subprocess.run([*words, str(args.threads)], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            rows.append(
                (name.format(**numbers), f"{found['peak']:.0f}", f"{found['before']:.0f}", f"{found['seconds']:.0f}")
            )
            print(rows[-1], found["notes"], flush=True)
    table = tables.markdown(("", "peak, MiB", "before it, MiB", "seconds"), rows)
    if args.write:
        note = f"A photo of 3840x2160 (95 MiB as float32), --max-memory {args.max_memory}, {args.threads} thread."
        tables.write(args.write, "memory", "\n\n".join(["## Memory on a 4K photo", tables.conditions(), note, table]))


if __name__ == "__main__":
    main()
