"""What explanations cost, counted: nodes and multiply-adds of the graphs that methods run, never seconds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import onnx_inspect as oi
from onnx_inspect import memory
from onnx_inspect.canonical import infer_shapes
from onnx_inspect.engine import Engine
from onnx_inspect.lowering import CPU, lower
from onnx_inspect.model import Model
from onnx_inspect.rewrite import cut
from onnx_inspect.structure import SHAPES, all_inputs, multiply_adds, varying

from . import stacks, vits

BLOCKS, SIZE, WIDTH = 4, 32, 32
NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    name: lambda build=build: build(BLOCKS, SIZE, WIDTH)
    for name, build in stacks.STACKS.items()
    if name not in ("plain", "recurrent")
} | {"vit": vits.vit}


def ours(node: ir.Node) -> bool:
    return (node.name or "").startswith("inspect/")


@dataclass
class Cost:
    """Nodes by operator, and multiply-adds, of what the model itself does and of what was added."""

    nodes: tuple[Counter[str], Counter[str]]
    products: tuple[int, int]

    @property
    def added(self) -> int:
        """How many nodes were added."""
        return self.nodes[1].total()


def cost(model: Model) -> Cost:
    """What a graph costs for one sample."""
    one = sized(model)
    nodes, products = (Counter[str](), Counter[str]()), [0, 0]
    for node in one.ir.graph:
        found = multiply_adds(node)
        assert found is not None, f"the sizes of {node.name} ({node.op_type}) are not known"
        nodes[ours(node)][node.op_type] += 1
        products[ours(node)] += found
    return Cost(nodes, (products[0], products[1]))


def sized(model: Model) -> Model:
    """The model for one sample, with all shapes."""
    one = model.clone()
    for value in one.ir.graph.inputs:
        value.shape = ir.Shape([1, *list(value.shape or [1])[1:]])
    infer_shapes(one.ir)
    return one


class Watched(Engine):
    """An engine that remembers what it was asked to run."""

    def __init__(self) -> None:
        super().__init__("cpu", threads=1)
        self.seen: list[Model] = []

    def run(self, model: Model, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None, **how: Any) -> Any:
        self.seen.append(cut(model, outputs=[o.name for o in model.outputs] if outputs is None else outputs))
        return super().run(model, feeds, outputs, **how)


def graphs(method: Callable[..., Any], model: Model, **how: Any) -> list[Model]:
    """The graphs with gradients that a method runs, as they were built."""
    engine = Watched()
    size = [n if isinstance(n, int) else 1 for n in model.inputs[0].shape]
    method(model, np.random.default_rng(0).normal(size=size).astype(np.float32), target=1, engine=engine, **how)
    return [m for m in engine.seen if any(s.name.startswith("gradient.") for s in m.outputs)]


@pytest.fixture(scope="module", params=NETS)
def model(request: pytest.FixtureRequest) -> Model:
    return oi.load(NETS[request.param]())


METHODS: dict[str, Callable[[Model], list[Model]]] = {
    "gradcam": lambda model: graphs(oi.gradcam, model),
    "saliency": lambda model: graphs(oi.saliency, model),
    "lrp": lambda model: graphs(oi.lrp, model, composite="epsilon_plus_flat"),
    "integrated_gradients": lambda model: graphs(oi.integrated_gradients, model, steps=2),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_forward_pass_is_that_of_the_model_once(model: Model, method: str) -> None:
    """Neither gradients nor lowering change, repeat or add to what the model computes."""
    own = {node.outputs[0].name: node.op_type for node in model.ir.graph}
    for built in METHODS[method](model):
        for rewritten in (built, lower(built, CPU)):
            found = [(node.outputs[0].name, node.op_type) for node in rewritten.ir.graph if not ours(node)]
            assert len(found) == len(set(found))
            assert dict(found).items() <= own.items()
            assert cost(rewritten).products[0] <= cost(model).products[0]


def operands(model: Model) -> int:
    """Multiply-adds of a backward pass: those of each product again, for each operand that depends on the input."""
    one = sized(model)
    moving = varying(one.ir.graph)
    own = [node for node in one.ir.graph if not ours(node)]
    return sum((multiply_adds(node) or 0) * sum(x in moving for x in node.inputs) for node in own)


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_a_gradient_costs_a_forward_pass(model: Model, method: str) -> None:
    (built, *more) = METHODS[method](model)
    assert all(m.digest == built.digest for m in more)
    for rewritten in (built, lower(built, CPU)):
        assert cost(rewritten).products[1] <= 1.05 * operands(rewritten)


def test_gradcam_stops_at_its_layer(model: Model) -> None:
    """What is added neither convolves nor goes further back than the head."""
    (built,) = METHODS["gradcam"](model)
    layer = next(s.name.removeprefix("gradient.") for s in built.outputs if s.name.startswith("gradient."))
    behind = cut(model, inputs=[layer])
    for rewritten in (built, lower(built, CPU)):
        found = cost(rewritten)
        assert not found.nodes[1].keys() & {"Conv", "ConvTranspose", "MaxPool", "ScatterElements"}
        assert found.products[1] <= 1.05 * operands(behind)
        known = {y for node in behind.ir.graph for y in [*all_inputs(node), *node.outputs]}
        added = [node for node in rewritten.ir.graph if ours(node) and node.op_type not in SHAPES]
        reached = {x.name for node in added for x in all_inputs(node)}
        assert reached & set(model.values) <= {y.name for y in known}


def test_relevance_costs_two_gradients(model: Model) -> None:
    """z+ divides by a product of positive parts, and passes the quotient back through its adjoint.

    Where maps have both signs, as behind a shortcut without a rectifier, there are two of each.
    """
    (built,) = METHODS["lrp"](model)
    most = 3 if "Clip" in cost(model).nodes[0] else 2.1
    for rewritten in (built, lower(built, CPU)):
        assert cost(rewritten).products[1] <= most * operands(rewritten)


@pytest.mark.parametrize("method", METHODS)
def test_no_gradients_of_weights(model: Model, method: str) -> None:
    """A convolution that was added has weights that follow from the model's; none correlates maps with maps."""
    for built in METHODS[method](model):
        for rewritten in (built, lower(built, CPU)):
            moving = varying(rewritten.ir.graph)
            for node in rewritten.ir.graph:
                if ours(node) and node.op_type in ("Conv", "ConvTranspose"):
                    assert node.inputs[1] not in moving, node.name


