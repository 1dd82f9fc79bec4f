"""Golden attributions from captum, pytorch-grad-cam and zennit: what tests/test_parity.py compares ours with.

    python -m venv .venv-parity && . .venv-parity/bin/activate
    pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1 numpy  # torch's CPU build suffices
    pip install opencv-python-headless scikit-learn matplotlib scipy
    pip install --no-deps captum==0.9.0 grad-cam==1.5.7 zennit==0.5.1 ttach tqdm
    python scripts/make_golden.py

Each network of golden_networks.py is exported by both exporters of torch, and each row of tests/parity/rows.py that
applies to it is run on its reference in float64. Where a ReLU is about to switch, or two values of a max-pool are about
to swap, rounding decides what an attribution is. So inputs are searched for among seeds, until each row has one where
its values are the same in float32, and with weights and input moved by a few roundings. A row without one is refused.
"""

from __future__ import annotations

import argparse
import copy
import io
import logging
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]


def stand_in(name: str, *names: str) -> None:
    """torchvision's place: the references import a few of its names, and use none of them here."""
    module = types.ModuleType(name)
    for each in names:
        setattr(module, each, type(each, (), {}))
    sys.modules[name] = module


for module, *names in (
    ["torchvision"],
    ["torchvision.models"],
    ["torchvision.models.resnet", "Bottleneck", "BasicBlock"],
    ["torchvision.models.vgg", "VGG"],
    ["torchvision.transforms", "Compose", "Normalize", "ToTensor"],
    ["torchvision.transforms.functional", "resize"],
):
    stand_in(module, *names)

import captum.attr as captum  # noqa: E402
import captum.robust as robust  # noqa: E402
import pytorch_grad_cam as pgc  # noqa: E402
import zennit.attribution  # noqa: E402
import zennit.canonizers  # noqa: E402
import zennit.composites  # noqa: E402
import zennit.layer  # noqa: E402
from captum.attr._utils.lrp_rules import EpsilonRule  # noqa: E402
from golden_networks import NETWORKS, Block, Inverted, build, photos  # noqa: E402
from pytorch_grad_cam import fullgrad_cam  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

from tests.parity.rows import ROWS, Row, Stored  # noqa: E402

for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
    del sys.modules[module]  # the exporter looks for the real one

Arrays = dict[str, NDArray[Any]]
Found = dict[str, Tensor]
BATCH, SEEDS, ALIKE, NEAR = 2, 40, 1e-5, 1e-5
EXPORTERS = {"dynamo": True, "torchscript": False}


@dataclass
class Case:
    """A network with its input, in one precision."""

    name: str
    net: nn.Module
    inputs: dict[str, Tensor]
    classes: list[int]
    unit: tuple[int, ...]
    stored: dict[str, dict[str, Tensor]]

    @property
    def x(self) -> tuple[Tensor, ...]:
        return tuple(v.clone() for v in self.inputs.values())

    def layer(self, name: str) -> nn.Module:
        return self.net.get_submodule(NETWORKS[self.name].layers[name])

    def named(self, values: Any) -> Found:
        """Attributions by the input they belong to."""
        values = values if isinstance(values, tuple) else (values,)
        return dict(zip(self.inputs, values, strict=True))

    def given(self, name: str) -> tuple[Tensor, ...]:
        return tuple(self.stored[name].values())

    def onehot(self, scores: Tensor) -> Tensor:
        return functional.one_hot(torch.tensor(self.classes), scores.shape[1]).to(scores)


Reference = Callable[..., Found]
REFERENCES: dict[str, Reference] = {}


def reference(name: str) -> Callable[[Reference], Reference]:
    def put(function: Reference) -> Reference:
        REFERENCES[name] = function
        return function

    return put


# captum.


