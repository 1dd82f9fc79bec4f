"""Switches in a graph: layers and blocks that can be taken out, channels that can be shut, sample by sample.

One compiled model serves every ablation: what is at work is an input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx_ir as ir

from . import layer, structure
from .dtypes import is_float
from .emit import Op
from .errors import LayerError
from .model import Model

GATES, CHANNELS = "inspect/gates", "inspect/channels"  # the inputs that say what is at work
WEIGHTED = frozenset("Conv ConvTranspose Gemm MatMul ConvInteger MatMulInteger QLinearConv QLinearMatMul".split())
# What belongs to the layer before it, since it leaves every position to itself.
_POINTWISE = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu ThresholdedRelu Clip Sigmoid HardSigmoid HardSwish Swish Tanh Softplus Erf "
    "Gelu Softsign Mish Add Sub Mul Div Pow Sqrt Exp Neg Abs Max Min BatchNormalization LayerNormalization Identity "
    "Cast Dropout QuantizeLinear DequantizeLinear Transpose".split()
)
# What may stand between a layer and the tensor that it reads: copies, in another form or with a margin.
_BEFORE = frozenset("Identity Cast Dropout QuantizeLinear DequantizeLinear Transpose Pad".split())


@dataclass(frozen=True)
class Part:
    """Something that can be taken out of a network.

    Attributes:
        name: of the module that holds it where names tell, else of the layer with weights.
        tensor: what it gives.
        inputs: tensors that may stand in for that if they have its shape, nearest first; without any, zeros do.
        block: it is several layers: the branch beside a shortcut, or parallel branches.
        also: what else it can be called.
    """

    name: str
    tensor: str
    inputs: tuple[str, ...] = ()
    block: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gate:
    """A tensor that can be switched off: `source` stands in for it then, zeros where that is ""."""

    tensor: str
    source: str = ""


def parts(model: Model, score: str) -> list[Part]:
    """The layers between input and score, and the blocks that they make up, in order.

    A layer is a convolution or matrix product with weights, and what follows it position by position: bias,
    normalisation, activation, quantisation. A block is the branch of a residual connection with the more layers, if
    these are two or more, or parallel branches that are concatenated. The layer that makes the scores is none of them:
    without it there are none.

    Args:
        model: the model.
        score: the tensor of the class scores.
    """
    goal = model.value(score)
    path = structure.needed(model.ir.graph, goal) & model.varying
    nodes = [n for n in model.ir.graph if n.outputs[0] in path]
    weighted = [n for n in nodes if n.op_type in WEIGHTED and sum(x in path for x in n.inputs) == 1]
    regions = {n: _region(n, nodes, path) for n in weighted}
    named = {c.tensor: c.name for c in model.layers}
    tops = {n: [named.get(v.name or "", structure.label(n)) for v in r] for n, r in regions.items()}
    layers = [n for n, region in regions.items() if is_float(region[-1]) and not _copied(goal, region[-1])]
    names = _unique([(_module(tops[n], [tops[o][0] for o in weighted if o is not n]), tops[n][0]) for n in layers])
    found = [
        Part(name, regions[n][-1].name or "", _inputs(n, path), also=(*tops[n], *(v.name or "" for v in regions[n])))
        for n, name in zip(layers, names, strict=True)
    ]
    blocks = [(inside, part) for inside, part in _blocks(model, nodes, weighted, score) if part.tensor != score]
    called = [[tops[n][0] for n in inside] for inside, _ in blocks]
    tensors = [[n.outputs[0].name or "" for n in inside] for inside, _ in blocks]
    names = _unique(
        [(_module(c) or _module(t), f"{c[0]}…{c[-1]}") for c, t in zip(called, tensors, strict=True)], set(names)
    )
    found += [Part(name, p.tensor, p.inputs, block=True) for name, (_, p) in zip(names, blocks, strict=True)]
    place = {y.name: i for i, n in enumerate(nodes) for y in n.outputs}
    return sorted(found, key=lambda p: (place[p.tensor], p.block))


def chosen(model: Model, among: Sequence[Part], pattern: str) -> list[Part]:
    """The parts that a name or glob means, all for ""; a tensor that is none of them is a part by itself.

    Raises:
        LayerError: nothing is called so.
    """
    for fits in (lambda name: name == pattern, lambda name: fnmatchcase(name, pattern or "*")):
        if found := [p for p in among if any(map(fits, (p.name, *p.also)))]:
            return found
    layers = model.find_layers(pattern)
    makers = [model.values[c.tensor].producer() for c in layers]
    return [Part(c.name, c.tensor, _inputs(n, model.varying)) for c, n in zip(layers, makers, strict=True) if n]


def gated(model: Model, gates: Sequence[Gate]) -> Model:
    """The model with switches.

    Args:
        model: the model; unchanged.
        gates: what can be switched off.

    Returns:
        A model with one more input, `GATES`, bool (N, len(gates)): True where a sample keeps what is there. With all
        of them True it computes what the model does.
    """
    new = model.clone()
    op, given = _opened(new, GATES, len(gates))
    place = {y.name: i for i, n in enumerate(new.ir.graph) for y in n.outputs}
    now: dict[str, ir.Value] = {}  # what is there behind the gates so far
    for k, gate in sorted(enumerate(gates), key=lambda g: place[g[1].tensor]):
        value = now.get(gate.tensor, new.values[gate.tensor])
        source = now.get(gate.source, new.values[gate.source]) if gate.source else op.const(0, value.dtype)
        ones = [1] * (op.rank(new.values[gate.tensor]) - 1)
        now[gate.tensor] = _behind(op, value, op.Reshape(op.Gather(given, [k], axis=1), [-1, *ones]), source)
    new.ir.graph.sort()
    return new.derived("gated", *(f"{g.tensor} {g.source}" for g in gates))


def masked(model: Model, tensor: str, axis: int) -> Model:
    """The model with a switch per channel of a tensor.

    Args:
        model: the model; unchanged.
        tensor: its name.
        axis: that counts channels.

    Returns:
        A model with one more input, `CHANNELS`, bool (N, C): False where a channel of a sample is zero.
    """
    new = model.clone()
    value = new.values[tensor]
    op, given = _opened(new, CHANNELS, None)
    shape = [1] * op.rank(value)
    shape[0], shape[axis] = 0, -1  # 0 is the size that is there
    _behind(op, value, op.Reshape(given, shape), op.const(0, value.dtype))
    new.ir.graph.sort()
    return new.derived("masked", tensor, str(axis))


def _opened(model: Model, name: str, count: int | None) -> tuple[Op, ir.Value]:
    """An emitter, and an input with a row of switches per sample."""
    graph = model.ir.graph
    op = Op(graph, prefix=name)
    if name in op.names:
        raise LayerError(f"The model has a tensor '{name}' already: it has switches, so take the model as it was.")
    pictures = [v for v in graph.inputs if v in model.layouts] or [v for v in graph.inputs if v.shape]
    lead = pictures[0].shape[0] if pictures and pictures[0].shape else None
    given = ir.Value(name=name, shape=ir.Shape([lead, count]), type=ir.TensorType(ir.DataType.BOOL))
    graph.inputs.append(given)
    return op, given


def _behind(op: Op, value: ir.Value, keep: ir.Value, source: ir.Value) -> ir.Value:
    """A value where it is kept, else another, for all that used the first."""
    uses = list(value.uses())
    result: ir.Value = op.Where(keep, value, source)
    result.shape = value.shape
    for user, place in uses:
        user.replace_input_with(place, result)
    return result


# What belongs together.


def _region(node: ir.Node, nodes: Sequence[ir.Node], path: set[ir.Value]) -> list[ir.Value]:
    """What a layer gives, and what becomes of it position by position, up to the last float tensor.

    Where it goes several ways (x * sigmoid(x)), these have to have met again.
    """
    found = [node.outputs[0]]
    for user in nodes[nodes.index(node) + 1 :]:
        varying = [x for x in user.inputs if x in path]
        if user.op_type in _POINTWISE and varying and all(x in found for x in varying):
            found.append(user.outputs[0])
    while len(found) > 1 and not (is_float(found[-1]) and _closed(found)):
        found.pop()
    return found


def _closed(values: Sequence[ir.Value]) -> bool:
    """True if all but the last are used for nothing but each other."""
    return not any(
        v.is_graph_output() or any(user.outputs[0] not in values for user in v.consumers()) for v in values[:-1]
    )


def _copied(value: ir.Value, source: ir.Value) -> bool:
    """True if a value is another, or made of it without anything more than means and copies."""
    while value is not source:
        node = value.producer()
        if node is None or node.op_type not in layer.POOLING | layer.RESHAPING | _BEFORE or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return True


def _inputs(node: ir.Node, path: set[ir.Value]) -> tuple[str, ...]:
    """The float tensor that a node reads, and those that it is a copy of."""
    found: list[str] = []
    while True:
        varying = [x for x in node.inputs if x is not None and x in path]
        if len(varying) != 1:
            return tuple(found)
        if is_float(varying[0]):
            found.append(varying[0].name or "")
        before = varying[0].producer()
        if before is None or before.op_type not in _BEFORE:
            return tuple(found)
        node = before


def _blocks(
    model: Model, nodes: Sequence[ir.Node], weighted: Sequence[ir.Node], score: str
) -> Iterable[tuple[list[ir.Node], Part]]:
    """Branches and parallel branches, with the layers in them."""
    bit = {n: 1 << i for i, n in enumerate(weighted)}
    above: dict[ir.Value, int] = {}  # the layers that a value is made by, a bit each
    walls = layer.separators(model, score)
    at = {y.name: i for i, n in enumerate(nodes) for y in n.outputs}
    for node in nodes:
        ways = list(dict.fromkeys(x for x in node.inputs if x in above))
        total = bit.get(node, 0)
        for x in ways:
            total |= above[x]
        above.update(dict.fromkeys(node.outputs, total))
        if node.op_type not in ("Add", "Sum", "Concat") or len(ways) < 2:
            continue
        counts = Counter(b for x in ways for b in bit.values() if above[x] & b)
        alone = {x: [n for n in weighted if above[x] & bit[n] and counts[bit[n]] == 1] for x in ways}
        if node.op_type != "Concat":
            branch = max(ways, key=lambda x: len(alone[x]))
            if len(alone[branch]) > 1 and is_float(branch):
                yield alone[branch], Part("", branch.name or "", block=True)
        elif sum(bool(inside) for inside in alone.values()) > 1 and is_float(node.outputs[0]):
            before = [w for w in walls if at.get(w.tensor, -1) < at[node.outputs[0].name]][::-1]
            end = next((i for i, w in enumerate(before) if w.op_type not in WEIGHTED | _POINTWISE), len(before))
            start = before[min(end, len(before) - 1)] if before else None
            base = above[model.values[start.tensor]] if start is not None else 0
            inside = [n for n in weighted if total & ~base & bit[n]]
            yield inside, Part("", node.outputs[0].name or "", tuple(w.tensor for w in before[: end + 1]), block=True)


def _module(names: Sequence[str], others: Sequence[str] = ()) -> str:
    """The module that all of these are in and none of the others, "" where names do not tell."""
    split = [re.findall(r"[^/.]+[/.]?", name) for name in dict.fromkeys(names)]
    if len(split) == 1:
        return names[0]
    shared = 0
    while all(len(s) > shared for s in split) and len({s[shared] for s in split}) == 1:
        shared += 1
    found = "".join(split[0][:shared])
    return found.rstrip("/.") if found and not any(name.startswith(found) for name in others) else ""


def _unique(names: Sequence[tuple[str, str]], taken: Iterable[str] = ()) -> list[str]:
    """The first of each pair where it is told from all others, else the second."""
    counts = Counter([*(first for first, _ in names), *taken])
    return [first if first and counts[first] == 1 else second for first, second in names]
