"""The module that a node came from, rebuilt from whatever the exporter left, and the weights that it holds.

In the order in which they are believed:

- metadata of torch's dynamo exporter: the modules around a node, with their classes;
- calls of model-local functions, which `mark_calls` notes before they are inlined;
- node names: TorchScript's "/layer1/layer1.0/conv1/Conv", TensorFlow's "model/conv1/Conv2D";
- tensor names of the same forms where nodes have no names, and caffe2's "fire2/squeeze1x1_1";
- names of weights: "layer1.0.conv1.weight", "conv2d_34/kernel:0", "fire2/squeeze1x1_w_0".
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import onnx_ir as ir

from .parameters import held_weights

_CALL = "onnx_inspect.call."
# Scopes that TensorFlow opens within a layer, and operators that a weight's name may end in: no modules.
_INNER = frozenset(
    "batchnorm moments Tensordot separable_conv2d convolution depthwise Conv2D MatMul BiasAdd Cast Reshape "
    "ReadVariableOp FusedBatchNormV3 BatchNorm_Fold Gelu Softmax einsum strided_slice".split()
)
_COUNTED = re.compile(r"(_output_\d+|:\d+)$")  # how TorchScript and TensorFlow write a node's outputs
_ADDED = re.compile(r"__\d+$")  # a node that tf2onnx put in, a Transpose mostly: its scope is only that of a neighbour
_CAFFE2 = re.compile(r"(.+)_[wb]_\d+$")
_FLAT = re.compile(r"(.*[^\W\d].*?)_(weight|bias|gamma|beta|W|B|(running|moving)_(mean|var))$")
_TOOLS = re.compile(r"(:\d+|_quantized|_dequantized|_DequantizeLinear_Output)+$")
_DEEPEST = 40
_LONGEST = 1000  # letters of a weight's name that is read: patterns take quadratic time on what somebody made up
Path = tuple[str, ...]
Source = Literal["metadata", "call", "node", "fused", "tensor", "weights", ""]


@dataclass(frozen=True)
class Scope:
    """Where a node stands among the author's modules.

    Attributes:
        path: names from the outermost module inwards, ("layer1", "0", "conv1"); () is the network itself.
        name: how layers are named after it, "layer1.0.conv1"; TensorFlow's keep their slashes.
        classes: of the network and of each module in `path`, "" where unknown.
        source: what told it, "" if nothing did; "fused" is a node name that speaks of several modules.
        held: the module that its weights are named after, if that is another one: a folded batch normalisation gives
            the convolution's output its own name.
    """

    path: Path = ()
    name: str = ""
    classes: tuple[str, ...] = ("",)
    source: Source = ""
    held: Path = ()


def scopes(graph: ir.Graph) -> dict[ir.Node, Scope]:
    """The scope of each node of a graph."""
    weights = held_weights(graph)
    caffe2 = any(_CAFFE2.match(name) for name in graph.initializers)
    held = {
        node: next((s for w in weights.get(node, ()) if (s := _of_weight(w.name or "")).path), Scope())
        for node in graph
    }
    found = {n: _of_metadata(n) or _of_node(n) or _of_tensor(n, caffe2) or named for n, named in held.items()}
    # A weight that two layers share, or that is called after another layer, says nothing of this one.
    claims = Counter(named.path for named in held.values())
    told = {s.path[:depth] for s in found.values() for depth in range(1, len(s.path) + 1)}
    for node, named in held.items():
        if named.path and named.path not in told and claims[named.path] == 1:
            found[node] = replace(found[node], held=named.path)
    return found


def scope(node: ir.Node) -> str:
    """The module that a node came from, by the node alone; "" if the exporter did not write it down."""
    found = _of_metadata(node) or _of_node(node)
    return found.name if found else ""


def _of_metadata(node: ir.Node) -> Scope | None:
    """torch writes ['', 'layer1', 'layer1.0', 'conv2d'] and, beside it, the class of each, the operator last."""
    names, classes = (_listed(node, f"pkg.torch.onnx.{k}") for k in ("name_scopes", "class_hierarchy"))
    modules = names[:-1]
    if not modules or modules[0].startswith("_empty_nn_module_stack"):
        return None
    known = dict(zip(modules, classes[:-1], strict=False))
    path = _levels(modules[-1], ".")
    levels = ["", *accumulate(path, lambda outer, inner: f"{outer}.{inner}")]
    return Scope(path, modules[-1], tuple(known.get(level, "").rpartition(".")[2] for level in levels), "metadata")


def _levels(name: str, separator: str) -> Path:
    """The parts of a name; no author nests deeper than that, but somebody else's file may."""
    return tuple(part for part in name.split(separator, _DEEPEST) if part)


