"""Sanity checks: an explanation that does not change when the weights do explains something else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import onnx_ir as ir

from ..attribution import Attribution
from ..dtypes import is_float
from ..errors import InputError
from ..model import Model
from ..structure import label, needed
from ..target import TargetLike
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import explanation, method

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME = 0.5  # a rank correlation above this is more alike than different


class Sanity(Attribution):
    """The intact map, and in `extra` those of the shuffled models, (N, K, h, w), with how alike they are."""

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo, the intact map, and one map per stage with its rank correlation."""
        from .. import layout, render

        photo = self.photo(i)
        maps = [self.map(i), *(photo.geometry.to_photo(h) for h in self.extra["maps"][i])]
        draw = partial(
            render.overlay, signed=self.signed, percentile=self.percentile, seen=photo.geometry.mask_in_photo()
        )
        tiles = [layout.fit(draw(photo.pixels, m), 220, 330) for m in maps]
        names = ["intact", *(str(stage) for stage in self.params["stages"])]
        numbers = [
            "",
            *(f"rank {r:.2f}, SSIM {s:.2f}" for r, s in zip(*(self.extra[k][i] for k in _ALIKE), strict=True)),
        ]
        cells = [
            layout.column([layout.line(n, t.shape[1], 13), layout.line(m, t.shape[1], 12), t], 3)
            for n, m, t in zip(names, numbers, tiles, strict=True)
        ]
        sheet = layout.grid(cells, min(len(cells), 5), gap=8)
        return layout.frame(layout.titled(sheet, self.title(i), 17), 12)

    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """The whole row: one map says nothing here."""
        return self.panel(i)

    def title(self, i: int = 0) -> list[str]:
        """The verdict."""
        return [self.lines(i)[0], *super().title(i)]

    def lines(self, i: int = 0) -> list[str]:
        """The verdict, as the sentence that it is."""
        passed = "depends on the weights" if self.measures["passed"][i] else "hardly depends on the weights"
        return [
            f"{self.params['of']} {passed}: mean rank correlation {self.measures['rank'][i]:.2f}, "
            f"SSIM {self.measures['ssim'][i]:.2f}"
        ]


_ALIKE = ("rank_correlation", "ssim")


@method("gradient", explains=False)
def sanity(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    of: str = "gradcam",
    stages: int = 6,
    independent: bool = False,
    seed: int = 0,
    **how: Unpack[How],
) -> Sanity:
    """Sanity check: does a method's map change when the model's weights are shuffled?

    The weights of each layer are permuted, from the output down to the input (cascading) or one layer at a time, and
    the method is run again for the same class. Spearman's rank correlation and SSIM of the magnitudes with the intact
    map: a method that still gives the same picture explains edges, not the model. The verdict: it fails where the rank
    correlation, in the mean over the stages, is above 0.5. Guided backprop is known to fail.

    Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (who draw new weights; permuting keeps their
    distribution, and works for quantised ones).

    Args:
        of: the method to check, by name.
        stages: how many maps are made between the intact and the wholly shuffled model.
        independent: shuffle one layer at a time, the others intact.
        seed: of the permutations.

    Raises:
        InputError: no such method, or the model has no weights.
        TargetError: no such target.

    Example:
        >>> sanity("model.onnx", "cat.jpg", of="guided_backprop").measures["rank"]
    """
    job = Job(model, x, target, **how)
    function = explanation(of)
    layers = weighted(job.model, job.explained_tensor)
    if not layers:
        raise InputError("The model has no weights to shuffle on the way to the target.")
    if stages < 1:
        raise InputError("A check without a stage checks nothing (--stages).")
    ends = np.unique(np.linspace(1, len(layers), min(stages, len(layers))).round().astype(int))
    fixed = job.settled
    given: Any = how | {"preprocessing": job.preprocessing, "progress": None}
    x = x if job.preprocessing is not None and not isinstance(x, np.ndarray | dict) else job.feeds
    intact = function(job.model, x, fixed, **given)
    advance = job.progress("sanity", len(ends)) if job.progress is not None else lambda n: None
    readable = {layer.tensor: layer.name for layer in job.model.layers}
    maps, names = [], []
    for end in ends:
        chosen = layers[end - 1 : end] if independent else layers[:end]
        last = readable.get(chosen[-1].outputs[0].name or "", label(chosen[-1]))
        names.append(last if independent else f"down to {last}")
        maps.append(function(shuffled(job.model, chosen, seed), x, fixed, **given).heat)
        advance(1)
    alike = {
        name: np.array(
            [[measure(a, b) for b in row] for a, row in zip(intact.heat, zip(*maps, strict=True), strict=True)]
        )
        for name, measure in zip(_ALIKE, (rank_correlation, ssim), strict=True)
    }
    ranks = alike["rank_correlation"]
    rank = ranks.mean(axis=1)
    job.notes.extend(n for n in intact.notes if n not in job.notes)
    return job.attribution(  # type: ignore[no-any-return]
        "sanity",
        intact.tensors or intact.values,
        job.clean,
        heat=intact.heat,
        kind=Sanity,
        signed=intact.signed,
        params={"of": of, "stages": names, "independent": independent, "seed": seed},
        extra={"maps": np.stack(maps, axis=1), **alike},
        measures={"rank": rank, "ssim": alike["ssim"].mean(axis=1), "passed": rank <= SAME},
    )


