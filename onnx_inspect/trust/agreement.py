"""Do two maps of one photo say the same: ranks, values, and the positions that count most."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import render

SHARE = 0.2  # of the positions: those that count most
MEASURES = ("spearman", "pearson", "difference", "scaled_difference", "overlap")


def agreement(a: NDArray[Any], b: NDArray[Any], signed: bool = False) -> dict[str, float]:
    """How far two maps agree, by name; NaN where a map that is the same everywhere says nothing.

    spearman: the correlation of ranks, equal values sharing theirs; 1 for the same order.
    pearson: the correlation of values.
    difference: the largest, in units of the score.
    scaled_difference: the largest, each map brought to 0 to 1, signed ones to -1 to 1.
    overlap: of the fifths of the positions that count most, intersection over union. What equals the map's minimum
    counts for nothing and is in neither.

    Args:
        a: a map.
        b: another of the same shape.
        signed: negative values speak against the target.
    """
    one, other = (np.asarray(m, np.float64).ravel() for m in (a, b))
    scaled = [render.normalise(m, signed) for m in (one, other)]
    spearman, pearson = _correlations(one, other)
    tops = [_top(m) for m in (one, other)]
    union = int((tops[0] | tops[1]).sum())
    return {
        "spearman": spearman,
        "pearson": pearson,
        "difference": float(np.abs(one - other).max()),
        "scaled_difference": float(np.abs(scaled[0] - scaled[1]).max()),
        "overlap": int((tops[0] & tops[1]).sum()) / union if union else np.nan,
    }


def _correlations(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import pearsonr, spearmanr

    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return np.nan, np.nan
    with warnings.catch_warnings(action="ignore"):  # of maps that are all but constant
        return float(spearmanr(one, other).statistic), float(pearsonr(one, other).statistic)


def _top(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The share of the positions with the largest values; among equals the first."""
    top = np.zeros(len(values), bool)
    top[np.argsort(-values, kind="stable")[: max(1, round(SHARE * len(values)))]] = True
    top &= values > values.min()
    return top