def _listed(node: ir.Node, key: str) -> list[str]:
    try:
        found = ast.literal_eval(node.metadata_props.get(key) or "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(entry) for entry in found] if isinstance(found, list) and isinstance(next(iter(found), ""), str) else []


def mark_calls(model: ir.Model) -> None:
    """Note on each call of a model-local function which call it is: nodes that are inlined there inherit the notes.

    A function has a key of its own, since no function is within itself, so that the notes of calls within calls add up.
    """
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        numbers: Counter[str] = Counter()
        for node in graph.all_nodes():
            domain, name, overload = node.op_identifier()
            if (domain, name, overload) in model.functions:
                numbers[name] += 1
                module = (node.name or f"{name}_{numbers[name]}").strip("/").rpartition("/")[2]
                node.metadata_props[f"{_CALL}{domain}.{name}.{overload}"] = repr([module, name])


def _of_node(node: ir.Node) -> Scope | None:
    """Calls of functions around a node, and what its name says."""
    calls = [_listed(node, key) for key in node.metadata_props if key.startswith(_CALL)]
    modules, classes = zip(*[c for c in calls if len(c) == 2], strict=True) if calls else ((), ())
    inner = _of_name(node.name or "", "node")
    if not calls:
        return inner
    path = (*modules, *(inner.path if inner else ()))
    return Scope(path, ".".join(path), ("", *classes, *[""] * (len(path) - len(classes))), "call")


def _of_name(name: str, source: Source) -> Scope | None:
    """The name of a node without its last part, which is the operator."""
    if ";" in name:
        return _of_fused(name, source)
    parts = [*_levels(name, "/")][:-1]
    if not parts and name.startswith("/"):
        return Scope(source=source)
    if not parts or (len(parts) == 1 and parts[0].startswith("node_")):
        return None  # "node_Conv_3" is an operator that was taken apart
    if not name.startswith("/"):
        return _slashed(parts, source)
    # TorchScript repeats the way through a Sequential, "/layer1/layer1.0/conv1/Conv": read it once.
    read = parts[:1]
    for part in parts[1:]:
        if part.startswith(read[-1] + ".") or [part] == read:
            read[-1] = part
        else:
            read.append(part)
    return _dotted(".".join(read), source)


def _of_fused(name: str, source: Source) -> Scope | None:
    """TensorFlow Lite joins the names of all that it fused by semicolons: the module that most of them speak of."""
    spoken: list[Path] = [found.path for part in name.split(";") if (found := _of_name(part, source))]
    return _slashed(list(Counter(spoken).most_common(1)[0][0]), "fused") if spoken else None


def _slashed(parts: list[str], source: Source) -> Scope:
    path = list(parts)
    while len(path) > 1 and path[-1] in _INNER:
        path.pop()
    return Scope(tuple(path), "/".join(parts), ("",) * (len(path) + 1), source)


def _dotted(module: str, source: Source) -> Scope:
    path = _levels(module, ".")
    return Scope(path, module, ("",) * (len(path) + 1), source)


def _of_tensor(node: ir.Node, caffe2: bool) -> Scope | None:
    name = next((y.name for y in node.outputs if y.name), None) or ""
    if node.name or ("/" not in name and not caffe2):
        return None
    if caffe2:  # "fire2/squeeze1x1_1": the blob and its version
        blob = re.sub(r"_\d+$", "", name)
        return _slashed(blob.split("/"), "tensor") if blob != name else None
    return _of_name(_COUNTED.sub("", name), "tensor") if _COUNTED.search(name) else None


def _of_weight(name: str) -> Scope:
    """The module that a weight is named after."""
    if len(name) > _LONGEST:
        return Scope()
    name = _TOOLS.sub("", name)
    if found := _CAFFE2.match(name):
        return _slashed(found[1].split("/"), "weights")
    if "/" in name:
        spoken = None if name.startswith("/") else _of_name(name, "weights")
        return _slashed(list(spoken.path), "weights") if spoken else Scope()
    numbered = re.search(r"\.([wb]_)?\d+$", name)  # paddle's "conv2d_0.w_0": an operator and its number
    if re.fullmatch(r"\w+(\.\w+)+", name) and not numbered:
        return _dotted(name.rpartition(".")[0], "weights")
    flat = _FLAT.match(name)
    return _dotted(flat[1], "weights") if flat and "." not in flat[1] else Scope()


def outputs(modules: dict[ir.Node, Scope], kept: Iterable[ir.Value]) -> dict[Path, ir.Value]:
    """The one tensor that a module hands on, for modules that have one.

    Only where the exporter tells the module of every node: names of weights, and of fused operators, leave out what
    follows a layer.

    Args:
        modules: the scope of each node.
        kept: the tensors that count.
    """
    handed: dict[Path, dict[ir.Value, None]] = {}
    for value in kept:
        node = value.producer()
        own = modules[node] if node is not None and not _ADDED.search(node.name or "") else Scope()
        if own.source in ("", "fused", "weights"):
            continue
        readers = [
            modules[use.node].path if use.node in modules and not _ADDED.search(use.node.name or "") else ()
            for use in value.uses()
            if use.node.op_type not in ("Shape", "Size")
        ]
        for depth in range(1, len(own.path) + 1):
            path = own.path[:depth]
            if value.is_graph_output() or any(reader[:depth] != path for reader in readers):
                handed.setdefault(path, {})[value] = None
    return {path: next(iter(values)) for path, values in handed.items() if len(values) == 1}
