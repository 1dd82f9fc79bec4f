"""Golden gradients from torch: what tests/test_golden.py compares ours with.

    python -m venv .venv-golden && . .venv-golden/bin/activate
    pip install torch==2.13.0 onnx==1.23.2 onnxruntime==1.31.1 numpy  # torch's CPU build suffices
    python scripts/golden.py

Each row of tests/golden is a few ONNX nodes and a torch expression. Both are run forwards first, on onnxruntime in
float32 and on torch in float64: a row whose outputs differ is refused. Then torch differentiates its own, in float64,
and inputs, cotangents and gradients are written beside the rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.golden.spec import Spec  # noqa: E402
from tests.golden.specs import FAMILIES  # noqa: E402

Arrays = dict[str, NDArray[Any]]
Floats = (np.float32, np.float64)

# What expressions call besides torch: complex numbers as pairs, heads, and recurrent layers with ONNX's weights.


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj())


def complex_(x: Tensor) -> Tensor:
    return torch.view_as_complex(x)


def heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def flat(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}  # torch's, where ONNX has (z, r, h) and (i, o, f, c)


def recurrent(
    op: str, direction: str, x: Tensor, w: Tensor, r: Tensor, b: Tensor, *states: Tensor, relu: bool = False
) -> tuple[Tensor, ...]:
    """Y (steps, directions, batch, hidden) and the last states, as the ONNX operator."""
    hidden, both, back = r.shape[-1], direction == "bidirectional", direction == "reverse"

    def gates(p: Tensor) -> Tensor:
        return p.unflatten(0, (-1, hidden))[GATES[op]].flatten(0, 1)

    weights = [gates(p) for d in range(len(w)) for p in (w[d], r[d], *b[d].chunk(2))]
    function = {"RNN": torch.rnn_relu if relu else torch.rnn_tanh, "GRU": torch.gru, "LSTM": torch.lstm}[op]
    start: Any = states if op == "LSTM" else states[0]
    y, *last = function(x.flip(0) if back else x, start, weights, True, 1, 0.0, False, both, False)
    y = y.unflatten(-1, (len(w), hidden)).transpose(1, 2)
    return (y.flip(0) if back else y, *last)


NAMES = dict(torch=torch, F=functional, pairs=pairs, complex_=complex_, heads=heads, flat=flat, recurrent=recurrent)


def golden(spec: Spec, family: str) -> Arrays:
    """Inputs, cotangents and gradients of one row.

    Raises:
        SystemExit: the two sides of the row do not compute the same.
    """
    tensors = {k: torch.tensor(x.astype(np.float64) if x.dtype in Floats else x) for k, x in spec.inputs.items()}
    for k in spec.wrt:
        tensors[k].requires_grad_()
    y = eval(spec.torch, NAMES | tensors)
    ys = dict(zip(spec.outputs, y if isinstance(y, tuple) else [y], strict=True))
    agree(spec, family, {k: y.detach().numpy() for k, y in ys.items()})
    rng = np.random.default_rng(list(f"{family}/{spec.name}".encode()))
    cotangents = {k: rng.normal(size=y.shape).astype(np.float32) for k, y in ys.items()}
    seeds = [torch.tensor(c, dtype=torch.float64) for c in cotangents.values()]
    gradients = torch.autograd.grad(list(ys.values()), [tensors[k] for k in spec.wrt], seeds, materialize_grads=True)
    found = {f"gradient.{k}": g.numpy() for k, g in zip(spec.wrt, gradients, strict=True)}
    if not all(np.isfinite(g).all() for g in found.values()):
        raise SystemExit(f"{family}/{spec.name}: torch's gradient is not finite")
    return {**spec.inputs, **{f"cotangent.{k}": c for k, c in cotangents.items()}, **found, "text": np.array(spec.text)}


def agree(spec: Spec, family: str, ys: Arrays) -> None:
    """Compare the forward passes."""
    session = ort.InferenceSession(spec.model(spec.inputs, ys).SerializeToString(), providers=["CPUExecutionProvider"])
    ours = session.run(list(spec.outputs), {k: spec.inputs[k] for k in spec.wrt})
    for name, got in zip(spec.outputs, ours, strict=True):
        wanted = ys[name]
        off = float(np.abs(got - wanted).max()) if got.shape == wanted.shape else np.inf
        if not off <= 1e-5 * (1 + np.abs(wanted).max()):
            raise SystemExit(f"{family}/{spec.name}: onnxruntime and torch differ by {off} in '{name}'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help="all unless some are named")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for family in args.families:
        rows = {f"{spec.name}/{k}": x for spec in FAMILIES[family] for k, x in golden(spec, family).items()}
        rows = {k: x.astype(np.float32) if x.dtype == np.float64 else x for k, x in rows.items()}
        path = ROOT / "tests" / "golden" / f"{family}.npz"
        np.savez_compressed(path, allow_pickle=False, **rows)
        print(f"{family}: {len(FAMILIES[family])} rows, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
