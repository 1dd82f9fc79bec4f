"""Raising a model's opset with onnx's own converter, and mending what that converter gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir

from .errors import UnsupportedError

if TYPE_CHECKING:
    import onnx

Light = Callable[[ir.Model, "Callable[[onnx.ModelProto], onnx.ModelProto]"], "onnx.ModelProto"]


def raise_opset(model: ir.Model, version: int, target: int, light: Light) -> ir.Model:
    """Convert to a newer opset; weights, tensor names and metadata stay.

    onnx's C++ converter is used rather than a Python one: it covers every opset from 7 on, keeps all tensor names
    and takes milliseconds. Where it is known to change the result, the case is mended here or refused.

    Raises:
        UnsupportedError: the converter refuses, or the file uses a form that it would silently change.
    """
    from onnx import version_converter

    try:
        proto = light(model, lambda p: version_converter.convert_version(p, target))
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"The model's opset {version} could not be raised to {target}: {reason} Export it with opset {target}."
        ) from error
    weights = {name: v.const_value for name, v in model.graph.initializers.items()}
    converted = ir.serde.deserialize_model(proto)
    graph = converted.graph
    for value in [v for v in graph.inputs if v.name in weights]:
        graph.inputs.remove(value)
        value.const_value = weights[value.name or ""]
        graph.register_initializer(value)
    converted.metadata_props.update(model.metadata_props)
    return converted
