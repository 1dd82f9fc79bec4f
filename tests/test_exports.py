"""Every differentiable file of the zoo and the assets: gradients with respect to the input and three tensors inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnx_inspect as oi
from onnx_inspect.errors import InspectError
from onnx_inspect.structure import needed

from .differences import check
from .shared import ASSETS, ZOO, needs_assets, needs_zoo

# Quantised files are compared with their float twins instead (test_quantize.py): a straight-through estimator has no
# differences to agree with. The files in zoo/broken do not run, and ort_all_layout is written for one kind of processor.
FILES = [
    *("cifar10_cnn_pytorch17 fer2013_mini_xception iris_mlp_pytorch mnist-7_cntk mnist_keras_tf2onnx_nhwc").split(),
    *("mobilenet_v1_0.25_128_nhwc_fp32_tf mobilenetv2_fp32_pytorch_opset12 resnet8_cifar10_keras_nhwc").split(),
    *("silero_vad_16k_op15 squeezenet1.1_fp16_caffe2 squeezenet1.1_fp32_caffe2 ultraface_version-RFB-320").split(),
    *("vit_cifar10_pgd_2_3_16 yolox_nano").split(),
]
EXPORTS = [
    *("hf_vit_eager_dynamo hf_vit_eager_legacy hf_vit_sdpa_dynamo hf_vit_sdpa_legacy jax_mbv3 jax_vit").split(),
    *("keras_jax_mbv3 keras_jax_vit keras_tensorflow_cnn keras_tensorflow_mbv3 keras_tensorflow_unet").split(),
    *("keras_tensorflow_vit keras_torch_cnn keras_torch_mbv3 keras_torch_unet paddle_mbv3 sk_mlp").split(),
    *("sk_mlp_nozipmap torch_dynamo_cnn torch_dynamo_det torch_dynamo_mbv3 torch_dynamo_static_cnn").split(),
    *("torch_dynamo_unet torch_dynamo_vit torch_legacy_cnn torch_legacy_det torch_legacy_keepbn_cnn").split(),
    *("torch_legacy_mbv3 torch_legacy_unet torch_legacy_vit").split(),
    *(f"twins/twin_{n}" for n in "jax_nchw jax_nhwc keras_tensorflow keras_tensorflow_softmax keras_torch".split()),
    *(f"twins/twin_{n}" for n in "paddle tf2onnx_nchw_op13 tf2onnx_nhwc_op18 torch_dynamo torch_legacy".split()),
    *(f"variants/{n}" for n in "const_weights external_data fp16 local_functions no_node_names onnxsim_vit".split()),
    *(f"variants/{n}" for n in "onnxslim ort_extended".split()),
]
SPEECH = {"input": (1, 512), "state": (2, 1, 128), "sr": ()}
# The gradient runs in float32, or on float16 activations: where those decide a near tie of a ReLU or a maximum
# otherwise than float64, one unit's share of the gradient differs, 2e-3 for one of 200,000.
FLOAT32, FLOAT16 = 1e-2, 1e-1


def feeds(model: oi.Model) -> dict[str, np.ndarray]:
    """Normal numbers of the sizes that the inputs have, one sample and 32 pixels where they are open."""
    found, rng = {}, np.random.default_rng(0)
    for spec in model.inputs:
        shape = [d if isinstance(d, int) and d > 0 else 1 if axis == 0 else 32 for axis, d in enumerate(spec.shape)]
        if "sr" in [i.name for i in model.inputs]:
            shape = list(SPEECH[spec.name])
        x = rng.normal(size=shape)
        x *= 0.05 if shape == [1, 512] else 1  # speech is quieter, and loud noise saturates every gate
        found[spec.name] = np.full(shape, 16000) if spec.dtype == "int64" else np.asarray(x).astype(spec.dtype)
    return found


def agrees(path: Path) -> None:
    model = oi.load(path)
    output = next(o.name for o in model.outputs if o.dtype.startswith("float"))
    used = needed(model.ir.graph, model.value(output))
    inside = [c.tensor for c in model.layers if c.tensor != output and model.value(c.tensor) in used]
    chosen = [inside[int(i)] for i in np.linspace(0, len(inside) - 1, 5)[1:4]]
    half = any(v.dtype is not None and v.dtype.name == "FLOAT16" for v in model.varying)
    check(model, feeds(model), output, list(dict.fromkeys(chosen)), FLOAT16 if half else FLOAT32)


@needs_assets
@pytest.mark.parametrize("name", FILES)
def test_trained_models(name: str) -> None:
    agrees(ASSETS / "models" / f"{name}.onnx")


@needs_zoo
@pytest.mark.parametrize("name", EXPORTS)
def test_exports(name: str) -> None:
    agrees(ZOO / f"{name}.onnx")


@needs_zoo
@needs_assets
@pytest.mark.parametrize("path", [ZOO / f"{n}.onnx" for n in ("sk_rf", "lightgbm", "xgboost")], ids=lambda p: p.stem)
def test_trees_are_refused(path: Path) -> None:
    model = oi.load(path)
    output = next(o.name for o in model.outputs if o.dtype.startswith("float"))
    with pytest.raises(InspectError, match=r"TreeEnsembleClassifier.*occlusion"):
        oi.vjp(model, [model.inputs[0].name], [output])
