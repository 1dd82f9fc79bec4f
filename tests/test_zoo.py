"""Files from every exporter: twins with equal weights get equal maps."""

from __future__ import annotations

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect.engine import Engine
from onnx_inspect.maps import channels_first
from onnx_inspect.scores import scores

from .shared import ZOO, needs_zoo

pytestmark = needs_zoo

TWINS = [
    "torch_dynamo",
    "torch_legacy",
    "keras_tensorflow",
    "keras_torch",
    "jax_nchw",
    "jax_nhwc",
    "paddle",
    "tf2onnx_nchw_op13",
    "tf2onnx_nhwc_op18",
]
ENGINE = Engine("cpu", threads=1)


def test_twins_get_the_same_gradcam() -> None:
    data = np.load(ZOO / "twins" / "test64.npz")
    photos = next(data[k] for k in data.files if data[k].ndim == 4).astype(np.float32)[:8]
    maps = {}
    for name in TWINS:
        model = oi.load(ZOO / "twins" / f"twin_{name}.onnx")
        layout = model.inputs[0].layout
        x = (
            photos
            if (photos.shape[1] == 3) == (layout == "NCHW")
            else np.moveaxis(photos, *((1, -1) if layout == "NHWC" else (-1, 1)))
        )
        result = oi.gradcam(model, np.ascontiguousarray(x), target=3, engine=ENGINE)
        assert result.values.shape == (8, 10, 10)
        assert scores(model).count == 10
        maps[name] = result.values
    reference = maps["torch_dynamo"]
    assert reference.max() > 0
    for name, values in maps.items():
        assert np.abs(values - reference).max() <= 1e-4 * reference.max(), name


def test_a_broken_twin_gets_another_map() -> None:
    """The check above can fail: SAME padding where the weights meant none."""
    data = np.load(ZOO / "twins" / "test64.npz")
    photos = next(data[k] for k in data.files if data[k].ndim == 4).astype(np.float32)[:8]
    nhwc = photos if photos.shape[-1] == 3 else np.moveaxis(photos, 1, -1)
    good, bad = (
        oi.gradcam(ZOO / "twins" / f"twin_{n}.onnx", np.ascontiguousarray(nhwc), target=3, engine=ENGINE).values
        for n in ("keras_tensorflow", "keras_tensorflow_BUG_samepad")
    )
    assert good.shape != bad.shape or np.abs(good - bad).max() > 1e-2 * good.max()


@pytest.mark.parametrize("name", ["torch_dynamo_cnn", "keras_tensorflow_cnn"])
def test_channels_come_first(name: str) -> None:
    model = oi.load(ZOO / f"{name}.onnx")
    layer = next(c for c in model.layers if c.role == "spatial")
    shape = [d if isinstance(d, int) else 2 for d in layer.shape]
    assert channels_first(np.zeros(shape), layer.layout).shape[1] == layer.shape[(layer.layout or "").index("C")]
