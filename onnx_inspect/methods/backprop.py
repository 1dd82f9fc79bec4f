"""Guided backpropagation and the deconvnet: the same walk back, with other rules for rectifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

import onnx_ir as ir

from ..attribution import Attribution
from ..autodiff.table import RULES, Cotangents, Rule, Table
from ..emit import Op
from ..target import TargetLike
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method

Preset = Literal["", "captum", "pgc", "zennit"]


def guided_rules(clip: bool = True) -> Table:
    """Gradients, but of a rectifier only what is positive passes, and where its input is positive too.

    Rectifiers are Relu and, with `clip`, Clip from 0 (ReLU6). What bends otherwise (LeakyRelu, PRelu, Elu, Gelu,
    HardSwish, ...) keeps its gradient; a max-pool's goes to where the maximum was.
    """
    return _table("guided backprop", RULES["Relu"], RULES["Clip"], clip)


def deconvnet_rules(clip: bool = True) -> Table:
    """As `guided_rules`, but wherever the input of a rectifier is: only what is positive passes."""
    return _table("deconvnet", _pass, _pass, clip)


@method("gradient")
def guided_backprop(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    wrt: Sequence[str] = (),
    preset: Preset = "",
    **how: Unpack[How],
) -> Attribution:
    """Guided backprop: the gradient, if rectifiers let nothing negative back.

    As dS/dx, but at every rectifier Y = max(X, 0) with X > 0 only the positive part of dS/dY is passed on, nothing
    where X <= 0. Shaped like x, in units of score per unit of input, signed; the picture shows magnitudes, since the
    sign of a gradient says only where a number should go. Rectifiers are Relu and Clip from 0 (ReLU6); the references
    leave Clip as it is. Other activations keep their gradient; without any rectifier this is the plain gradient, and a
    note says so. With a unit of the network as target, captum's NeuronGuidedBackprop.

    Springenberg et al., Striving for Simplicity: The All Convolutional Net, ICLR workshop 2015.

    Args:
        wrt: tensors to attribute to, by name: every float input by default.
        preset: the conventions of a reference: captum, pgc (pytorch-grad-cam) and zennit take Clip for no rectifier.

    Raises:
        TargetError: no such target, or it does not depend on the input.

    Example:
        >>> guided_backprop("model.onnx", "cat.jpg", target="features.3[7,2,2]").save("unit")
    """
    job = Job(model, x, target, **how)
    return _rectified(job, "guided_backprop", guided_rules(clip=not preset), wrt, preset)


@method("gradient")
def deconvnet(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    wrt: Sequence[str] = (),
    preset: Preset = "",
    **how: Unpack[How],
) -> Attribution:
    """Deconvnet: what would have to be in the input for the score to arise, if rectifiers worked backwards too.

    As dS/dx, but at every rectifier max(dS/dY, 0) is passed on, whatever its input is; max-pools are undone by the
    switches of the forward pass. Shaped like x, in units of score per unit of input, signed; the picture shows
    magnitudes. Rectifiers are Relu and Clip from 0 (ReLU6); the references leave Clip as it is. Other activations keep
    their gradient; without any rectifier this is the plain gradient, and a note says so. With a unit of the network as
    target ("layer[7,2,2]"), the projection of the paper for an activation of 1, and captum's NeuronDeconvolution.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014.

    Args:
        wrt: tensors to attribute to, by name: every float input by default.
        preset: the conventions of a reference: captum, pgc (pytorch-grad-cam) and zennit take Clip for no rectifier.

    Raises:
        TargetError: no such target, or it does not depend on the input.

    Example:
        >>> deconvnet("model.onnx", "cat.jpg", target="features.3[7,2,2]").save("unit")
    """
    job = Job(model, x, target, **how)
    return _rectified(job, "deconvnet", deconvnet_rules(clip=not preset), wrt, preset)


def _rectified(job: Job, name: str, rules: Table, wrt: Sequence[str], preset: str) -> Attribution:
    tensors = job.attributed(wrt)
    found = job.gradients(tensors, rules)
    if not any(n.op_type == "Relu" or (_from_zero(n) and not preset) for n in job.model.ir.graph.all_nodes()):
        job.notes.append(f"the model has no rectifier for {name} to change: this is its plain gradient")
    values = {t: found[f"gradient.{t}"] for t in tensors}
    return job.attribution(name, values, found, params={"preset": preset})  # type: ignore[no-any-return]


def _table(name: str, relu: Rule, clip: Rule, clips: bool) -> Table:
    """`RULES`, with rectifiers that rectify what comes back, and then do as the rules given."""

    def rectified(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        return relu(op, node, op.Relu(dy))

    def clipped(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
        return clip(op, node, op.Relu(dy)) if _from_zero(op.node or node) else RULES["Clip"](op, node, dy)

    rules = RULES | {"Relu": rectified} | ({"Clip": clipped} if clips else {})
    return Table(f"{name}, Clip {'too' if clips else 'not'}", rules)


def _pass(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    return dy


def _from_zero(node: ir.Node) -> bool:
    """True for a Clip whose lower bound is 0."""
    low = node.inputs[1] if node.op_type == "Clip" and len(node.inputs) > 1 else None
    constant = low.const_value if low is not None else None
    return constant is not None and not constant.numpy().any()
