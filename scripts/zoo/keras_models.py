"""Keras 3: one set of networks with one set of weights, exported on TensorFlow (by tf2onnx), on torch and on JAX.

Keras binds to one backend for the life of a process. In the environment of Keras this script runs itself twice: on
TensorFlow it trains, exports and leaves the weights; on torch it exports again. In JAX's environment, a third time.

Traps: the exact GELU becomes an operator that does not exist (Erfc), so the networks take its approximation. Torch does
not export layer normalisation unless the batch is fixed, and unrolls recurrent layers. On JAX, max pooling loads but
does not run, and upsampling is not exported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "jax" if os.environ.get("ZOO_ENVIRONMENT") == "jax" else "tensorflow")

import keras
import keras_nets as nets
import numpy as np
import onnxruntime as ort
import samples
from keras import ops

from zoo import Zoo

Data = Callable[[int, int], tuple[np.ndarray, Any]]
BACKENDS = {
    "tensorflow": "cnn mbv3 vit mixer unet detector mlp lstm gru text".split(),
    "torch": "cnn mbv3 unet mlp lstm gru cnn_static vit_static".split(),
    "jax": "mbv3 vit detector lstm".split(),
}
LIBRARY = {"tensorflow": "tf2onnx", "torch": "torch", "jax": "jax2onnx"}
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PIXELS = np.array([samples.WIDTH, samples.HEIGHT] * 2, np.float32)
NHWC = samples.PHOTO | {"layout": "NHWC"}
TOKENS = samples.TOKENS | {"layout": "NHWC"}


class Task(NamedTuple):
    """What a network learns, for how many rounds, and what is known of it."""

    data: Data
    epochs: int
    kind: str
    truth: dict[str, Any]
    loss: Any = LOGITS


def last(data: Data, scale: float = 1) -> Data:
    """Channels last."""

    def turned(seed: int, count: int) -> tuple[np.ndarray, Any]:
        x, y = data(seed, count)
        return scale * np.ascontiguousarray(np.moveaxis(x, 1, -1)), y

    return turned


def cells(seed: int, count: int) -> tuple[np.ndarray, Any]:
    """Boxes as top, left, bottom, right, in parts of the picture, with a flag of those that are one."""
    x, scores, boxes = samples.cells(seed, count)
    boxes = (boxes / PIXELS)[..., [1, 0, 3, 2]]
    return x, {"scores": scores, "boxes": np.concatenate([boxes, scores.max(-1, keepdims=True)], -1)}


def focal(truth: Any, p: Any) -> Any:
    p = ops.clip(p, 1e-6, 1 - 1e-6)
    each = truth * (1 - p) ** 2 * ops.log(p) + (1 - truth) * p**2 * ops.log(1 - p)
    return -ops.sum(each) / (ops.sum(truth) + 1)


def distance(truth: Any, box: Any) -> Any:
    flag = truth[..., 4:]
    return 10 * ops.sum(flag * ops.abs(truth[..., :4] - box)) / (ops.sum(flag) + 1)


BOXES = {"scores": focal, "boxes": distance}
CORNERS = TOKENS | {"boxes": "top, left, bottom, right, in parts of the picture"}
TASKS = {
    "cnn": Task(last(samples.labels), 8, "classifier", NHWC, "sparse_categorical_crossentropy"),
    "mbv3": Task(last(samples.labels, 255), 8, "classifier", NHWC | {"range": [0, 255]}),
    "vit": Task(last(samples.labels), 14, "classifier", TOKENS | {"class_tokens": 1}),
    "mixer": Task(last(samples.labels), 14, "classifier", TOKENS | {"class_tokens": 0}),
    "unet": Task(last(samples.masks), 8, "segmentation", samples.MASK | {"layout": "NHWC"}),
    "detector": Task(last(cells), 30, "detector", CORNERS, BOXES),
    "mlp": Task(samples.rows, 15, "table", samples.ROW),
    "lstm": Task(last(samples.signals), 20, "signal", samples.SIGNAL),
    "gru": Task(last(samples.signals), 20, "signal", samples.SIGNAL),
    "text": Task(samples.sentences, 15, "text", samples.WORDS),
}


def measured(said: list[np.ndarray], truth: Any) -> float:
    if len(said) == 1:
        return samples.accuracy(said[0], truth)
    boxes = [b[..., [1, 0, 3, 2]] * PIXELS for b in (said[1], truth["boxes"])]
    return samples.found(said[0], boxes[0], truth["scores"], boxes[1])


def trained(net: str, weights: Path) -> keras.Model:
    """A network with the weights that lie there, or trained and the weights left there."""
    keras.utils.set_random_seed(0)
    model, task = getattr(nets, net)(), TASKS[net]
    if weights.exists():
        model.load_weights(weights)
        return model
    x, y = task.data(*samples.TRAIN)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, len(x) // 32 * task.epochs, 0.01)
    model.compile(keras.optimizers.Adam(rate), task.loss)
    model.fit(x, y, 32, task.epochs, verbose=0)
    model.save_weights(weights)
    return model


def export(zoo: Zoo, file: str, weights: Path) -> None:
    """One file, and what is known of it."""
    backend, net, static = keras.backend.backend(), file.removesuffix("_static"), file.endswith("_static")
    exporter, task, model = f"keras_{backend}", TASKS[net], trained(net, weights)
    x, y = task.data(*samples.TEST)
    x = x.astype(model.input.dtype)[: 1 if static else None]
    expected = keras.tree.flatten(model(x, training=False))  # before the export, which asks that it was called
    spec = [keras.InputSpec(str(x.dtype), x.shape, name=model.input.name)] if static else None
    model.export(path := zoo.path(exporter, file), format="onnx", verbose=False, input_signature=spec)
    session = ort.InferenceSession(path)
    feeds = {session.get_inputs()[0].name: x}
    said = session.run(None, feeds)
    samples.same(said, map(ops.convert_to_numpy, expected), path.name)
    versions = {"keras": keras.__version__, LIBRARY[backend]: version(LIBRARY[backend])}
    truth = task.truth | ({} if static else {"accuracy": measured(said, y)})
    note = "a fixed batch: Keras then takes torch's newer exporter" if static else ""
    zoo.add(exporter, file, task.kind, {n: a[:1] for n, a in feeds.items()}, note=note, truth=truth, **versions)


def main() -> None:
    warnings.filterwarnings("ignore")
    out, backend = Path(sys.argv[1]), keras.backend.backend()
    zoo = Zoo(f"keras_{backend}", out)
    for file in BACKENDS[backend]:
        export(zoo, file, out / f"{file.removesuffix('_static')}.weights.h5")
    zoo.save()
    if backend == "tensorflow":
        subprocess.run([sys.executable, *sys.argv], env=os.environ | {"KERAS_BACKEND": "torch"}, check=True)


if __name__ == "__main__":
    main()
