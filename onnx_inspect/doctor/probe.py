"""Trying it: the gradient of the target, on photos or on made-up input, and where it goes wrong if it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..autodiff.gradient import differentiate, scored, vjp
from ..dtypes import is_float
from ..errors import InspectError, ModelError
from ..methods import predict
from ..methods.job import SCORE, Job
from ..model import Model
from ..naming import Layer
from ..rewrite import expose
from ..sessions import BLAME
from ..structure import key, label, needed, varying
from . import path
from .report import Finding, Severity, typed

_SURE = 0.999  # a probability beyond this leaves less than a thousandth of the gradient
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_HEALTHY = "export the model again, from a healthy checkpoint"


def gradients(job: Job, wrt: Sequence[str], *, run: bool = True) -> dict[str, NDArray[Any]]:
    """One run, unchecked: the score, what it is read from, and its gradients. Nothing if they are only to be built."""
    shown = [job.scores.tensor] if job.scores is not None else []
    model = differentiate(expose(job.model, shown), job.target, wrt, score=SCORE)
    wanted = list(dict.fromkeys([SCORE, *shown, *(f"gradient.{t}" for t in wrt)]))
    return job.engine.run(model, job.feeds | job.target.feeds(job.n), wanted) if run else {}


def check(job: Job, found: Mapping[str, NDArray[Any]], wrt: str, real: bool) -> Iterator[Finding]:
    """What is wrong with the values of a run; `real` if they come from photos."""
    saturated = list(_saturated(job, found))
    yield from saturated
    gradient, made = found[f"gradient.{wrt}"], "on these photos" if real else "on made-up input"
    blank = sum(not g.any() for g in gradient)
    if not np.isfinite(found[SCORE]).all():
        yield _overflow(job, made)
    elif not np.isfinite(gradient).all():
        what = f"the gradient at '{wrt}' is not finite {made}"
        yield _located(job, wrt, what, "error", lambda g: not np.isfinite(g).all())
    elif blank == len(gradient) and not saturated:
        what = f"the gradient at '{wrt}' is zero everywhere {made}"
        yield _located(job, wrt, what, "error" if real else "warning", lambda g: not g.any())
    elif blank and not saturated:
        what = f"the gradient at '{wrt}' is zero everywhere for {blank} of {len(gradient)} inputs {made}"
        yield Finding("warning" if real else "note", "gradient", what, "another --layer or --target may tell", wrt)


def _overflow(job: Job, made: str) -> Finding:
    """Where the forward pass goes wrong: in a weight, or at the first tensor that is not finite."""
    for name, value in job.model.ir.graph.initializers.items():
        weight = value.const_value
        if weight is not None and weight.dtype.is_floating_point() and value.uses():
            numbers = weight.numpy().astype(np.float32)
            if np.isnan(numbers).any() or (np.isposinf(numbers).any() and weight.size > 1):  # a bound may be infinite
                what = f"the weight '{name}' holds {_kind(numbers)}, and with it everything behind it"
                return Finding("error", "gradient", what, _HEALTHY, name)
    names = [c.tensor for c in job.model.layers]
    try:
        values = job.engine.run(expose(job.model, names), job.feeds, names)
        first = next(n for n in names if np.isnan(values[n]).any() or np.isposinf(values[n]).any())
    except (InspectError, StopIteration):
        return Finding("error", "gradient", f"the score is not a number {made}", "check the preprocessing")
    node = job.model.values[first].producer()
    for x in node.inputs if node is not None else ():
        weight = x.const_value if x is not None else None
        if weight is not None and weight.dtype.is_floating_point() and not _finite(weight.numpy()):
            kind = _kind(weight.numpy().astype(np.float32))
            what = f"the weight '{weight.name}' holds {kind}, and with it '{first}'"
            return Finding("error", "gradient", what, _HEALTHY, weight.name or "")
    at = f"'{first}', from '{label(node)}' ({key(node)})" if node is not None else f"'{first}'"
    what = f"{made}, {at} is the first tensor with {_kind(values[first])}"
    half = job.model.values[first].dtype in _HALVES
    remedy = "export in float32, since half precision overflows" if half else "check the preprocessing"
    return Finding("error", "gradient", what, remedy, first)


def _finite(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values.astype(np.float32)).all())


def _kind(values: NDArray[Any]) -> str:
    return "NaN" if np.isnan(values).any() else "infinity"


def _located(job: Job, wrt: str, what: str, severity: Severity, bad: Callable[[NDArray[Any]], bool]) -> Finding:
    """A gradient that is bad at `wrt`: the node where it becomes so, seen from the target."""
    model = scored(job.model, job.target, score=SCORE)
    start, end = model.values[wrt], model.value(SCORE)
    between = needed(model.ir.graph, end) & varying(model.ir.graph, [start])
    names = [wrt, *(y.name or "" for n in model.ir.graph for y in n.outputs if y in between and is_float(y))]
    names = list(dict.fromkeys(names))
    feeds = job.feeds | job.target.feeds(job.n) | {f"cotangent.{SCORE}": np.ones(job.n, np.float32)}
    wanted = [f"gradient.{n}" for n in names]
    remedy = "choose another --target, or try occlusion"
    if job.preprocessing is None:
        remedy = "see whether it is so on real numbers, from Python"
    try:
        found = job.engine.run(vjp(model, names, [SCORE]), feeds, wanted)
    except InspectError:
        return Finding(severity, "gradient", what, remedy, wrt)
    # All before the place are bad: for NaN since they spread, for zeros since nothing comes back.
    healthy = next((i for i, n in enumerate(wanted) if not bad(found[n])), len(names))
    last = model.values[names[healthy - 1]]
    node = next((n for n in reversed(last.consumers()) if any(y in between for y in n.outputs)), None)
    if node is None:
        return Finding(severity, "gradient", what, remedy, wrt)
    remedy = ", ".join(filter(None, [path.behind(model, between, node), remedy]))
    half = ", which computes in half precision" if node.outputs[0].dtype in _HALVES else ""
    what += f": it becomes so in '{label(node)}' ({key(node)}){half}"
    return Finding(severity, "gradient", what, remedy, label(node))


def _saturated(job: Job, found: Mapping[str, NDArray[Any]]) -> Iterator[Finding]:
    """Scores that are probabilities though they should be logits, or that are asked for as such, and too sure."""
    where = job.scores
    if where is None or where.tensor not in found or not np.isfinite(found[where.tensor]).all():
        return
    rows = predict.rows(where, job.score, found[where.tensor])
    explained = [row[c] for row, c in zip(rows, job.target.chosen(rows), strict=True) if c is not None]
    summed = rows.shape[1] > 1 and rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, atol=1e-3)
    if not explained or not (summed or (where.activation == "sigmoid" and job.score == "output")):
        return
    if job.score == "logits" and where.activation is not None:
        what = f"the scores before the final {where.activation} are probabilities already: it is applied twice"
        yield Finding("warning", "gradient", what, "export the model without the second one", where.tensor)
    elif (sure := float(np.mean(explained))) > _SURE:
        what = f"the explained probability is {sure:.6g}, so its gradient is all but zero (p(1 - p))"
        yield Finding("warning", "gradient", what, _logits(job), where.tensor)


def _logits(job: Job) -> str:
    """How to explain what lies before a softmax or sigmoid."""
    assert job.scores is not None
    if job.score == "output" and job.scores.activation is not None:
        return "explain the logits (--score logits)"
    between = needed(job.model.ir.graph, job.model.value(job.scores.tensor))
    ends = [n for n in job.model.ir.graph if n.op_type in ("Softmax", "Sigmoid") and n.outputs[0] in between]
    before = path.element(job.model, [x for n in ends[-1:] for x in n.inputs if x is not None])
    return f"explain the logits, as in --target {typed(before)}" if before else "export the model without its softmax"


def forward(job: Job, *, made_up: bool) -> Finding | None:
    """Why the model itself does not run, None if it does."""
    try:
        job.engine.run(job.model, job.feeds)
    except InspectError as error:
        if made_up and not isinstance(error, ModelError):
            what = f"the model does not run on made-up numbers, so nothing could be tried ({error})"
            return Finding("warning", "gradient", what.replace(".)", ")"), "explain it from Python, with real ones")
        return _refused(job.model, error)
    return None


def _refused(model: Model, error: InspectError) -> Finding:
    """Why onnxruntime does not run a model, with the node where it only names the operator."""
    said = re.search(r"(\S+):(\w+)\(-?\d+\) is not a registered", str(error))
    for node in model.ir.graph.all_nodes() if said else ():
        if said and (node.domain or "ai.onnx", node.op_type) == said.groups():
            what = f"onnxruntime has no operator {key(node)}, as in node '{label(node)}'"
            return Finding("error", "operators", what, "ask for the model in standard operators", label(node))
    return Finding("error", "gradient", str(error).removesuffix(".").removesuffix(f": {BLAME}"), BLAME)


def covered(job: Job, at: Layer | None) -> Finding | None:
    """Why occlusion cannot be had, None if it can: it runs many copies of a photo at a time."""
    try:
        target = job.target.sample(0)
        found = job.forward([at.tensor] if at else [], target, job.copies(0, 2) | target.feeds(2))
    except InspectError as error:
        return Finding("error", "gradient", f"occlusion: {error}")
    if any(len(values) != 2 for values in found.values()):
        what = "two samples in one run do not give two scores, which occlusion needs"
        return Finding("warning", "gradient", what, "let each run alone (--batch 1)")
    return None
