"""The backward pass between two forward passes: how the difference of two scores comes about."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import onnx_ir as ir

from ..autodiff.gradient import Emits, emitter, filled, float_value, output, writable
from ..autodiff.table import INTEGERS, RULES, Cotangents, Rule, is_constant
from ..autodiff.walk import backward, view
from ..collector import uncollected
from ..dtypes import Precision, is_float
from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..pruning import prune
from ..structure import all_inputs, key
from .pair import Pair, along
from .rules import CAPTUM, LINEAR, LINES, PRODUCTS, WEIGHTED, Lines
from .twin import Twins, references, second_pass

Convention = Literal["", "captum"]


@uncollected()
def contrast(
    model: Model,
    target: Emits,
    wrt: Iterable[str],
    inputs: Iterable[str],
    *,
    preset: Convention = "",
    precision: Precision = "float32",
    score: str = "score",
) -> Model:
    """The model with what each tensor contributes to the difference between its score and that of reference inputs.

    Args:
        model: the model; unchanged.
        target: what is explained; the most probable class is that of the samples in both passes.
        wrt: tensors to attribute to, by name.
        inputs: those that get a reference, as one more input `reference.<input>`.
        preset: "captum" contrasts only the operators that captum's DeepLift does, by its rules.
        precision: as in `differentiate`.
        score: what the score is called; that of the references is `reference.<score>`.

    Returns:
        A model with the outputs of `model`, both scores, and `contribution.<tensor>` per tensor of `wrt`.

    Raises:
        LayerError: no such tensor.
        TargetError: the target does not depend on one of the tensors, or that tensor not on these inputs.
        MissingRule: an operator in between has no rule.
    """
    new = writable(model)
    graph, inputs = new.ir.graph, list(inputs)
    xs = list(dict.fromkeys(float_value(new, n) for n in wrt))
    op = emitter(graph, precision)
    with op:
        start = len(graph)
        value = target.emit(op, new)
        chosen = {n for n in list(graph)[start:] if not is_float(n.outputs[0])}  # the class is that of the sample
        twins = second_pass(op, references(op, [new.value(n) for n in inputs]), value, chosen)
        rules = Contrast(twins, xs, preset)
        gradients = backward(op, {value: filled(op, value, 1)}, xs, rules)
        for x in xs:
            if x not in gradients:
                raise TargetError(f"The target {target} does not depend on '{x.name}': there is nothing to attribute.")
            if x not in twins:
                told = " and ".join(f"'{name}'" for name in inputs)
                raise TargetError(
                    f"'{x.name}' does not depend on {told}, which alone differs from the reference: give a baseline "
                    "for other inputs, as arrays by their names."
                )
        found = {x: gradients[x] * (_as(op, x, gradients[x]) - _as(op, twins[x], gradients[x])) for x in xs}
        other = op.Identity(twins.get(value, value))
    graph.outputs.append(output(op, score, value, value))
    graph.outputs.append(output(op, f"reference.{score}", other, value))
    graph.outputs.extend(output(op, f"contribution.{x.name}", v, x) for x, v in found.items())
    prune(new.ir)
    new.notes += rules.notes()
    return new.derived("contrast", str(target), "wrt", *(x.name for x in xs), "between", *inputs, preset, precision)


def _as(op: Op, x: ir.Value, like: ir.Value) -> Any:
    return x if x.dtype == like.dtype else op.Cast(x, to=like.dtype)


class Contrast:
    """The table of rules for a graph whose values have twins: `LINES`, or what captum's DeepLift has of them."""

    def __init__(self, twins: Twins, wrt: Collection[ir.Value], preset: Convention = "") -> None:
        self.twins, self.wrt, self.captum = twins, wrt, preset == "captum"
        self.approximate: dict[str, None] = {}

    def __call__(self, node: ir.Node) -> Rule | None:
        """The rule of a node."""
        plain, name = RULES.get(key(node)), key(node)
        moving = [i for i, x in enumerate(node.inputs) if x in self.twins]
        if plain is None or is_constant(RULES, node) or self._straight(node, moving):
            return plain
        if self.captum:
            return self._between(plain, CAPTUM[name], moving) if self._hooked(node) else plain
        captured = set(all_inputs(node)) - set(node.inputs)
        blind = any(x in self.twins for x in captured) or (name in INTEGERS and name not in LINES)

        def gradient(op: Op, shown: ir.Node, *dys: ir.Value | None) -> Cotangents:
            self.approximate[name] = None
            return plain(op, shown, *dys)

        return gradient if blind else self._between(plain, LINES.get(name, along), moving)

    def _between(self, plain: Rule, lines: Lines, moving: list[int]) -> Rule:
        return lambda op, shown, *dys: lines(self._pair(op, shown, plain, moving), *dys)

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the rules that were taken."""
        if self.captum:
            return (f"as in captum, only {', '.join(CAPTUM)} are contrasted; all else passes its gradient",)
        if not self.approximate:
            return ()
        names = ", ".join(self.approximate)
        return (
            f"{names} pass their gradient, or its mean on the way to the reference: delta says how far off that is",
        )

    def _straight(self, node: ir.Node, moving: list[int]) -> bool:
        """True if the gradient is the line, wherever it is taken: the node is linear in what differs."""
        if not any(y in self.twins for y in node.outputs):
            return True  # also within copies of subgraphs, which run once
        name, others, given = key(node), [node.inputs[i] for i in moving if i], node.attributes
        bent = given.get_string("reduction", "none") not in ("none", "add") or given.get_string("mode", "") == "max"
        if bent or given.get_int("training_mode", 0) != 0:
            return False
        if name in LINEAR and (name == "Concat" or all(x is not None and is_float(x) for x in others)):
            return True  # no index differs
        return (name in PRODUCTS and len(moving) == 1) or (name in WEIGHTED and moving == [0])

    def _hooked(self, node: ir.Node) -> bool:
        """True if captum contrasts a node: one that it knows, and that does not follow upon another.

        Its hook on the output of the other, unless that is what it attributes to, sees the gradient before the hook
        on this one's input has changed it.
        """
        x = node.inputs[0]
        before = x.producer() if x is not None and x not in self.wrt else None
        return key(node) in CAPTUM and (before is None or key(before) not in CAPTUM)

    def _pair(self, op: Op, shown: ir.Node, plain: Rule, moving: list[int]) -> Pair:
        """A node and its twin; what a rule is shown in another type, it is shown so in both."""
        node = op.node or shown
        xs = [self._twin(op, x, seen) for x, seen in zip(node.inputs, shown.inputs, strict=True)]
        ys = [self._twin(op, y, seen) for y, seen in zip(node.outputs, shown.outputs, strict=True)]
        wanted = [other for x, other in zip(shown.inputs, xs, strict=True) if op.wants(x) and other is not None]
        return Pair(op, shown, view(op, shown, xs, ys, wanted), plain, moving, self.twins, self.approximate)

    def _twin(self, op: Op, value: Any, seen: Any) -> Any:
        if value not in self.twins or seen is value:
            return self.twins.get(value, seen)
        other = op.Cast(self.twins[value], to=seen.dtype)
        other.shape = value.shape
        return other
