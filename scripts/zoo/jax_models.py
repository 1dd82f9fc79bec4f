"""JAX: networks in Flax NNX by jax2onnx.

What comes out has no names of the author's, `auto_pad`, and value_info that is wrong in places; a scan becomes a graph
within the graph. Pooling is exported only if its arguments are given by name, resizing only if the batch is fixed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import blobs
import jax
import jax2onnx
import jax_nets as nets
import numpy as np
import onnx
import onnxruntime as ort
import optax
import samples
from flax import nnx
from jax import numpy as jnp

from zoo import Zoo

BATCH = 32
VERSIONS = {name: version(name) for name in ("jax", "flax", "jax2onnx")}


class Task(NamedTuple):
    """A network, what it learns, for how many rounds, and what is known of it."""

    build: Callable[..., Any]
    data: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    epochs: int
    kind: str
    truth: dict[str, Any]


NETS = {
    "cnn": Task(nets.Cnn, samples.labels, 5, "classifier", samples.PHOTO),
    "mbv3": Task(nets.Mbv3, samples.labels, 4, "classifier", samples.PHOTO),
    "vit": Task(nets.Vit, samples.labels, 10, "classifier", samples.TOKENS | {"class_tokens": 0}),
    "mixer": Task(nets.Mixer, samples.labels, 10, "classifier", samples.TOKENS | {"class_tokens": 0}),
    "unet": Task(nets.Unet, samples.masks, 6, "segmentation", samples.MASK),
    "mlp": Task(partial(nets.Mlp, len(blobs.COLUMNS), 24, 3), samples.rows, 6, "table", samples.ROW),
    "gru": Task(nets.Recurrent, samples.signals, 12, "signal", samples.SIGNAL),
    "text": Task(nets.Text, samples.sentences, 6, "text", samples.WORDS),
}


def trained(build: Callable[..., Any], x: np.ndarray, y: np.ndarray, epochs: int) -> nnx.Module:
    model = build(rngs=nnx.Rngs(0))
    steps = len(x) // BATCH * epochs
    optimizer = nnx.Optimizer(model, optax.adam(optax.cosine_decay_schedule(3e-3, steps, 0.02)), wrt=nnx.Param)

    @nnx.jit
    def step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
        def loss(model: nnx.Module) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for part in np.split(rng.permutation(len(x) // BATCH * BATCH), len(x) // BATCH):
            step(model, optimizer, x[part], y[part])
    model.eval()
    return model


def last(x: np.ndarray) -> np.ndarray:
    """Channels last, of pictures."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x


def export(zoo: Zoo, net: str, task: Task, model: nnx.Module, first: bool) -> None:
    """One file, for pictures with the channels first or last, and what is known of it."""
    given, y = task.data(*samples.TEST)
    given = given.astype(np.int32) if given.dtype.kind == "i" else given
    x, path = last(given), zoo.path("jax", net)
    shape = jax.ShapeDtypeStruct(("B", *x.shape[1:]), x.dtype)
    turn = {"inputs_as_nchw": [0]} if first else {}
    jax2onnx.to_onnx(model, [shape], return_mode="file", output_path=path, **turn)
    note = ""
    if net == "mbv3":
        note = "value_info taken out: with it, onnxruntime does not load the file"
        proto = onnx.load(path)
        del proto.graph.value_info[:]
        onnx.save(proto, path)
    session = ort.InferenceSession(path)
    feeds = {session.get_inputs()[0].name: given if first else x}
    said = session.run(None, feeds)
    samples.same(said, [np.asarray(model(jnp.asarray(x)))], path.name)
    layout = {"layout": "NCHW" if first else "NHWC"} if x.ndim == 4 else {}
    truth = task.truth | layout | {"accuracy": samples.accuracy(said[0], y)}
    zoo.add("jax", net, task.kind, {n: a[:1] for n, a in feeds.items()}, note=note, truth=truth, **VERSIONS)


def main() -> None:
    zoo = Zoo("jax", Path(sys.argv[1]))
    for net, task in NETS.items():
        x, y = task.data(*samples.TRAIN)
        model = trained(task.build, last(x), y, task.epochs)
        export(zoo, net, task, model, first=False)
        if net == "cnn":
            export(zoo, "cnn_nchw", task, model, first=True)
    zoo.save()


if __name__ == "__main__":
    main()
