"""Where the network ends and post-processing begins: the tensors of boxes and class scores, of all candidates."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import onnx_ir as ir

from .. import structure
from ..dtypes import is_float
from ..model import Model
from .formats import Stated
from .lineage import ACTIVATIONS, POINTWISE, Lineage
from .moves import MOVES
from .telling import HeadError

# What chooses among candidates, which no gradient passes.
SELECTING = frozenset("NonMaxSuppression TopK ArgMax ArgMin NonZero Unique Compress Loop".split())
POOLING = frozenset(("RoiAlign", "MaxRoiPool"))
_LEARNT = frozenset("Conv ConvTranspose MatMul Gemm".split())
_FEW = 16  # weights that are no layer's: 4 by 4 make corners of centres
_SAME = frozenset("Identity Cast Transpose Reshape Squeeze Unsqueeze".split())
_THIN = POINTWISE | frozenset(MOVES) | frozenset(ACTIVATIONS) | frozenset("Identity Cast ReduceMax".split())
_BOXES = re.compile(r"box|bbox|loc|reg|delta|rect", re.IGNORECASE)


@dataclass(frozen=True)
class Raw:
    """The raw head of a detector.

    Attributes:
        boxes: the tensor of boxes.
        scores: the tensor of class scores; that of the boxes where one holds both.
        corners: what NonMaxSuppression says of the boxes: "corners", "center", or "" where there is none.
    """

    boxes: ir.Value
    scores: ir.Value
    corners: str = ""

    def count(self, lineage: Lineage) -> int | None:
        """How many candidates there are by the four numbers of each box; None where scores lie in the same tensor."""
        if self.boxes is self.scores:
            return None
        one, other = sides(lineage.sample(self.boxes)) or (0, 4)
        return other if one == 4 else one


def raw(model: Model, lineage: Lineage, stated: Stated) -> Raw:
    """The tensors of boxes and class scores.

    Raises:
        HeadError: there are none, or several ways to read what there is.
    """
    if stated.boxes or stated.scores:
        one, other = stated.boxes or stated.scores, stated.scores or stated.boxes
        return Raw(model.value(one), model.value(other))
    graph = model.ir.graph
    chosen = selections(graph)
    after = structure.varying(graph, [y for node in chosen for y in node.outputs]) if chosen else set()
    clean = [v for v in (y for node in graph for y in node.outputs) if v in model.varying and v not in after]
    floats = [v for v in clean if is_float(v) and v.name]
    for node in reversed(chosen):
        if node.op_type == "NonMaxSuppression" and all(x is not None and x in floats for x in node.inputs[:2]):
            kind = "center" if node.attributes.get_int("center_point_box", 0) else "corners"
            return Raw(node.inputs[0], _each_class(node.inputs[1]), kind)  # type: ignore[arg-type]
    ends = [v for v in floats if v.is_graph_output() or any(_leaves(n, chosen, after) for n, _ in v.uses())]
    for tensors in (ends, _behind(ends, lineage)):
        if (found := _pair(tensors, lineage) or _both(tensors, lineage)) is not None:
            return found
    told = ", ".join(f"'{v.name}' {structure.sizes(lineage.shape(v))}" for v in ends[-4:])
    what = f"No boxes and class scores are found where this model ends ({told or 'no floats'})"
    raise HeadError(what, "state the tensors")


def selections(graph: ir.Graph, *, inside: bool = False) -> list[ir.Node]:
    """The nodes that choose among candidates; or inside of the network, among proposals and queries.

    Those that choose candidates have no layer with weights behind them.
    """
    changing, ahead = structure.varying(graph), set[ir.Value]()
    for node in reversed(list(graph)):
        if _is_layer(node, changing) or any(y in ahead for y in node.outputs):
            ahead.update(structure.all_inputs(node))
    return [n for n in graph if n.op_type in SELECTING and inside == any(y in ahead for y in n.outputs)]


def _is_layer(node: ir.Node, changing: set[ir.Value]) -> bool:
    weights = [x for x in node.inputs if x is not None and x not in changing] if node.op_type in _LEARNT else []
    sizes = [x.shape.numpy() for x in weights if x.shape is not None and x.shape.is_static()]
    return node.op_type in POOLING or any(math.prod(size) > _FEW for size in sizes)


def rows(shape: tuple[int, ...], count: int | None = None) -> tuple[int, int, bool] | None:
    """Candidates, numbers of each, and whether the candidates come first, of a sample (A, K) or (K, A).

    Of two axes the longer one counts candidates, unless `count` says how many there are; None for other shapes.
    """
    if (both := sides(shape)) is None:
        return None
    one, other = both
    if count is not None:
        return (one, other, True) if one == count else (other, one, False) if other == count else None
    return (one, other, True) if one >= other else (other, one, False)


def sides(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The two axes of a table, (A, K), or with more axes that are 1; None for other shapes."""
    found = shape if len(shape) == 2 else [s for s in shape if s != 1]
    return (found[0], found[1]) if len(found) == 2 else None


