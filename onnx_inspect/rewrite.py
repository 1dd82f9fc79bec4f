"""Graph to graph: expose intermediate tensors, cut a part out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from . import branches
from .canonical import infer_shapes
from .emit import Op
from .errors import LayerError
from .model import Model
from .pruning import prune

if TYPE_CHECKING:
    from numpy.typing import NDArray


def expose(model: Model, tensors: Iterable[str]) -> Model:
    """The model with more outputs.

    Args:
        model: the model; unchanged.
        tensors: names of intermediate tensors, exact or readable; those that are outputs already stay so.

    Raises:
        LayerError: no such tensor.
    """
    new = model.clone()
    names = []
    for tensor in tensors:
        value = new.value(tensor)
        names.append(value.name)
        if value not in new.ir.graph.outputs:
            new.ir.graph.outputs.append(_typed(value))
    return new.derived("expose", *names)


def cut(model: Model, inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None) -> Model:
    """The part of a model between some tensors.

    Args:
        model: the model; unchanged.
        inputs: tensors that become inputs, exact or readable names; the model's own inputs stay as far as they are
            still needed. None: the model's inputs.
        outputs: tensors that become the outputs. None: the model's outputs.

    Raises:
        LayerError: no such tensor, or a given input that no output depends on.
    """
    new = model.clone()
    graph = new.ir.graph
    chosen = [new.value(n) for n in inputs] if inputs is not None else []
    if outputs is not None:
        graph.outputs[:] = list(dict.fromkeys(_typed(new.value(n)) for n in outputs))
    names = [v.name for v in [*chosen, *graph.outputs]]
    for value in chosen:
        if not value.is_graph_input():
            _detach(graph, value)
    prune(new.ir)
    for value in list(graph.inputs):
        if not value.uses() and value not in graph.outputs:
            if inputs is not None and value.name in names:
                raise LayerError(f"None of the outputs depends on '{value.name}': it cannot be where the cut begins.")
            graph.inputs.remove(value)
    return new.derived("cut", *names)


def settled(model: Model, feeds: Mapping[str, NDArray[Any]], axes: Callable[[], Mapping[str, int]]) -> Model:
    """The model without the branches that these feeds never take, whatever the number of samples and what they hold.

    Args:
        model: the model; unchanged, and returned as it is if nothing is decided.
        feeds: a value per input.
        axes: says which inputs hold a value per sample, and on which axis; the others are one for all.
    """
    if not any(n.op_type == "If" for n in model.ir.graph):
        return model
    samples = axes()
    sized, new, taken = model.clone(), model.clone(), list[str]()
    for value in sized.ir.graph.inputs:
        if (given := feeds.get(value.name or "")) is not None:
            free = samples.get(value.name or "")
            value.shape = ir.Shape(["samples" if axis == free else size for axis, size in enumerate(given.shape)])
    numbers = {name: array for name, array in feeds.items() if name not in samples}
    infer_shapes(sized.ir)
    while found := branches.known(sized.ir.graph, numbers, any_batch=False):
        names = {n.outputs[0].name: first for n, first in found.items()}
        for graph in (sized.ir.graph, new.ir.graph):
            for node in [n for n in graph if n.op_type == "If" and n.outputs[0].name in names]:
                branches.take(node, names[node.outputs[0].name])
        taken += [f"{name}:{first}" for name, first in names.items()]
        infer_shapes(sized.ir)
    if not taken:
        return model
    prune(new.ir)
    infer_shapes(new.ir)
    return model.memo(("settled", *taken), lambda: new.derived("settled", *taken))


def by_sample(tensor: str) -> str:
    """What `rowed` calls the tensor that it puts in another's place."""
    return f"{tensor}.by_sample"


def rowed(model: Model, tensor: str, shape: Sequence[int]) -> Model:
    """The model with another tensor for one that holds several rows per sample, windows, say: samples first.

    Args:
        model: the model; unchanged.
        tensor: its exact name.
        shape: of the tensor for one sample, (rows, ...).

    Returns:
        The model, with a tensor (N, rows, ...), called as `by_sample` says, on which all depends that depended on the
        other. Where rows are of all samples, as (tokens, N, channels) has them, it is (N, tokens, channels).
    """
    new = model.clone()
    value, name = new.values[tensor], by_sample(tensor)
    op = Op(new.ir.graph)
    sizes = list(value.shape or ())
    samples = next((i for i, n in enumerate(sizes) if i and not isinstance(n, int) and shape[i] == 1), 0)
    with op:
        if samples:
            axes = [samples, *(i for i in range(len(shape)) if i != samples)]
            split = op.Transpose(value, perm=axes)
            whole = op.Transpose(split, perm=[axes.index(i) for i in range(len(axes))])
            split.shape = ir.Shape([sizes[samples], *(shape[i] for i in axes[1:])])
        else:
            split = op.Reshape(value, [-1, *shape])
            whole = op.Reshape(split, [-1, *shape[1:]])
            split.shape = ir.Shape([None, *shape])
    split.name, whole.shape = name, value.shape
    for user, i in list(value.uses()):
        if user is not split.producer():
            user.replace_input_with(i, whole)
    new.ir.graph.sort()
    return new.derived("rowed", tensor)


def _detach(graph: ir.Graph, value: ir.Value) -> None:
    """Make an intermediate tensor an input of the same name."""
    name = value.name
    fresh = ir.Value(name=name, shape=value.shape, type=value.type)
    ir.convenience.replace_all_uses_with(value, fresh, replace_graph_outputs=True)
    value.name = f"{name}.before_cut"
    graph.inputs.append(fresh)


def _typed(value: ir.Value) -> ir.Value:
    """Graph outputs must have a type; float where nobody knows it (operators of foreign domains)."""
    value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return value