def test_what_is_lowered_is_gone(model: Model) -> None:
    """Only strides and images leave transposed convolutions, and nothing asks a pooling for indices."""
    strided = sum(
        max(node.attributes.get_ints("strides", [1])) > 1 for node in model.ir.graph if node.op_type == "Conv"
    )
    of_image = sum(node.op_type == "Conv" and node.inputs[0] in model.ir.graph.inputs for node in model.ir.graph)
    (built,) = METHODS["saliency"](model)
    lowered = lower(built, CPU)
    assert cost(lowered).nodes[1]["ConvTranspose"] <= max(strided, of_image)
    assert not any(node.op_type == "MaxPool" and len(node.outputs) > 1 for node in lowered.ir.graph)


EACH = {"gradcam": 2, "saliency": 3, "lrp": 6, "integrated_gradients": 3}


@pytest.mark.parametrize("method", METHODS)
def test_few_nodes_are_added(model: Model, method: str) -> None:
    """For each node of the model; beside what a target needs, and poolings, which are lowered to many."""
    own = cost(model).nodes[0]
    for built in METHODS[method](model):
        assert cost(built).added <= 50 + EACH[method] * own.total()
        assert cost(lower(built, CPU)).added <= 50 + (EACH[method] + 1) * own.total() + 45 * own["MaxPool"]


def test_gradcam_does_not_grow_with_what_is_before_its_layer() -> None:
    shallow, deep = (oi.load(stacks.residual(blocks, SIZE, WIDTH)) for blocks in (2, 16))
    (a,), (b,) = METHODS["gradcam"](shallow), METHODS["gradcam"](deep)
    assert cost(lower(a, CPU)).nodes[1] == cost(lower(b, CPU)).nodes[1]


@pytest.mark.parametrize("method", [oi.gradcam, oi.saliency, oi.lrp])
def test_one_compiled_model_serves_every_class(method: Callable[..., Any]) -> None:
    model, engine = oi.load(stacks.residual(2)), Engine("cpu", threads=1)
    found = [method(model, stacks.images(1), target=c, engine=engine).values for c in range(stacks.CLASSES)]
    assert len(engine.sessions) == 1
    assert len({v.tobytes() for v in found}) == stacks.CLASSES


# The size of gradients, and the work of building them, over the depth of the model.


@pytest.mark.parametrize("name", ["plain", "residual", "inverted", "ladder", "recurrent"])
def test_gradients_are_linear_in_the_model(name: str) -> None:
    models = [oi.load(stacks.STACKS[name](blocks, 8, 8)) for blocks in (2, 4, 8, 16)]
    gradients = [oi.vjp(m, ["x"], ["y"]) for m in models]
    for sizes in ([len(m.ir.graph) for m in gradients], [len(lower(m, CPU).ir.graph) for m in gradients]):
        assert sizes[3] - sizes[2] <= 1.02 * 2 * (sizes[2] - sizes[1]) <= 1.02**2 * 4 * (sizes[1] - sizes[0])


def calls(function: Callable[[], object]) -> int:
    """How many functions are called, of Python and of C."""
    count = 0

    def called(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", ["residual", "ladder"])
def test_building_them_is_linear_in_the_model(name: str) -> None:
    def built(blocks: int) -> int:
        model = oi.load(stacks.STACKS[name](blocks, 8, 8))

        def build() -> None:
            gradient = oi.gradient(model, 3, wrt=["x"])
            assert gradient.digest
            sizes = stacks.sizes(gradient)
            assert memory.need(gradient, sizes, frozenset(sizes)).of(1)
            lower(gradient, CPU).to_bytes()

        return calls(build)

    small, large, huge = (built(blocks) for blocks in (5, 10, 20))
    assert huge - large <= 1.01 * 2 * (large - small)
