"""What conversion does to explanations, in numbers: int8, half precision, uint8, and twins from every exporter.

    python scripts/measure_drift.py --shared ../shared --write docs/measurements.md

Photos are the 31 of ImageNet; the twins get the pictures they were tested on, each twin beside torch_legacy.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import tables

from onnx_inspect.conversion import drift
from onnx_inspect.engine import Engine
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.model import load
from onnx_inspect.pairs import Drift

PAIRS = {
    "MobileNetV2 int8 (QDQ)": ("mobilenetv2_fp32_pytorch_opset12", "mobilenetv2-12-qdq_int8", "imagenet"),
    "SqueezeNet 1.1 fp16": ("squeezenet1.1_fp32_caffe2", "squeezenet1.1_fp16_caffe2", "caffe"),
    "MobileNetV1 uint8": ("mobilenet_v1_0.25_128_nhwc_fp32_tf", "mobilenet_v1_0.25_128_nhwc_uint8_tf", "raw"),
}
METHODS: dict[str, dict[str, Any]] = {
    "gradcam": {},
    "layercam": {},
    "saliency": {},
    "integrated_gradients": {"steps": 16},
    "lrp": {},
}
GOOD = (
    "torch_dynamo keras_tensorflow keras_tensorflow_softmax keras_torch jax_nchw jax_nhwc paddle tf2onnx_nchw_op13 "
    "tf2onnx_nhwc_op18"
).split()
BROKEN = "keras_tensorflow_BUG_samepad torch_BUG_bneps".split()


def spread(found: Drift, name: str, digits: int = 3) -> str:
    """Mean and extremes of a measure."""
    v = found.summary[name]
    return f"{v['mean']:.{digits}f} ({v['min']:.{digits}f} – {v['max']:.{digits}f})"


def converted(models: Path, photos: list[Path], engine: Engine) -> str:
    """A table of pairs of models and methods."""
    rows = []
    for title, (one, other, preset) in PAIRS.items():
        pair = [load(models / f"{name}.onnx") for name in (one, other)]
        taken = [guess_preprocessing(m, preset)[0] for m in pair]
        for method, options in METHODS.items():
            start = time.perf_counter()
            found = drift(
                *pair,
                photos,
                method,
                options=options,
                pictures=0,
                engine=engine,
                preprocessing=taken[0],
                converted_preprocessing=taken[1],
            )
            flat = sum(bool(np.isnan(row["spearman"])) for row in found.rows)
            measured = [spread(found, m) for m in ("spearman", "pearson", "overlap")]
            median = f"{found.summary['spearman']['median']:.3f}"
            rows.append(
                [
                    title,
                    method,
                    *measured[:1],
                    median,
                    *measured[1:],
                    f"{found.values['agree']} of {len(found.rows)}",
                    flat,
                ]
            )
            print(*rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    head = [
        "model",
        "method",
        "rank correlation",
        "median",
        "correlation",
        "overlap of the top 20 %",
        "same top class",
        "blank",
    ]
    return tables.markdown(head, rows)


def twins(folder: Path, engine: Engine) -> str:
    """A table of twins beside the one that torch's older exporter wrote."""
    x = np.load(folder / "test64.npz")["x_nchw"]
    rows = []
    for name in [*GOOD, *BROKEN]:
        found = drift(folder / "twin_torch_legacy.onnx", folder / f"twin_{name}.onnx", x, engine=engine, pictures=0)
        s = found.summary
        most = [f"{s[m]['max']:.1e}" for m in ("difference", "scaled_difference")]
        rows.append(
            [
                name,
                found.values["layers"][1],
                *most,
                f"{s['spearman']['min']:.4f}",
                f"{found.values['agree']} of {len(x)}",
            ]
        )
    head = ["twin", "layer", "largest difference", "of scaled maps", "least rank correlation", "same top class"]
    return tables.markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder of assets and zoo")
    parser.add_argument("--photos", type=int, default=31, help="of ImageNet")
    parser.add_argument("--write", type=Path, help="the file with the markers")
    given = parser.parse_args()
    engine = Engine("cpu", threads=1)
    photos = sorted((given.shared / "assets" / "images" / "imagenet").glob("*.jpg"))[: given.photos]
    text = "\n\n".join(
        [
            "## What conversion does to explanations",
            f"{len(photos)} photos; the original's class on both; mean, in brackets min and max; blank: of how many "
            "photos a map is the same everywhere, as where a score is at the end of its own quantiser. Measured "
            + tables.conditions(),
            converted(given.shared / "assets" / "models", photos, engine),
            "Grad-CAM at the layer of `--layer auto`, of twins with equal weights, beside torch's older exporter, on "
            "the 64 pictures they were tested on. Scaled maps go from 0 to 1. The last two hold a mistake.",
            twins(given.shared / "zoo" / "twins", engine),
        ]
    )
    if given.write:
        tables.write(given.write, "drift", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