def weighted(model: Model, score: str) -> list[ir.Node]:
    """The nodes with weights, matrices or kernels, that a score depends on, the last first."""
    reached = needed(model.ir.graph, model.value(score))
    return [n for n in reversed(list(model.ir.graph)) if n.outputs[0] in reached and any(map(_is_weight, n.inputs))]


def _is_weight(value: ir.Value | None) -> bool:
    tensor = None if value is None else value.const_value
    return tensor is not None and tensor.size > 1 and len(tensor.shape) >= 2


def shuffled(model: Model, nodes: list[ir.Node], seed: int) -> Model:
    """The model with the numbers of each weight of some of its nodes in another order, biases included."""
    new = model.clone()
    names = {v.name for n in nodes for v in n.inputs if v is not None and v.name in new.ir.graph.initializers}
    for k, name in enumerate(sorted(n for n in names if n)):
        value = new.ir.graph.initializers[name]
        tensor = value.const_value
        if tensor is None or tensor.size < 2 or not (_is_weight(value) or is_float(value)):
            continue
        numbers = tensor.numpy()
        order = np.random.default_rng([seed, k]).permutation(numbers.size)
        value.const_value = ir.tensor(numbers.ravel()[order].reshape(numbers.shape), dtype=tensor.dtype, name=name)
    return new.derived("shuffled", str(seed), *sorted(n for n in names if n))


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's rank correlation of the magnitudes of two maps; 0 where one of them is constant."""
    from scipy.stats import spearmanr

    one, other = np.abs(a).ravel(), np.abs(b).ravel()
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other).statistic)


def ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The structural similarity of the magnitudes of two maps, each scaled to [0, 1].

    Wang et al., Image Quality Assessment, IEEE TIP 2004: means, variances and covariance in Gaussian windows with a
    deviation of 1.5.
    """
    from scipy.ndimage import gaussian_filter

    one, other = (_unit(np.abs(np.asarray(m, np.float64))) for m in (a, b))

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred: NDArray[np.float64] = gaussian_filter(values, 1.5, truncate=3.5)
        return blurred

    m, n = mean(one), mean(other)
    v, w, c = mean(one * one) - m * m, mean(other * other) - n * n, mean(one * other) - m * n
    return float((((2 * m * n + 1e-4) * (2 * c + 9e-4)) / ((m * m + n * n + 1e-4) * (v + w + 9e-4))).mean())


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros_like(values)
