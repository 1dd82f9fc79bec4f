"""What building a gradient graph costs: seconds on one core, how it grows with the graph, memory beside big weights.

    python scripts/bench_build.py

Three measurements, each in processes of its own: the gradient of the top class of ResNet-50 and DenseNet-121 (the
files without weights in the onnx package) with respect to the input; the same for chains of up to 20,000 nodes; and
the peak memory of a process that loads a model with 3 GB of external weights (a sparse file) and builds its gradient.
Seconds are those of the CPU, the median of seven; loading is wall time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx.backend.test
import tables
from onnx import TensorProto, helper

BUILD = """
import json, statistics, sys, time
import onnx_inspect as oi, onnx_inspect.target
def peak():  # not ru_maxrss, which begins with the parent's
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
start = time.perf_counter()
model = oi.load(sys.argv[1])
load, seconds = time.perf_counter() - start, []
oi.gradient(model, sys.argv[2], [model.inputs[0].name])
for _ in range(int(sys.argv[3])):
    start = time.process_time()
    built = oi.gradient(model, sys.argv[2], [model.inputs[0].name])
    seconds.append(time.process_time() - start)
print(json.dumps([load, statistics.median(seconds), len(model.ir.graph), len(built.ir.graph), before, peak()]))
"""
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
ROW = ("load, s", "gradient, s", "nodes", "with gradient")


def build(model: Path, target: str, times: int = 7) -> tuple[float, float, int, int, float, float]:
    """Load and build in a process of its own: seconds for both, numbers of nodes, MiB before and at the peak."""
    command = [sys.executable, "-c", BUILD, str(model), target, str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))  # type: ignore[return-value]


def chain(path: Path, length: int) -> Path:
    """Tanh and Mul in turn, with a shortcut around every ten."""
    nodes, last, shortcut = [], "x", "x"
    for i in range(length):
        kind, inputs = ("Tanh", [last]) if i % 2 else ("Mul", [last, "w"])
        if i % 10 == 9:
            kind, inputs = "Add", [last, shortcut]
        nodes.append(helper.make_node(kind, inputs, [f"y{i}"]))
        last = f"y{i}"
        shortcut = last if i % 10 == 9 else shortcut
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [4], [0.5, 1, 1.5, 2])]
    return save(path, nodes, last, 4, weights)


def heavy(path: Path, layers: int = 12, width: int = 8192) -> Path:
    """Matrix products with 256 MiB of external weights each, all zeros in a sparse file."""
    nodes, weights, size = [], [], 4 * width * width
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"y{i - 1}" if i else "x", f"w{i}"], [f"y{i}"]))
        weight = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width])
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.data"), ("offset", i * size), ("length", size)):
            weight.external_data.add(key=key, value=str(value))
        weights.append(weight)
    with (path.parent / "weights.data").open("wb") as file:
        file.truncate(layers * size)
    return save(path, nodes, f"y{layers - 1}", width, weights)


def save(path: Path, nodes: Sequence[onnx.NodeProto], last: str, width: int, weights: Sequence[TensorProto]) -> Path:
    """Write a model from x to the tensor `last`, both (N, width)."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name in ("x", last)]
    graph = helper.make_graph(list(nodes), "bench", info[:1], info[1:], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def main() -> None:
    """Measure and print, or write into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    write = parser.parse_args().write
    rows, growth = [], []
    for name in ("resnet50", "densenet121"):
        load, seconds, nodes, after, *_ = build(LIGHT / f"light_{name}.onnx", "top")
        rows.append((name, f"{load:.2f}", f"{seconds:.3f}", nodes, after))
    with tempfile.TemporaryDirectory() as folder:
        for length in (1250, 2500, 5000, 10000, 20000):
            load, seconds, nodes, after, *_ = build(chain(Path(folder, "chain.onnx"), length), "0", times=3)
            growth.append((nodes, f"{load:.2f}", f"{seconds:.3f}", f"{1e6 * seconds / nodes:.0f}", after))
        *_, before, peak = build(heavy(Path(folder, "heavy.onnx")), "0", times=1)
    text = "\n\n".join(
        [
            tables.markdown(["network", *ROW], rows),
            tables.markdown(["nodes of a chain", "load, s", "gradient, s", "µs per node", "with gradient"], growth),
            f"With 3 GiB of external weights: {peak:.0f} MiB at the peak, {before:.0f} MiB of them before loading.",
        ]
    )
    print(text)
    if write is not None:
        tables.write(write, "build", "\n\n".join(["## Building a gradient graph", tables.conditions(), text]))


if __name__ == "__main__":
    main()
