"""How samples go through a model: which inputs hold them, how many fit into a run, and what must not come in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .model import Model
from .structure import Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Plan:
    """How samples go through a model.

    samples: the inputs that hold one entry per sample; others go in whole. n: samples. size: of a run. fixed: the batch
    that the graph insists on, None if it takes any. apart: whether runs may be smaller than `size`.
    """

    samples: frozenset[str]
    n: int
    size: int
    fixed: int | None
    apart: bool

    @property
    def in_parts(self) -> bool:
        """True if the results of several runs are put together, or cut."""
        return self.n > self.size or self.n % self.size > 0

    def sizes(self, values: Arrays) -> dict[str, tuple[int, ...]]:
        """The sizes of the inputs for one sample, or for the batch that the graph insists on."""
        one = self.fixed or 1
        return {k: (one, *v.shape[1:]) if k in self.samples else v.shape for k, v in values.items()}

    def part(self, values: Arrays, start: int) -> Arrays:
        """The feeds of the run that begins with a sample; a fixed batch is filled up with the last one."""
        return {k: self._cut(v, start) if k in self.samples else v for k, v in values.items()}

    def _cut(self, value: NDArray[Any], start: int) -> NDArray[Any]:
        chunk = value[start : start + self.size]
        missing = self.size - len(chunk) if self.fixed is not None else 0
        return np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)]) if missing else chunk


def make_plan(model: Model, values: Arrays, batch: int) -> Plan:
    """Which inputs hold samples, how many, and how many go into one run."""
    leads = {s.name: s.shape[0] for s in model.inputs if values[s.name].ndim and s.shape}
    main = max(leads, key=lambda k: (not isinstance(leads[k], int), values[k].ndim), default=None)
    if main is None:
        return Plan(frozenset(), 1, 1, None, False)
    lead = leads[main]
    # Axes that nobody named, or that are named alike, count the same thing; a batch that the graph fixes is a number.
    samples = {k for k, d in leads.items() if d == lead or (d is None and not isinstance(lead, int))}
    fixed = lead if isinstance(lead, int) else None
    counts = {k: len(values[k]) for k in leads if k in samples}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"'{k}' has {n}" for k, n in counts.items())
        raise InputError(f"The inputs hold different numbers of samples: {told}.")
    n = counts[main]
    if n == 0:
        raise InputError("There are no samples: the inputs are empty.")
    size = fixed or min(n, batch)
    crossed = next((s for s in model.inputs if isinstance(lead, str) and lead in s.shape[1:]), None)
    if crossed is not None and n > size:
        raise InputError(
            f"'{crossed.name}' ({crossed.sizes()}) holds samples on another axis than the first, so they have to fit "
            f"into one run: this engine takes {size} at a time. Use Engine(batch=N)."
        )
    return Plan(frozenset(samples), n, size, fixed, fixed is None and crossed is None)


def shared_output(model: Model, plan: Plan) -> str:
    """The first output that is known not to hold one entry per sample; "" if there is none."""
    return model.fact(("one for all", plan.fixed), lambda: _shared_output(model, plan))


def _shared_output(model: Model, plan: Plan) -> str:
    for spec in model.outputs:
        lead = spec.shape[0] if spec.shape else None
        of_weight = spec.name.removeprefix("gradient.") in model.ir.graph.initializers
        if (spec.rank_known and not spec.shape) or of_weight or (isinstance(lead, int) and lead != plan.fixed):
            return f"'{spec.name}' ({spec.sizes()})"
    return ""


def one_for_all(output: str, plan: Plan) -> InputError:
    """The error for an output that would come in parts although it holds no samples."""
    return InputError(
        f"{output} is one for all samples, so they have to fit into one run: this engine takes {plan.size} at a time. "
        "Use Engine(batch=N), with max_memory for as many."
    )


def put(results: Arrays, found: Mapping[str, Any], plan: Plan, start: int) -> None:
    """Write what a run found behind what earlier runs did.

    Raises:
        InputError: it is not one row per sample, or its rows are not of the size of earlier ones.
    """
    count = min(plan.size, plan.n - start)
    for name, value in found.items():
        if not isinstance(value, np.ndarray) or value.shape[:1] != (plan.size if plan.fixed else count,):
            raise one_for_all(f"'{name}'", plan)
        if name not in results:
            results[name] = np.empty((plan.n, *value.shape[1:]), value.dtype)
        whole = results[name]
        if whole.shape[1:] != value.shape[1:]:
            raise InputError(
                f"'{name}' holds {value.shape[1:]} per sample in one run and {whole.shape[1:]} in another: let samples "
                "whose results differ in size run apart."
            )
        whole[start : start + count] = value[:count]


def is_second(pair: NDArray[Any], alone: NDArray[Any]) -> bool:
    """True if the second sample of a batch of two got what it gets alone."""
    if pair.dtype.kind not in "fiubc":  # words
        return pair.shape[:1] == (2,) and np.array_equal(pair[1:], alone)
    scale = np.nan_to_num(np.abs(alone)).max(initial=0)
    return pair.shape[:1] == (2,) and np.allclose(pair[1:], alone, rtol=1e-3, atol=1e-4 * (1e-6 + scale))


def fit(spec: Spec, feeds: Mapping[str, NDArray[Any]], model: Model) -> NDArray[Any]:
    """The value of an input, checked against what the graph says."""
    if spec.name not in feeds:
        names = ", ".join(f"'{s.name}' ({s.sizes()} {s.dtype})" for s in model.inputs if s.name not in feeds)
        raise InputError(
            f"The model has inputs without values: {names}. Methods take them (--input NAME=FILE), from Python in a "
            "dictionary, oi.gradcam(model, {name: array}); studies, which run many photos, do not."
        )
    value = np.asarray(feeds[spec.name])
    if spec.dtype != "unknown" and value.dtype != np.dtype(spec.dtype):
        if not np.can_cast(value.dtype, np.dtype(spec.dtype), casting="same_kind"):
            raise InputError(f"Input '{spec.name}' takes {spec.dtype}, not {value.dtype}.")
        value = value.astype(spec.dtype)
    if not spec.rank_known:
        return value
    if len(spec.shape) != value.ndim:
        raise InputError(
            f"Input '{spec.name}' has {len(spec.shape)} axes ({spec.sizes()}); the value, {value.shape}, "
            f"has {value.ndim}."
        )
    wrong = [i for i, d in enumerate(spec.shape) if i > 0 and isinstance(d, int) and d != value.shape[i]]
    if wrong:
        raise InputError(f"Input '{spec.name}' has shape {spec.sizes()}, the value {'×'.join(map(str, value.shape))}.")
    return value
