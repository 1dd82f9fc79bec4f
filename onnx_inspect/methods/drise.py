"""D-RISE: what a detector needs to see of a photo to find a thing again."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..attribution import Attribution
from ..detection import Candidates, candidates, overlap
from ..errors import InputError, TargetError
from ..target import Target, TargetLike
from ..target.detected import Detected
from .baselines import Baseline, absent, cast, told
from .features import positive
from .grids import grid_masks
from .inputs import Feeds, Input, ModelLike
from .job import SCORE, How, Job, draws
from .registry import method
from .segments import channel_axis, covered

Array = NDArray[Any]


@method("picture", "detector")
def drise(
    model: ModelLike,
    x: Input,
    target: TargetLike = "box:1",
    *,
    samples: int = 2000,
    cells: int = 16,
    keep: float = 0.5,
    baseline: Baseline = "0",
    seed: int = 0,
    **how: Unpack[How],
) -> Attribution:
    """D-RISE: the mean of random masks, weighted by how well a detector finds the thing again in what they show.

    sum_k s_k m_k / sum_k m_k with s_k = max_j IoU(box, box_j) cos(p, p_j) O_j over all candidates j of the detector for
    x m_k + baseline (1 - m_k); p are the probabilities of the classes, O is objectness. The paper takes O for 1 where a
    detector has none, and softmax probabilities then hold "nothing" as a class; here 1 - p(nothing) stands for it, or
    the surest class's probability where classes are sigmoids: the cosine does not see that all of them fade. Masks are
    those of RISE, of more cells; values are (N, H, W), in [0, 1], and the excess over the lowest is drawn. No gradients
    are needed. The target is a detection, box:1 by default. `measures["whole"]` is s for the whole photo.

    Petsiuk et al., Black-box Explanation of Object Detectors via Saliency Maps, CVPR 2021.

    Args:
        samples: masks; the paper takes 5000.
        cells: cells of the grid along each side; 16 in the paper.
        keep: the share that is seen; 0.5 in the paper.
        baseline: what stands for what is not seen: a number as the model sees it (0 in the paper), mean, grey, blur,
            noise, another photo, an array, or arrays by input name.
        seed: of the masks, and of a baseline of noise.

    Raises:
        TargetError: the target is no detection, or the model no detector.
        InputError: impossible masks, or there is no such baseline.

    Example:
        >>> drise("yolox.onnx", "street.jpg", target="box:1", samples=500).values.shape
    """
    job = Job(model, x, "box:1" if isinstance(target, str) and target == "top" else target, **how)
    if not isinstance(job.target, Detected) or job.target.head is None or job.target.part:
        raise TargetError(f"'{job.target}' is no detection: drise explains box:3 or class:NAME (--target).")
    if not 0 < keep < 1:
        raise InputError(f"A share of {keep:g} shows all or nothing: it lies between 0 and 1 (--keep).")
    positive("samples", samples)
    covered(job)
    head, name = job.target.head, job.input.name
    axis, there = channel_axis(job, name), absent(job, baseline, seed, [name])[name]
    shape = tuple(s for i, s in enumerate(job.feeds[name].shape) if i not in (0, axis))
    if positive("cells", cells) > min(shape):
        raise InputError(f"{cells} cells do not fit along a side of {min(shape)} pixels (--cells).")
    clean = candidates(head, job.forward(head.tensors))
    wanted = [f.detection.candidate for f in job.target.found]

    def masks(which: NDArray[np.int64]) -> NDArray[np.float32]:
        return grid_masks(shape, cells, keep, draws(seed, which))

    def vary(i: int, which: NDArray[np.int64]) -> dict[str, Array]:
        x, m = job.feeds[name][i], masks(which)
        m = m if axis is None else np.expand_dims(m, axis)
        return {name: cast(x * m + there[i] * (1 - m), x.dtype)}

    def run(feeds: Feeds, _: Target) -> dict[str, Array]:
        if not head.boxes.leaves[0].alone:
            return job.forward(head.tensors, feeds=feeds)
        rows = ({k: v[j : j + 1] for k, v in feeds.items()} for j in range(len(feeds[name])))  # of one photo each
        return {SCORE: np.array([like(0, job.forward(head.tensors, feeds=row))[0] for row in rows])}

    def like(i: int, found: dict[str, Array]) -> list[float]:
        return [similarity(clean[i], wanted[i], one) for one in candidates(head, found)]

    weighted, total = (np.zeros((job.n, *shape)) for _ in range(2))
    for i, which, found in job.sweep("drise", samples, vary, run):
        m = masks(which)
        alike = found[SCORE] if SCORE in found else like(i, found)
        weighted[i] += np.tensordot(np.array(alike), m, 1)
        total[i] += m.sum(axis=0)
    values = np.divide(weighted, total, out=np.zeros_like(total), where=total > 0).astype(np.float32)
    whole = np.array([similarity(one, a, one) for one, a in zip(clean, wanted, strict=True)])
    return job.attribution(  # type: ignore[no-any-return]
        "drise",
        values,
        job.clean | {SCORE: whole},
        heat=values - values.min(axis=(1, 2), keepdims=True),
        params={"samples": samples, "cells": cells, "keep": keep, "baseline": told(baseline), "seed": seed},
        measures={"whole": whole},
    )


def similarity(clean: Candidates, wanted: int, seen: Candidates) -> float:
    """max_j IoU(box, box_j) cos(p, p_j) O_j of a candidate of the clean sample with those of a changed one."""
    p, q = clean.probabilities[wanted], seen.probabilities
    length = np.linalg.norm(p) * np.linalg.norm(q, axis=1)
    cosine = np.divide(q @ p, length, out=np.zeros(len(q)), where=length > 0)
    return float((overlap(clean.boxes[wanted], seen.boxes) * cosine * seen.objectness).max())
