"""JAX: networks in Flax NNX by jax2onnx, and Keras on JAX, which exports by jax2onnx too.

What comes out has no names of the author's, `auto_pad`, and value_info that is wrong in places; a scan becomes a graph
within the graph. Keras networks with max pooling on JAX load but do not run, so they are left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import blobs
import jax
import jax2onnx
import jax_nets as nets
import keras_models
import numpy as np
import onnxruntime as ort
import optax
from flax import nnx
from jax import numpy as jnp

from zoo import Zoo

BATCH = 32
VERSIONS = {name: version(name) for name in ("jax", "flax", "jax2onnx")}
Build = Callable[[nnx.Rngs], nnx.Module]
# The network, how many rounds it learns, and what it is called with; the task is that of Keras's network.
NETS: dict[str, tuple[Build, str, int, dict[str, Any]]] = {
    "cnn": (nets.Cnn, "cnn", 12, {}),
    "cnn_nchw": (nets.Cnn, "cnn", 12, {"inputs_as_nchw": [0]}),
    "mbv3": (nets.Mbv3, "cnn", 15, {}),
    "vit": (nets.Vit, "mixer", 25, {}),
    "mixer": (nets.Mixer, "mixer", 25, {}),
    "unet": (nets.Unet, "unet", 12, {}),
    "mlp": (partial(nets.Mlp, len(blobs.COLUMNS), 24, 3), "mlp", 30, {}),
    "gru": (nets.Recurrent, "gru", 40, {}),
    "text": (nets.Text, "text", 30, {}),
}


def trained(build: Build, x: np.ndarray, y: np.ndarray, epochs: int) -> nnx.Module:
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


def main() -> None:
    out = Path(sys.argv[1])
    zoo = Zoo("jax", out)
    models: dict[Build, nnx.Module] = {}
    for net, (build, name, epochs, options) in NETS.items():
        task, path = keras_models.TASKS[name], zoo.path("jax", net)
        (x,), y = (d.values() if isinstance(d, dict) else d for d in task.data(*keras_models.TRAIN))
        model = models[build] = models.get(build) or trained(build, x, y, epochs)
        jax2onnx.to_onnx(
            model,
            [jax.ShapeDtypeStruct(("B", *x.shape[1:]), x.dtype)],
            return_mode="file",
            output_path=path,
            **options,
        )
        (x,), y = (d.values() if isinstance(d, dict) else d for d in task.data(*keras_models.TEST))
        session = ort.InferenceSession(path)
        turned = x.transpose(0, 3, 1, 2) if options else x
        feeds = {session.get_inputs()[0].name: turned}
        (value,) = session.run(None, feeds)
        np.testing.assert_allclose(value, model(jnp.asarray(x)), atol=1e-3, err_msg=net)
        truth = task.truth | {"accuracy": round(task.right([value], y), 3)}
        zoo.add("jax", net, task.kind, {n: a[:1] for n, a in feeds.items()}, truth=truth, **VERSIONS)
    for net in keras_models.BACKENDS["jax"]:
        keras_models.export(zoo, net, out / f"{net}.weights.h5")
    zoo.save()


if __name__ == "__main__":
    main()