def resolved(case: Case, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that name stored arrays, with the arrays."""
    arrays = {k: case.given(v) for k, v in settings.items() if isinstance(v, str) and v in case.stored}
    return {**settings, **arrays}


def of_inputs(kind: Any, case: Case, **settings: Any) -> Found:
    return case.named(kind(case.net).attribute(case.x, target=case.classes, **resolved(case, settings)))


def of_layer(kind: Any, case: Case, layer: str = "features", **settings: Any) -> Found:
    found = kind(case.net, case.layer(layer)).attribute(case.x, target=case.classes, **resolved(case, settings))
    return {"values": found[0] if isinstance(found, tuple) else found}


def of_unit(kind: Any, case: Case, **settings: Any) -> Found:
    return case.named(kind(case.net, case.layer("early")).attribute(case.x, case.unit, **resolved(case, settings)))


for name in ("Saliency", "InputXGradient", "GuidedBackprop", "Deconvolution"):
    REFERENCES[f"captum.{name}"] = partial(of_inputs, getattr(captum, name))
for name in ("NeuronGradient", "NeuronIntegratedGradients", "NeuronGuidedBackprop", "NeuronDeconvolution"):
    REFERENCES[f"captum.{name}"] = partial(of_unit, getattr(captum, name))
for name in ("LayerGradientXActivation",):
    REFERENCES[f"captum.{name}"] = partial(of_layer, getattr(captum, name))
for name in ("LayerIntegratedGradients", "LayerConductance", "InternalInfluence"):
    REFERENCES[f"captum.{name}"] = partial(of_layer, getattr(captum, name), layer="early")


@reference("captum.LayerActivation")
def layer_activation(case: Case) -> Found:
    return {"values": captum.LayerActivation(case.net, case.layer("features")).attribute(case.x)}


@reference("captum.LayerGradCam")
def layer_grad_cam(case: Case, layer: str = "features") -> Found:
    kind = captum.LayerGradCam(case.net, case.layer(layer))
    return {"values": kind.attribute(case.x, target=case.classes).squeeze(1)}


@reference("captum.GuidedGradCam")
def guided_grad_cam(case: Case) -> Found:
    return case.named(captum.GuidedGradCam(case.net, case.layer("features")).attribute(case.x, target=case.classes))


@reference("captum.NeuronConductance")
def neuron_conductance(case: Case, **settings: Any) -> Found:
    kind = captum.NeuronConductance(case.net, case.layer("early"))
    return case.named(kind.attribute(case.x, case.unit, target=case.classes, **settings))


def with_delta(kind: Any, case: Case, **settings: Any) -> Found:
    settings = resolved(case, settings)
    values, delta = kind.attribute(case.x, target=case.classes, return_convergence_delta=True, **settings)
    return {**case.named(values), "measures.delta": delta}


@reference("captum.IntegratedGradients")
def integrated_gradients(case: Case, **settings: Any) -> Found:
    return with_delta(captum.IntegratedGradients(case.net), case, **settings)


def deep_lift(kind: Callable[..., Found], case: Case, separated: bool = False, **settings: Any) -> Found:
    """As captum has it, or with the hooks of neighbours kept apart.

    captum hooks the output of a ReLU and the input of a max-pool after it on one tensor, and so forgets its rule for
    the pool: attributions miss the difference of the scores by as much as the score. With a copy between them, they
    add up.
    """
    for module in case.net.modules():
        if separated and isinstance(module, nn.MaxPool1d | nn.MaxPool2d):
            module.register_forward_pre_hook(lambda module, inputs: (inputs[0].clone(),))
    return kind(case, **settings)


for name, kind in {
    "DeepLift": lambda case, **settings: with_delta(captum.DeepLift(case.net), case, **settings),
    "DeepLiftShap": partial(of_inputs, captum.DeepLiftShap),
    "LayerDeepLift": partial(of_layer, captum.LayerDeepLift, layer="early"),
    "NeuronDeepLift": partial(of_unit, captum.NeuronDeepLift),
}.items():
    REFERENCES[f"captum.{name}"] = partial(deep_lift, kind)


def ruled(case: Case) -> nn.Module:
    """captum's epsilon rule for the layers that it has no rule for."""
    for module in case.net.modules():
        if isinstance(module, nn.Conv1d | nn.BatchNorm1d | nn.AdaptiveAvgPool1d):
            module.rule = EpsilonRule()  # type: ignore[assignment]
    return case.net


@reference("captum.LRP")
def lrp(case: Case) -> Found:
    return with_delta(captum.LRP(ruled(case)), case)


@reference("captum.LayerLRP")
def layer_lrp(case: Case) -> Found:
    return {"values": captum.LayerLRP(ruled(case), case.layer("early")).attribute(case.x, target=case.classes)}


@reference("captum.Occlusion")
def occlusion(case: Case, window: int | tuple[int, ...], stride: int | tuple[int, ...]) -> Found:
    """A square of a number of pixels covers all channels, which then show the same map."""
    sizes, steps = ((3, v, v) if isinstance(v, int) else v for v in (window, stride))
    found = captum.Occlusion(case.net).attribute(case.x, sizes, strides=steps, target=case.classes, baselines=0)
    return {"values": found[0][:, 0]} if isinstance(window, int) else case.named(found)


@reference("captum.FeatureAblation")
def feature_ablation(case: Case, **settings: Any) -> Found:
    return of_inputs(captum.FeatureAblation, case, feature_mask="mask", **settings)


@reference("captum.ShapleyValues")
def shapley_values(case: Case, **settings: Any) -> Found:
    """Exact, over all orders of the features of a coarse mask."""
    return of_inputs(captum.ShapleyValues, case, feature_mask="coarse", **settings)


def attack(kind: Any, case: Case, to: int | None = None, bounds: tuple[float, ...] = (), **settings: Any) -> Found:
    """The changes that raise the cross-entropy, or lower that of another class."""
    limits = dict(zip(("lower_bound", "upper_bound"), bounds, strict=False))
    target = torch.tensor(case.classes if to is None else [to] * BATCH)
    changed = kind(case.net, nn.CrossEntropyLoss(reduction="none"), **limits).perturb(
        case.x, target=target, targeted=to is not None, **settings
    )
    return {"values": changed[0] - case.x[0]}


for name in ("FGSM", "PGD"):
    REFERENCES[f"captum.{name}"] = partial(attack, getattr(robust, name))


# pytorch-grad-cam.


def cam(
    kind: Any,
    case: Case,
    layers: tuple[str, ...] = ("features",),
    final: bool = False,
    aug_smooth: bool = False,
    total: bool = False,
) -> Found:
    """The raw map of a layer, or the final one of several: cut at 0, scaled, resized, averaged and scaled again.

    total: weights are sums over positions, not means: CAM, if global average pooling and a linear layer follow.
    """
    flat = case.name == "cnn1d"
    reshape = (lambda a: a[..., None]) if flat else None
    explained = kind(case.net, [case.layer(layer) for layer in layers], reshape_transform=reshape)
    raw: list[NDArray[Any]] = []

    def kept(*args: Any, **kwargs: Any) -> NDArray[Any]:
        raw.append(kind.get_cam_image(explained, *args, **kwargs))
        return raw[-1]

    if flat:
        explained.get_target_width_height = lambda x: (1, 1)
    explained.get_cam_image = kept
    scaled = explained(case.x[0], [ClassifierOutputTarget(c) for c in case.classes], aug_smooth=aug_smooth)
    explained.activations_and_grads.release()
    found = torch.from_numpy(scaled if final else raw[0]) * (raw[0][0].size if total else 1)
    return {"values": found[..., 0] if flat else found}


for name in (
    "GradCAM GradCAMPlusPlus XGradCAM HiResCAM GradCAMElementWise LayerCAM EigenCAM EigenGradCAM ScoreCAM AblationCAM"
).split():
    REFERENCES[f"pgc.{name}"] = partial(cam, getattr(pgc, name))


@reference("pgc.GuidedBackprop")
def guided_backprop(case: Case) -> Found:
    """It takes one photo at a time, and gives (H, W, C)."""
    explained = pgc.GuidedBackpropReLUModel(case.net)
    found = [explained(one[None], c) for one, c in zip(case.x[0], case.classes, strict=True)]
    return case.named(torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2))


