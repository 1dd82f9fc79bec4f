"""The pads that auto_pad stands for."""

from __future__ import annotations

import onnx_ir as ir


def explicit(graph: ir.Graph) -> None:
    """Replace auto_pad by pads wherever the sizes are known, in subgraphs too; SAME at stride 1 does not need them."""
    for node in graph.all_nodes():
        mode = node.attributes.get_string("auto_pad", "NOTSET")
        if node.domain != "" or mode == "NOTSET":
            continue
        pads = _pads(node, mode)
        if pads is not None:
            del node.attributes["auto_pad"]
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def _pads(node: ir.Node, mode: str) -> list[int] | None:
    """Pads, all begins, then all ends; None where the input's size must be known first."""
    kernel, x = _kernel(node), node.inputs[0]
    if mode == "VALID" and "output_shape" not in node.attributes and x is not None and x.shape is not None:
        return [0] * (2 * (len(x.shape) - 2))
    if not kernel or "output_shape" in node.attributes:
        return None
    rank = len(kernel)
    if mode == "VALID":
        return [0] * (2 * rank)
    stride = list(node.attributes.get_ints("strides", ())) or [1] * rank
    dilation = list(node.attributes.get_ints("dilations", ())) or [1] * rank
    if node.op_type.endswith("Pool"):
        dilation = [1] * rank  # onnxruntime pads pools as if they were not dilated
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if node.op_type == "ConvTranspose":
        # The output is input * stride: what the full output has beyond that is cut off.
        extra = list(node.attributes.get_ints("output_padding", ())) or [0] * rank
        totals = [max(e + o - s, 0) for e, o, s in zip(extent, extra, stride, strict=True)]
    else:
        sizes = list(x.shape)[2:] if x is not None and x.shape is not None else [None] * rank
        totals = []
        for n, s, e in zip(sizes, stride, extent, strict=True):
            if s > 1 and not isinstance(n, int):
                return None
            totals.append((-(-n // s) - 1) * s + e - n if s > 1 and isinstance(n, int) else e - 1)
        if node.op_type in ("AveragePool", "LpPool") and mode == "SAME_UPPER" and min(totals, default=0) < -1:
            return None  # onnxruntime crops what lies between its windows, and moves them
        totals = [max(total, 0) for total in totals]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if mode == "SAME_UPPER" else large + small


def _kernel(node: ir.Node) -> list[int]:
    kernel = list(node.attributes.get_ints("kernel_shape", ()))
    weight = node.inputs[3 if node.op_type == "QLinearConv" else 1] if len(node.inputs) > 1 else None
    if not kernel and weight is not None and weight.shape is not None and weight.shape.is_static():
        kernel = [int(d) for d in weight.shape.numpy()[2:]]
    return kernel
