"""Trying it: the gradient of the target, on photos or on made-up input, and where it goes wrong if it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .. import image
from ..autodiff.gradient import differentiate, scored, vjp
from ..dtypes import is_float
from ..errors import InputError, InspectError, ModelError
from ..methods import predict
from ..methods.job import SCORE, Job, guess_preprocessing, image_input
from ..model import Model
from ..preprocess import Preprocessing
from ..rewrite import expose
from ..structure import Spec, key, label, needed, varying
from . import path
from .report import Finding, Severity

MOST = 8  # photos whose gradients are looked at
_OPEN = 16  # for sizes that nobody knows
_SURE = 0.999  # a probability beyond this leaves less than a thousandth of the gradient
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def feeds(
    model: Model, photos: Sequence[Path], flags: Mapping[str, Any]
) -> tuple[dict[str, NDArray[Any]], Preprocessing | None, list[str]]:
    """A value per input: photos, else a smooth picture of random colours, else normal numbers; and notes.

    Raises:
        InputError: photos are given for an input that takes none.
        PhotoError: a photo cannot be read.
    """
    notes: list[str] = []
    first, rng = image_input(model), np.random.default_rng(0)
    preprocessing: Preprocessing | None = None
    try:
        preprocessing, notes = guess_preprocessing(model, **flags)
    except InputError:
        if photos or any(value is not None for value in flags.values()):
            raise
    n = _fixed(model, first) or min(len(photos), MOST) or 1
    batch = first.shape[0] if first.shape else None
    found = {spec.name: _numbers(spec, n, batch, rng) for spec in model.inputs}
    if preprocessing is not None:
        coarse = rng.uniform(0, 255, (n, 8, 8, 3)).astype(np.float32)
        pictures = [image.resize(c, preprocessing.size, "linear").astype(np.uint8) for c in coarse]
        found[first.name] = preprocessing.batch([image.read(p) for p in photos[:MOST]] or pictures)
    if invented := [spec.name for spec in model.inputs if spec.name != first.name]:
        notes.append(f"made-up numbers stand for the other inputs: {', '.join(invented)}")
    return found, preprocessing, notes


def _fixed(model: Model, spec: Spec) -> int | None:
    """How many samples there have to be."""
    if not spec.shape:
        return 1
    return spec.shape[0] if isinstance(spec.shape[0], int) and not model.batch_relaxed else None


def _numbers(spec: Spec, n: int, batch: int | str | None, rng: np.random.Generator) -> NDArray[Any]:
    shape = [
        d if isinstance(d, int) else n if i == 0 or (d is not None and d == batch) else _OPEN
        for i, d in enumerate(spec.shape)
    ]
    kind = np.dtype(spec.dtype) if spec.dtype != "unknown" else np.dtype(np.float32)
    return (rng.normal(size=shape) if kind.kind == "f" else np.ones(shape)).astype(kind)


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
                return Finding("error", "gradient", what, "export the model again, from a healthy checkpoint", name)
    names = [c.tensor for c in job.model.layers]
    try:
        values = job.engine.run(expose(job.model, names), job.feeds, names)
        first = next(n for n in names if np.isnan(values[n]).any() or np.isposinf(values[n]).any())
    except (InspectError, StopIteration):
        return Finding("error", "gradient", f"the score is not a number {made}", "check the preprocessing")
    node = job.model.values[first].producer()
    at = f"'{first}', from '{label(node)}' ({key(node)})" if node is not None else f"'{first}'"
    what = f"{made}, {at} is the first tensor with {_kind(values[first])}"
    half = job.model.values[first].dtype in _HALVES
    remedy = "export in float32, since half precision overflows" if half else "check the preprocessing"
    return Finding("error", "gradient", what, remedy, first)


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
    remedy = "choose a --layer behind it, another --target, or occlusion"
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
    return f"explain the logits, as in --target {before}" if before else "export the model without its softmax"


def forward(job: Job, *, made_up: bool) -> Finding | None:
    """Why the model itself does not run, None if it does."""
    try:
        job.engine.run(job.model, job.feeds)
    except InspectError as error:
        if made_up and not isinstance(error, ModelError):
            what = f"the model does not run on made-up numbers, so nothing could be tried ({error})"
            return Finding("warning", "gradient", what.replace(".)", ")"), "explain it from Python, with real ones")
        return Finding("error", "gradient", str(error))
    return None
