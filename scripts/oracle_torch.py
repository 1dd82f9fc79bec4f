"""Gradients of whole networks against torch's autograd, into docs/measurements.md.

    python -m venv .venv-oracle && . .venv-oracle/bin/activate
    pip install torch==2.13.0 .  # torch's CPU build suffices
    python scripts/oracle_torch.py --zoo ../shared/zoo --write docs/measurements.md

Each network is written again in torch and run in float64, with the weights of the ONNX file; the twins, one network in
the files of several exporters, with those that they were exported from. Compared are the gradients of one class score,
or of all outputs where these are no classes, with respect to the input and to the tensors between the layers.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import tables
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import onnx_inspect as oi

ROOT = Path(__file__).resolve().parents[1]
BATCH, CLASS, HEADS, TRIALS = 2, 3, 4, 3
# Inner tensors are found as "the n-th output of an operator": both sides list them in the order of the graph.
Maps = list[Tensor]

NOTE = f"""Relative l2 errors, torch in float64, onnxruntime in float32. Medians of {TRIALS} inputs: now and then
rounding changes which element of a pool is the largest, and the gradient goes there."""


class Weights:
    """The weights of an ONNX file, as each node of an operator has them in turn."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        floats = {
            k: torch.tensor(a, dtype=torch.float64) for k, a in arrays.items() if a.dtype == np.float32 and a.ndim
        }
        found: dict[str, list[list[Tensor]]] = defaultdict(list)
        for node in graph.node:
            if node.op_type == "Identity" and node.input[0] in floats:  # weights that layers share
                floats[node.output[0]] = floats[node.input[0]]
                continue
            tensors = [floats[i] for i in node.input if i in floats and floats[i].numel() > 1]
            if tensors:
                found[node.op_type].append(tensors)
        self._nodes = {op_type: iter(rows) for op_type, rows in found.items()}

    def __call__(self, op_type: str) -> list[Tensor]:
        """Those of the next node."""
        return next(self._nodes[op_type])

    def linear(self, x: Tensor) -> Tensor:
        """X W + b, a MatMul and an Add."""
        return x @ self("MatMul")[0] + self("Add")[0]


Network = Callable[[Weights, Tensor], tuple[Tensor, Maps]]


def plain(w: Weights, x: Tensor, layers: str) -> tuple[Tensor, Maps]:
    """Convolutions with ReLU, one with stride 2 where it says 2, max pools where it says p; mean; linear."""
    maps = []
    for layer in layers:
        if layer == "p":
            x = F.max_pool2d(x, 2)
        else:
            x = F.relu(F.conv2d(x, *w("Conv"), stride=int(layer), padding=1))
            maps.append(x)
    return F.linear(x.mean((2, 3)), *w("Gemm")), maps


def mbv3(w: Weights, x: Tensor) -> tuple[Tensor, Maps]:
    """A stem, a depthwise convolution with squeeze and excitation around it, GELU."""
    first = F.hardswish(F.conv2d(x, *w("Conv"), stride=2, padding=1))
    second = F.hardswish(F.conv2d(first, *w("Conv"), padding=2, groups=16))
    squeezed = F.relu(F.conv2d(second.mean((2, 3), keepdim=True), *w("Conv")))
    x = first + second * F.hardsigmoid(F.conv2d(squeezed, *w("Conv")))
    x = F.gelu(F.conv2d(x, *w("Conv")))
    return F.linear(x.mean((2, 3)), *w("Gemm")), [first, second]


def det(w: Weights, x: Tensor) -> tuple[Tensor, Maps]:
    """A detector: pyramid pooling, a nearest upsampling, boxes."""
    maps = [F.relu(F.conv2d(x, *w("Conv"), stride=2, padding=1))]
    maps += [F.relu(F.conv2d(F.silu(maps[0]), *w("Conv"), stride=2, padding=1))]
    maps += [F.relu(F.conv2d(maps[1], *w("Conv"), stride=2, padding=1))]
    once = F.max_pool2d(maps[2], 5, 1, 2)
    x = F.conv2d(torch.cat([maps[2], once, F.max_pool2d(once, 5, 1, 2)], 1), *w("Conv"))
    x = F.conv2d(torch.cat([F.interpolate(x, scale_factor=2), maps[1]], 1), *w("Conv"))
    xy, wh, rest = x.unflatten(1, (2, 7)).permute(0, 1, 3, 4, 2).sigmoid().split([2, 2, 3], -1)
    return torch.cat([xy * 2 - 0.5, (wh * 2) ** 2, rest], -1).reshape(len(x), -1, 7), maps


def unet(w: Weights, x: Tensor) -> tuple[Tensor, Maps]:
    """Down by a max and a mean pool, up by a transposed convolution and a bilinear one."""
    maps: Maps = []

    def block(x: Tensor) -> Tensor:
        maps.append(F.relu(F.conv2d(x, *w("Conv"), padding=1)))
        return maps[-1]

    one = block(x)
    two = block(F.max_pool2d(one, 2))
    x = F.conv_transpose2d(block(F.avg_pool2d(two, 2)), *w("ConvTranspose"), stride=2)
    x = F.interpolate(block(torch.cat([x, two], 1)), scale_factor=2, mode="bilinear")
    return F.conv2d(block(torch.cat([x, one], 1)), *w("Conv")), maps


