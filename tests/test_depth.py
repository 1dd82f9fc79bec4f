"""Which tensors are looked at when nobody says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import depth
from onnx_inspect.errors import LayerError
from onnx_inspect.resources import bundled
from onnx_inspect.scores import scores


def model(*nodes: onnx.NodeProto, shape: list[int | str], **weights: np.ndarray) -> oi.Model:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()],
    )
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def squeezed() -> oi.Model:
    """As SqueezeNet ends: dropout, the classes by a convolution, pooling, softmax."""
    return model(
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Dropout", ["b"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Softmax", ["h"], ["y"]),
        shape=["N", 3, 8, 8],
        w1=ones(4, 3, 3, 3),
        w2=ones(5, 4, 1, 1),
    )


def test_features_are_what_the_last_weights_are_given() -> None:
    signs = oi.load(bundled("signs/clean.onnx"))
    found = depth.features(signs, scores(signs).tensor)
    assert found.layer.shape[1:] == (96,)
    assert found.reason.endswith("(--layer NAME)")
    # A dropout is what it copies, and what follows the classes is no feature.
    assert depth.features(squeezed(), "h").layer.tensor == "b"


def test_without_such_a_layer_the_last_map_counts() -> None:
    gated = model(
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Mul", ["a", "b"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["y"], keepdims=0),
        shape=["N", 3, 8, 8],
        w=ones(4, 3, 3, 3),
        axes=np.array([2, 3]),
    )
    assert depth.features(gated, "y").layer.tensor == "c"
    with pytest.raises(LayerError, match="No tensor"):
        depth.features(model(helper.make_node("Relu", ["x"], ["y"]), shape=["N", 3]), "y")


def test_layers_along_the_way() -> None:
    signs = oi.load(bundled("signs/clean.onnx"))
    score = scores(signs).tensor
    order = [layer.tensor for layer in signs.layers]
    for most in (3, 5, 8, 100):
        found = depth.along(signs, score, most)
        assert len(found) <= most
        assert [order.index(c.tensor) for c in found] == sorted(order.index(c.tensor) for c in found)
        assert found[-1].tensor == score
        assert found[0].name == "features.0.2"  # after the first weights, not the normalised input
    assert [c.tensor for c in depth.along(squeezed(), "h")] == ["b", "h"]


def test_pooled_maps_are_means() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(depth.pooled(values, "NCHW"), values.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(depth.pooled(values, "NHWC"), values.mean(axis=(1, 2)), rtol=1e-5)
    assert depth.pooled(values, None).shape == (2, 60)
    assert depth.pooled(values[:, :, 0, 0], "NC").shape == (2, 3)
