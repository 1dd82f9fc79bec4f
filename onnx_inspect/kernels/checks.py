"""What is wrong with the kernels of a layer: norms, near-duplicates and spectra, as `filters` defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .weights import Kernels

DOMINATING = 3.0  # times the median norm
DEAD = 0.01  # of the mean norm
ALIKE = 0.95  # cosine
OUTLIER = 3.5  # robust standard deviations of the logarithm, after Iglewicz & Hoaglin (1993)
ALIASED = 0.5  # share of the energy
_LISTED = 1000  # pairs
_PAIR = [("a", np.int64), ("b", np.int64), ("cosine", np.float64)]
_BLOCK = 1024  # units compared with all others at the same time


def diagnose(found: Kernels) -> dict[str, Any]:
    """All that `filters` says of the kernels of a layer."""
    flat = found.values.reshape(len(found.values), -1)
    norm = lengths(flat) * np.abs(found.gain)
    living = norm > DEAD * norm.mean()
    median = float(np.median(norm[living])) if living.any() else 0.0
    z = robust(norm, living)
    high, aliased = beyond(found, (0.25, 0.25)), beyond(found, tuple(0.5 / s for s in found.stride))
    energy = np.where(living, norm**2, 0)
    count, pairs = duplicates(flat, living, found.groups)
    spectrum = None if high is None else {"share": _mean(high, energy), "white_noise": white(found, (0.25, 0.25))}
    aliasing = None
    overlap = all(step < max(n, 2) for step, n in zip(found.stride, found.values.shape[2:], strict=True))
    if aliased is not None and max(found.stride) > 1 and overlap:
        share = _mean(aliased, energy)
        noise = white(found, tuple(0.5 / s for s in found.stride))
        aliasing = {"share": share, "white_noise": noise, "warning": share > ALIASED}
    return {
        "norm": {"median": _digits(median), "min": _digits(norm.min()), "max": _digits(norm.max())},
        "dominating": np.flatnonzero(norm > DOMINATING * median).tolist() if median else [],
        "dead": np.flatnonzero(~living).tolist(),
        "outliers": np.flatnonzero(np.abs(z) > OUTLIER).tolist(),
        "duplicates": [{"a": a, "b": b, "cosine": _digits(c)} for a, b, c in pairs],
        "duplicates_found": count,
        "high_frequency": spectrum,
        "aliasing": aliasing,
        "filters": [
            {
                "index": k,
                "norm": _digits(norm[k]),
                "rms": _digits(norm[k] / np.sqrt(flat.shape[1])),
                "z": _digits(z[k]) if living[k] else None,
                "high_frequency": None if high is None or not living[k] else _digits(high[k]),
                "aliased": None if aliasing is None or aliased is None or not living[k] else _digits(aliased[k]),
            }
            for k in range(len(flat))
        ],
    }


def robust(norm: NDArray[np.float64], living: NDArray[np.bool_]) -> NDArray[np.float64]:
    """z = (log n - median) / (1.4826 · median |log n - median|), over what lives; 0 for the rest."""
    z = np.zeros(len(norm))
    if living.any():
        logs = np.log(norm[living])
        far = logs - np.median(logs)
        spread = 1.4826 * np.median(np.abs(far))
        z[living] = far / spread if spread > 1e-9 else 0
    return z


def duplicates(
    flat: NDArray[np.float32], living: NDArray[np.bool_], groups: int
) -> tuple[int, list[tuple[int, int, float]]]:
    """How many pairs of one group have a |cosine| above `ALIKE`, and the closest; of single numbers there are none."""
    if flat.shape[1] < 2:
        return 0, []
    count, closest = 0, np.empty(0, _PAIR)
    size = len(flat) // groups
    for start in range(0, len(flat), size):
        which = start + np.flatnonzero(living[start : start + size])
        unit = flat[which] / lengths(flat[which])[:, None].astype(np.float32)
        for i in range(0, len(which), _BLOCK):
            cosine = unit[i : i + _BLOCK] @ unit.T
            a, b = np.nonzero(np.triu(np.abs(cosine) > ALIKE, i + 1))
            count += len(a)
            more = np.empty(len(a), _PAIR)
            more["a"], more["b"], more["cosine"] = which[i + a], which[b], cosine[a, b]
            closest = np.concatenate([closest, more])
            closest = closest[np.argsort(-np.abs(closest["cosine"]), kind="stable")[:_LISTED]]
    return count, closest.tolist()


def lengths(flat: NDArray[np.float32]) -> NDArray[np.float64]:
    """The norm of each row; its square leaves the range of float32 long before it."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", flat, flat, dtype=np.float64)))


def beyond(found: Kernels, limits: tuple[float, ...]) -> NDArray[np.float64] | None:
    """Share of each kernel's energy at frequencies beyond the limits (vertical, horizontal), in cycles a pixel.

    The spectrum W of a kernel w is that of its finite grid in an endless plane. The energy inside of a box is
    ∫∫ |W|² = Σ w B w with B[i, j] = 2F sinc(2F (i - j)) per axis, exactly. An axis of one weight says nothing; None
    where both are.
    """
    boxes = [_inside(n, d, f) for n, d, f in zip(found.values.shape[2:], found.dilation, limits, strict=True)]
    if found.values.shape[2:] == (1, 1):
        return None
    shares = []
    for w in found.values.astype(np.float64, copy=False):
        inside = np.sum(w * (boxes[0] @ w @ boxes[1]))
        shares.append(1 - inside / (np.sum(w * w) or 1))
    return np.array(shares).clip(0, 1)


def white(found: Kernels, limits: tuple[float, ...]) -> float:
    """What `beyond` gives for noise: the share of all frequencies."""
    inside = [2 * f if n > 1 else 1.0 for n, f in zip(found.values.shape[2:], limits, strict=True)]
    return 1 - float(np.prod(inside))


def _inside(count: int, dilation: int, limit: float) -> NDArray[np.float64]:
    i = np.arange(count) * dilation
    return 2 * limit * np.sinc(2 * limit * (i[:, None] - i)) if count > 1 else np.ones((1, 1))


def _mean(share: NDArray[np.float64], energy: NDArray[np.float64]) -> float:
    return _digits(float(np.sum(share * energy) / (energy.sum() or 1)))


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
