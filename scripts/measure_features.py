"""What features are worth, in numbers: precision of neighbours, classes on a map, linear probes along depth.

    python scripts/measure_features.py --assets ../shared/assets --write docs/measurements.md

ImageNet's 31 photos are of 31 classes, so neighbours count as right within the groups below. CIFAR's 100 photos have
their class in the file name; of MNIST the first test digits are written as PNG files, a folder per class. All classes
and photos are the networks' own kind, but none was trained on these photos; MobileNet never saw CIFAR.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tables

from onnx_inspect import image
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.model import Model, load
from onnx_inspect.studies.neighbours import neighbours
from onnx_inspect.studies.probe import probe
from onnx_inspect.studies.project import project

GROUPS = {
    "dogs and wolf": "golden_retriever Siberian_husky timber_wolf",
    "cats": "tabby Siamese_cat Egyptian_cat lion",
    "bears": "brown_bear ice_bear",
    "birds": "hen robin great_grey_owl hummingbird",
    "water animals": "goldfish loggerhead jellyfish starfish",
    "chameleon, dragonfly": "African_chameleon dragonfly",
    "clocks": "digital_clock stopwatch wall_clock",
    "food": "ice_cream broccoli espresso",
    "other things": "backpack basketball broom mountain_bike teddy warplane",
}
MODELS = {
    "MobileNetV2": ("mobilenetv2_fp32_pytorch_opset12.onnx", "imagenet"),
    "SqueezeNet 1.1": ("squeezenet1.1_fp32_caffe2.onnx", "caffe"),
    "ResNet-8": ("resnet8_cifar10_keras_nhwc.onnx", "raw"),
    "CIFAR CNN": ("cifar10_cnn_pytorch17.onnx", "tf"),
    "MNIST CNN": ("mnist-7_cntk.onnx", "raw"),
}


class Measures:
    """The models, and the photos with their labels."""

    def __init__(self, assets: Path, folder: Path, digits: int) -> None:
        self.assets, self.folder = assets, folder
        group = {name: label for label, names in GROUPS.items() for name in names.split()}
        photos = sorted((assets / "images" / "imagenet").glob("*.jpg"))
        self.imagenet = self._list("imagenet", [(p, group[p.stem.partition("_")[2]]) for p in photos])
        photos = sorted((assets / "images" / "cifar10_public").glob("*.jpg"))
        self.cifar = self._list("cifar", [(p, p.stem.split("_")[1]) for p in photos])
        self.mnist = self._digits(digits)

    def _list(self, name: str, rows: list[tuple[Path, str]]) -> Path:
        path = self.folder / f"{name}.csv"
        path.write_text("path,label\n" + "".join(f'"{photo.resolve()}","{label}"\n' for photo, label in rows))
        return path

    def _digits(self, count: int) -> Path:
        def read(name: str, offset: int) -> np.ndarray:
            with gzip.open(self.assets / "images" / "mnist" / name) as file:
                return np.frombuffer(file.read(), np.uint8, offset=offset)

        pixels = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:count]
        for i, label in enumerate(read("t10k-labels-idx1-ubyte.gz", 8)[:count]):
            path = self.folder / "mnist" / str(label) / f"{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.write(path, np.repeat(pixels[i][..., None], 3, axis=2))
        return self.folder / "mnist"

    def model(self, name: str) -> tuple[Model, dict[str, Any]]:
        file, preset = MODELS[name]
        model = load(self.assets / "models" / file)
        return model, {"preprocessing": guess_preprocessing(model, preset)[0]}

    def precision(self, photos: Path, names: list[str]) -> str:
        """Precision at 5 by class and model."""
        found = {}
        for name in names:
            model, how = self.model(name)
            found[name] = neighbours(model, photos, top=5, **how).values["precision"]["5"]
        first = found[names[0]]
        rows = [
            [c, of["photos"], f"{of['chance']:.2f}", f"{of['best']:.2f}"]
            + [f"{found[name]['classes'][c]['precision']:.2f}" for name in names]
            for c, of in first["classes"].items()
        ]
        rows.append(
            ["**all**", first["photos"], f"{first['chance']:.2f}", f"{first['best']:.2f}"]
            + [f"**{found[name]['precision']:.2f}**" for name in names]
        )
        return tables.markdown(["class", "photos", "chance", "best possible", *names], rows)

    def maps(self) -> str:
        """How well classes are apart on a map."""
        rows = []
        for what, photos, name, layer in (
            ("CIFAR", self.cifar, "ResNet-8", "auto"),
            ("CIFAR", self.cifar, "ResNet-8", "add_1"),
            ("CIFAR", self.cifar, "CIFAR CNN", "auto"),
            ("CIFAR", self.cifar, "CIFAR CNN", "gemm_1"),
            ("CIFAR", self.cifar, "MobileNetV2", "auto"),
            ("MNIST", self.mnist, "MNIST CNN", "auto"),
            ("MNIST", self.mnist, "MNIST CNN", "add_3"),
        ):
            model, how = self.model(name)
            for method in ("tsne", "pca"):
                found = project(model, photos, method=method, layer=layer, thumbnails=1, **how).values
                row = [found[key] for key in ("knn_accuracy", "knn_accuracy_features", "trustworthiness")]
                title = f"{what}, {name}, {'features' if layer == 'auto' else 'scores'}, {method}"
                rows.append([title, found["photos"], *(f"{x:.3f}" for x in row)])
        header = ["map", "photos", "5 nearest, on the map", "among the features", "trustworthiness"]
        return tables.markdown(header, rows)

    def probes(self) -> str:
        """Accuracy of a linear classifier along depth."""
        parts = []
        for what, photos, name in (
            ("CIFAR", self.cifar, "ResNet-8"),
            ("CIFAR", self.cifar, "CIFAR CNN"),
            ("CIFAR", self.cifar, "MobileNetV2"),
            ("MNIST", self.mnist, "MNIST CNN"),
        ):
            model, how = self.model(name)
            mean, grid = (probe(model, photos, pool=pool, **how).values for pool in ("mean", "grid"))
            rows = [
                [a["layer"], *(x for of in (a, b) for x in (of["features"], f"{of['accuracy']:.3f} ± {of['std']:.3f}"))]
                for a, b in zip(mean["layers"], grid["layers"], strict=True)
            ]
            header = [f"{name}, layer", "features", "means", "features", "grid"]
            parts.append(
                f"{what}, {mean['photos']} photos, chance {mean['chance']:.2f}:\n\n{tables.markdown(header, rows)}"
            )
        return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--digits", type=int, default=2000, help="of MNIST")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the text between its markers there")
    args = parser.parse_args()
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        measures = Measures(args.assets, Path(folder), args.digits)
        groups = "; ".join(f"{label}: {names.replace('_', ' ')}" for label, names in GROUPS.items())
        text = f"""## Features: neighbours, maps and probes

Precision@5 of neighbours among ImageNet's photos, features before the last layer, cosine distance. A neighbour is right
if it is of the same group. Small groups cannot fill five places: the best possible is said.

{measures.precision(measures.imagenet, ["MobileNetV2", "SqueezeNet 1.1"])}

Groups: {groups}.

Precision@5 among CIFAR's photos:

{measures.precision(measures.cifar, ["ResNet-8", "CIFAR CNN", "MobileNetV2"])}

The share of photos whose class most of their 5 nearest others have, in the features before the last layer and in the
class scores:

{measures.maps()}

Accuracy of a linear probe by layer, 5 folds:

{measures.probes()}

{time.perf_counter() - start:.0f} s. {tables.conditions()}"""
    print(text)
    if args.write:
        tables.write(args.write, "features", text)


if __name__ == "__main__":
    main()
