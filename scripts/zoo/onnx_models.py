"""Forms that files take after they left their exporter: quantised, optimised, half precision, If, functions, odd names.

    PYTHONPATH=scripts:tests python scripts/zoo/onnx_models.py OUT ZOO

All start from networks that torch_models.py has left in ZOO; the numbers that come out are theirs, as far as the form
allows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_forms as forms
import onnxruntime as ort
from onnxruntime.quantization import QuantFormat, QuantType

from zoo import Zoo

EXTENDED = forms.optimised(ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
QDQ = forms.quantised(QuantFormat.QDQ, QuantType.QInt8)
QOPERATOR = forms.quantised(QuantFormat.QOperator, QuantType.QUInt8)
# Name, the file it starts from, what is done to it, and a note.
FILES: list[tuple[str, str, Callable[[Path], onnx.ModelProto], str]] = [
    ("onnx_cnn_fp16", "torch_legacy_cnn", forms.half(keep=False), "float16 in and out"),
    ("onnx_vit_fp16", "torch_dynamo_vit", forms.half(keep=True), "float16 inside, float32 in and out"),
    ("onnx_cnn_uint8", "torch_legacy_cnn", forms.uint8, "uint8 in and out, QDQ; 1 / 255 a step of the input"),
    ("onnx_cnn_pixels", "torch_dynamo_cnn", forms.pixels, "uint8 photos in NHWC; scaled in the graph"),
    ("onnx_cnn_if_input", "torch_legacy_cnn", forms.inside_if("input"), "If on the input sharp; false halves scores"),
    ("onnx_cnn_if_constant", "torch_dynamo_cnn", forms.inside_if("constant"), "the network inside an If, always true"),
    ("onnx_cnn_if_size", "torch_dynamo_cnn", forms.inside_if("size"), "the network inside an If on the photo's height"),
    ("onnx_cnn_functions", "torch_dynamo_cnn", forms.functions, "blocks are model-local functions"),
    ("onnx_cnn_unnamed", "torch_dynamo_cnn", forms.unnamed, "no node names, tensors are numbers"),
    ("onnx_cnn_constants", "torch_legacy_cnn", forms.constants, "weights are Constant nodes"),
    ("onnx_cnn_ir3", "torch_legacy_cnn", forms.inputs_too, "weights among the inputs, at IR version 3"),
    ("onnx_cnn_opset26", "torch_dynamo_cnn", forms.newest, "opset 26"),
    ("onnx_cnn_odd_names", "torch_dynamo_cnn", forms.odd_names, "quotes, brackets, blanks and umlauts in names"),
    ("onnx_cnn_map_first", "torch_legacy_cnn", forms.map_first, "the last map is the first output"),
    ("onnx_cnn_label", "torch_legacy_cnn", forms.label_only, "only the class that won comes out"),
    ("onnx_cnn_external", "torch_dynamo_cnn", lambda path: onnx.load(path), "weights in a file beside it"),
    ("ort_cnn_qdq", "torch_legacy_cnn", QDQ, "int8, QDQ"),
    ("ort_cnn_qoperator", "torch_legacy_cnn", QOPERATOR, "int8, QLinearConv"),
    ("ort_cnn_dynamic", "torch_legacy_cnn", forms.dynamic, "dynamic int8: ConvInteger"),
    ("ort_vit_dynamic", "torch_legacy_vit", forms.dynamic, "dynamic int8: MatMulInteger"),
    ("ort_cnn_extended", "torch_dynamo_cnn", EXTENDED, "as onnxruntime saves it: FusedConv"),
    ("ort_vit_extended", "torch_dynamo_vit", EXTENDED, "as onnxruntime saves it: fused operators"),
]  # fmt: skip
INPUTS = {
    "onnx_cnn_fp16": {"x": np.empty((2, 3, 48, 80), np.float16)},
    "onnx_cnn_uint8": {"x": np.empty((2, 3, 48, 80), np.uint8)},
    "onnx_cnn_pixels": {"photo": np.empty((2, 48, 80, 3), np.uint8)},
    "onnx_cnn_if_input": {"x": np.empty((2, 3, 48, 80), np.float32), "sharp": np.array(True)},
    "onnx_cnn_odd_names": {"photo [0]: 'RGB'": np.empty((2, 3, 48, 80), np.float32)},
}


def main() -> None:
    zoo, source = Zoo("onnx", Path(sys.argv[1])), Path(sys.argv[2])
    known = {e["file"]: e for e in json.loads((source / "index.json").read_text(encoding="utf-8"))}
    for name, start, change, note in FILES:
        exporter, net = name.split("_", 1)
        path = zoo.path(exporter, net)
        outside = dict(save_as_external_data=True, location=f"{path.name}.data")
        onnx.save(change(source / f"{start}.onnx"), path, **(outside if net.endswith("external") else {}))
        inputs = INPUTS.get(name, {"x": np.empty((2, 3, 48, 80), np.float32)})
        origin = known[f"{start}.onnx"]
        note = f"{start}: {note}"
        zoo.add(exporter, net, origin["kind"], inputs, note=note, truth=origin["truth"], onnxruntime=ort.__version__)
    zoo.save()


if __name__ == "__main__":
    main()
