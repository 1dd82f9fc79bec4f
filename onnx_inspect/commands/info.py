"""What is in a model: producer, opset, inputs, outputs, parameters, cost, operators."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    import onnx_ir as ir

    from ..model import Model


@click.command("info")
@click.argument("model", metavar="MODEL")
@options.output
def command(model: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """What is in a model: producer, opset, inputs, outputs, parameters, cost, operators.

    Multiply-adds are those of convolutions and dense layers, for one sample. Memory is that of the weights, and of
    all tensors of one sample together (the most that exposing every one of them takes).
    """
    from ..model import load

    loaded = load(model)
    facts = describe(loaded)
    if as_json:
        options.print_json(facts)
    else:
        _print(facts)
    options.say(facts["notes"], quiet)


def describe(model: Model) -> dict[str, Any]:
    """The facts as a dictionary."""
    from ..errors import InspectError
    from ..methods.inputs import guess_preprocessing

    source, graph = model.source, model.ir.graph
    notes = list(model.notes)
    try:
        preprocessing, guesses = guess_preprocessing(model)
        notes += guesses
        how: dict[str, Any] | None = {
            **preprocessing.to_json(),
            "text": f"{preprocessing.describe()} ({preprocessing.source})",
        }
    except InspectError:
        how = None
    single = _single(model)
    cost = _cost(model, single)
    return {
        "file": str(source.path) if source.path else source.name,
        "sha256": source.sha256,
        "bytes": source.size,
        "producer": source.producer,
        "ir_version": source.ir_version,
        "opset": source.opset,
        "functions": list(source.functions),
        "canonical_opset": model.opset,
        "inputs": [vars(s) for s in model.inputs],
        "outputs": [vars(s) for s in model.outputs],
        "batch": "fixed in the file, relaxed to any" if model.batch_relaxed else _batch(model),
        "preprocessing": how,
        "metadata": model.metadata,
        "parameters": sum(v.const_value.size for v in graph.initializers.values() if v.const_value is not None),
        "weight_bytes": model.nbytes,
        "activation_bytes": _activations(single),
        "multiply_adds": cost["total"],
        "multiply_adds_per_layer": cost["layers"],
        "nodes": len(list(graph.all_nodes())),
        "operators": dict(
            Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in graph.all_nodes()).most_common()
        ),
        "notes": notes,
    }


def _batch(model: Model) -> str:
    """What the first axes say; without a layout, a number is a batch only if the outputs begin with it as well."""
    sizes = {s.shape[0] for s in model.inputs if s.shape}
    if not sizes or any(not isinstance(size, int) for size in sizes):
        return "any"
    laid_out = any(s.layout is not None and s.layout[0] == "N" for s in model.inputs)
    if len(sizes) == 1 and (laid_out or all(s.shape[:1] in ((), (None,), (*sizes,)) for s in model.outputs)):
        return f"fixed at {sizes.pop()}"
    return "none: one sample at a time"


def _single(model: Model) -> ir.Graph:
    """The graph for one sample: sizes that are computed from the batch are known then."""
    import onnx_ir as ir

    from ..shapes import infer_shapes

    one = model.ir.clone()
    for value in one.graph.inputs:
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            value.shape = ir.Shape([1, *list(value.shape)[1:]])
    infer_shapes(one)
    return one.graph


def _cost(model: Model, graph: ir.Graph) -> dict[str, Any]:
    from ..structure import multiply_adds

    names = {layer.tensor: layer.name for layer in model.layers}
    found: dict[str, int | None] = {}
    for node in graph:
        cost = multiply_adds(node)
        if cost != 0:
            tensor = node.outputs[0].name or ""
            found[names.get(tensor, tensor)] = cost
    known = [c for c in found.values() if c is not None]
    return {"layers": found, "total": sum(known) if len(known) == len(found) else None}


def _activations(graph: ir.Graph) -> int | None:
    """Bytes of every tensor that one sample makes, None where sizes are open."""
    from ..structure import varying

    total, depends = 0, varying(graph)
    for value in (y for node in graph for y in node.outputs if y in depends and y.dtype is not None):
        if value.shape is None or value.dtype is None or not value.shape.is_static():
            return None
        total += math.ceil(math.prod(value.shape.numpy()) * value.dtype.itemsize)
    return total


def _print(facts: dict[str, Any]) -> None:
    from ..structure import sizes

    def line(name: str, value: object) -> None:
        click.echo(f"{name:15} {options.printable(str(value))}")

    line("file", facts["file"])
    line("sha256", facts["sha256"])
    line("size", _bytes(facts["bytes"]))
    line("producer", facts["producer"] or "(not said)")
    versions = ", ".join(f"{domain} {version}" for domain, version in facts["opset"].items())
    line("opset", f"{versions} (IR {facts['ir_version']}); read as ai.onnx {facts['canonical_opset']}")
    if facts["functions"]:
        line("functions", ", ".join(facts["functions"]) + " (inlined)")
    for kind in ("inputs", "outputs"):
        for i, spec in enumerate(facts[kind]):
            shape = sizes(spec["shape"]) if spec["rank_known"] else "of unknown rank"
            layout = f" {spec['layout']}" if spec["layout"] else ""
            line(kind[:-1] if i == 0 else "", f"'{spec['name']}' {shape} {spec['dtype']}{layout}")
    line("batch", facts["batch"])
    line("preprocessing", facts["preprocessing"]["text"] if facts["preprocessing"] else "(no picture as input)")
    for key, value in facts["metadata"].items():
        line("metadata", f"{key} = {value if len(value) <= 90 else value[:87] + '...'}")
    line("parameters", f"{facts['parameters']:,} ({_bytes(facts['weight_bytes'])})")
    memory = facts["activation_bytes"]
    line("activations", f"{_bytes(memory)} per sample" if memory is not None else "(sizes are open)")
    total = facts["multiply_adds"]
    line("multiply-adds", f"{total:,} per sample" if total is not None else "(sizes are open)")
    line("nodes", f"{facts['nodes']}: " + ", ".join(f"{op} {n}" for op, n in facts["operators"].items()))
    layers = facts["multiply_adds_per_layer"]
    if layers:
        click.echo("\nmultiply-adds per layer")
        width = max(map(len, layers))
        for name, cost in layers.items():
            share = f"{100 * cost / total:5.1f} %" if total and cost is not None else ""
            click.echo(f"  {options.printable(name):{width}} {f'{cost:,}' if cost is not None else '?':>16} {share}")


def _bytes(n: int) -> str:
    size = float(n)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
