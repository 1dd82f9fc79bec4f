"""Small models from every exporter, made anew: the fixtures in tests/zoo, with what is known of each in index.json.

    python scripts/export_zoo.py                    # all, each framework in an environment of its own, build/zoo/NAME
    python scripts/export_zoo.py torch onnx         # some
    python scripts/export_zoo.py torch --python PY  # in an environment that exists

`scripts/zoo/NAME_models.py OUT ZOO` writes models into the folder OUT; it may start from files that others left in
ZOO. They are trained for some seconds on tests/blobs.py, where the truth is known. What onnxruntime runs is copied into
tests/zoo; nothing else is. Seeds are fixed, but exporters number their tensors as they like.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
LIMIT = 8 << 20
ORT = ["onnx==1.23.2", "onnxruntime==1.31.1", "numpy==2.4.6"]
# What each environment holds. Twins are one network's weights in every framework: one step per environment.
PINS: dict[str, list[str]] = {
    "torch": [*ORT, "torch==2.13.0", "onnxscript==0.7.2", "scipy==1.17.1"],
    "keras": [*ORT, "keras==3.15.1", "tensorflow-cpu==2.21.0", "tf2onnx==1.17.0", "torch==2.13.0", "onnxscript==0.7.2"],
    "jax": [*ORT, "jax==0.10.2", "jax2onnx==0.17.1", "flax==0.12.8", "optax==0.2.8", "keras==3.15.1"],
    "paddle": [
        "paddlepaddle==3.3.1",
        "paddle2onnx==2.1.0",
        "onnx-graphsurgeon==0.6.1",  # this and sympy are installed in mid-export, from elsewhere, if not there
        "sympy==1.14.0",
        "onnx==1.17.0",
        "onnxruntime==1.31.1",
        "numpy==2.4.6",
    ],
    "sklearn": [
        *ORT,
        "scikit-learn==1.9.1",
        "skl2onnx==1.20.0",
        "onnxmltools==1.16.0",
        "lightgbm==4.7.0",
        "xgboost==3.2.0",
    ],
    "onnx": [*ORT, "sympy==1.14.0"],
}
STEPS: dict[str, list[tuple[str, str]]] = {
    "torch": [("torch", "torch_models.py")],
    "keras": [("keras", "keras_models.py"), ("jax", "keras_models.py")],
    "jax": [("jax", "jax_models.py")],
    "paddle": [("paddle", "paddle_models.py")],
    "sklearn": [("sklearn", "sklearn_models.py")],
    "twins": [(name, "twins.py") for name in ("torch", "keras", "jax", "paddle")],
    "onnx": [("onnx", "onnx_models.py")],  # the last: some of its files start from the others
}


def environment(name: str) -> Path:
    """The Python of a framework's environment, which is made, or brought to these versions, if it is not so already."""
    folder = ROOT / "build" / "zoo" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    holds, wanted = folder / "pins.txt", "\n".join(PINS[name])
    if not holds.exists() or holds.read_text(encoding="utf-8") != wanted:
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *PINS[name]], check=True)
        holds.write_text(wanted, encoding="utf-8")
    return python


def example(shape: list[int], dtype: str) -> np.ndarray:
    """Noise of 0 to 1, or of 0 to 255; ones for tokens and masks, which are whole numbers with a sign."""
    if dtype.startswith(("int", "bool")):
        return np.ones(shape, dtype)
    noise = np.random.default_rng(0).random(shape)
    return (255 * noise if dtype.startswith("uint") else noise).astype(dtype)


def runs(path: Path, inputs: dict[str, Any]) -> None:
    """Run a file by onnxruntime on example inputs; finite numbers must come out."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for value in session.run(None, {k: example(one["shape"], one["dtype"]) for k, one in inputs.items()}):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            sys.exit(f"{path.name} gives numbers that are not finite")


def anonymous(path: Path) -> None:
    """Take out of a file what its exporter noted of the author's folders, and of its own work."""
    import onnx

    proto = onnx.load(path, load_external_data=False)
    for node in [n for graph in (proto.graph, *proto.functions) for n in graph.node]:
        kept = [p for p in node.metadata_props if not p.key.endswith(("stack_trace", "fx_node"))]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(proto, path)


def export(framework: str, out: Path, python: Path | None) -> None:
    """One framework's models, checked and copied into ``out``, and their entries in its index."""
    work = ROOT / "build" / "zoo" / "out" / framework
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    search = os.pathsep.join(str(ROOT / folder) for folder in ("scripts", "tests"))
    for name, script in STEPS[framework]:
        command = [python or environment(name), ROOT / "scripts" / "zoo" / script, work, out]
        subprocess.run(
            [*map(str, command)], env=os.environ | {"PYTHONPATH": search, "ZOO_ENVIRONMENT": name}, check=True
        )
    lists = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(work.glob("*.json"))]
    entries = [e | {"from": framework} for some in lists for e in some]
    for entry in entries:
        anonymous(work / entry["file"])
        runs(work / entry["file"], entry["inputs"])
        entry["bytes"] = sum(p.stat().st_size for p in work.glob(f"{entry['file']}*"))

    index = out / "index.json"
    known = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    for old in known:
        if old["from"] == framework:
            for path in out.glob(f"{old['file']}*"):
                path.unlink()
    for path in work.glob("*.onnx*"):
        shutil.copyfile(path, out / path.name)
    entries += [e for e in known if e["from"] != framework]
    index.write_text(json.dumps(sorted(entries, key=lambda e: e["file"]), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", help=", ".join(STEPS) + "; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "zoo", metavar="DIR", help="default: tests/zoo")
    parser.add_argument(
        "--python", type=Path, metavar="PY", help="this interpreter instead of environments of their own"
    )
    args = parser.parse_args()
    if unknown := set(args.frameworks) - set(STEPS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")

    args.out.mkdir(parents=True, exist_ok=True)
    for framework in args.frameworks or STEPS:
        export(framework, args.out.absolute(), args.python and args.python.absolute())
    size = sum(p.stat().st_size for p in args.out.iterdir())
    print(f"{len(list(args.out.glob('*.onnx')))} models, {size / 2**20:.1f} MB in {args.out}")
    if size > LIMIT:
        sys.exit(f"more than {LIMIT >> 20} MB: make some smaller")


if __name__ == "__main__":
    main()
