"""What a graph says about its tensors: specs, what they depend on, receptive fields, cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from .facts import kept

_WINDOWED = frozenset("Conv ConvInteger QLinearConv FusedConv MaxPool AveragePool LpPool".split())
# Operators that leave every position of a map to itself; Reshape does where both sides have a layout.
_LOCAL = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu ThresholdedRelu Shrink Clip Sigmoid HardSigmoid HardSwish Swish Tanh Softplus "
    "Softsign Erf Gelu Mish Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Max Min Sum Mean Floor Ceil Round Sign "
    "Where Identity Cast Dropout BatchNormalization LRN QuantizeLinear DequantizeLinear Transpose Reshape".split()
)
SHAPES = frozenset("Shape Size EyeLike RandomNormalLike RandomUniformLike".split())  # of an input they read no more
_PASSIVE = frozenset(
    "Transpose Identity Cast Dropout Reshape Pad Squeeze Unsqueeze QuantizeLinear DequantizeLinear".split()
)


@kept
@dataclass(frozen=True)
class Spec:
    """Name, shape, type and layout of a tensor.

    Attributes:
        name: exact tensor name.
        shape: a size per axis, the name of a symbolic one, or None where nothing is known.
        dtype: numpy name of the element type, "float32".
        layout: a letter per axis ("NCHW", "NHWC"), None where the graph does not tell.
        rank_known: False where not even the number of axes is known; the shape is () then.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str
    layout: str | None = None
    rank_known: bool = True

    def sizes(self) -> str:
        """The shape for people, "N×3×224×224"."""
        return sizes(self.shape) if self.rank_known else "of unknown rank"


