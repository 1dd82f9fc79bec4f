"""A graph as bytes: as one message, as files, and as the digest that tells it from all others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir

from .collector import uncollected

if TYPE_CHECKING:
    import onnx

LIMIT = 2**31 - 1  # of one message
_SMALL = 1024
Loaded: TypeAlias = "Mapping[int, tuple[str, onnx_ir.TensorProtocol | None]]"  # text, since onnx_ir may not be there


@uncollected()
def digest(model: onnx_ir.Model, identity: str, loaded: Loaded) -> str:
    """Identifies a graph with its weights.

    Args:
        model: the graph.
        identity: of the file that it was loaded from.
        loaded: its weights there, by the id of their tensors: their names, and the tensors, so that ids stay theirs.
    """
    known = hashlib.sha256(identity.encode())
    model = _lowered(model).clone()
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL:
            continue
        origin, _ = loaded.get(id(tensor), ("", None))
        # A weight as it was loaded is known by its name and the file; any other by its bytes.
        known.update(f"{name} {origin} {tensor.shape} {tensor.dtype};".encode())
        known.update(b"" if origin else tensor.tobytes())
        del model.graph.initializers[name]
    known.update(onnx_ir.serde.serialize_model(model).SerializeToString(deterministic=True))
    return known.hexdigest()


@uncollected()
def to_proto(model: onnx_ir.Model) -> onnx.ModelProto:
    """A graph as a ModelProto; external weights are named, not included."""
    return onnx_ir.serde.serialize_model(_lowered(model))


@uncollected()
def to_bytes(model: onnx_ir.Model) -> bytes:
    """A graph as one message, weights included."""
    data: bytes = onnx_ir.serde.serialize_model(_in_memory(_lowered(model))).SerializeToString()
    return data


def message(model: onnx_ir.Model) -> tuple[bytes, Path | None]:
    """A graph for onnxruntime: as one message, and the folder of the file of its weights; None for no such file.

    Weights of a model that came with external data lie where they lay: their folder is not said.
    """
    from .mapped import message as named

    with uncollected():
        outside, folder = named(_lowered(model))
        data: bytes = onnx_ir.serde.serialize_model(outside).SerializeToString()
    return data, folder


def save(model: onnx_ir.Model, path: Path, nbytes: int) -> None:
    """Write a graph; beyond the size of one message its weights go to `<path>.data` beside it.

    Args:
        model: the graph.
        path: where to.
        nbytes: of its weights.

    Raises:
        OutputError: it cannot be written; nothing is left behind.
    """
    from .files import atomic

    if nbytes <= LIMIT:
        with atomic(path) as temporary:
            temporary.write_bytes(to_bytes(model))
        return
    with atomic(path) as temporary, atomic(path.with_name(path.name + ".data")) as data:
        onnx_ir.save(_lowered(model).clone(), temporary, external_data=data.name)
        _rename_external(temporary, data.name, path.name + ".data")


def _lowered(model: onnx_ir.Model) -> onnx_ir.Model:
    from .decompose.table import lowered

    return lowered(model)


def _in_memory(model: onnx_ir.Model) -> onnx_ir.Model:
    if not any(isinstance(v.const_value, onnx_ir.ExternalTensor) for v in model.graph.initializers.values()):
        return model
    return onnx_ir.external_data.load_to_model(model.clone())


def _rename_external(file: Path, old: str, new: str) -> None:
    import onnx

    proto = onnx.load(file, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value == old:
                entry.value = new
    file.write_bytes(proto.SerializeToString())
