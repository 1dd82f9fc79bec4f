"""Does a card compute what the CPU does? Ten methods on the bundled model and a photo, then with each option.

    python scripts/device_check.py                 # cuda
    python scripts/device_check.py --device cuda:1

A row per method: seconds of the second run on either, and how far the values are apart, of the largest; 1e-3 is too far
and ends with exit code 1. Then what TF32, half precision and recordings change, which is theirs to change. Speed on
networks of a real size is for bench.py --device cuda.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tables

import onnx_inspect as oi

SIGNS = Path(__file__).resolve().parents[1] / "models" / "signs"
METHODS: dict[str, dict[str, Any]] = {
    "gradcam": {},
    "saliency": {},
    "integrated_gradients": dict(steps=16),
    "smoothgrad": dict(samples=16, seed=0),
    "guided_backprop": {},
    "lrp": {},
    "deeplift": {},
    "occlusion": dict(window=24, stride=12),
    "rise": dict(samples=64, seed=0),
    "scorecam": {},
}
FAR = 1e-3


def found(method: str, engine: oi.Engine) -> tuple[oi.Attribution, float]:
    """What a method says, and how long it takes once everything is compiled."""
    model, photo = oi.load(SIGNS / "clean.onnx"), SIGNS / "photos" / "00_stop.jpg"
    for _ in range(2):
        start = time.perf_counter()
        result = getattr(oi, method)(model, photo, engine=engine, **METHODS[method])
    return result, time.perf_counter() - start


def apart(one: oi.Attribution, other: oi.Attribution) -> float:
    return float(np.abs(one.values - other.values).max() / np.abs(one.values).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    cpu, card = oi.Engine("cpu"), oi.Engine(device)
    rows, worst = [], 0.0
    for method in METHODS:
        (expected, slow), (got, fast) = found(method, cpu), found(method, card)
        assert got.provider == card.provider, f"{method} ran on {got.provider}"
        worst = max(worst, apart(expected, got))
        rows.append((method, f"{slow:.3f}", f"{fast:.3f}", f"{apart(expected, got):.1e}"))
    print(tables.conditions(), tables.markdown(("", "CPU, s", f"{device}, s", "apart"), rows), sep="\n\n")
    rows = []
    for name in ("tf32", "half", "graphs"):
        other = oi.Engine(device, **{name: True})
        for method in ("saliency", "integrated_gradients"):
            (expected, before), (got, after) = found(method, card), found(method, other)
            notes = "; ".join(note for note in got.notes if note not in expected.notes)
            rows.append((f"{name}, {method}", f"{before:.3f}", f"{after:.3f}", f"{apart(expected, got):.1e}", notes))
    print("", tables.markdown(("", "without, s", "with, s", "apart", "said"), rows), sep="\n")
    return int(worst > FAR)


if __name__ == "__main__":
    sys.exit(main())