@reference("pgc.FullGrad")
def fullgrad(case: Case, rescale: bool = True) -> Found:
    """The sum over layers, before it is scaled; of maps scaled to 0 to 1, or of maps in units of the score."""

    def resized(maps: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        return functional.interpolate(torch.from_numpy(maps), size[::-1], mode="bilinear").numpy()

    explained = pgc.FullGrad(case.net, [])
    kept = fullgrad_cam.scale_accross_batch_and_channels if rescale else resized
    with (
        mock.patch.object(fullgrad_cam, "scale_accross_batch_and_channels", kept),
        mock.patch.object(fullgrad_cam, "scale_cam_image", lambda cam: cam),
    ):
        found = explained(case.x[0], [ClassifierOutputTarget(c) for c in case.classes])
    explained.activations_and_grads.release()
    return {"values": torch.from_numpy(found)}


# zennit.


class Sums(zennit.canonizers.AttributeCanonizer):
    """Sums of residual blocks become layers."""

    def __init__(self) -> None:
        super().__init__(self.attributes)

    @staticmethod
    def attributes(name: str, module: nn.Module) -> dict[str, Any] | None:
        if isinstance(module, Block | Inverted) and getattr(module, "same", True):
            total = zennit.layer.Sum()
            return {"total": total, "join": lambda a, b: total(torch.stack([a, b], -1))}
        return None

    def copy(self) -> Sums:
        return Sums()


class Exact:
    """Batch norms that were merged are identities: zennit leaves their epsilon in, 5e-6 of every value."""

    @staticmethod
    def merge_batch_norm(modules: list[nn.Module], batch_norm: Any) -> None:
        zennit.canonizers.MergeBatchNorm.merge_batch_norm(modules, batch_norm)
        batch_norm.eps = 0.0


class Sequential(Exact, zennit.canonizers.SequentialMergeBatchNorm):
    pass


class Named(Exact, zennit.canonizers.NamedMergeBatchNorm):
    pass


MERGED = [(["conv"], "norm"), *(([f"dense{i}.conv1"], f"dense{i}.norm2") for i in (1, 2, 3))]


def canonizers(case: Case) -> list[Any]:
    """zennit finds what to merge by the order of modules, which is wrong where a DenseNet branches."""
    if case.name == "densenet":
        return [Named(MERGED)]
    return [Sequential(), Sums()]


def composite(kind: str, case: Case, scaled: bool = False, **settings: float) -> Found:
    inputs = [v.clone().requires_grad_() for v in case.x]
    limits = {k: torch.full_like(inputs[0][:1], v) for k, v in settings.items()}
    rules = getattr(zennit.composites, kind)(canonizers=canonizers(case), **limits)
    with rules.context(case.net) as net:
        scores = net(*inputs)
        start = case.onehot(scores) * (scores.detach() if scaled else 1)
        return case.named(torch.autograd.grad(scores, inputs, start))


for name in (
    "EpsilonPlus EpsilonPlusFlat EpsilonGammaBox EpsilonAlpha2Beta1 EpsilonAlpha2Beta1Flat ExcitationBackprop"
    " GuidedBackprop DeconvNet"
).split():
    REFERENCES[f"zennit.{name}"] = partial(composite, name)


@reference("zennit.IntegratedGradients")
def zennit_integrated_gradients(case: Case, **settings: Any) -> Found:
    """It takes one input; several are explained one at a time only if they share a path, so they are joined."""
    sizes = [v[0].numel() for v in case.x]
    joined = torch.cat([v.flatten(1) for v in case.x], 1)

    class Joined(nn.Module):
        def forward(self, flat: Tensor) -> Tensor:
            return case.net(*(p.unflatten(1, v.shape[1:]) for p, v in zip(flat.split(sizes, 1), case.x, strict=True)))

    explained = zennit.attribution.IntegratedGradients(Joined(), attr_output=case.onehot, **settings)
    found = explained(joined)[1].split(sizes, 1)
    return case.named(tuple(p.unflatten(1, v.shape[1:]) for p, v in zip(found, case.x, strict=True)))


# Inputs, and rows that rounding does not change.


def example(name: str, seed: int) -> Case:
    """A network with an input, in float64; both exact in float32."""
    rng = np.random.default_rng([seed, sorted(NETWORKS).index(name)])
    net, shapes = build(name).double(), NETWORKS[name].shapes
    inputs = {k: photos(rng, BATCH, shape).float().double() for k, shape in shapes.items()}
    stored = {
        "baseline": {
            k: torch.from_numpy(rng.normal(0, 0.5, (1, *shape))).float().double() for k, shape in shapes.items()
        },
        "baselines": {
            k: torch.from_numpy(rng.normal(0, 0.5, (3, *shape))).float().double() for k, shape in shapes.items()
        },
    }
    for kind, cells in (("mask", 3), ("coarse", 2)):
        stored[kind] = {}
        for k, shape in shapes.items():
            start = sum(int(v.max()) + 1 for v in stored[kind].values())
            stored[kind][k] = segments(name, shape, cells) + start
    case = Case(name, net, inputs, [], (), stored)
    with torch.no_grad():
        case.classes = net(*case.x).argmax(1).tolist()
    kind = captum.LayerGradientXActivation(net, case.layer("early"))
    least = kind.attribute(case.x, target=case.classes).detach().abs().amin(0)  # a unit that matters to all samples
    case.unit = tuple(int(i) for i in np.unravel_index(int(least.argmax()), least.shape))
    return case


def segments(name: str, shape: tuple[int, ...], cells: int) -> Tensor:
    """A grid of features: over the positions of a picture or signal, the steps of a sequence, else over numbers."""
    axes = {3: (1, 2), 2: (0,) if name == "lstm" else (1,), 1: (0,)}[len(shape)]
    found = torch.zeros((1, *shape), dtype=torch.long)
    for axis in axes:
        step = torch.arange(shape[axis]) * cells // shape[axis]
        found = found * cells + step.view([-1 if i == axis else 1 for i in range(-1, len(shape))])
    return found


def layer_activation_of(case: Case, layer: str) -> Tensor:
    return captum.LayerActivation(case.net, case.layer(layer)).attribute(case.x).detach()


def rounded(case: Case) -> Case:
    """The same in float32."""
    one = {
        k: {n: v.float() if v.is_floating_point() else v for n, v in arrays.items()}
        for k, arrays in case.stored.items()
    }
    inputs = {k: v.float() for k, v in case.inputs.items()}
    return Case(case.name, copy.deepcopy(case.net).float(), inputs, case.classes, case.unit, one)


def moved(case: Case, seed: int) -> Case:
    """The same, its weights and inputs a few roundings away."""
    draw = torch.Generator().manual_seed(seed)

    def nudge(v: Tensor) -> Tensor:
        return v * (1 + 3e-7 * torch.randn(v.shape, generator=draw, dtype=v.dtype))

    net = copy.deepcopy(case.net)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(nudge(p))
    return Case(case.name, net, {k: nudge(v) for k, v in case.inputs.items()}, case.classes, case.unit, case.stored)


def run(row: Row, case: Case) -> Arrays:
    # Some references leave hooks or weights behind: each gets a network of its own.
    fresh = Case(case.name, copy.deepcopy(case.net), case.inputs, case.classes, case.unit, case.stored)
    found = REFERENCES[row.reference](fresh, **row.settings)
    return {k: v.detach().double().numpy() for k, v in found.items()}


def apart(a: Arrays, b: Arrays, sign: bool) -> float:
    """The largest difference, relative to the largest attribution; of measures, which are sums, to their sum."""
    maps = [np.abs(v) for k, v in a.items() if not k.startswith("measures.")]
    largest, whole = max(float(v.max()) for v in maps), max(float(v.sum()) for v in maps)
    if not largest or not all(np.isfinite(v).all() for v in [*a.values(), *b.values()]):
        return np.inf
    return max(difference(a[k], b[k], sign) / (whole if k.startswith("measures.") else largest) for k in a)


def difference(a: NDArray[Any], b: NDArray[Any], sign: bool) -> float:
    if sign:
        return float(np.abs(a - b).max())
    return max(min(float(np.abs(u - v).max()), float(np.abs(u + v).max())) for u, v in zip(a, b, strict=True))


def judged(row: Row, case: Case, others: list[Case]) -> tuple[Arrays, str]:
    """The golden values, and why they are refused, "" if they are not."""
    try:
        golden = run(row, case)
    except Exception as error:
        return {}, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    for what, other in zip(("float32", "moved", "moved again"), others, strict=True):
        if (off := apart(golden, run(row, other), row.sign)) > ALIKE * (1 if what == "float32" else 3):
            return golden, f"{what} is {off:.1e} away"
    return golden, ""


# The files.


def export(case: Case, path: Path, dynamo: bool) -> None:
    net, x, names = rounded(case).net, tuple(v.float() for v in case.x), list(case.inputs)
    options: dict[str, Any] = {"input_names": names, "output_names": ["logits"], "dynamo": dynamo}
    if dynamo:
        batch = torch.export.Dim("N", min=1)
        options |= {"dynamic_shapes": tuple({0: batch} for _ in x), "verbose": False, "external_data": False}
    else:
        options |= {"dynamic_axes": {k: {0: "N"} for k in [*names, "logits"]}, "opset_version": 18}
    torch.onnx.export(net, x, str(path), **options)
    model = onnx.load(path)
    for holder in (*model.graph.node, *model.graph.input, *model.graph.value_info, model.graph):
        del holder.metadata_props[:]  # traces of this machine's source files
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)