def vit(w: Weights, x: Tensor, heads: int, *, packed: bool, epsilon: float) -> tuple[Tensor, Maps]:
    """Two transformer layers on patches; queries, keys and values from one matrix, or from three."""
    maps: Maps = []

    def norm(x: Tensor) -> Tensor:
        maps.append(F.layer_norm(x, (x.shape[-1],), *w("LayerNormalization"), eps=epsilon))
        return maps[-1]

    x = F.conv2d(x, *w("Conv"), stride=8).flatten(2).mT
    x = torch.cat([w("Expand")[0].expand(len(x), 1, -1), x], 1) + w("Add")[0]
    for _ in range(2):
        y = norm(x)
        qkv = w.linear(y).chunk(3, -1) if packed else [w.linear(y) for _ in range(3)]
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in qkv)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + (F.linear(y, *w("Gemm")) if packed else w.linear(y))
        x = x + w.linear(F.gelu(w.linear(norm(x))))
    return F.linear(norm(x)[:, 0], *w("Gemm")), maps


def twin(folder: Path) -> Network:
    """The network that all twins were exported from, with its own weights."""
    state = {k: v.double() for k, v in torch.load(folder / "twin.pt", weights_only=True).items()}

    def run(_: Weights, x: Tensor) -> tuple[Tensor, Maps]:
        maps = []
        for i in range(1, 5):
            x = F.conv2d(x, state[f"conv{i}.weight"], state.get(f"conv{i}.bias"), 2 if i == 2 else 1, 1)
            if i < 4:
                names = ("running_mean", "running_var", "weight", "bias")
                x = F.batch_norm(x, *(state[f"bn{i}.{name}"] for name in names))
            maps.append(F.relu(x))
            x = F.max_pool2d(maps[-1], 2) if i == 2 else maps[-1]
        return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"]), maps

    return run


def networks(zoo: Path | None) -> Iterator[tuple[Path, Network, str]]:
    """File, network, and the operator whose outputs are compared."""
    for name in ("clean", "biased"):
        yield ROOT / "models" / "signs" / f"{name}.onnx", lambda w, x: plain(w, x, "21p11p11"), "Relu"
    if zoo is None:
        return
    for exporter in ("dynamo", "legacy"):
        yield zoo / f"torch_{exporter}_cnn.onnx", lambda w, x: plain(w, x, "1p21"), "Relu"
        yield zoo / f"torch_{exporter}_mbv3.onnx", mbv3, "HardSwish"
        yield zoo / f"torch_{exporter}_det.onnx", det, "Relu"
        yield zoo / f"torch_{exporter}_unet.onnx", unet, "Relu"
    one, three = dict(heads=HEADS, packed=True, epsilon=1e-5), dict(heads=HEADS, packed=False, epsilon=1e-12)
    yield zoo / "torch_dynamo_vit.onnx", lambda w, x: vit(w, x, **one), "LayerNormalization"
    yield zoo / "torch_legacy_vit.onnx", lambda w, x: vit(w, x, **one), "LayerNormalization"
    yield zoo / "hf_vit_eager_dynamo.onnx", lambda w, x: vit(w, x, **three), "LayerNormalization"
    yield zoo / "hf_vit_sdpa_dynamo.onnx", lambda w, x: vit(w, x, **three), "LayerNormalization"
    for path in sorted((zoo / "twins").glob("*.onnx")):
        if "BUG" not in path.name:
            yield path, twin(zoo / "twins"), "Relu"


def compare(path: Path, network: Network, op_type: str, seed: int) -> list[float]:
    """The relative l2 errors of the gradients with respect to the input and the inner tensors."""
    model = oi.load(path)
    proto = onnx.load_from_string(model.to_bytes())
    inner = [node.output[0] for node in proto.graph.node if node.op_type == op_type]
    (x,), (y,) = model.inputs, model.outputs
    shape = [d if isinstance(d, int) else BATCH for d in x.shape]
    last = shape[-1] == 3  # channels
    rng = np.random.default_rng(seed)
    given = rng.normal(size=shape).astype(np.float32)

    tensor = torch.tensor(np.moveaxis(given, -1, 1) if last else given, dtype=torch.float64, requires_grad=True)
    out, maps = network(Weights(path), tensor)
    if out.ndim == 2:
        dy = np.eye(out.shape[1])[[CLASS] * len(given)]
        ours, feeds = oi.gradient(model, CLASS, [x.name, *inner]), {"target.index": np.full(len(given), CLASS)}
    else:
        dy = rng.normal(size=out.shape).astype(np.float32)
        ours, feeds = oi.vjp(model, [x.name, *inner], [y.name]), {f"cotangent.{y.name}": dy}
    expected = torch.autograd.grad(out, [tensor, *maps], torch.tensor(dy, dtype=torch.float64))
    session = ort.InferenceSession(ours.to_bytes(), providers=["CPUExecutionProvider"])
    found = session.run([f"gradient.{name}" for name in (x.name, *inner)], feeds | {x.name: given})
    return [error(a, b.numpy()) for a, b in zip(found, expected, strict=True)]


def error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Relative l2; channels may be last in one and first in the other."""
    if found.shape != expected.shape:
        expected = np.moveaxis(expected, 1, -1)
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="exported models and their twins")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ort.set_default_logger_severity(3)
    rows = []
    for path, network, op_type in networks(args.zoo):
        trials = [compare(path, network, op_type, seed) for seed in range(TRIALS)]
        first, *inner = np.median(trials, axis=0)
        rows.append((path.stem, f"{first:.1e}", f"{len(inner)} × {op_type}", *(f"{f(inner):.1e}" for f in (min, max))))
    header = ("model", "input", "inner tensors", "best", "worst")
    text = [f"## Gradients of whole networks against torch {torch.__version__}", tables.conditions()]
    text += [NOTE, tables.markdown(header, rows)]
    print("\n\n".join(text))
    if args.write:
        tables.write(args.write, "torch", "\n\n".join(text))


if __name__ == "__main__":
    main()
