"""`Op`: writes nodes at the end of a graph. Rules and targets emit through it and nothing else.

    op.Mul(dy, op.Cast(op.Greater(y, 0), to=y.dtype))

emits three nodes. While `with op:` is open, values understand + - * / as well. Operands may be values, Python
scalars (they take the type of the first value beside them), lists (int64: shapes, axes) or arrays (kept as they are).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from .dtypes import SECOND, result_dtype
from .errors import UnsupportedError
from .structure import key, label

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    Operand = ir.Value | float | np.integer[Any] | Sequence[int] | np.ndarray[Any, Any] | None

PREFIX = "inspect"  # what the names of all nodes and values begin with that no model's author wrote
_MAGIC = threading.RLock()  # onnx_ir keeps the handler of + - * / in one global place


def inputs(node: ir.Node, count: int) -> list[Any]:
    """The first `count` inputs of a node, None for those it leaves out."""
    return [*node.inputs, *[None] * count][:count]


def ints(value: ir.Value | None) -> list[int] | None:
    """The integers (axes, sizes, a flag) that a value holds if they are constant, else None."""
    if value is None or value.const_value is None:
        return None
    return [int(i) for i in value.const_value.numpy().reshape(-1)]


class Op:
    """An emitter of standard operators at the end of `graph`; `op.Relu(x)` appends a node and returns its value.

    Attributes:
        graph: where nodes go.
        home: where constants go: `graph` itself, or the main graph if `graph` is a subgraph.
        prefix: what the names of new nodes and values begin with.
        node: the node whose rule is running; errors name it, and say that it cannot be `doing`.
        wide: True if the cotangents of half precision are float32.
        rules: the table of rules of the running walk; rules that walk over subgraphs pass it on.
        names: of all values and nodes so far.
        notes: what a user should know of what was emitted.
        spots: sequences of zeros but for one element: its position, and what is there.
    """

    def __init__(self, graph: ir.Graph, outer: Op | None = None, *, prefix: str = PREFIX) -> None:
        """Emit at the end of `graph`; `outer` emits into the graph around it, if it is a subgraph."""
        self.graph = graph
        self.prefix = prefix
        self.home: ir.Graph = outer.home if outer is not None else graph
        self.node: ir.Node | None = outer.node if outer is not None else None
        self.doing = "differentiated"
        self.rules: Any = outer.rules if outer is not None else None
        self.wanted: set[ir.Value] | None = None
        self.wide: bool = outer.wide if outer is not None else False
        self._count = 0
        self._constants: dict[tuple[Any, ...], ir.Value] = {}
        self.names: set[str | None] = set()
        if outer is not None:
            self.names, self._constants = outer.names, outer._constants
        else:
            self.names |= {v.name for n in graph.all_nodes() for v in n.outputs} | {v.name for v in graph.inputs}
            self.names |= set(graph.initializers) | {n.name for n in graph.all_nodes()}
            self.names |= {v.name for inner in graph.subgraphs() for v in inner.inputs}
        self.notes: list[str] = outer.notes if outer is not None else []
        self.spots: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        self._outer: Any = None

    def __enter__(self) -> Op:
        _MAGIC.acquire()
        self._outer = ir.set_value_magic_handler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        ir.set_value_magic_handler(self._outer)
        _MAGIC.release()

    def __getattr__(self, op_type: str) -> Any:
        if not op_type[:1].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self._emit(op_type, inputs, **attributes)

    def _emit(
        self,
        op_type: str,
        inputs: Sequence[Operand],
        *,
        outputs: int = 1,
        dtype: ir.DataType | ir.TypeProtocol | None = None,
        name: str | None = None,
        **attributes: Any,
    ) -> Any:
        while inputs and inputs[-1] is None:  # onnxruntime 1.31 crashes on some that end so
            inputs = inputs[:-1]
        values = self._operands(inputs, 1 if op_type in SECOND else 0)
        if op_type == "Cast" and attributes["to"] is None:
            raise self.unsupported("the element type of its values is not known; export it in standard operators")
        attributes = {k: v for k, v in attributes.items() if v is not None}
        results = [ir.Value(name=name if name and i == 0 else self.fresh(op_type)) for i in range(outputs)]
        node = ir.node(op_type, values, attributes, outputs=results, name=self.fresh(op_type))
        self.graph.append(node)
        self.names.update(r.name for r in results if r.name)
        kind = dtype or result_dtype(op_type, values, attributes)
        for result in results:
            result.type = ir.TensorType(kind) if isinstance(kind, ir.DataType) else kind
            kind = ir.DataType.INT64 if op_type in ("TopK", "MaxPool") else kind
        return results[0] if outputs == 1 else tuple(results)

    def _operands(self, inputs: Sequence[Operand], first: int = 0) -> list[ir.Value | None]:
        typed = [v.dtype for v in inputs[first:] if isinstance(v, ir.Value) and v.dtype is not None]
        like = typed[0] if typed else ir.DataType.FLOAT
        return [v if isinstance(v, ir.Value) or v is None else self.const(v, like) for v in inputs]

    def fresh(self, hint: str) -> str:
        """A name that the graph does not have yet."""
        while True:
            self._count += 1
            name = f"{self.prefix}/{hint}_{self._count}"
            if name not in self.names:
                self.names.add(name)
                return name

    # Constants, shapes and sums: what nearly every rule needs.

    def const(
        self, data: float | np.integer[Any] | Sequence[int] | NDArray[Any], dtype: ir.DataType | None = None
    ) -> ir.Value:
        """A constant; equal ones are shared. Lists are int64, arrays keep their type, scalars get `dtype`."""
        if isinstance(data, np.ndarray | np.integer):
            array = np.asarray(data)
        elif isinstance(data, int | float | np.floating):
            array = np.asarray(data, dtype=(dtype or ir.DataType.FLOAT).numpy())
        else:
            array = np.asarray(data, dtype=np.int64)
        key = (array.tobytes(), array.dtype.str, str(array.dtype), array.shape)
        if key not in self._constants:
            name = self.fresh("const")
            tensor = ir.Tensor(array, dtype=None, name=name)
            value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
            self.home.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def wants(self, value: ir.Value | None) -> bool:
        """True if the cotangent of this input is needed: rules skip costly ones that are not."""
        return value is not None and (self.wanted is None or value in self.wanted)

    def cotangent_dtype(self, value: ir.Value) -> ir.DataType | None:
        """The element type of a value's cotangent."""
        return ir.DataType.FLOAT if self.wide and value.dtype == ir.DataType.FLOAT16 else value.dtype

    def rank(self, value: ir.Value) -> int:
        """The number of axes of a value.

        Raises:
            UnsupportedError: shape inference could not tell.
        """
        if value.shape is None:
            raise self.unsupported(f"the rank of '{value.name}' is not known")
        return len(value.shape)

    def static_shape(self, value: ir.Value) -> list[int] | None:
        """The sizes of a value if all are known before it runs, else None."""
        if value.shape is None or not value.shape.is_static():
            return None
        return [int(d) for d in value.shape.numpy()]

    def dim(self, value: ir.Value, axis: int) -> int | None:
        """One size, None where it is only known at run time."""
        size = value.shape[axis] if value.shape is not None else None
        return size if isinstance(size, int) else None

    def shape(self, value: ir.Value) -> ir.Value:
        """The shape as an int64 vector: a constant where it is known, a Shape node otherwise."""
        static = self.static_shape(value)
        return self.const(static) if static is not None else self.Shape(value)

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """One size of a value as an int64 vector of length 1."""
        static = self.dim(value, axis)
        if static is not None:
            return self.const([static])
        return self.Shape(value, start=axis, end=axis + 1 if axis != -1 else None)  # type: ignore[no-any-return]

    def zeros_like(self, value: ir.Value) -> ir.Value:
        """Zeros of the shape and type of a value."""
        return self.full_like(value, 0)

    def full_like(self, value: ir.Value, fill: float) -> ir.Value:
        """A constant tensor of the shape and type of a value."""
        dtype = value.dtype or ir.DataType.FLOAT
        return self.full(self.shape(value), fill, dtype)

    def full(self, shape: Operand, fill: float, dtype: ir.DataType) -> ir.Value:
        """A constant tensor of a shape that may be known only at run time."""
        return self.ConstantOfShape(shape, value=ir.Tensor(np.array([fill], dtype=dtype.numpy())))  # type: ignore[no-any-return]

    def like(self, value: ir.Value, x: ir.Value) -> ir.Value:
        """`value` with the shape of `x` (same number of elements)."""
        return self.Reshape(value, self.shape(x), allowzero=1)  # type: ignore[no-any-return]

    def mask(self, condition: ir.Value, like: ir.Value) -> ir.Value:
        """A condition as zeros and ones of the type of `like`."""
        return self.Cast(condition, to=like.dtype or ir.DataType.FLOAT)  # type: ignore[no-any-return]

    def sum_to(self, value: ir.Value, like: ir.Value, of: ir.Value | None = None) -> ir.Value:
        """Undo broadcasting: sum `value`, which has the shape of `of`, down to the shape of `like`."""
        source = (of or value).shape
        target = like.shape
        if source is None or target is None:
            return self._sum_to_runtime(value, like)
        lead = len(source) - len(target)
        pairs = list(zip(list(source)[lead:], target, strict=True))
        if not all(isinstance(b, int) or (not isinstance(a, int) and a == b and a.value is not None) for a, b in pairs):
            return self._sum_to_runtime(value, like)
        kept = [i + lead for i, (a, b) in enumerate(pairs) if b == 1 and a != 1]
        if lead:
            value = self.ReduceSum(value, list(range(lead)), keepdims=0)
            kept = [i - lead for i in kept]
        return self.ReduceSum(value, kept, keepdims=1) if kept else value

    def _sum_to_runtime(self, value: ir.Value, like: ir.Value) -> ir.Value:
        # Axes of size 1 in `like`, aligned to the right, are summed; where nothing was broadcast this is a no-op.
        shape = self.shape(like)
        ones = self.Expand([1], self.Sub(self.Shape(self.Shape(value)), self.Shape(shape)))
        padded = self.Concat(ones, shape, axis=0)
        axes = self.Reshape(self.NonZero(self.Equal(padded, 1)), [-1])
        summed = self.ReduceSum(value, axes, keepdims=1, noop_with_empty_axes=1)
        return self.Reshape(summed, shape, allowzero=1)  # type: ignore[no-any-return]

    def unsupported(self, reason: str) -> UnsupportedError:
        """An error that names the node whose rule is running."""
        where = f"Node '{label(self.node)}' ({key(self.node)})" if self.node is not None else "The graph"
        return UnsupportedError(f"{where} cannot be {self.doing}: {reason}.")
