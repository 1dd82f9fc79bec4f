"""Readable layer names for files from any exporter, and finding a layer by name."""

from __future__ import annotations

import ast
import difflib
import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from . import structure
from .errors import LayerError
from .structure import ReceptiveField

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, None})


@dataclass(frozen=True)
class Layer:
    """A tensor that a node computes, under a name that people can read.

    Attributes:
        name: readable name: the exporter's module path where there is one, else operator and number.
        tensor: exact tensor name.
        op_type: the operator that computes it.
        shape: see `Spec`.
        layout: a letter per axis, None where the graph does not tell.
        role: "spatial" for maps with more than one position, "vector" for the rest.
        receptive_field: of a unit, None where it is not a window.
    """

    name: str
    tensor: str
    op_type: str
    shape: tuple[int | str | None, ...]
    layout: str | None
    role: Literal["spatial", "vector"]
    receptive_field: ReceptiveField | None


def layers(graph: ir.Graph, layouts: dict[ir.Value, str]) -> list[Layer]:
    """All float tensors that depend on an input, in the order of computation."""
    varying = structure.varying(graph)
    fields = structure.receptive_fields(graph, layouts)
    values = [
        (node, value)
        for node in graph
        for value in node.outputs
        if value.name and value in varying and value.dtype in _FLOATS
    ]
    names = _names(graph, values)
    found = []
    for (node, value), name in zip(values, names, strict=True):
        letters = layouts.get(value)
        spatial = letters is not None and not structure.size_one(value, letters)
        found.append(
            Layer(
                name,
                value.name or "",
                node.op_type,
                structure.spec(value).shape,
                letters,
                "spatial" if spatial else "vector",
                fields.get(value),
            )
        )
    return found


def _names(graph: ir.Graph, values: Sequence[tuple[ir.Node, ir.Value]]) -> list[str]:
    """Unique names: the scope alone where it holds one tensor, else scope and operator, numbered if need be."""
    scopes = [scope(node) for node, _ in values]
    per_scope = Counter(scopes)
    taken = {v.name for n in graph for v in n.outputs} | {v.name for v in graph.inputs} | set(graph.initializers)
    numbers: Counter[str] = Counter()
    bases = []
    for (node, _), where in zip(values, scopes, strict=True):
        op = node.op_type.lower()
        bases.append(where if where and per_scope[where] == 1 else f"{where}.{op}" if where else op)
    repeated = Counter(bases)
    names: list[str] = []
    for (_, value), base, where in zip(values, bases, scopes, strict=True):
        name = base
        while name == base or (name in taken and name != value.name):
            numbers[base] += 1
            name = base if where and repeated[base] == 1 and numbers[base] == 1 else f"{base}_{numbers[base]}"
            if name == base and (name not in taken or name == value.name):
                break
        taken.add(name)
        names.append(name)
    return names


def scope(node: ir.Node) -> str:
    """The module that a node came from, as far as the exporter wrote it down; "" if it did not."""
    listed = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    if listed:
        try:
            path = ast.literal_eval(listed)
        except (ValueError, SyntaxError):
            path = []
        modules = [p for p in path[:-1] if isinstance(p, str) and p] if isinstance(path, list) else []
        if modules:
            return modules[-1]
    parts = [p for p in (node.name or "").split("/") if p][:-1]
    if not parts:
        return ""
    if not (node.name or "").startswith("/"):
        return "/".join(parts)  # TensorFlow: "block_1/conv/Conv2D"
    # TorchScript repeats the path in every part, "/layer1/layer1.0/conv1/Conv": read it once.
    name = parts[0]
    for part in parts[1:]:
        name = part if part.startswith(name + ".") or part == name else f"{name}.{part}"
    return name


def find(candidates: Iterable[Layer], pattern: str) -> list[Layer]:
    """All layers meant by a readable name, an exact tensor name or a glob.

    Raises:
        LayerError: none; says which are near.
    """
    candidates = list(candidates)
    for exact in (
        [c for c in candidates if c.tensor == pattern],
        [c for c in candidates if c.name == pattern],
        [c for c in candidates if fnmatch.fnmatchcase(c.name, pattern) or fnmatch.fnmatchcase(c.tensor, pattern)],
    ):
        if exact:
            return exact
    names = {n.lower(): n for c in candidates for n in (c.tensor, c.name)}
    near = difflib.get_close_matches(pattern.lower(), names, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(repr(names[n]) for n in near)}?" if near else ""
    raise LayerError(f"There is no layer or tensor '{pattern}'.{hint} `onnx-inspect layers MODEL` lists them all.")
