"""The path from a tensor to the target: what has no rule on it, and what cuts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence

import onnx_ir as ir

from .. import autodiff  # noqa: F401  (fills the table)
from ..autodiff.table import CONSTANTS, INTEGERS, RULES, find
from ..dtypes import is_float
from ..model import Model
from ..naming import Layer
from ..obstacles import STEPS, machine
from ..structure import all_inputs, key, label, needed, varying
from .report import Finding, Severity, typed

_SIZES = frozenset({"Shape", "Size", "ConstantOfShape", "EyeLike"})
_INDICES = (ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING)


def without_rule(model: Model) -> Counter[str]:
    """Operators anywhere in the graph without a gradient rule, and how often."""
    return Counter(key(node) for node in model.ir.graph.all_nodes() if find(RULES, node) is None)


def reached(graph: ir.Graph, sources: Iterable[ir.Value]) -> set[ir.Value]:
    """All values that a gradient of theirs leads from to the sources, as the walk would find them."""
    found = set(sources)
    for node in graph:
        op, inputs = key(node), [x for x in all_inputs(node) if x in found]
        if not inputs or op in CONSTANTS or (op in STEPS and find(RULES, node) is None):
            continue
        known, first = find(RULES, node) is not None, node.outputs[0]
        carried = op in INTEGERS or any(not is_float(x) for x in inputs)
        for y in node.outputs:
            if is_float(y) or not known or (carried and y.dtype == first.dtype and y.dtype not in _INDICES):
                found.add(y)
    return found


def cutters(model: Model, tensor: ir.Value, sources: Iterable[ir.Value]) -> list[ir.Node]:
    """The nodes that a gradient from `tensor` does not get past on its way to the sources, in order."""
    graph, sources = model.ir.graph, list(sources)
    path, smooth = needed(graph, tensor) & varying(graph, sources), reached(graph, sources)
    ends = [
        node
        for node in graph
        if key(node) not in _SIZES
        and any(x in smooth for x in all_inputs(node))
        and any(y in path and y not in smooth for y in node.outputs)
    ]
    return ends if tensor not in smooth else []


def blocked(model: Model, tensor: str, wrt: str, error: Exception, severity: Severity, ways: Sequence[str]) -> Finding:
    """Why there is no gradient of a tensor with respect to another: `error`, told by the nodes that are to blame.

    `ways` are what can be done instead.
    """
    graph, end, start = model.ir.graph, model.value(tensor), model.value(wrt)
    path = needed(graph, end) & varying(graph, [start])
    unknown = [
        node
        for node in graph
        if find(RULES, node) is None
        and any(x in path for x in all_inputs(node))
        and any(y in path for y in node.outputs)
    ]
    ends = [n for n in unknown if key(n) in STEPS] or (cutters(model, end, [start]) if not unknown else [])
    if ends:
        return cut(model, ends[-1], wrt, severity)
    if not unknown:
        return Finding(severity, "gradient", str(error))
    nearest = f"'{label(unknown[-1])}' ({key(unknown[-1])})"
    if len(unknown) == 1:
        what = f"node {nearest}, between '{wrt}' and the target, has no gradient rule"
    else:
        ops = ", ".join(f"{op} {n}" for op, n in Counter(map(key, unknown)).most_common(4))
        what = (
            f"{len(unknown)} nodes between '{wrt}' and the target have no gradient rule ({ops}), the last is {nearest}"
        )
    ways = [behind(model, path, unknown[-1]) if severity == "error" else "", *ways]
    if not any(machine(key(node)) for node in unknown):  # nobody writes rules for those
        ways.append("write the rule (@onnx_inspect.rule)")
    return Finding(severity, "operators", what, ", or ".join(filter(None, ways)), label(unknown[-1]))


def behind(model: Model, path: Container[ir.Value], node: ir.Node) -> str:
    """Advice to explain at the last map that a node of the path has no part in what follows; "" if there is none."""
    for at in reversed(maps(model)):
        value = model.values[at.tensor]
        if value in path and not any(y in varying(model.ir.graph, [value]) for y in node.outputs):
            return f"explain at --layer {typed(at.name)}"
    return ""


def maps(model: Model) -> list[Layer]:
    """The layers with height and width."""
    return [at for at in model.layers if at.role == "spatial" and at.layout is not None and len(at.layout) == 4]


def cut(model: Model, node: ir.Node, wrt: str, severity: Severity) -> Finding:
    """The finding for a node that no gradient gets past."""
    y = node.outputs[0]
    kind = str(y.dtype).lower() if y.dtype is not None else "unknown"
    why = STEPS.get(key(node)) or ("it does not vary smoothly" if is_float(y) else f"it gives {kind} values")
    what = f"no gradient gets from the target past '{label(node)}' ({key(node)}) to '{wrt}', since {why}"
    before = element(model, [x for x in node.inputs if x is not None and x in model.varying])
    remedy = (
        f"explain a tensor before it, as in --target {typed(before)}" if before else "change parts of the input instead"
    )
    return Finding(severity, "operators", what, remedy, label(node))


def element(model: Model, values: Iterable[ir.Value]) -> str:
    """One channel of the last float tensor with a gradient among some, as --target takes it; "" if there is none."""
    smooth = reached(model.ir.graph, model.ir.graph.inputs)
    inner = [v for v in values if is_float(v) and v in smooth and not v.is_graph_input()]
    fit = [v for v in inner if isinstance(v.type, ir.TensorType) and v.shape is not None and len(v.shape) > 1]
    if not fit:
        return ""
    letters, name = model.layouts.get(fit[-1], ""), repr(fit[-1].name)
    axis = letters.index("C") if "C" in letters else len(fit[-1].shape or ()) - 1
    return f"{name}[{':, ' * (axis - 1)}0]"
