"""The models of PyTorch, by both of its exporters: torch_dynamo_* (torch.export) and torch_legacy_* (TorchScript).

PYTHONPATH=scripts:tests python scripts/zoo/torch_models.py OUT [ZOO [NET ...]]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch_tasks as t
from torch import nn
from torch_nets import NETS, File

from zoo import Zoo


def export(model: nn.Module, inputs: dict[str, torch.Tensor], file: File, dynamo: bool, path: Path) -> None:
    """Write one file, weights inside."""
    outputs = file.outputs.split()
    names: dict[str, Any] = dict(
        input_names=list(inputs), output_names=outputs, opset_version=file.opset or (20 if dynamo else 17)
    )
    axes = {name: file.axes.get(name, {0: "batch"}) for name in inputs} if file.batch else {}
    if dynamo:
        names |= dict(dynamic_shapes=tuple(axes.values()) if axes else None, external_data=False, verbose=False)
    else:
        names |= dict(dynamic_axes=axes)
    torch.onnx.export(model, tuple(inputs.values()), path, dynamo=dynamo, **names)


def same(model: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    """onnxruntime has to see what PyTorch sees."""
    with torch.no_grad():
        wanted = model(*inputs.values())
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {k: v.numpy() for k, v in inputs.items()})
    for a, b in zip([wanted] if isinstance(wanted, torch.Tensor) else wanted, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-3, err_msg=path.name)


def main() -> None:
    zoo = Zoo("torch", Path(sys.argv[1]))
    only = sys.argv[3:]
    torch.set_num_threads(1)
    for net in NETS:
        if only and not {f.net for f in net.files} & set(only):
            continue
        torch.manual_seed(0)
        start = time.perf_counter()
        model = t.fit(net.make(), net.task, net.steps)
        measured = t.measured(model, net.task)
        print(net.files[0].net, measured, f"{time.perf_counter() - start:.0f} s", flush=True)
        inputs = dict(zip(net.inputs.split(), net.task.data(1, 2), strict=False))
        for file in net.files:
            part = file.part(model).eval()
            feeds = {k: v if file.batch else v[:1] for k, v in inputs.items()} | file.extra
            for exporter in file.exporters.split():
                name = f"torch_{exporter}"
                export(part, feeds, file, exporter == "dynamo", zoo.path(name, file.net))
                same(part, feeds, zoo.path(name, file.net))
                truth = file.truth | measured
                zoo.add(name, file.net, file.kind, feeds, note=file.note, truth=truth, torch=torch.__version__)
    zoo.save()


if __name__ == "__main__":
    main()
