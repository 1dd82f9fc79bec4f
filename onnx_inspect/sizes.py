"""How large all tensors of a graph are, given the sizes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from .shapes import BIG
from .structure import subgraphs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]

Sizes = Mapping[str, tuple[int, ...]]
_Row = tuple[ir.Node, list[str], list[str]]
_PASSES = 12
_LARGER = frozenset(  # operators whose result may be larger than all that they are given
    "CenterCropPad Col2Im Concat ConcatFromSequence ConstantOfShape Conv ConvTranspose Einsum Expand Gather GatherND "
    "Gemm GridSample If Loop MatMul MaxUnpool OneHot Pad Range Resize RoiAlign Scan SequenceAt Tile".split()
)


class Sized:
    """How large the tensors of a graph are.

    Sizes are inferred by onnx. Where it does not get on, because a size is reckoned from others, that is reckoned here,
    and inferred again. What stays unknown is taken to be as large as the largest input of its node or, where that may
    give something larger, as the largest tensor that is known.

    Args:
        graph: the graph.
        sizes: of its inputs.
        counted: the values that the largest one is sought among.
        all_shapes: reckon on where only the shapes of smaller tensors are missing.
    """

    def __init__(self, graph: ir.Graph, sizes: Sizes, counted: set[ir.Value], *, all_shapes: bool = False) -> None:
        self._shapes: dict[str, tuple[int, ...]] = dict(sizes)
        self._types: dict[str, int] = {}
        self._constants: dict[str, Array] = {}
        for name, weight in graph.initializers.items():
            if (tensor := weight.const_value) is not None:
                self._shapes[name] = tuple(tensor.shape.numpy())
                if tensor.nbytes <= BIG:
                    self._constants[name] = tensor.numpy()
        self._weights = frozenset(self._constants)
        self._rows = [_row(node) for node in graph]
        self._infer(graph, sizes, all_shapes)
        self._elements = {name: math.prod(shape) for name, shape in self._shapes.items()}
        self._guess(graph, max((self._elements.get(v.name or "", 0) for v in counted), default=1))

    def elements(self, value: ir.Value) -> int:
        """How many numbers a tensor holds."""
        return self._elements.get(value.name or "", 0)

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """The size of each axis, None if that is known at run time only."""
        return self._shapes.get(value.name or "")

    def numbers(self, value: ir.Value) -> Array | None:
        """What a tensor holds if it is a weight, or small and follows from sizes; else None."""
        if value.const_value is not None:
            return value.const_value.numpy()
        self._reckon(self._rows)
        return self._constants.get(value.name or "")

    def bytes(self, value: ir.Value) -> int:
        """How many bytes a tensor takes."""
        if value.const_value is not None:
            return value.const_value.nbytes
        kind = value.dtype or ir.DataType(self._types.get(value.name or "", 0) or ir.DataType.FLOAT)
        return math.ceil(self.elements(value) * (16 if kind == ir.DataType.STRING else kind.itemsize))

    def _infer(self, graph: ir.Graph, sizes: Sizes, all_shapes: bool) -> None:
        import onnx

        proto, rows = _skeleton(graph, sizes), self._rows
        for _ in range(_PASSES):
            try:
                self._read(onnx.shape_inference.infer_shapes(proto, data_prop=True).graph)
            except Exception:  # a graph that contradicts itself: onnxruntime will say so
                return
            stuck = [i for i, (_, _, ys) in enumerate(rows) if any(y not in self._shapes for y in ys)]
            if not any(all_shapes or rows[i][0].op_type in _LARGER for i in stuck):
                return
            self._reckon(rows)
            told = [self._tell(proto.graph, proto.graph.node[i]) for i in stuck]
            if not any(told):
                return

    def _tell(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
        """Give a node the numbers that were reckoned for its inputs, as weights; True if there are new ones."""
        import onnx

        new = [i for i, x in enumerate(node.input) if x in self._constants and x not in self._weights]
        for i in new:
            name = f"{node.input[i]}/reckoned"
            graph.initializer.append(onnx.numpy_helper.from_array(self._constants[node.input[i]], name))
            node.input[i] = name
        return bool(new)

    def _read(self, graph: onnx.GraphProto) -> None:
        for info in graph.value_info:
            name, kind = info.name, info.type.tensor_type
            if name in self._shapes:
                continue
            self._types[name] = kind.elem_type
            if kind.HasField("shape"):
                dims = kind.shape.dim
                sizes = tuple([d.dim_value for d in dims])
                if 0 not in sizes or all(d.HasField("dim_value") for d in dims):
                    self._shapes[name] = sizes
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self._read(attribute.g)

    def _reckon(self, rows: list[_Row]) -> None:
        """Small numbers that follow from sizes: what exporters and rules compute shapes with."""
        known, shapes = self._constants, self._shapes
        for node, xs, ys in rows:
            op = node.op_type
            if node.domain or not ys or ys[0] in known:
                continue
            if op in ("Shape", "Size") and xs[0] in shapes:
                shape = np.array(shapes[xs[0]], np.int64)
                start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
                known[ys[0]] = shape[start:end] if op == "Shape" else np.array(shape.prod())
            elif op == "Less" and xs[0] == xs[1] and shapes.get(xs[0]) == (1,):  # whatever it holds
                known[ys[0]], shapes[ys[0]] = np.array([False]), (1,)
            elif op in RECKONED and all(not x or x in known for x in xs):
                try:
                    found = np.asarray(RECKONED[op](node, *(known[x] if x else None for x in xs)))
                except Exception:  # what it makes no sense of stays unknown
                    continue
                if found.nbytes <= BIG:
                    known[ys[0]], shapes[ys[0]] = found, found.shape

    def _guess(self, graph: ir.Graph, largest: int) -> None:
        known = self._elements
        for node in graph:
            for inner in subgraphs(node):
                self._guess(inner, largest)
            unknown = [y.name for y in node.outputs if y.name and y.name not in known]
            if unknown:
                given = max((self.elements(x) for x in node.inputs if x is not None), default=largest)
                known.update(dict.fromkeys(unknown, largest if node.op_type in _LARGER else given))


def _row(node: ir.Node) -> _Row:
    """A node with the names of its inputs and outputs, "" for an input left out."""
    names = [x.name or "" if x is not None else "" for x in node.inputs]
    return node, names, [y.name for y in node.outputs if y.name]


def _skeleton(graph: ir.Graph, sizes: Sizes) -> onnx.ModelProto:
    """The graph for shape inference: inputs of these sizes, and large weights as inputs."""
    import onnx

    proto = onnx.ModelProto(ir_version=10)
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, v) for domain, v in graph.opset_imports.items())
    proto.graph.name = "sizes"
    for node in graph:
        added = proto.graph.node.add()
        ir.serde.serialize_node_into(added, node)
        if node.op_type == "GroupNormalization":  # plain, but not inferred
            added.op_type, added.input[:] = "Identity", added.input[:1]
    for value in graph.inputs:
        info = ir.serde.serialize_value(value)
        if info.name in sizes and value.dtype is not None:
            info = onnx.helper.make_tensor_value_info(info.name, value.dtype, sizes[info.name])
        proto.graph.input.append(info)
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes <= BIG:
            proto.graph.initializer.append(ir.serde.serialize_tensor(tensor))
        elif tensor is not None:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.dtype, list(tensor.shape.numpy())))
    return proto


def _axes(axes: Array | None, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else tuple(int(a) for a in axes.reshape(-1))


def _sliced(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    index = [slice(None)] * x.ndim
    steps = np.ones_like(starts) if steps is None else steps
    for axis, start, end, step in zip(_axes(axes, len(starts)), starts, ends, steps, strict=True):
        index[axis] = slice(int(start), int(end) if end >= -x.shape[axis] else None, int(step))
    return x[tuple(index)]


def _reshaped(node: ir.Node, x: Array, shape: Array) -> Array:
    keep = not node.attributes.get_int("allowzero", 0)
    return x.reshape([x.shape[i] if n == 0 and keep else n for i, n in enumerate(shape)])


def _divided(a: Array, b: Array) -> Array:
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b


def _reduced(function: Callable[..., Any]) -> Callable[..., Array]:
    def reckon(node: ir.Node, x: Array, axes: Array | None = None) -> Array:
        keep = bool(node.attributes.get_int("keepdims", 1))
        return np.asarray(function(x, axis=_axes(axes, x.ndim), keepdims=keep), x.dtype)

    return reckon


# What operators make of small arrays: (node, *inputs) -> output, an input left out being None.
RECKONED: dict[str, Callable[..., Any]] = {
    "Abs": lambda node, x: np.abs(x),
    "Add": lambda node, a, b: a + b,
    "And": lambda node, a, b: a & b,
    "Cast": lambda node, x: x.astype(ir.DataType(node.attributes.get_int("to")).numpy()),
    "Ceil": lambda node, x: np.ceil(x),
    "Concat": lambda node, *xs: np.concatenate(xs, axis=node.attributes.get_int("axis")),
    "ConstantOfShape": lambda node, shape: np.full(
        shape, node.attributes["value"].as_tensor().numpy().item() if "value" in node.attributes else np.float32(0)
    ),
    "Div": lambda node, a, b: _divided(a, b),
    "Equal": lambda node, a, b: a == b,
    "Expand": lambda node, x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape))),
    "Floor": lambda node, x: np.floor(x),
    "Gather": lambda node, x, i: np.take(x, i, axis=node.attributes.get_int("axis", 0)),
    "Greater": lambda node, a, b: a > b,
    "GreaterOrEqual": lambda node, a, b: a >= b,
    "Identity": lambda node, x: x,
    "Less": lambda node, a, b: a < b,
    "LessOrEqual": lambda node, a, b: a <= b,
    "Max": lambda node, *xs: np.maximum.reduce(xs),
    "Min": lambda node, *xs: np.minimum.reduce(xs),
    "Mod": lambda node, a, b: np.mod(a, b),
    "Mul": lambda node, a, b: a * b,
    "Neg": lambda node, x: -x,
    "NonZero": lambda node, x: np.nonzero(x),
    "Not": lambda node, x: ~x,
    "Or": lambda node, a, b: a | b,
    "Range": lambda node, start, end, step: np.arange(start.item(), end.item(), step.item()).astype(start.dtype),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "Reshape": _reshaped,
    "Slice": lambda node, *given: _sliced(*given),
    "Squeeze": lambda node, x, axes=None: np.squeeze(x, None if axes is None else _axes(axes, 0)),
    "Sub": lambda node, a, b: a - b,
    "Transpose": lambda node, x: np.transpose(x, node.attributes.get_ints("perm", ()) or None),
    "Unsqueeze": lambda node, x, axes: np.expand_dims(x, _axes(axes, 0)),
    "Where": lambda node, c, a, b: np.where(c, a, b),
}
