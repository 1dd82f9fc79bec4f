"""Our gradients and those of onnx-ad against torch's golden ones, into docs/oracles.md.

    python -m venv .venv-oracles && . .venv-oracles/bin/activate
    pip install onnx-ad==0.3.0 .
    python scripts/oracles.py --write docs/oracles.md

onnx-ad rewrites ONNX graphs, too, so it runs on the very models that ours runs on: where both differ from torch, the
operators do; where one of us does, that one errs, or a kink is another convention.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ad
import onnxruntime as ort
import tables
from numpy.typing import NDArray

import onnx_inspect as oi

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.golden.spec import Spec  # noqa: E402
from tests.golden.specs import FAMILIES  # noqa: E402

Arrays = dict[str, NDArray[Any]]
TOLERANCE = 1e-4
INTRODUCTION = """## Gradients against torch's

{total} rows in `tests/golden`, each a few ONNX nodes and the torch expression that computes the same: gradients with
respect to every float input, for random cotangents, by torch 2.13.0 in float64 (`scripts/golden.py`, which first checks
that onnxruntime and torch agree forwards). A row agrees if the relative l2 error of each gradient, computed on
onnxruntime in float32, is at most {tolerance:g}. Values lie on kinks and ties where there are any; what torch does and
we do not is said beside the rows. onnx-ad 0.3.0, a rewriter of ONNX graphs by other people, is the second opinion: rows
that it does not agree on are those that it refuses, where it treats zeros or kinks in another way, or that it
takes for constant; the script prints them."""


def ours(spec: Spec, inputs: Arrays, cotangents: Arrays) -> Arrays:
    model = oi.vjp(oi.load(spec.model(inputs, cotangents)), spec.wrt, spec.outputs)
    found = run(model.to_bytes(), inputs | {f"cotangent.{k}": c for k, c in cotangents.items()})
    return {k: found[f"gradient.{k}"] for k in spec.wrt}


def theirs(spec: Spec, inputs: Arrays, cotangents: Arrays) -> Arrays:
    """By onnx-ad, whose cotangents and gradients have a last axis for several at once."""
    model = onnx_ad.reverse(spec.model(inputs, cotangents), inputs=spec.wrt, outputs=spec.outputs, layout="onnx")
    found = run(model.SerializeToString(), inputs | {f"adj_{k}": c[..., None] for k, c in cotangents.items()})
    return {k: found[f"adj_{k}"][..., 0] for k in spec.wrt}


def run(model: bytes, feeds: Arrays) -> Arrays:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    wanted = {i.name for i in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: x for k, x in feeds.items() if k in wanted}), strict=True))


def error(found: Arrays, stored: Arrays) -> float:
    """The largest relative l2 error among the gradients; where torch's is 0, the largest absolute one."""
    worst = 0.0
    for k, x in found.items():
        expected = stored[f"gradient.{k}"]
        same = x.shape == expected.shape and np.isfinite(x).all()
        off = np.linalg.norm(x - expected) if same else np.inf
        worst = max(worst, float(off / (np.linalg.norm(expected) or 1)))
    return worst


def compare(method: Callable[[Spec, Arrays, Arrays], Arrays], family: str) -> tuple[dict[str, float], dict[str, str]]:
    """The error of each row of a family, or the reason why there is none."""
    errors, refused = {}, {}
    with np.load(ROOT / "tests" / "golden" / f"{family}.npz") as file:
        golden = dict(file)
    for spec in FAMILIES[family]:
        start = f"{spec.name}/"
        stored = {k.removeprefix(start): x for k, x in golden.items() if k.startswith(start)}
        cotangents = {k: stored[f"cotangent.{k}"] for k in spec.outputs}
        try:
            found = method(spec, {k: stored[k] for k in spec.inputs}, cotangents)
        except Exception as reason:
            refused[spec.name] = (str(reason).splitlines() or [""])[0]
        else:
            errors[spec.name] = error(found, stored)
    return errors, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    rows, notes = [], []
    for family, specs in FAMILIES.items():
        row: list[object] = [family, len(specs)]
        for who, method in (("ours", ours), ("onnx-ad", theirs)):
            errors, refused = compare(method, family)
            good = [e for e in errors.values() if e <= TOLERANCE]
            row += [len(good), f"{max(good, default=0):.1e}"]
            notes += [f"- {family}, {k}: {who} differs by {e:.2g}" for k, e in errors.items() if not e <= TOLERANCE]
            notes += [f"- {family}, {k}: {who} gives none: {reason[:120]}" for k, reason in refused.items()]
        rows.append(row)
    header = ("family", "rows", "ours agree", "worst of these", "onnx-ad agrees", "worst of these")
    total = sum(len(specs) for specs in FAMILIES.values())
    text = "\n\n".join(
        [INTRODUCTION.format(total=total, tolerance=TOLERANCE), tables.conditions(), tables.markdown(header, rows)]
    )
    print(text, *notes, sep="\n")
    if args.write:
        tables.write(args.write, "oracles", text)


if __name__ == "__main__":
    main()
