"""Every method on photos with boxes: does it point at the thing, is it faithful, and what does it cost?

    python scripts/compare_methods.py --assets ../shared/assets --write docs/comparison.md

Photos, categories and their classes are those of scripts/pointing_game.py. Per method and model: pointing game,
energy in the box, the areas under insertion and deletion, and seconds per pair on one thread. Two maps that know
nothing of the model stand beside them: noise, and a bump in the middle, where photographers put things.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pointing_game
import tables
from pointing_game import Round

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.errors import InspectError
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.methods.registry import EXPLANATIONS, every

MODELS = {
    "mobilenetv2_fp32_pytorch_opset12": "imagenet",
    "squeezenet1.1_fp32_caffe2": "caffe",
    "mobilenet_v1_0.25_128_nhwc_fp32_tf": "raw",
}
# Fewer samples than the defaults, so that the table is made in an hour on one core.
FEWER: dict[str, dict[str, Any]] = {
    "rise": dict(samples=500),
    "lime": dict(samples=300),
    "kernel_shap": dict(samples=300),
    "shapley_value_sampling": dict(samples=5),
    "smooth_gradcam_plusplus": dict(samples=10),
    "smoothgrad": dict(samples=20),
    "integrated_gradients": dict(steps=20),
    "blur_ig": dict(steps=20),
    "guided_ig": dict(steps=20),
    "xrai": dict(steps=20),
}
SKIPPED = {"permutation": "samples meet"}
STEPS = 10


def targets(model: oi.Model, how: oi.Preprocessing, played: list[Round], engine: oi.Engine) -> list[int]:
    """The highest-scoring class of those that the category stands for; some models count a background class first."""
    x = how.batch([image.read(r.photo) for r in played])
    (rows,) = engine.run(model, {model.inputs[0].name: x}).values()
    rows = rows.reshape(len(x), -1)
    shift = rows.shape[1] - 1000
    return [
        max((k + shift for k in pointing_game.CLASSES[one.category]), key=lambda k, row=row: row[k])  # type: ignore[misc]
        for one, row in zip(played, rows, strict=True)
    ]


def ignorant(like: oi.Attribution, name: str) -> oi.Attribution:
    """A map that knows nothing of the model."""
    n, height, width = like.heat.shape
    if name == "(noise)":
        heat = np.random.default_rng(0).random((n, height, width))
    else:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        heat = np.repeat(np.exp(-2 * (x * x + y * y))[None], n, axis=0)
    return replace(like, method=name, values=heat, heat=heat)


def row(
    model: oi.Model, result: oi.Attribution, played: list[Round], classes: list[int], seconds: float, how: Any
) -> dict:
    paths = [r.photo for r in played]
    boxes = [r.boxes for r in played]
    # 15 pixels of an input of 224, whatever the size of the photo
    hits = [
        bool(
            r.within(
                *point, 15 * result.photo(i).geometry.model[0] / 224, pointing_game.scale(result.photo(i).geometry)
            )
        )
        if (point := pointing_game.peak(result.map(i))) is not None
        else False
        for i, r in enumerate(played)
    ]
    curves = [f(model, paths, result, steps=STEPS, **how).area for f in (oi.insertion, oi.deletion)]
    return {
        "method": result.method,
        "hits": sum(hits),
        "energy": float(oi.energy_in_box(result, boxes).mean()),
        "insertion": float(curves[0].mean()),
        "deletion": float(curves[1].mean()),
        "seconds": seconds / len(played),
    }


def measure(name: str, preset: str, assets: Path, methods: list[str], played: list[Round]) -> list[dict[str, Any]]:
    engine = oi.Engine("cpu", threads=1)
    model = oi.load(assets / "models" / f"{name}.onnx")
    how, _ = guess_preprocessing(model, preset, resize="squash")
    classes = targets(model, how, played, engine)
    paths: list[Any] = [r.photo for r in played]
    given = {"engine": engine, "preprocessing": how}
    found = []
    reference = oi.saliency(model, paths, target=classes, **given)  # type: ignore[arg-type]
    for ignorance in ("(noise)", "(middle)"):
        found.append(row(model, ignorant(reference, ignorance), played, classes, 0, given))
    for method in methods:
        start = time.perf_counter()
        try:
            result = EXPLANATIONS[method](model, paths, target=classes, **given, **FEWER.get(method, {}))
        except InspectError as error:
            found.append({"method": method, "reason": str(error)})
            continue
        found.append(row(model, result, played, classes, time.perf_counter() - start, given))
        print(name, found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, metavar="DIR", help="models, photos and MANIFEST.json")
    parser.add_argument("--models", default=",".join(MODELS), metavar="NAMES")
    parser.add_argument("--methods", default="all", metavar="NAMES")
    parser.add_argument("--json", type=Path, metavar="FILE", help="numbers, kept from run to run and model to model")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()

    every()
    methods = sorted(set(EXPLANATIONS) - set(SKIPPED)) if args.methods == "all" else args.methods.split(",")
    played = pointing_game.rounds(args.assets)
    found = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    for name in args.models.split(","):
        new = measure(name, MODELS[name], args.assets, methods, played) if methods != [""] else []
        redone = {r["method"] for r in new}
        found[name] = sorted(
            [*new, *(r for r in found.get(name, []) if r["method"] not in redone)], key=lambda r: r["method"]
        )
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))
    text = "\n\n".join(section(name, rows, len(played)) for name, rows in found.items())
    print(text)
    if args.write:
        fewer = "; ".join(f"{m}: {', '.join(f'{k}={v}' for k, v in o.items())}" for m, o in FEWER.items())
        note = (
            f"{len({r.photo for r in played})} photos, {len(played)} pairs of a photo and a category, squashed to the "
            f"input. Energy, insertion and deletion are means; curves of {STEPS} steps, deletion in grey, insertion "
            f"from blur. Seconds per pair, one thread, with other work on the machine. Defaults but for {fewer}."
        )
        if not args.write.exists():
            args.write.write_text("# Every method on real models\n", encoding="utf-8")
        tables.write(args.write, "comparison", "\n\n".join([tables.conditions(), note, text]))


def section(name: str, rows: list[dict[str, Any]], pairs: int) -> str:
    header = ("method", f"pointing, of {pairs}", "energy in box", "insertion", "deletion", "s per pair")
    body = [
        (r["method"], r["hits"], *(f"{r[k]:.2f}" for k in ("energy", "insertion", "deletion")), f"{r['seconds']:.2f}")
        for r in rows
        if "hits" in r
    ]
    out = [f"- {r['method']}: {r['reason']}" for r in rows if "reason" in r]
    return "\n\n".join(
        [f"## {name}", tables.markdown(header, body), *(["Not measured:\n\n" + "\n".join(out)] if out else [])]
    )


if __name__ == "__main__":
    main()
