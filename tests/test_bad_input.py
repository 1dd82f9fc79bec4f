"""What users give by mistake: refused in one sentence that says what was given and what is taken, before anything runs."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.engine import Engine
from onnx_inspect.errors import DeviceError, InspectError, PhotoError, TargetError
from onnx_inspect.methods.registry import find

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(1)


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


def refused(name: str, model: oi.Model, x: Any = X, **given: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InspectError) as error:
            find(name)(model, x, **({"engine": ENGINE} | given))
    said = str(error.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("lime", dict(width=float("nan")), "There is no width nan: give a finite number"),
        ("lime", dict(alpha=float("inf")), "no alpha inf"),
        ("lrp", dict(gamma=float("nan")), "no gamma nan"),
        ("lrp", dict(epsilon=float("nan")), "no epsilon nan: give a finite number or None"),
        ("smoothgrad", dict(noise=float("nan")), "no noise nan"),
        ("smoothgrad", dict(noise=-0.1), "no noise -0.1"),
        ("gradient_shap", dict(noise=-1), "no noise -1"),
        ("integrated_gradients", dict(steps=1.5), "no steps 1.5: give a whole number"),
        ("integrated_gradients", dict(steps="a"), "no steps 'a'"),
        ("integrated_gradients", dict(steps=True), "no steps True"),
        ("integrated_gradients", dict(average="yes"), "no average 'yes': give True or False"),
        ("integrated_gradients", dict(through=3), "no through 3: give a text"),
        ("integrated_gradients", dict(through=np.eye(9)), "no through array("),
        ("integrated_gradients", dict(preset=np.eye(9)), "no preset array("),
        ("integrated_gradients", dict(baseline=None), "no baseline None"),
        ("integrated_gradients", dict(baseline=object()), "no baseline <object"),
        ("integrated_gradients", dict(baseline=np.full((1, 3, 12, 12), np.nan)), "baseline of 'image' is not finite"),
        ("integrated_gradients", dict(baseline=np.full((1, 3, 12, 12), "a")), "baseline of 'image' is <U1"),
        ("integrated_gradients", dict(baseline="1e300"), "too large for float32"),
        ("rise", dict(seed=-1), "no seed -1"),
        ("rise", dict(cells=13), "--cells"),
        ("rise", dict(cells=10**9), "--cells"),
        ("integrated_gradients", dict(steps=100_000), "--steps"),
        ("gradcam", dict(scales=1.0), "no scales 1.0: give a list, each a finite number"),
        ("gradcam", dict(scales=[1, float("nan")]), "no scales"),
        ("gradcam", dict(scales=[1, 0]), "multiplied by 0"),
        ("gradcam", dict(scales=[-1.0]), "multiplied by -1"),
        ("gradcam", dict(layer=3), "no layer 3: give a text or a list, each a text"),
        ("gradcam", dict(layer=None), "no layer None"),
        ("saliency", dict(wrt=3), "no wrt 3"),
        ("saliency", dict(wrt=[3]), r"no wrt [3]"),
        ("saliency", dict(labels=3), "no labels 3"),
        ("saliency", dict(engine="cuda"), "no engine 'cuda': give Engine or None"),
        ("lrp", dict(composite="epsilon_gamma_box", low=np.array([np.nan]), high=1), "finite"),
        ("lrp", dict(composite="epsilon_gamma_box", low=-1e300, high=1), "finite"),
    ],
)
def test_parameters(model: oi.Model, name: str, given: dict[str, Any], said: str) -> None:
    assert said in refused(name, model, **given)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ([[1, 2, 3, 4]], "not by list"),
        (None, "NoneType is no input"),
        (3, "int is no input"),
        ({"image": "cat.jpg"}, "cat.jpg"),
        ({"image": None}, "not 'None'"),
        ({"image": [[1.0], [1.0, 2.0]]}, "'image' is no array"),
        ({"image": X, "picture": X}, "There is no input 'picture': the model has 'image'"),
    ],
)
def test_inputs(model: oi.Model, x: Any, said: str) -> None:
    assert said in refused("saliency", model, x)


def test_numpy_numbers_are_numbers(model: oi.Model) -> None:
    given = dict(steps=np.int64(3), baseline=np.float32(0.5), average=np.bool_(True))
    oi.integrated_gradients(model, X, engine=ENGINE, **given)  # type: ignore[arg-type]
    oi.gradcam(model, X, scales=np.array([1, 0.5]), engine=ENGINE)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<i8', ", "pickled", "zip"])
def test_files_of_features_without_an_array(model: oi.Model, tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "raw.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "pickled":
        np.save(path, np.array([{}], object), allow_pickle=True)
    else:
        with path.open("wb") as file:
            np.savez(file, a=np.arange(3))
    said = refused("feature_ablation", model, features=str(path))
    assert str(path) in said
    assert "pickle" not in said


def test_large_files_of_features_are_not_loaded(model: oi.Model, tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (1 << 28,)})
        file.truncate(file.tell() + (8 << 28))  # a hole: it takes no room on the disk
    assert f"{1 << 28} numbers, the input has {X.size}" in refused("feature_ablation", model, features=str(path))


def test_threads_that_no_machine_has() -> None:
    with pytest.raises(DeviceError, match="999999 threads are more than"):
        Engine("cpu", threads=999_999)


def test_a_photo_without_an_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in ("/dev/zero", tmp_path / "pipe.jpg"):
        with pytest.raises(PhotoError, match=r"a device or a pipe.*Name another file\.$"):
            image.read(path)


def test_a_slice_of_nothing(model: oi.Model) -> None:
    with pytest.raises(TargetError, match="the slice takes none"):
        oi.saliency(model, X, "scores[0:0]", engine=ENGINE)
    with pytest.raises(TargetError, match="the slice leaves them"):
        oi.saliency(model, X, "scores[0:9]", engine=ENGINE)


def small(nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **weights: Any) -> oi.Model:
    info = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in (inputs | outputs).items()]
    arrays = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "small", info[: len(inputs)], info[len(inputs) :], arrays)
    return oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize(
    ("shape", "element"), [(["N", 9, 85], "[0, 5]"), (["N", 9, 2], "[0, 1]"), (["N", 9, 4, 4], "[0, 0, 3]")]
)
def test_a_proposed_target_is_one_number(shape: list[Any], element: str) -> None:
    detector = small([helper.make_node("Relu", ["x"], ["boxes"])], {"x": shape}, {"boxes": shape})
    x = np.ones([1, *shape[1:]], np.float32)
    with pytest.raises(TargetError) as error:
        oi.saliency(detector, x, engine=ENGINE)
    assert f"'boxes'{element}" in str(error.value)
    values = oi.saliency(detector, x, f"'boxes'{element}", engine=ENGINE).values
    assert np.count_nonzero(values) == 1


def test_integrated_gradients_need_no_gradient_at_the_baseline() -> None:
    """S = sum sqrt(x) has none at 0, where no open quadrature looks."""
    nodes = [helper.make_node("Sqrt", ["x"], ["r"]), helper.make_node("ReduceSum", ["r", "axes"], ["y"], keepdims=1)]
    graph = helper.make_graph(
        nodes,
        "root",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array([[1, 4, 9]], np.float32)
    result = oi.integrated_gradients(model, x, "y[0]", steps=500, engine=ENGINE)
    np.testing.assert_allclose(result.values, np.sqrt(x), rtol=2e-3)
    np.testing.assert_allclose(result.measures["delta"], result.values.sum(axis=1) - 6, atol=1e-5)


def test_samples_on_another_axis_are_repeated_along_it() -> None:
    """y = (x + state[0]) w, with a state of 1 x N x 3."""
    nodes = [
        helper.make_node("Gather", ["state", "zero"], ["s"], axis=0),
        helper.make_node("Add", ["x", "s"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["y"]),
    ]
    w = np.array([[1, 0], [2, 1], [3, -1]], np.float32)
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [
            helper.make_tensor_value_info(k, TensorProto.FLOAT, s)
            for k, s in dict(x=["N", 3], state=[1, "N", 3]).items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array(0), "zero")],
    )
    model = oi.load(onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x, state = np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.ones((1, 2, 3), np.float32)
    for feeds in ({"x": x[:1], "state": state[:, :1]}, {"x": x, "state": state}):
        expected = feeds["x"] * w[:, 0]
        result = oi.integrated_gradients(model, feeds, 0, wrt=["x"], engine=ENGINE)
        np.testing.assert_allclose(result.values, expected, rtol=1e-5)
        np.testing.assert_allclose(result.measures["delta"], 0, atol=1e-4)
        np.testing.assert_allclose(oi.feature_ablation(model, feeds, 0, engine=ENGINE).values, expected, rtol=1e-5)
