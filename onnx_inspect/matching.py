"""Which layer of one export is which of another, of the same network.

A pair says how it was found:

- "weights": the operators hold the same numbers, in whatever order of axes; a batch normalisation is folded into the
  convolution before it where only the other export did so. Numbers that several layers share tell nothing.
- "name": the modules are called the same, once what an exporter adds is taken off ("functional_1/", "_1"), and hold as
  many operators of that kind. Weights of other sizes rule that out.
- "neighbours": the only operators of that kind which read what is already paired, with weights of the same sizes.

What is paired by name or neighbours although the weights differ says so: it is retrained, quantised, or folded on one
side only, where a layer gives other values.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .model import Model
from .naming import Layer
from .parameters import held_weights
from .scopes import Path, Scope, scopes

# Operators that hand on what they read, and those that are the same under several names.
_PASSING = frozenset("Identity Cast Dropout Transpose QuantizeLinear DequantizeLinear".split())
_KINDS = {"Gemm": "MatMul", "GlobalAveragePool": "ReduceMean", "ConvInteger": "Conv", "Flatten": "Reshape"} | dict.fromkeys(
    ("Squeeze", "Unsqueeze"), "Reshape"
)  # fmt: skip
_CLOSE = 1e-4  # of the largest weight: what folding in another order, or half precision, may change
_NUMBERED = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Pair:
    """A layer of either model, and what says that they are the same: "weights", "name", "neighbours", or a warning."""

    a: Layer
    b: Layer
    how: tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """Pairs in the order of the first model, and the layers that have no partner."""

    pairs: list[Pair]
    only_a: list[Layer]
    only_b: list[Layer]

    def to_json(self) -> dict[str, Any]:
        """Names and tensors, as plain data."""
        pairs = [{"a": _said(p.a), "b": _said(p.b), "how": list(p.how)} for p in self.pairs]
        return {"pairs": pairs, "only_a": list(map(_said, self.only_a)), "only_b": list(map(_said, self.only_b))}


def _said(layer: Layer) -> dict[str, Any]:
    return {"name": layer.name, "tensor": layer.tensor, "op_type": layer.op_type, "shape": layer.shape}


def match(a: Model, b: Model, layers: Iterable[Layer] | None = None) -> Matches:
    """Pair the layers of two exports of one network.

    Args:
        a: one export.
        b: another.
        layers: those of `a` that are asked for [default: all].
    """
    left, right = _Side(a), _Side(b)
    found: dict[_Spot, tuple[_Spot, list[str]]] = {}
    _weights(left, right, found)
    _names(left, right, found)
    _neighbours(left, right, found)
    asked = {c.tensor for c in (a.layers if layers is None else layers)}
    taken = {other.layer.tensor for other, _ in found.values()}
    return Matches(
        [Pair(s.layer, found[s][0].layer, tuple(found[s][1])) for s in left.spots if s in found and s.layer.tensor in asked],
        [s.layer for s in left.spots if s not in found and s.layer.tensor in asked],
        [s.layer for s in right.spots if s.layer.tensor not in taken],
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Spot:
    """A layer with its node, its place among the modules, and its weights."""

    layer: Layer
    node: ir.Node
    scope: Scope
    values: tuple[ir.Value, ...]

    @property
    def kind(self) -> str:
        return _KINDS.get(self.node.op_type, self.node.op_type)

    @cached_property
    def numbers(self) -> NDArray[Any] | None:
        """Its largest weight, sorted; None without one, or where it is no kernel or matrix."""
        arrays = [v.const_value.numpy() for v in self.values if v.const_value is not None]
        largest = max(arrays, key=np.size, default=None)
        return None if largest is None else _sorted(largest)


def _sorted(array: NDArray[Any]) -> NDArray[Any]:
    return np.sort(array.astype(np.float32, copy=False).reshape(-1))
