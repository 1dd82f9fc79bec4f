"""Two road-sign models, one of which cheats: see it in the maps, and in numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ..attribution import Attribution
    from ..engine import Engine

METHODS = ("gradcam", "cam", "saliency", "occlusion")
MODELS = ("clean", "biased")


@click.command("demo")
@click.option("-o", "--out", default="onnx-inspect-demo", show_default=True, metavar="DIR", help="Where pictures go.")
@options.engine
@options.output
def command(out: str, as_json: bool, quiet: bool, debug: bool, **values: Any) -> None:
    """Two road-sign models, one of which cheats: see it in the maps, and in numbers.

    Both classify signs pasted on photos, and both look accurate on photos like those they were trained on. One has
    learnt that a camera's stamp, "CAM-02 REC", means "stop". The demo runs Grad-CAM, CAM, saliency and occlusion on
    12 bundled photos with both, writes the overlays and a contact sheet, and measures how much of each Grad-CAM
    lies on the sign and how much on the stamp.
    """
    from ..files import write_json

    folder = Path(out)
    engine = options.make_engine(values)
    results = run(engine, folder, quiet)
    facts = measure(results)
    write_json(folder / "demo.json", facts)
    if as_json:
        options.print_json(facts)
    else:
        tell(facts, folder)


def run(engine: Engine, folder: Path, quiet: bool = False) -> dict[str, dict[str, Attribution]]:
    """All methods on all photos with both models; writes overlays and the contact sheet."""
    from .. import image, model
    from ..methods import cam, gradients, perturbation
    from ..resources import bundled

    functions: dict[str, Callable[..., Attribution]] = {
        "gradcam": cam.gradcam,
        "cam": cam.cam,
        "saliency": gradients.saliency,
        "occlusion": perturbation.occlusion,
    }
    photos = sorted(bundled("signs/photos").glob("*.jpg"))
    results: dict[str, dict[str, Attribution]] = {}
    for name in MODELS:
        loaded = model.load(bundled(f"signs/{name}.onnx"))
        results[name] = {}
        for method in METHODS:
            if not quiet:
                click.echo(f"{name}: {method}", err=True)
            result = functions[method](loaded, list(photos), engine=engine)
            result.write([folder / name / f"{p.stem}.{method}.png" for p in photos])
            results[name][method] = result
    image.write(folder / "contact_sheet.png", sheet(results))
    return results


def _bundled_json(name: str) -> dict[str, Any]:
    """photos/boxes.json: label, sign box, stamp box (x0, y0, x1, y1) per photo; metrics.json: measured on test sets."""
    from ..resources import bundled

    found: dict[str, Any] = json.loads(bundled(f"signs/{name}").read_text(encoding="utf-8"))
    return found


def sheet(results: dict[str, dict[str, Attribution]]) -> NDArray[np.uint8]:
    """One row per photo, one column per model and method."""
    from .. import image, layout, render

    known = _bundled_json("photos/boxes.json")
    columns = ["photo", *(f"{model}: {method}" for model in results for method in METHODS)]
    rows, titles = [], []
    some = next(iter(results.values()))["gradcam"]
    for i, photo in enumerate(some.photos):
        assert photo is not None
        assert photo.path is not None
        marked = photo.pixels.copy()
        for kind, colour in (("box", (60, 220, 60)), ("stamp_box", (255, 80, 80))):
            if corners := known[photo.path.name].get(kind):
                marked = render.box(marked, corners, colour)
        tiles = [marked, *(results[model][method].overlay(i) for model in results for method in METHODS)]
        rows.append([image.resize(t, (144, 144)) for t in tiles])
        titles.append(known[photo.path.name]["label"])
    return layout.contact_sheet(rows, titles, columns)


def measure(results: dict[str, dict[str, Attribution]]) -> dict[str, Any]:
    """Accuracy, and the shares of the Grad-CAM's energy in the sign's and in the stamp's box, per photo and model."""
    known, tested = _bundled_json("photos/boxes.json"), _bundled_json("metrics.json")
    facts: dict[str, Any] = {}
    for model, of_method in results.items():
        found = of_method["gradcam"]
        rows = []
        for i, photo in enumerate(found.photos):
            assert photo is not None
            assert photo.path is not None
            label = known[photo.path.name]
            predicted = found.predictions[i][0]
            stamp = label.get("stamp_box")
            rows.append(
                {
                    "photo": photo.path.name,
                    "label": label["label"],
                    "predicted": predicted.label,
                    "probability": predicted.probability,
                    "sign_share": share(found.map(i), label["box"]),
                    "stamp_share": share(found.map(i), stamp) if stamp else None,
                }
            )
        right = sum(r["predicted"] == r["label"] for r in rows)
        stamped = [r for r in rows if r["stamp_share"] is not None]
        facts[model] = {
            "test_accuracy": tested[model]["stamp_on_stop"]["accuracy"],
            "right": right,
            "photos": len(rows),
            "stamped": {key: sum(r[key] for r in stamped) / len(stamped) for key in ("sign_share", "stamp_share")},
            "results": rows,
        }
    return facts


def share(values: NDArray[Any], box: Sequence[int]) -> float:
    """How much of a map's total lies in a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    total = float(values.sum())
    return float(values[y0:y1, x0:x1].sum()) / total if total else 0.0


def tell(facts: dict[str, Any], folder: Path) -> None:
    """The story in a few lines."""
    clean, biased = facts["clean"], facts["biased"]
    click.echo(
        "Two models read road signs. Tested on photos like those they learnt from, both look fine: "
        f"{clean['test_accuracy']:.1%} and {biased['test_accuracy']:.1%} right.\n"
        f"Of these {clean['photos']} photos the clean model gets {clean['right']} right, "
        f"the biased one {biased['right']}.\n"
    )
    click.echo(f"{'photo':24} {'clean says':16} {'sign':>5} {'stamp':>6}   {'biased says':16} {'sign':>5} {'stamp':>6}")
    for a, b in zip(clean["results"], biased["results"], strict=True):
        cells = [f"{r['predicted']:16} {r['sign_share']:5.0%} {_percent(r['stamp_share']):>6}" for r in (a, b)]
        click.echo(f"{Path(a['photo']).stem:24} {'   '.join(cells)}")
    click.echo("\nsign, stamp: how much of the Grad-CAM lies in the box of the sign, of the stamp.")
    click.echo(
        f"Where a photo is stamped, the stamp holds {clean['stamped']['stamp_share']:.0%} of the clean model's map "
        f"and {biased['stamped']['stamp_share']:.0%} of the biased one's;\nthe sign holds "
        f"{clean['stamped']['sign_share']:.0%} and {biased['stamped']['sign_share']:.0%}. "
        "The biased model reads the stamp, not the sign."
    )
    click.echo(f"\nLook: {folder / 'contact_sheet.png'}")


def _percent(value: float | None) -> str:
    return f"{value:.0%}" if value is not None else "-"
