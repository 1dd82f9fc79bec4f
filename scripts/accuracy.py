"""Top-1 accuracy of trained models on labelled photos, through the same reading, resizing and running as explanations.

    python scripts/accuracy.py --assets ../shared/assets

A model that is fed wrongly predicts badly, so this shows that the preprocessing is right.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tables
from numpy.typing import NDArray

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.methods.inputs import guess_preprocessing

# Model, how it is fed beyond what the file says, photos, and where the first class stands in its output.
MODELS: dict[str, tuple[dict[str, Any], str, int]] = {
    "squeezenet1.1_fp32_caffe2": ({"preset": "caffe"}, "imagenet", 0),
    "mobilenetv2_fp32_pytorch_opset12": ({"preset": "imagenet"}, "imagenet", 0),
    "mobilenet_v1_0.25_128_nhwc_fp32_tf": ({}, "imagenet", 1),
    "cifar10_cnn_pytorch17": ({"scale": 1 / 255, "mean": (0.5,), "std": (0.5,), "color": "RGB"}, "cifar10_public", 0),
    "resnet8_cifar10_keras_nhwc": ({"preset": "raw"}, "cifar10_public", 0),
    "mnist-7_cntk": ({}, "mnist", 0),
    "mnist_keras_tf2onnx_nhwc": ({}, "mnist", 0),
}
DIGITS = 1000


def digits(assets: Path, count: int) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """The first test digits of MNIST as RGB, and what they are."""
    folder = assets / "images" / "mnist"
    pixels, labels = (
        np.frombuffer(gzip.decompress((folder / f"t10k-{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for name, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return list(np.repeat(pixels.reshape(-1, 28, 28, 1)[:count], 3, axis=3)), labels[:count].tolist()


def samples(assets: Path, kind: str) -> tuple[Sequence[NDArray[np.uint8]], list[int]]:
    """Photos as RGB and their classes."""
    if kind == "mnist":
        return digits(assets, DIGITS)
    entries = json.loads((assets / "MANIFEST.json").read_text(encoding="utf-8"))["files"]
    photos = [e for e in entries if e["file"].startswith(f"images/{kind}/")]
    labels = [e.get("imagenet_index", e.get("class_index")) for e in photos]
    return [image.read(assets / e["file"]) for e in photos], labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, metavar="DIR", help="models, photos and MANIFEST.json")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()

    engine, rows = oi.Engine("cpu", batch=16), []
    for name, (flags, kind, offset) in MODELS.items():
        model = oi.load(args.assets / "models" / f"{name}.onnx")
        how, _ = guess_preprocessing(model, **flags)
        photos, labels = samples(args.assets, kind)
        output = model.outputs[0].name
        scores = engine.run(model, {model.inputs[0].name: how.batch(photos)}, [output])[output]
        right = int((scores.reshape(len(photos), -1).argmax(axis=1) == np.add(labels, offset)).sum())
        rows.append((name, kind, f"{right} of {len(photos)}", f"{100 * right / len(photos):.1f}", how.describe()))
    table = tables.markdown(("model", "photos", "right", "%", "preprocessing"), rows)
    print(table)
    if args.write:
        tables.write(args.write, "accuracy", "\n\n".join(["## Top-1 accuracy", tables.conditions(), table]))


if __name__ == "__main__":
    main()
