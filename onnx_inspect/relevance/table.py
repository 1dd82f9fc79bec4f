"""The table of relevance rules: `@relevance`, and `Relevance`, which the walk takes in place of the gradients' table.

What the walk carries from a tensor is its relevance R, shaped like it. A rule says how the relevance of a node's
outputs comes to its inputs: `rule(how, op, node, *relevance of the outputs) -> relevance of the inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..autodiff.subgraph import summed
from ..autodiff.table import CONSTANTS, RULES, Cotangents, Rule
from ..emit import Op
from ..structure import key

Layers = Literal["epsilon", "zplus", "gamma", "alpha_beta", "box", "flat", "wsquare"]
Attention = Literal["values", "attnlrp"]


@dataclass(frozen=True)
class How:
    """What the rules are to do.

    conv, dense, first: the rule of convolutions, of matrix products, and of whichever comes first; "" for no other.
    epsilon: of the epsilon rule. stabiliser: of all other divisions. gamma, alpha, beta: of the rules of that name.
    attention: "values" takes attention for constant; "attnlrp" gives half of the relevance to it.
    bias: biases of layers take their share. elementwise: what functions of single numbers do to R, by default pass it.
    norm: what batch normalisation does that is not merged.
    box: the least and the largest values of inputs, by name, for the rule "box".
    """

    conv: Layers = "zplus"
    dense: Layers = "epsilon"
    first: Layers | Literal[""] = ""
    epsilon: float = 1e-6
    stabiliser: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    attention: Attention = "values"
    bias: bool = True
    elementwise: Literal["pass", "gradient"] = "pass"
    norm: Literal["epsilon", "pass", "gradient"] = "epsilon"
    box: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]] | None = None

    @property
    def name(self) -> str:
        """Tells tables apart: equal names do the same."""
        box = {k: [(v.shape, sha256(v.tobytes()).hexdigest()) for v in pair] for k, pair in (self.box or {}).items()}
        return f"relevance {[v for k, v in vars(self).items() if k != 'box']} {box}"


RelevanceRule = Callable[..., Cotangents]

# What each kind of rule does, as docs/lrp.md says it.
KINDS = {
    "convolution": "a weighted sum: the composite's rule for convolutions, or for the first layer",
    "dense": "a weighted sum: the composite's rule for dense layers, or for the first layer; of two varying factors as "
    "in *product*, each side by the epsilon rule",
    "quantised": "as *convolution* or *dense*, for what its integers stand for",
    "epsilon": "linear, or homogeneous of degree 1: R = x · gradient(R / y), each input by what it adds to the output, "
    "constants included",
    "sum": "as *epsilon*; but a constant that shifts the model's input, before any layer, takes nothing",
    "pass": "elementwise: R passes as it is; parameters get none (excitation_backprop, preset zennit: the gradient)",
    "move": "takes elements elsewhere: R goes back to where they came from; what was copied is summed",
    "winner": "the largest takes all, as the gradient does",
    "product": "of a gate and a signal the signal takes all; else half each; a constant factor takes nothing",
    "quotient": "the dividend takes all: what it is divided by counts as constant",
    "normalisation": "written out in sums and products, its deviation taken as constant",
    "batch": "merged into the layer before it; alone by the epsilon rule; R passes before any layer, and with preset "
    "zennit",
    "softmax": "R = x · (R - y ΣR), as in AttnLRP; as attention weights it is constant unless attention=attnlrp",
    "attention": "the values take all: attention is constant; with attention=attnlrp written out in products and a "
    "Softmax",
    "power": "homogeneous of another degree: by x · gradient, divided by its sum",
    "share": "R times the share that the gradient says",
    "recurrent": "written as a loop over the cell, and walked with these rules: gates pass R to what they gate",
    "control": "the same node over its subgraphs, walked with these rules",
    "constant": "no relevance passes",
}

TABLE: dict[str, tuple[str, RelevanceRule | None]] = {}


def relevance(kind: str, *op_types: str) -> Callable[[RelevanceRule], RelevanceRule]:
    """Register a rule `rule(how, op, node, *relevance of the outputs)` for operators, and the kind that it is of."""

    def register(function: RelevanceRule) -> RelevanceRule:
        TABLE.update((op_type, (kind, function)) for op_type in op_types)
        return function

    return register


def by_gradient(kind: str, names: str) -> None:
    """Operators whose relevance moves just as gradients do."""
    TABLE.update((op_type, (kind, None)) for op_type in names.split())


class Relevance:
    """The rules as the walk looks them up; operators that nobody has a relevance rule for get the epsilon rule."""

    def __init__(self, how: How) -> None:
        self.how, self.name = how, how.name

    def __call__(self, node: ir.Node) -> Rule | None:
        """The rule of a node, None where not even the gradient has one."""
        op_type = key(node)
        if op_type not in RULES:
            return None
        _, found = TABLE.get(op_type, ("epsilon", epsilon))
        return RULES[op_type] if op_type in CONSTANTS or found is None else partial(found, self.how)


def kind(op_type: str) -> str | None:
    """The kind of an operator's rule, None if nobody has stated one."""
    return "constant" if op_type in CONSTANTS else TABLE.get(op_type, (None,))[0]


def epsilon(
    how: How, op: Op, node: ir.Node, *rs: ir.Value | None, degree: Any = 1, eps: float = 0
) -> dict[ir.Value, ir.Value]:
    """R_i = Σ_j x_i (dy_j / dx_i) R_j / (degree y_j): all of R, where y is homogeneous of that degree."""
    eps = eps or how.stabiliser
    pairs = zip(rs, node.outputs, strict=False)
    found = gradient(op, node, *(r and r / stabilised(op, y if degree == 1 else y * degree, eps) for r, y in pairs))
    return to(
        op,
        node,
        [x * dx if op.wants(x) and dx is not None else None for x, dx in zip(node.inputs, found, strict=False)],
    )


def gradient(op: Op, node: ir.Node, *dys: ir.Value | None) -> Sequence[ir.Value | None]:
    """What the gradient's rule makes of cotangents, for each input."""
    found = RULES[key(node)](op, node, *dys)
    if isinstance(found, Mapping):
        return [x and found.get(x) for x in node.inputs]
    return [found] if isinstance(found, ir.Value) else found or []


def times(xs: Sequence[ir.Value | None], dxs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
    """Inputs by their gradients, where there are both."""
    return [x * dx if x is not None and dx is not None else None for x, dx in zip(xs, dxs, strict=False)]


def to(op: Op, node: ir.Node, rs: Sequence[ir.Value | None]) -> dict[ir.Value, ir.Value]:
    """Relevance by input, for those that vary; inputs that are left out get none."""
    pairs = [(x, r) for x, r in zip(node.inputs, rs, strict=False) if x is not None and r is not None and op.wants(x)]
    return summed(op, [x for x, _ in pairs], [r for _, r in pairs])


def stabilised(op: Op, z: ir.Value, eps: float) -> ir.Value:
    """z, moved away from 0 by eps; 0 itself becomes eps."""
    return z + op.Where(op.Less(z, 0), op.const(-eps, z.dtype), op.const(eps, z.dtype))  # type: ignore[no-any-return]
