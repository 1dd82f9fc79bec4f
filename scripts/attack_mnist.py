"""PGD on the 10,000 test digits of MNIST, inside a ball of 0.3 of the pixel range: how many are still seen rightly.

    python scripts/attack_mnist.py --assets ../shared/assets

Every digit is attacked away from the class that the model sees in it. Success is judged on whole pixels from 0 to 255,
by running the model once more on the digit that a file would hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tables
from accuracy import digits
from numpy.typing import NDArray

import onnx_inspect as oi
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.preprocess import Preprocessing

# Model, and how it is fed: CNTK's was trained on 0 to 255, and knows the digits from 0 to 1 as well.
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("mnist-7_cntk", {}),
    ("mnist-7_cntk", {"preset": "raw"}),
    ("mnist_keras_tf2onnx_nhwc", {}),
]
CHUNK = 1000


def attack(
    model: oi.Model, how: Preprocessing, pictures: list[NDArray[np.uint8]], epsilon: float, steps: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """The classes before and after, and the largest change in steps of 0 to 255, a chunk of digits at a time."""
    engine, name = oi.Engine("cpu"), model.inputs[0].name
    output = model.outputs[0].name

    def seen(x: NDArray[Any]) -> NDArray[np.int64]:
        scores = engine.run(model, {name: x}, [output])[output]
        return scores.reshape(len(x), -1).argmax(axis=1)

    for start in range(0, len(pictures), CHUNK):
        x = how.batch(pictures[start : start + CHUNK])
        result = oi.pgd(model, x, epsilon=255 * epsilon, steps=steps, preprocessing=how, engine=engine)
        files = np.stack([how.inverse(one) for one in result.extra["adversarial"]])
        change = np.abs(files.astype(float) - np.stack(pictures[start : start + CHUNK]))
        yield seen(x), seen(how.batch(list(files))), change.max(axis=(1, 2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, metavar="DIR", help="models and the digits")
    parser.add_argument("--epsilon", type=float, default=0.3, help="radius of the ball in Linf, of the pixel range")
    parser.add_argument("--steps", type=int, default=20, help="steps of PGD")
    parser.add_argument("--count", type=int, default=10_000, help="digits")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with our markers")
    args = parser.parse_args()

    pictures, labels = digits(args.assets, args.count)
    rows = []
    for name, flags in MODELS:
        model = oi.load(args.assets / "models" / f"{name}.onnx")
        how, _ = guess_preprocessing(model, **flags)
        before, after, change = (
            np.concatenate(parts) for parts in zip(*attack(model, how, pictures, args.epsilon, args.steps), strict=True)
        )
        right, fooled = before == labels, after != before
        rows.append(
            (
                name,
                how.describe().split(", ")[2],
                f"{right.sum()} of {len(labels)}",
                f"{(right & fooled).sum()} ({100 * fooled[right].mean():g} %)",
                f"{fooled.sum()} ({100 * fooled.mean():g} %)",
                f"{change.max():g}",
            )
        )
    table = tables.markdown(
        ("model", "pixels x as", "right before", "of these fooled", "of all fooled", "largest change, of 255"), rows
    )
    print(table)
    if args.write:
        title = f"## PGD on MNIST, Linf {args.epsilon:g} of the pixel range, {args.steps} steps"
        tables.write(args.write, "attack_mnist", "\n\n".join([title, tables.conditions(), table]))


if __name__ == "__main__":
    main()
