"""Networks in float64 on onnxruntime: what it has no float64 kernels for is written as literal sums over windows.

An independent reading of Conv, ConvTranspose, AveragePool, GlobalAveragePool and LRN, for whole networks and their
gradients. Everything else runs on onnxruntime's float64 kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_LATTICE = ("strides", "dilations", "output_padding")
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


class Double:
    """A model, canonical and with static spatial sizes, to be run in float64.

    To each tensor of `moved` the input `offset.<tensor>` is added; it is zero unless it is fed.
    """

    def __init__(self, data: bytes, moved: Sequence[str] = ()) -> None:
        proto = onnx.ModelProto.FromString(data)
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        graph = proto.graph
        self._sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
        self._sizes |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
        self._weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self._sizes |= {name: list(w.shape) for name, w in self._weights.items()}
        self._count = 0
        nodes = [new for node in graph.node if not self._folded(node) for new in self._rewritten(node)]
        for i, node in reversed(list(enumerate(nodes))):
            if node.output[0] in moved:
                name = node.output[0]
                node.output[0] += ".before"
                nodes.insert(i + 1, helper.make_node("Add", [node.output[0], f"offset.{name}"], [name]))
                self._weights[f"offset.{name}"] = np.zeros(())
                graph.input.append(helper.make_tensor_value_info(f"offset.{name}", FLOAT, None))
        del graph.node[:], graph.value_info[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(
            numpy_helper.from_array(w.astype(np.float64) if w.dtype == np.float32 else w, name)
            for name, w in self._weights.items()
        )
        for value in [*graph.input, *graph.output]:
            value.type.tensor_type.elem_type = DOUBLE if value.type.tensor_type.elem_type == FLOAT else 1
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self.session.run(None, {k: v.astype(np.float64) for k, v in feeds.items()}))

    # Writing nodes.

    def _folded(self, node: NodeProto) -> bool:
        """Compute what depends on constants alone: sizes have to be known."""
        if not all(x in self._weights for x in node.input):
            return False
        evaluator = ReferenceEvaluator(node)
        self._weights |= zip(node.output, evaluator.run(None, {x: self._weights[x] for x in node.input}), strict=True)
        self._sizes |= {y: list(self._weights[y].shape) for y in node.output}
        return True

    def _rewritten(self, node: NodeProto) -> Iterator[NodeProto]:
        how = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        write = getattr(self, f"op_{node.op_type.lower()}", None)
        if write is None:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = DOUBLE
                if attribute.name == "value" and attribute.t.data_type == FLOAT:
                    attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
            yield node
            return
        self._nodes: list[NodeProto] = []
        result = write(node, how)
        yield from self._nodes
        yield helper.make_node("Identity", [result], [node.output[0]])

    def _emit(self, op: str, *inputs: str | np.ndarray | Sequence[int], **how: Any) -> str:
        self._count += 1
        names = [x if isinstance(x, str) else self._constant(np.asarray(x)) for x in inputs]
        self._nodes.append(helper.make_node(op, names, [f"double.{self._count}"], **how))
        return f"double.{self._count}"

    def _constant(self, array: np.ndarray) -> str:
        name = f"double.constant.{len(self._weights)}"
        self._weights[name] = array
        return name

    def _windows(self, x: str, size: Sequence[int], how: dict[str, Any], kernel: Sequence[int]) -> list[str]:
        """For every position in the window, the strided map of what lies under it; pads are zeros."""
        rank, pads = len(kernel), how.get("pads") or [0] * 2 * len(kernel)
        strides, dilations = (how.get(k) or [1] * rank for k in ("strides", "dilations"))
        size = [s + pads[i] + pads[i + rank] for i, s in enumerate(size)]
        outs = [(s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(size, kernel, strides, dilations, strict=True)]
        padded = self._emit("Pad", x, [0, 0, *pads[:rank], 0, 0, *pads[rank:]])
        axes, found = list(range(2, 2 + rank)), []
        for position in product(*map(range, kernel)):
            starts = [p * d for p, d in zip(position, dilations, strict=True)]
            ends = [a + t * (o - 1) + 1 for a, t, o in zip(starts, strides, outs, strict=True)]
            found.append(self._emit("Slice", padded, starts, ends, axes, strides))
        return found

    def _sum(self, terms: Sequence[str]) -> str:
        return self._emit("Sum", *terms)

    # The operators.

    def op_conv(self, node: NodeProto, how: dict[str, Any]) -> str:
        x, w, *bias = node.input
        weight, group = self._weights[w].astype(np.float64), how.get("group", 1)
        outs, ins = weight.shape[0] // group, weight.shape[1]
        windows = self._windows(x, self._sizes[x][2:], how, weight.shape[2:])
        terms = []
        for position, window in zip(product(*map(range, weight.shape[2:])), windows, strict=True):
            step = weight[(slice(None), slice(None), *position)].reshape(1, group, outs, ins)
            columns = self._emit("Reshape", window, [0, group, ins, -1])
            terms.append(self._emit("MatMul", step, columns))
        spatial, batch = self._emit("Shape", windows[0], start=2), self._emit("Shape", x, end=1)
        shape = self._emit("Concat", batch, [weight.shape[0]], spatial, axis=0)
        result = self._emit("Reshape", self._sum(terms), shape)
        if bias:
            result = self._emit("Add", result, self._emit("Reshape", bias[0], [-1] + [1] * (weight.ndim - 2)))
        return result

    def op_convtranspose(self, node: NodeProto, how: dict[str, Any]) -> str:
        (x, w), size = node.input, self._sizes[node.input[0]][2:]
        weight, group, rank = self._weights[w].astype(np.float64), how.get("group", 1), len(size)
        strides, dilations, extra = (how.get(k) or [d] * rank for k, d in zip(_LATTICE, (1, 1, 0), strict=True))
        pads, kernel = how.get("pads") or [0] * 2 * rank, weight.shape[2:]
        # Every element puts its own copy of the kernel on a lattice, which the pads then crop.
        axes = list(range(2, 2 + rank))
        full = [
            max(t * (n - 1) + d * (k - 1) + 1 + e, t * n + d * (k - 1))
            for n, k, t, d, e in zip(size, kernel, strides, dilations, extra, strict=True)
        ]
        columns = self._emit("Reshape", x, [0, group, weight.shape[0] // group, -1])
        batch, terms = self._emit("Shape", x, end=1), []
        for position in product(*map(range, kernel)):
            step = weight[(slice(None), slice(None), *position)].reshape(1, group, -1, weight.shape[1])
            value = self._emit("MatMul", step.transpose(0, 1, 3, 2), columns)
            outs = group * weight.shape[1]
            apart = [v for n in size for v in (n, 1)]
            value = self._emit("Reshape", value, self._emit("Concat", batch, [outs, *apart], axis=0))
            value = self._emit("Pad", value, [0] * (2 + 2 * rank) + [0, 0, *(v for t in strides for v in (0, t - 1))])
            spread = [t * n for t, n in zip(strides, size, strict=True)]
            value = self._emit("Reshape", value, self._emit("Concat", batch, [outs, *spread], axis=0))
            before = [p * d for p, d in zip(position, dilations, strict=True)]
            after = [f - s - b for f, s, b in zip(full, spread, before, strict=True)]
            terms.append(self._emit("Pad", value, [0, 0, *before, 0, 0, *after]))
        ends = [
            t * (n - 1) + d * (k - 1) + 1 + e - q
            for n, k, t, d, e, q in zip(size, kernel, strides, dilations, extra, pads[rank:], strict=True)
        ]
        return self._emit("Slice", self._sum(terms), pads[:rank], ends, axes)

    def op_averagepool(self, node: NodeProto, how: dict[str, Any]) -> str:
        (x,), kernel = node.input, how["kernel_shape"]
        size = self._sizes[x][2:]
        assert not how.get("ceil_mode"), "not written here"
        ones = self._constant(np.ones([1, 1, *size]))
        count = self._sum(self._windows(ones, size, how, kernel))
        total = self._sum(self._windows(x, size, how, kernel))
        if how.get("count_include_pad"):
            return self._emit("Mul", total, np.float64(1 / np.prod(kernel)))
        return self._emit("Div", total, count)

    def op_globalaveragepool(self, node: NodeProto, how: dict[str, Any]) -> str:
        return self._emit("ReduceMean", node.input[0], list(range(2, len(self._sizes[node.input[0]]))), keepdims=1)

    def op_lrn(self, node: NodeProto, how: dict[str, Any]) -> str:
        (x,), n = node.input, how["size"]
        alpha, beta, bias = how.get("alpha", 1e-4), how.get("beta", 0.75), how.get("bias", 1.0)
        channels = self._sizes[x][1]
        before, after = (n - 1) // 2, n - 1 - (n - 1) // 2
        padded = self._emit("Pad", self._emit("Mul", x, x), [0, before, 0, 0, 0, after, 0, 0])
        total = self._sum([self._emit("Slice", padded, [i], [i + channels], [1]) for i in range(n)])
        scale = self._emit("Add", self._emit("Mul", total, np.float64(alpha / n)), np.float64(bias))
        return self._emit("Div", x, self._emit("Pow", scale, np.float64(beta)))