def tensors(case: Case, path: Path) -> dict[str, str]:
    """The tensor of the file that holds what a layer computes, found by its values."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    floats = [o for n in model.graph.node for o in n.output if kinds.get(o) == onnx.TensorProto.FLOAT]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in floats)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(floats, session.run(None, {k: v.float().numpy() for k, v in case.inputs.items()}), strict=True))

    def holder(wanted: Tensor) -> str:
        value = wanted.detach().numpy()
        for name, other in found.items():
            if other.shape == value.shape and np.abs(other - value).max() <= NEAR * np.abs(value).max():
                return name
        raise ValueError(f"{path.name} holds no such tensor")

    holder(case.net(*case.x))
    return {layer: holder(layer_activation_of(case, layer)) for layer in NETWORKS[case.name].layers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "parity")
    parser.add_argument("networks", nargs="*", help="only these")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    for name in chosen.networks or NETWORKS:
        arrays, refused = network(name, chosen.out)
        np.savez_compressed(chosen.out / "goldens" / f"{name}.npz", **cast(Any, arrays))
        print(f"{name}: {sum(k.endswith('/text') for k in arrays)} rows", flush=True)
        for row, why in refused.items():
            print(f"  refused {row}: {why}", flush=True)


def network(name: str, out: Path) -> tuple[Arrays, dict[str, str]]:
    """Writes the network's files; its golden values, and the rows that were refused."""
    rows = [row for row in ROWS if name in row.networks]
    arrays: Arrays = {}
    refused: dict[str, str] = {}
    for seed in range(SEEDS):
        case = example(name, seed)
        if len(set(case.classes)) < BATCH:
            continue  # samples of one class would not show whose class a map is of
        others = [rounded(case), moved(case, 1), moved(case, 2)]
        found = {row: judged(row, case, others) for row in rows}
        accepted = {row: values for row, (values, why) in found.items() if not why}
        arrays |= written(case, accepted, seed)
        refused = {row.name: why for row, (_, why) in found.items() if why}
        rows = [row for row in rows if row.name in refused]
        if not rows:
            break
    for exporter, dynamo in EXPORTERS.items():
        path = out / "models" / f"{name}-{exporter}.onnx"
        with quiet():
            export(case, path, dynamo)
        arrays |= {f"layer.{exporter}.{k}": np.array(v) for k, v in tensors(case, path).items()}
    return arrays, refused


def written(case: Case, accepted: dict[Row, Arrays], seed: int) -> Arrays:
    """What the test needs: the input with all that goes with it, and the golden values, each with its input's seed."""
    if not accepted:
        return {}
    arrays: Arrays = {f"{seed}/classes": np.array(case.classes), f"{seed}/unit": np.array(case.unit)}
    arrays |= {f"{seed}/input.{k}": exact(v) for k, v in case.inputs.items()}
    for row, values in accepted.items():
        for stored in (v.name for v in row.params.values() if isinstance(v, Stored)):
            arrays |= {f"{seed}/{stored}.{k}": exact(v) for k, v in case.stored[stored].items()}
        arrays |= {f"{row.name}/text": np.array(row.text), f"{row.name}/seed": np.array(seed)}
        arrays |= {f"{row.name}/{k}": v.astype(np.float32) for k, v in values.items()}
    return arrays


def exact(v: Tensor) -> NDArray[Any]:
    return (v.float() if v.is_floating_point() else v).numpy()


@contextmanager
def quiet() -> Iterator[None]:
    with mock.patch("sys.stdout", io.StringIO()), mock.patch("sys.stderr", io.StringIO()):
        yield


if __name__ == "__main__":
    main()
