"""Relevance: the score, handed back layer by layer to what it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..errors import InputError
from ..relevance import rules as _  # noqa: F401  (fills the table)
from ..relevance.composites import COMPOSITES
from ..relevance.merge import merge_batchnorm
from ..relevance.table import Attention, Relevance
from ..relevance.table import How as Rules
from ..target import TargetLike
from .inputs import Input, ModelLike
from .job import SCORE, How, Job
from .registry import method

Composite = Literal[
    "epsilon_plus_flat",
    "epsilon_plus",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_plus_wsquare",
    "epsilon",
    "zplus",
    "gamma",
    "alpha_beta",
    "",
]
Numbers = Sequence[float] | float | NDArray[Any]


@method("gradient")
def lrp(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    composite: Composite = "",
    epsilon: float | None = None,
    gamma: float = 0.25,
    low: Sequence[float] | float | NDArray[Any] = (),
    high: Sequence[float] | float | NDArray[Any] = (),
    attention: Attention = "values",
    wrt: Sequence[str] = (),
    preset: Literal["", "captum", "zennit"] = "",
    **how: Unpack[How],
) -> Attribution:
    """LRP: how much of the score each input number accounts for, passed back from layer to layer.

    Layer-wise relevance propagation. R_i = sum_j (c_ij / sum_i c_ij) R_j, where c_ij is what x_i adds to y_j. Shaped
    like x, in units of the score, signed. What c is for layers with weights, the composite says, by these rules:

    \b
    epsilon: c = x w, and epsilon is added to the sum
    plus: c = (x w)+
    gamma: c = x w + gamma (x w)+ where y > 0, and x w + gamma (x w)- where y < 0
    alpha2_beta1: 2 times by c = (x w)+, less once by c = (x w)-
    flat: c = 1    wsquare: c = w^2    box: c = x w - low w+ - high w-

    All other operators have rules too: docs/lrp.md lists them. Batch normalisation is merged into the layer before it,
    as is a bias that is added to a matrix product.
    Biases keep their share, so the sum ("relevance"; "conservation", its part of the score; "delta", what the score is
    more) need not be the score.

    Bach et al., On Pixel-Wise Explanations, PLOS ONE 2015; Montavon et al., Layer-Wise Relevance Propagation, 2019;
    for attention, Ali et al., ICML 2022, and Achtibat et al., AttnLRP, ICML 2024.

    Args:
        composite: which rule where, by zennit's names. epsilon_plus_flat, the usual one and the default: flat in the
            first layer, plus in other convolutions, epsilon in dense layers; epsilon_plus: without flat, the default
            where there are no convolutions, since flat makes all inputs of a dense layer equal;
            epsilon_plus_wsquare: wsquare first; epsilon_gamma_box: box first, gamma in convolutions;
            epsilon_alpha2_beta1 and epsilon_alpha2_beta1_flat: alpha2_beta1 in convolutions. One rule in every layer:
            epsilon (captum's), zplus, gamma, alpha_beta (2 and 1).
        epsilon: added to every y of the epsilon rule, away from 0; 1e-6, or captum's 1e-9.
        gamma: how much the gamma rule favours what has the sign of y.
        low: the least values of the input, one number or one per channel, for box; a black pixel by default.
        high: the largest values of the input; a white pixel by default.
        attention: "values" takes attention weights for constant, "attnlrp" gives half of the relevance to them.
        wrt: tensors to attribute to, by name: every float input by default.
        preset: the conventions of a reference: zennit starts with 1 and passes a batch normalisation that stands
            alone; captum merges none and applies epsilon to it.

    Raises:
        InputError: there is no such composite, a parameter is negative, or nobody knows the least and largest input.
        TargetError: no such target, or it does not depend on the input.
        MissingRule: an operator in between has no rule.

    Example:
        >>> lrp("model.onnx", "cat.jpg", composite="epsilon_gamma_box").measures["conservation"]
    """
    job = Job(model, x, target, **how)
    name = composite or _usual(job, preset)
    if name not in COMPOSITES:
        raise InputError(f"There is no composite '{name}': choose from {', '.join(COMPOSITES)} (--composite).")
    if min(gamma, epsilon or 0) < 0:
        raise InputError("gamma and epsilon favour and stabilise: they cannot be negative (--gamma, --epsilon).")
    small = 1e-9 if preset == "captum" else 1e-6
    rules = Rules(
        **COMPOSITES[name],
        epsilon=small if epsilon is None else epsilon,
        stabiliser=small,
        gamma=gamma,
        attention=attention,
        norm="pass" if preset == "zennit" else "epsilon",
        box={job.input.name: _box(job, low, high)} if "box" in COMPOSITES[name].values() else None,
    )
    return _propagate(job, "lrp", rules, wrt, merge=preset != "captum", unit=preset == "zennit")


def _usual(job: Job, preset: str) -> str:
    """The composite where nobody names one."""
    if preset:
        return "epsilon" if preset == "captum" else "epsilon_plus_flat"
    if any("Conv" in n.op_type for n in job.model.ir.graph.all_nodes()):
        return "epsilon_plus_flat"
    job.notes.append("composite: epsilon_plus, since there are no convolutions (--composite)")
    return "epsilon_plus"


@method("gradient")
def excitation_backprop(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    wrt: Sequence[str] = (),
    preset: Literal["", "zennit"] = "",
    **how: Unpack[How],
) -> Attribution:
    """Excitation backprop: how probably each input wins, if winners are drawn layer by layer among what excites.

    The marginal winning probability P(x_i) = sum_j P(y_j) x_i w+ / sum_i x_i w+, from P = 1 for the target: the zplus
    rule of LRP in every layer, without biases. For negative x, what excites is x w > 0. Shaped like x; the sum is 1
    as long as something excites ("relevance").

    Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016.

    Args:
        wrt: tensors to attribute to, by name: every float input by default. A layer in the middle shows objects best.
        preset: zennit lets positive biases win too, and takes gradients of activations and of what it does not merge.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        MissingRule: an operator in between has no rule.

    Example:
        >>> excitation_backprop("model.onnx", "cat.jpg", target=281).save("cat")
    """
    job = Job(model, x, target, **how)
    rules = Rules(conv="zplus", dense="zplus", bias=False)
    if preset == "zennit":
        rules = Rules(conv="zplus", dense="zplus", elementwise="gradient", norm="gradient")
    return _propagate(job, "excitation_backprop", rules, wrt, merge=True, unit=True)


def _propagate(job: Job, name: str, rules: Rules, wrt: Sequence[str], *, merge: bool, unit: bool) -> Attribution:
    """Relevance of tensors; from 1 for the target, or from its score."""
    tensors = job.attributed(wrt)
    if merge:
        keep = (*tensors, job.explained_tensor)
        whole = job.model
        job.model = whole.rewritten(("merge batchnorm", *keep), lambda: merge_batchnorm(whole, keep))
    found = job.gradients(tensors, Relevance(rules))
    score = np.asarray(found[SCORE], np.float64)
    start = np.ones(job.n) if unit else score
    # Every rule is linear in the relevance that it is given: a start other than 1 is a factor. The sum that the score
    # is was stabilised, too, which must not show.
    factor = start * (1 + np.divide(rules.stabiliser, np.abs(score), out=np.zeros(job.n), where=score != 0))
    values = {
        t: (r := found[f"gradient.{t}"]) * factor.astype(r.dtype).reshape(-1, *[1] * (r.ndim - 1)) for t in tensors
    }
    total = np.sum([v.reshape(job.n, -1).sum(axis=1, dtype=np.float64) for v in values.values()], axis=0)
    share = np.divide(total, start, out=np.zeros(job.n), where=start != 0)
    measures = {"relevance": total, "conservation": share, "delta": start - total}
    low, high = share.min(), share.max()
    if low < 0.5 or high > 2:
        span = f"{low:.3g} to {high:.3g}" if job.n > 1 else f"{low:.3g}"
        job.notes.append(
            f"{name}: {span} of the score arrives at {', '.join(map(repr, tensors))}; biases "
            "and what nothing excites keep the rest"
        )
    return job.attribution(name, values, found, signed=True, measures=measures)  # type: ignore[no-any-return]


def _box(job: Job, low: Numbers, high: Numbers) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the largest input, to broadcast against it: given, or those of a black and a white picture."""
    shape, layout = job.feeds[job.input.name].shape, job.layout(job.input.name) or ""
    ends = []
    for given, pixel in ((low, 0), (high, 255)):
        if not (np.abs(np.asarray(given, float)) <= np.finfo(np.float32).max).all():
            raise InputError("The least and the largest values of the input are finite numbers (--low, --high).")
        array = np.asarray(given, np.float32)
        if not array.size:
            array = _picture(job, pixel)
        elif array.ndim < 2 and array.size > 1 and "C" in layout:
            array = array.reshape([-1 if letter == "C" else 1 for letter in layout])
        ends.append(array)
    try:
        fits = np.broadcast_shapes(*(end.shape for end in ends), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"low and high have shapes {ends[0].shape} and {ends[1].shape}, the input {shape}.")
    return np.minimum(*ends), np.maximum(*ends)


def _picture(job: Job, pixel: int) -> NDArray[np.float32]:
    """A picture of one shade of grey as the model sees it, one pixel of it."""
    if job.preprocessing is None:
        raise InputError(
            "The rule box needs the least and the largest value of the input, which is no picture here: give them "
            "(--low, --high), or choose another composite."
        )
    picture = job.preprocessing.apply(np.full((*job.preprocessing.size, 3), pixel, np.uint8))[None]
    one = tuple(slice(None) if letter == "C" else slice(1) for letter in job.preprocessing.layout)
    return picture[one].astype(np.float32)
