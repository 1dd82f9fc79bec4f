"""Names that people can read and type, one for each tensor, and what else a tensor may be called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from .scopes import Path, Scope, outputs, scopes

Made = Sequence[tuple[ir.Node, ir.Value]]


def names(graph: ir.Graph, made: Made) -> list[tuple[str, tuple[str, ...]]]:
    """A unique name for each tensor, and what else it answers to.

    The name is the module alone where it holds one tensor, else module and operator, numbered if need be. Numbers
    count as if weights had no names, so that a named weight renames its own layer and no other.

    A tensor may also be called as the output of a module ("layer4"), by the module of its weights, and by the number
    it would have without that. Whatever could mean two tensors is left out.

    Args:
        graph: where they are.
        made: the tensors to name, each with the node that computes it, in the order of computation.
    """
    modules = scopes(graph)
    at = [modules[node] for node, _ in made]
    handed = outputs(modules, [value for _, value in made])
    taken = {v.name for n in graph for v in n.outputs} | {v.name for v in graph.inputs} | set(graph.initializers)
    sure = [m if m.source not in ("tensor", "weights") else Scope() for m in at]
    plain = _unique(made, sure, handed, taken)
    found = plain
    if any(m.source == "weights" for m in at):
        weighted = [m if m.source == "weights" else known for m, known in zip(at, sure, strict=True)]
        better = _unique(made, weighted, handed, taken | set(plain))
        found = [new if m.source == "weights" else old for new, old, m in zip(better, plain, at, strict=True)]
    also: dict[ir.Value, list[str]] = {value: [old] for (_, value), old in zip(made, plain, strict=True)}
    for path, value in handed.items():
        also[value].append(".".join(path))
    for (_, value), module in zip(made, at, strict=True):
        also[value].append(".".join(module.held))
    meant = Counter(name for listed in also.values() for name in set(listed))
    taken |= {*found, ""}
    return [
        (name, tuple(n for n in dict.fromkeys(also[value]) if meant[n] == 1 and n not in taken))
        for name, (_, value) in zip(found, made, strict=True)
    ]


def _unique(made: Made, at: Sequence[Scope], handed: dict[Path, ir.Value], reserved: set[str | None]) -> list[str]:
    taken = set(reserved)
    bases = _bases(made, at, handed)
    repeated = Counter(bases)
    # torch's dynamo exporter calls tensors "relu", "relu_1": then these are the names, and no other numbers.
    clashes = {b for b, count in repeated.items() if any(f"{b}_{i}" in reserved for i in range(1, count + 1))}
    numbers: Counter[str] = Counter()
    found: list[str] = []
    for (_, value), base, where in zip(made, bases, at, strict=True):
        name = base
        if base in clashes and not where.name and re.fullmatch(rf"{re.escape(base)}(_\d+)?", value.name or ""):
            taken.add(value.name)
            found.append(value.name or "")
            continue
        while name == base or (name in taken and name != value.name):
            numbers[base] += 1
            name = base if where.name and repeated[base] == 1 and numbers[base] == 1 else f"{base}_{numbers[base]}"
            if name == base and (name not in taken or name == value.name):
                break
        taken.add(name)
        found.append(name)
    return found


def _bases(made: Made, at: Sequence[Scope], handed: dict[Path, ir.Value]) -> list[str]:
    """Module, module and operator, or operator; a module that holds others gives its name to what it hands on only."""
    tensors = Counter(m.name for m in at)
    holding = {m.path[:depth] for m in at for depth in range(1, len(m.path))}
    found = []
    for (node, value), m in zip(made, at, strict=True):
        alone = tensors[m.name] == 1 and (m.path not in holding or handed.get(m.path) is value)
        found.append(m.name if m.name and alone else ".".join(filter(None, (m.name, node.op_type.lower()))))
    return found
