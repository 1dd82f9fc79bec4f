"""Make the README's pictures with the product: python scripts/readme_pictures.py"""

from __future__ import annotations

from pathlib import Path

import onnx_inspect as oi
from onnx_inspect import comparison, image, layout
from onnx_inspect.resources import bundled

OUT = Path(__file__).parents[1] / "docs" / "images"
PHOTOS = bundled("signs/photos")


def main() -> None:
    stamped = PHOTOS / "08_stop_stamp.jpg"
    models = {name: oi.load(bundled(f"signs/{name}.onnx")) for name in ("clean", "biased")}
    panels = [oi.gradcam(model, stamped).panel() for model in models.values()]
    image.write(OUT / "gradcam.jpg", layout.column(panels))
    image.write(OUT / "occlusion.jpg", oi.occlusion(models["biased"], PHOTOS / "10_warning_stamp.jpg").panel())
    image.write(
        OUT / "activations.jpg", oi.activations(models["clean"], stamped, layer="features.3.2", limit=24).overlay()
    )
    entries = comparison.explain(models["biased"], stamped, methods=["gradcam", "ig", "lrp", "occlusion"])
    image.write(OUT / "explain.jpg", comparison.sheet(entries))


if __name__ == "__main__":
    main()