def _each_class(value: ir.Value) -> ir.Value:
    """The scores of all classes, where suppression gets the largest of each candidate."""
    at = value
    while (node := at.producer()) is not None and (x := node.inputs[0] if node.inputs else None) is not None:
        if node.op_type == "ReduceMax":
            return x
        if node.op_type not in _SAME:
            break
        at = x
    return value


def _leaves(node: ir.Node, chosen: list[ir.Node], after: set[ir.Value]) -> bool:
    return node in chosen or any(y in after for y in node.outputs)


def _behind(ends: list[ir.Value], lineage: Lineage) -> list[ir.Value]:
    """Tensors that others were made of by moving and changing single elements, those included, the last ones last."""
    found, todo = dict.fromkeys(ends), list(ends)
    while todo:
        node = todo.pop().producer()
        if node is None or node.op_type not in _THIN:
            continue
        new = [x for x in node.inputs if x is not None and x in lineage.model.varying and is_float(x)]
        todo += [x for x in new if x not in found]
        found |= dict.fromkeys(new)
    order = {v: i for i, v in enumerate(v for node in lineage.model.ir.graph for v in node.outputs)}
    return sorted(found, key=lambda v: order.get(v, -1))


def _pair(tensors: list[ir.Value], lineage: Lineage) -> Raw | None:
    """A tensor with four numbers per candidate, and one with the scores of as many candidates."""
    pairs, lists = [], set()
    for i, box in enumerate(tensors):
        both = sides(lineage.sample(box))
        if both is None or 4 not in both:
            continue
        count = both[1] if both[0] == 4 else both[0]
        for j, score in enumerate(tensors):
            if score is not box and (shape := rows(lineage.sample(score), count)) is not None:
                pairs.append((_likeness(box, score, lineage) if shape[1] == 4 else 0, shape[1], i + j, box, score))
                lists |= {count} if box.is_graph_output() and score.is_graph_output() else set()
    if not pairs:
        return None
    if len(lists) > 1:
        told = ", ".join(f"'{v.name}' {structure.sizes(lineage.shape(v))}" for v in tensors if v.is_graph_output())
        what = f"Boxes and class scores lie in {len(lists)} pairs of outputs, as of the levels of a pyramid ({told})"
        raise HeadError(what, "state one", several=True)
    best = max(pairs, key=lambda p: p[:3])
    return Raw(best[3], best[4])


def _likeness(box: ir.Value, score: ir.Value, lineage: Lineage) -> int:
    """How much of two tensors the first is like boxes and the other like four classes: by name, then by activation."""
    named = bool(_BOXES.search(box.name or "")) - bool(_BOXES.search(score.name or ""))
    activated = [lineage.of(v, steps_over=True)[0].leaves[0].activation is not None for v in (score, box)]
    return 2 * named + activated[0] - activated[1]


def _both(tensors: list[ir.Value], lineage: Lineage) -> Raw | None:
    """A tensor that holds both."""
    found = [(s[0], i, v) for i, v in enumerate(tensors) if (s := rows(lineage.sample(v))) is not None and s[1] >= 5]
    if not found:
        return None
    largest = max(found, key=lambda f: f[:2])[2]
    return Raw(largest, largest)


def activation_behind(model: Model, value: ir.Value) -> str:
    """The sigmoid or softmax that post-processing puts scores through, "" where there is none."""
    todo = [value]
    for found in todo:
        for node in (use[0] for use in found.uses()):
            if node.op_type in ACTIVATIONS:
                return ACTIVATIONS[node.op_type]
            if node.op_type in MOVES or node.op_type in ("Identity", "Cast"):
                todo += [y for y in node.outputs if y not in todo]
    return ""
