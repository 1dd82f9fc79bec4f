"""Keras 3: one set of networks, exported on TensorFlow (by tf2onnx) and on torch, with equal weights.

Keras binds to one backend for the life of a process. So this script runs itself twice: on TensorFlow it trains, exports
and leaves the weights; on torch it loads them and exports again. jax_models.py uses the same networks on JAX.

Traps: the exact GELU becomes an operator that does not exist (Erfc), so the networks take its approximation; pictures
are [N, H, W, 3]; recurrent layers on torch are unrolled, step by step.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import blobs
import keras
import keras_nets as nets
import numpy as np
import onnxruntime as ort
from keras import ops

from zoo import Zoo

Arrays = dict[str, Any]
TRAIN, TEST = (0, 1500), (1, 200)  # seed, count


@dataclass
class Task:
    """What a network learns: inputs and targets by name, and how right its outputs are."""

    data: Callable[[int, int], tuple[Arrays, Any]]
    loss: Any
    right: Callable[[list[np.ndarray], Any], float]
    kind: str
    truth: Arrays = field(default_factory=dict)


def pictures(count: tuple[int, int] = (1, 1), scale: float = 1) -> Callable[[int, int], tuple[Arrays, Any]]:
    def data(seed: int, number: int) -> tuple[Arrays, Any]:
        samples = blobs.photos(seed, number, (nets.HEIGHT, nets.WIDTH), count)
        return {"photo": scale * blobs.floats(samples).transpose(0, 2, 3, 1)}, samples

    return data


def labels(scale: float = 1) -> Callable[[int, int], tuple[Arrays, Any]]:
    def data(seed: int, number: int) -> tuple[Arrays, Any]:
        x, samples = pictures(scale=scale)(seed, number)
        return x, np.array([s.labels[0] for s in samples])

    return data


def masks(seed: int, number: int) -> tuple[Arrays, Any]:
    x, samples = pictures((1, 3))(seed, number)
    return x, np.stack([s.mask for s in samples])


def boxes(seed: int, number: int) -> tuple[Arrays, Any]:
    """The scores [N, cells, classes], and the boxes [N, cells, 5] with a flag of the cells that the middle of one is in."""
    x, samples = pictures((1, 3))(seed, number)
    cells = nets.GRID[0] * nets.GRID[1]
    scores, places = np.zeros((number, cells, nets.CLASSES), np.float32), np.zeros((number, cells, 5), np.float32)
    for i, sample in enumerate(samples):
        for (left, top, right, bottom), label in zip(sample.boxes, sample.labels, strict=True):
            cell = int((top + bottom) / 2 // nets.PATCH * nets.GRID[1] + (left + right) / 2 // nets.PATCH)
            sides = np.array([top, left, bottom, right]) / ([nets.HEIGHT, nets.WIDTH] * 2)
            scores[i, cell, label], places[i, cell] = 1, [*sides, 1]
    return x, {"scores": scores, "boxes": places}


def focal(truth: Any, p: Any) -> Any:
    p = ops.clip(p, 1e-6, 1 - 1e-6)
    each = truth * (1 - p) ** 2 * ops.log(p) + (1 - truth) * p**2 * ops.log(1 - p)
    return -ops.sum(each) / (ops.sum(truth) + 1)


def distance(truth: Any, box: Any) -> Any:
    flag = truth[..., 4:]
    return 10 * ops.sum(flag * ops.abs(truth[..., :4] - box)) / (ops.sum(flag) + 1)


def signals(seed: int, number: int) -> tuple[Arrays, Any]:
    x, y, _ = blobs.signals(seed, number)
    return {"signal": x.transpose(0, 2, 1)}, y


def sentences(seed: int, number: int) -> tuple[Arrays, Any]:
    tokens, _, y, _ = blobs.sentences(seed, 2 * number)
    return {"tokens": tokens.astype(np.int32)}, y


def rows(seed: int, number: int) -> tuple[Arrays, Any]:
    x, y = blobs.rows(seed, 2 * number)
    return {"row": blobs.standard(x)}, y


def accuracy(outputs: list[np.ndarray], truth: Any) -> float:
    return float((outputs[0].argmax(-1) == truth).mean())


def overlap(outputs: list[np.ndarray], truth: Any) -> float:
    """Of the pixels that are a blob or are called one: the part called right."""
    said = outputs[0].argmax(-1)
    return float((said == truth)[(said > 0) | (truth > 0)].mean())


def found(outputs: list[np.ndarray], truth: Any) -> float:
    """Of the blobs: the part with a score over 0.5 for its class, and a box that overlaps the true one by half."""
    hit = truth["scores"] > 0
    one, two = outputs[1][hit.any(-1)], truth["boxes"][..., :4][hit.any(-1)]
    inner = np.clip(np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2]), 0, None).prod(1)
    area = [(b[:, 2:] - b[:, :2]).prod(1) for b in (one, two)]
    return float(((outputs[0][hit] > 0.5) & (inner > 0.5 * (area[0] + area[1] - inner))).mean())


CLASS, LOGITS = "sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PHOTO: Arrays = {"classes": list(blobs.CLASSES), "layout": "NHWC"}
TOKENS = PHOTO | {"grid": list(nets.GRID), "patch": nets.PATCH}
GREAT = PHOTO | {"range": [0, 255]}
CELLS = TOKENS | {"boxes": "top, left, bottom, right, in parts of the picture"}
TASKS: dict[str, Task] = {
    "cnn": Task(labels(), CLASS, accuracy, "classifier", PHOTO),
    "mbv3": Task(labels(255), LOGITS, accuracy, "classifier", GREAT),
    "vit": Task(labels(), LOGITS, accuracy, "classifier", TOKENS | {"class_tokens": 1}),
    "mixer": Task(labels(), LOGITS, accuracy, "classifier", TOKENS | {"class_tokens": 0}),
    "unet": Task(masks, LOGITS, overlap, "segmentation", PHOTO | {"classes": ["background", *blobs.CLASSES]}),
    "detector": Task(boxes, {"scores": focal, "boxes": distance}, found, "detector", CELLS),
    "mlp": Task(rows, LOGITS, accuracy, "table", {"columns": list(blobs.COLUMNS)}),
    "lstm": Task(signals, LOGITS, accuracy, "signal", {"classes": list(blobs.SIGNALS)}),
    "gru": Task(signals, LOGITS, accuracy, "signal", {"classes": list(blobs.SIGNALS)}),
    "text": Task(sentences, LOGITS, accuracy, "text", {"classes": ["bad", "good"], "words": list(blobs.WORDS)}),
}
# Not on torch: layer normalisation, unless the batch is fixed. Not on JAX: pooling windows and upsampling.
BACKENDS = {
    "tensorflow": list(TASKS),
    "torch": "cnn mbv3 unet mlp lstm gru cnn_static vit_static".split(),
    "jax": "mbv3 vit mixer detector lstm text".split(),
}
EPOCHS = {"vit": 25, "mixer": 25, "unet": 12, "detector": 40, "mlp": 30, "lstm": 40, "gru": 40, "text": 30}


def trained(net: str, weights: Path) -> keras.Model:
    """A network with the weights that lie there, or trained and the weights left there."""
    keras.utils.set_random_seed(0)
    model, task = getattr(nets, net)(), TASKS[net]
    if weights.exists():
        model.load_weights(weights)
        return model
    x, y = task.data(*TRAIN)
    model.compile(keras.optimizers.Adam(3e-3), task.loss)
    epochs = EPOCHS.get(net, 15)
    drop = keras.callbacks.LearningRateScheduler(lambda i, rate: rate / 3 if i in (epochs // 2, epochs * 3 // 4) else rate)
    model.fit(x, y, 32, epochs, verbose=0, callbacks=[drop])
    model.save_weights(weights)
    return model


def export(zoo: Zoo, file: str, weights: Path) -> None:
    """One file, and what is known of it; what onnxruntime makes of it must be what Keras does."""
    backend, net, static = keras.backend.backend(), file.removesuffix("_static"), file.endswith("_static")
    exporter, task, model = f"keras_{backend}", TASKS[net], trained(net, weights)
    x, y = task.data(*TEST)
    x, y = ({n: a[:1] for n, a in x.items()}, y[:1]) if static else (x, y)
    expected = keras.tree.flatten(model(x, training=False))  # before the export, which asks that it was called
    spec = [keras.InputSpec(str(a.dtype), a.shape, name=n) for n, a in x.items()] if static else None
    model.export(path := zoo.path(exporter, file), format="onnx", verbose=False, input_signature=spec)
    session = ort.InferenceSession(path)
    feeds = {one.name: a for one, a in zip(session.get_inputs(), x.values(), strict=True)}
    values = session.run(None, feeds)
    for value, e in zip(values, map(ops.convert_to_numpy, expected), strict=True):
        np.testing.assert_allclose(value, e, atol=2e-4 * (1 + np.abs(e).max()), err_msg=path.name)
    library = {"tensorflow": "tf2onnx", "torch": "torch", "jax": "jax2onnx"}[backend]
    versions = {"keras": keras.__version__, library: version(library)}
    truth = task.truth | ({} if static else {"accuracy": round(task.right(values, y), 3)})
    note = "a fixed batch: Keras then takes torch's newer exporter" if static else ""
    inputs = {n: a[:1] for n, a in feeds.items()}
    zoo.add(exporter, file, task.kind, inputs, note=note, truth=truth, **versions)


def main() -> None:
    warnings.filterwarnings("ignore")
    out, backend = Path(sys.argv[1]), keras.backend.backend()
    zoo = Zoo(f"keras_{backend}", out)
    for file in BACKENDS[backend]:
        export(zoo, file, out / f"{file.removesuffix('_static')}.weights.h5")
    zoo.save()
    if backend == "tensorflow":
        again = [sys.executable, *sys.argv]
        subprocess.run(again, env=os.environ | {"KERAS_BACKEND": "torch"}, check=True)


if __name__ == "__main__":
    main()