@kept
@dataclass(frozen=True)
class ReceptiveField:
    """Which input pixels a unit of a map sees, per axis (height, width).

    Attributes:
        size: extent in pixels of the input.
        stride: distance in pixels between neighbouring units.
        offset: centre of the first unit's field, in pixels from the centre of the first pixel.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: tuple[float, ...]


def spec(value: ir.Value, layout: str | None = None) -> Spec:
    """Name, shape and type of a value."""
    dims = value.shape if value.shape is not None else ()
    shape = tuple(d if isinstance(d, int) else _named(d.value) for d in dims)
    dtype = str(value.dtype.numpy()) if value.dtype is not None and value.dtype != ir.DataType.STRING else "unknown"
    return Spec(value.name or "", shape, dtype, layout, value.shape is not None)


def _named(dim: str | None) -> str | None:
    """Names that shape inference made up ("unk__7") say nothing."""
    return None if dim is None or dim.startswith("unk__") else dim


def sizes(shape: Iterable[int | str | None]) -> str:
    """A shape for people, "N×3×224×224"."""
    return "×".join(str(d) if d is not None else "?" for d in shape) or "scalar"


def label(node: ir.Node) -> str:
    """How messages call a node: by its name, or by what it computes where it has none."""
    return node.name or next((y.name for y in node.outputs if y.name), None) or "(unnamed)"


def key(node: ir.Node) -> str:
    """How tables call the operator of a node: "Conv", or "domain::Op" outside the standard domain."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def rank(value: ir.Value | None) -> int | None:
    """Number of axes, None if unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def size(value: ir.Value, axis: int) -> int | None:
    """One size, None if only known at run time."""
    found = value.shape[axis] if value.shape is not None else None
    return found if isinstance(found, int) else None


def varying(graph: ir.Graph, sources: Iterable[ir.Value] | None = None) -> set[ir.Value]:
    """All values that depend on some others (the graph's inputs by default), those included."""
    found = set(graph.inputs if sources is None else sources)
    for node in graph:
        if any(x in found for x in all_inputs(node)):
            found.update(node.outputs)
    return found


def dependent(graph: ir.Graph, sources: Iterable[ir.Value]) -> set[ir.Value]:
    """As `varying`, but for what depends on their shapes alone."""
    found = set(sources)
    for node in graph:
        if node.op_type not in SHAPES and any(x in found for x in all_inputs(node)):
            found.update(node.outputs)
    return found


def needed(graph: ir.Graph, value: ir.Value) -> set[ir.Value]:
    """All values that a value is computed from, itself included."""
    found = {value}
    for node in reversed(list(graph)):
        if any(y in found for y in node.outputs):
            found.update(all_inputs(node))
    return found


def all_inputs(node: ir.Node) -> Iterator[ir.Value]:
    """The inputs of a node, with what its subgraphs take from outside."""
    yield from (x for x in node.inputs if x is not None)
    for graph in subgraphs(node):
        for inner in graph:
            yield from all_inputs(inner)


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds: branches, or the body of a loop."""
    return [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]


def window(node: ir.Node) -> tuple[list[int], list[int], list[int]] | None:
    """Extent (dilation included), stride and leading pad per axis of a convolution or pool, None if unknown."""
    kernel = list(node.attributes.get_ints("kernel_shape", ()))
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if not kernel and weight is not None and weight.shape is not None and weight.shape.is_static():
        kernel = [int(d) for d in weight.shape.numpy()[2:]]
    if not kernel or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    ones = [1] * len(kernel)
    dilation = list(node.attributes.get_ints("dilations", ())) or ones
    stride = list(node.attributes.get_ints("strides", ())) or ones
    pads = list(node.attributes.get_ints("pads", ())) or [0] * (2 * len(kernel))
    return [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)], stride, pads[: len(kernel)]


def receptive_fields(graph: ir.Graph, letters: dict[ir.Value, str]) -> dict[ir.Value, ReceptiveField]:
    """The receptive field of every map, as far as the graph is made of windows and pointwise operators."""
    fields: dict[ir.Value, ReceptiveField] = {}
    for value in graph.inputs:
        axes = len(letters.get(value, "NC")) - 2
        if axes > 0:
            fields[value] = ReceptiveField((1,) * axes, (1,) * axes, (0.0,) * axes)
    for node in graph:
        y = node.outputs[0]
        inputs = [fields[x] for x in node.inputs if x is not None and x in fields]
        varies = [x for x in node.inputs if x is not None and x in letters and not x.is_initializer()]
        if y not in letters or not inputs or len(inputs) < len(varies) or size_one(y, letters[y]):
            continue
        if node.op_type in _WINDOWED:
            if (w := window(node)) is not None:
                fields[y] = _through(inputs[0], *w)
        elif _is_local(node, letters[y]) and (union := _union(inputs)) is not None:
            fields[y] = union
    return fields


def _is_local(node: ir.Node, letters: str) -> bool:
    """True if every position of the output depends on the same position of the inputs alone."""
    if node.op_type in ("Concat", "Split"):
        return letters[node.attributes.get_int("axis", 0) % len(letters)] in "NC"
    return node.op_type in _LOCAL


def size_one(value: ir.Value, letters: str) -> bool:
    """True if a map is known to have a single position."""
    return all(size(value, i) == 1 for i, letter in enumerate(letters) if letter not in "NC")


def _through(field: ReceptiveField, extent: list[int], stride: list[int], pad: list[int]) -> ReceptiveField:
    axes = range(len(extent))
    return ReceptiveField(
        tuple(field.size[i] + (extent[i] - 1) * field.stride[i] for i in axes),
        tuple(field.stride[i] * stride[i] for i in axes),
        tuple(field.offset[i] + ((extent[i] - 1) / 2 - pad[i]) * field.stride[i] for i in axes),
    )


def _union(fields: list[ReceptiveField]) -> ReceptiveField | None:
    if any(f.stride != fields[0].stride for f in fields):
        return None
    axes = range(len(fields[0].size))
    low = [min(f.offset[i] - (f.size[i] - 1) / 2 for f in fields) for i in axes]
    high = [max(f.offset[i] + (f.size[i] - 1) / 2 for f in fields) for i in axes]
    return ReceptiveField(
        tuple(round(h - lo) + 1 for lo, h in zip(low, high, strict=True)),
        fields[0].stride,
        tuple((lo + h) / 2 for lo, h in zip(low, high, strict=True)),
    )


def multiply_adds(node: ir.Node) -> int | None:
    """Multiply-adds of a node for one sample: convolutions and dense layers; 0 for others, None if sizes are open."""
    if node.op_type not in (
        "Conv",
        "ConvInteger",
        "QLinearConv",
        "FusedConv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "MatMulInteger",
    ):
        return 0
    weight = node.inputs[3 if node.op_type == "QLinearConv" else 1]
    x, y = node.inputs[0], node.outputs[0]
    if weight is None or weight.shape is None or x is None or x.shape is None or y.shape is None:
        return None
    batch_free = [d if isinstance(d, int) else None for d in (x if node.op_type == "ConvTranspose" else y).shape][1:]  # type: ignore[union-attr]
    if any(d is None for d in batch_free) or not weight.shape.is_static():
        return None
    positions = math.prod(d for d in batch_free if d is not None)
    sizes = [int(d) for d in weight.shape.numpy()]
    if node.op_type in ("Gemm", "MatMul", "MatMulInteger"):
        inner = sizes[-1] if node.attributes.get_int("transB", 0) else sizes[max(len(sizes) - 2, 0)]
        return positions * inner
    return positions * math.prod(sizes[1:])


def normalises(value: ir.Value) -> bool:
    """True if the first thing that happens to an input is arithmetic with constants: the graph normalises by itself."""
    while True:
        users = value.consumers()
        if len(users) != 1:
            return False
        node = users[0]
        if node.op_type in ("Sub", "Add", "Mul", "Div"):
            return all(x is value or (x is not None and x.is_initializer()) for x in node.inputs)
        if node.op_type == "BatchNormalization":
            return True
        if node.op_type not in _PASSIVE:
            return False
        value = node.outputs[0]
