"""The networks of PyTorch: what each learns, for how long, and the files that are made of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import blobs
import torch
import torch_tasks as t
from torch import nn
from torch_convs import Cnn, Embedder, Fusion, MobileNet, Recurrent, Signal, Stateful, Table, Unet
from torch_detr import Detr
from torch_onestage import Ssd, Yolo, Yolox
from torch_transformers import Causal, Mixer, MobileVit, RmsNorm, Swin, Text, Vit
from torch_twostage import TwoStage


@dataclass(frozen=True)
class File:
    """One export of a network: under which name, of which kind, and what of the trained network goes into it."""

    net: str
    kind: str
    outputs: str = "logits"
    exporters: str = "dynamo legacy"
    part: Callable[[Any], nn.Module] = lambda model: model
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    batch: bool = True
    axes: dict[str, dict[int, str]] = field(default_factory=dict)
    opset: int | None = None
    note: str = ""
    truth: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Net:
    """A network, what it learns for how many steps, and the files it is written to."""

    make: Callable[[], nn.Module]
    task: t.Task
    steps: int
    inputs: str
    files: Sequence[File]


def changed(**attributes: Any) -> Callable[[Any], nn.Module]:
    """The trained network with other attributes."""

    def part(model: Any) -> nn.Module:
        other = copy.copy(model)
        vars(other).update(attributes)
        return other

    return part


def spelled(model: Any) -> nn.Module:
    other = copy.deepcopy(model)
    other.norm = RmsNorm(model.norm)
    return other


PHOTO = {"size": [48, 80], "pixels": "0 to 1, RGB"}
BLOBS = PHOTO | {"classes": blobs.CLASSES, "without_blob": "all classes equally likely"}
MASK = PHOTO | {"classes": "0 is the background"}
SCENE = {"size": [64, 96], "pixels": "0 to 1, RGB"}
PATCHES = BLOBS | {"grid": [6, 10], "patch": 8}
REGISTERS = PATCHES | {"tokens": ["class", *["register"] * 4, "60 patches"]}
CELLS = SCENE | {"grids": [[8, 12], [4, 6]], "strides": [8, 16]}
STATE = {"h0": torch.zeros(1, 2, 20), "c0": torch.zeros(1, 2, 20)}
ANY = {"x": {0: "batch", 2: "height", 3: "width"}}
NETS = [
    Net(
        Cnn, t.CLASSIFY, 150, "x",
        [
            File("cnn", "classifier", truth=BLOBS),
            File("cnn_any_size", "classifier", axes=ANY, truth=BLOBS, note="height and width are free"),
            File("cnn_opset7", "classifier", exporters="legacy", opset=7, truth=BLOBS),
            File("cnn_batch1", "classifier", exporters="legacy", batch=False, truth=BLOBS, note="the batch is 1"),
        ],
    ),
    Net(MobileNet, t.CLASSIFY, 400, "x", [File("mobilenetv3", "classifier", truth=BLOBS)]),
    Net(
        lambda: Vit(registers=4), t.CLASSIFY, 500, "x",
        [
            File("vit", "classifier", truth=REGISTERS),
            File(
                "vit_attention", "classifier", exporters="dynamo", opset=23,
                truth=REGISTERS, note="attention is one operator",
            ),
        ],
    ),
    Net(
        lambda: Vit(pool="distilled"), t.CLASSIFY, 300, "x",
        [
            File(
                "deit", "classifier", exporters="legacy",
                truth=PATCHES | {"tokens": ["class", "distillation", "60 patches"]},
            )
        ],
    ),
    Net(
        lambda: Vit(pool="mean"), t.CLASSIFY, 400, "x",
        [File("vit_mean", "classifier", exporters="dynamo", truth=PATCHES | {"tokens": ["60 patches"]})],
    ),
    Net(
        Swin, t.CLASSIFY, 500, "x",
        [File("swin", "classifier", truth=BLOBS | {"grids": [[12, 20], [6, 10]], "patch": 4, "windows": [4, 2]})],
    ),
    Net(
        MobileVit, t.CLASSIFY, 350, "x",
        [File("mobilevit", "classifier", truth=BLOBS | {"grid": [12, 20], "unfolded": [2, 2]})],
    ),
    Net(Mixer, t.CLASSIFY, 600, "x", [File("mixer", "classifier", truth=PATCHES | {"tokens": ["60 patches"]})]),
    Net(
        Unet, t.SEGMENT, 220, "x",
        [
            File("unet", "segmenter", truth=MASK),
            File("unet_argmax", "segmenter", "classes", part=changed(ends_in_argmax=True), truth=MASK),
        ],
    ),
    Net(
        Yolo, t.DETECT, 400, "x",
        [
            File("yolo", "detector", "boxes", truth=CELLS | {"layout": "[B, 4 + 4, N]: x y w h in pixels, classes"}),
            File(
                "yolo_raw", "detector", "head", "legacy", changed(form="raw"),
                truth=CELLS | {"layout": "[B, 4 * 8 + 4, N]: bins of left top right bottom in cells, class logits"},
            ),
            File(
                "yolo_nms", "detector", "boxes scores labels", "legacy", changed(form="nms"), batch=False,
                truth=CELLS | {"layout": "[K, 4] corners in pixels, [K], [K]"}, note="NonMaxSuppression in the graph",
            ),
        ],
    ),
    Net(
        Yolox, t.DETECT, 400, "x",
        [
            File(
                "yolox", "detector", "head",
                truth=CELLS | {"layout": "[B, N, 4 + 1 + 4]: offsets and log sizes in cells, objectness, classes"},
            )
        ],
    ),
    Net(
        Ssd, t.DETECT, 400, "x",
        [
            File(
                "ssd", "detector", "scores boxes",
                truth=CELLS | {"layout": "[B, N, 1 + 4] background first, [B, N, 4] corners from 0 to 1", "anchors": 2},
            )
        ],
    ),
    Net(
        Detr, t.DETECT, 1000, "x",
        [
            File(
                "detr", "detector", "logits boxes", exporters="legacy",
                truth=SCENE | {"grid": [8, 12], "layout": "[B, 8, 4 + 1] nothing last, [B, 8, 4] x y w h from 0 to 1"},
            )
        ],
    ),
    Net(
        TwoStage, t.DETECT, 400, "x",
        [
            File(
                "twostage", "detector", "boxes scores labels", "legacy", batch=False,
                truth=SCENE | {"grid": [8, 12], "layout": "[K, 4] corners in pixels, [K], [K]"},
                note="RoiAlign and two NonMaxSuppressions in the graph",
            )
        ],
    ),
    Net(Embedder, t.EMBED, 150, "x", [File("embedder", "embedding", "embedding", exporters="dynamo", truth=PHOTO)]),
    Net(lambda: Cnn(1), t.REGRESS, 250, "x", [File("area", "regression", "percent", exporters="legacy", truth=PHOTO)]),
    Net(
        Fusion, t.FUSE, 250, "photo vector",
        [
            File(
                "fusion", "regression", "sum", exporters="dynamo",
                truth=PHOTO | {"sum": "area in percent + 2 vector[0] - vector[1]"},
            )
        ],
    ),
    Net(Signal, t.SIGNAL, 150, "x", [File("signal", "signal")]),
    Net(
        lambda: Recurrent(nn.LSTM), t.SIGNAL, 500, "x",
        [
            File("lstm", "signal", note="32 steps of 4 samples"),
            File(
                "lstm_state", "signal", "logits h c", part=Stateful, extra=STATE,
                axes={"h0": {1: "batch"}, "c0": {1: "batch"}}, note="state goes in and out",
            ),
        ],
    ),
    Net(lambda: Recurrent(nn.GRU, True), t.SIGNAL, 300, "x", [File("gru", "signal", note="both ways")]),
    Net(Table, t.TABLE, 500, "x", [File("mlp", "table", truth={"columns": blobs.COLUMNS})]),
    Net(
        lambda: Text(len(blobs.WORDS), 12), t.TEXT, 500, "input_ids attention_mask",
        [File("text", "text", truth={"words": blobs.WORDS, "pad": 0})],
    ),
    Net(
        lambda: Causal(len(blobs.WORDS), 12), t.NEXT, 100, "input_ids",
        [
            File("causal", "text", exporters="legacy", part=spelled, truth={"words": blobs.WORDS}),
            File("causal_attention", "text", exporters="dynamo", opset=23, truth={"words": blobs.WORDS}),
        ],
    ),
]  # fmt: skip
