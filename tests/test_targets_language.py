"""The language of targets: sums, reductions, units; what is read back; what is refused, and where."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.autodiff.gradient import scored
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InspectError, LayerError, TargetError
from onnx_inspect.labels import Labels
from onnx_inspect.methods.job import SCORE, Job
from onnx_inspect.target import Element, Index, Segmentation, Similarity, Sum, Top, parse, several

from . import nets

ENGINE = Engine("cpu", threads=1)
X = nets.images(4)
FOUND = nets.forward(X)
LOGITS, A = FOUND["logits"], FOUND["a"]
RANKED = -np.sort(-LOGITS, axis=1)
LABELS = Labels(("black-and-tan coonhound", "T-shirt, tee", "cat - dog, dog-tag, layer: cake", "dog"), "tests")


@pytest.fixture(scope="module")
def model() -> oi.Model:
    return oi.load(nets.classifier())


def score(model: oi.Model, text: str, labels: Labels = LABELS) -> np.ndarray:
    """The score of every sample, through a job."""
    return Job(model, X, text, engine=ENGINE, labels=labels).clean[SCORE]


def norm(values: np.ndarray) -> np.ndarray:
    return np.sqrt((values.reshape(len(values), -1) ** 2).sum(axis=1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scores[1] - scores[2]", LOGITS[:, 1] - LOGITS[:, 2]),
        ("scores[1]-scores[-1]", LOGITS[:, 1] - LOGITS[:, 3]),
        ("0.5 * scores[1] + 2*3 - .25e1 * top", 0.5 * LOGITS[:, 1] + 2 * LOGITS[:, 3] - 2.5 * RANKED[:, 0]),
        ("1 - 3", LOGITS[:, 1] - LOGITS[:, 3]),
        ("-top", -RANKED[:, 0]),
        ("-1 * 2", -LOGITS[:, 2]),
        ("-2 * 2 + -1 * 3", -2 * LOGITS[:, 2] - LOGITS[:, 3]),
        ("top - top:2", RANKED[:, 0] - RANKED[:, 1]),
        ("top + top", 2 * RANKED[:, 0]),
        ("dog - tee", LOGITS[:, 3] - LOGITS[:, 1]),
        ("dog-T-shirt", LOGITS[:, 3] - LOGITS[:, 1]),
        ("T-shirt - black-and-tan coonhound", LOGITS[:, 1] - LOGITS[:, 0]),
        ("black-and-tan coonhound", LOGITS[:, 0]),
        ("cat - dog", LOGITS[:, 2]),  # a class as a whole is that class
        ("cat - dog - dog", LOGITS[:, 2] - LOGITS[:, 3]),
        ("dog-tag - dog", LOGITS[:, 2] - LOGITS[:, 3]),  # a name reaches as far as a known one
        ("layer: cake", LOGITS[:, 2]),
        ("'T-shirt' - 'dog'", LOGITS[:, 1] - LOGITS[:, 3]),
        ("scores", LOGITS.sum(axis=1)),
        ("scores . mean", LOGITS.mean(axis=1)),
        ("scores.max", LOGITS.max(axis=1)),
        ("scores[1:] . min", LOGITS[:, 1:].min(axis=1)),
        ("scores[:2].norm", norm(LOGITS[:, :2])),
        ("'a:2/x;0'[1, 2:4] . max", A[:, 1, 2:4].max(axis=(1, 2))),
        ("'a:2/x;0' . sum", A.sum(axis=(1, 2, 3))),
        ("layer:body.relu2[3] . norm", norm(A[:, 3])),
        ("layer:body.relu2[3]", A[:, 3].sum(axis=(1, 2))),
        ("layer:body.relu2 . mean", A.mean(axis=(1, 2, 3))),
        ("layer:body.relu2", A.sum(axis=(1, 2, 3))),
        ("body.relu2[3, 1, 1]", A[:, 3, 1, 1]),
        ("layer:'a:2/x;0'[2:4]", A[:, 2:4].sum(axis=(1, 2, 3))),
        ("layer:body.relu2[3] - 0.5 * dog", A[:, 3].sum(axis=(1, 2)) - 0.5 * LOGITS[:, 3]),
        ("layer:body.relu2.mean", A.mean(axis=(1, 2, 3))),
    ],
)
def test_texts_mean_scores(model: oi.Model, text: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(score(model, text), expected, rtol=1e-4, atol=1e-5)
    again = str(parse(text, model, LABELS))
    np.testing.assert_array_equal(score(model, again), score(model, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scores[1] - nope[3]", "no output 'nope', nor a layer: .*'scores' \\(in 'scores.*at 'nope\\[3\\]'"),
        ("dog - lion", "No class is called 'lion' in tests \\(in 'dog - lion', at 'lion'\\)"),
        ("lion - dog", "No class is called 'lion'"),
        ("dog - ", "target is missing .*at the end"),
        ("", "target is missing"),
        ("dog; 1", "several targets"),
        ("scores[1", "not closed"),
        ("scores[1] . avg", "no reduction 'avg', but sum, mean, max, min, norm"),
        ("scores . avg", "no reduction 'avg'.*at '. avg'"),
        ("scores[1] scores[2]", "ends before this"),
        ("dog * 2", "factors stand in front"),
        ("0 * dog", "cannot be taken 0 times"),
        ("1e999 * dog", "cannot be taken inf times"),
        ("body.relu2", "write layer:body.relu2"),
        ("dog - 7", "no class 7"),
        ("top:9 - dog", "4 classes"),
        ("top:x - dog", "top:1"),
        ("281.5", "No class is called '281.5'"),
        ("scores[]", "neither an index nor a slice"),
        ("embedding:dog", "likeness"),
        ("segmentation:dog", "class is missing"),
        ("segmentation:class=3@here", "region is mask, all, or a box"),
        ("segmentation:class=3@9,0,3,4", "is empty"),
        ("segmentation:class=3", "no map of class scores in 'scores'"),
        ("segmentation:output=nope,class=3", "no output 'nope'"),
    ],
)
def test_texts_that_mean_nothing(model: oi.Model, text: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        score(model, text)


def test_layers_that_are_not_there(model: oi.Model) -> None:
    with pytest.raises(LayerError, match=r"Did you mean 'body\.relu2'"):
        score(model, "layer:body.relu3[1]")


def test_several_targets_are_split_outside_of_quotes() -> None:
    assert several("cat; 'a;b'[3] - dog ;top") == ["cat", "'a;b'[3] - dog", "top"]
    assert several("cat") == ["cat"]


# What is read back.

NAMES = ["a:2/x;0", "it's", 'say "x"', "a[0]", "back\\slash", "x - y", "336", "top", "Löwe.2", "dog", "a . max"]
NAMED = oi.load(nets.classifier())
for _name in NAMES:
    NAMED.values.setdefault(_name, NAMED.values["a:2/x;0"])
FACTORS = st.floats(1e-6, 1e6).flatmap(lambda v: st.sampled_from([v, -v, 1.0, -1.0, float(round(v) + 1)]))
AXES = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.tuples(st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)).filter(any),
)
ELEMENTS = st.builds(
    Element,
    st.sampled_from(NAMES),
    st.lists(AXES, max_size=3).map(tuple),
    st.just("output"),
    st.sampled_from(["sum", "mean", "max", "min", "norm"]),
)
SIDES = st.floats(-1e4, 1e4, width=32).map(lambda v: float(f"{v:.6g}"))
BOXES = st.tuples(SIDES, SIDES, SIDES, SIDES).filter(lambda b: b[0] < b[2] and b[1] < b[3])
PARTS = st.one_of(
    st.builds(Top, st.integers(1, 99)),
    st.builds(Index, st.integers(0, 10**6)),
    ELEMENTS,
    st.builds(
        Segmentation,
        st.integers(0, 999),
        st.sampled_from(["mask", "all"]) | BOXES,
        st.sampled_from(["mean", "sum"]),
        st.sampled_from(["", "out", "a:2/x;0", "it's"]),
    ),
    st.builds(
        Similarity,
        st.sampled_from(["cat.jpg", "a b/c - d.png", "me@home.jpg", "it's; mine.npy", "C:\\x\\y.jpg"]),
        st.sampled_from(["", "body.relu2"]),
    ),
)
TARGETS = st.one_of(PARTS, st.lists(st.tuples(FACTORS, PARTS), min_size=2, max_size=4).map(lambda t: Sum(tuple(t))))


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(TARGETS)
def test_text_and_target_are_one(target: Any) -> None:
    assert parse(str(target), NAMED, LABELS) == target


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.text("abdgotx012. -+*;:@,[]()'\"\\_=é", max_size=24))
def test_any_text_is_a_target_or_a_sentence(text: str) -> None:
    for prefix in ("", "dog - ", "segmentation:class=", "embedding:similarity=", "layer:", "y"):
        try:
            found = parse(prefix + text, NAMED, LABELS)
        except InspectError as error:
            assert re.search(r"[.?]$|\)$", str(error)), error
        else:
            assert parse(str(found), NAMED, LABELS) == found, found


# In methods.


def test_sums_of_classes_are_one_product_however_many(model: oi.Model) -> None:
    texts = ["0 - 0.5 * 2", " + ".join(f"{k} * {k % 3}" for k in range(1, 101))]
    jobs = [Job(model, X, text, engine=ENGINE, labels=LABELS) for text in texts]
    one, many = (len(list(scored(model, job.target, score=SCORE).ir.graph)) for job in jobs)
    assert one == many
    times = np.bincount([k % 3 for k in range(1, 101)], range(1, 101))
    for job, factors in zip(jobs, ([1, 0, -0.5], times), strict=True):
        np.testing.assert_allclose(job.clean[SCORE], LOGITS[:, :3] @ factors, rtol=1e-5)


def test_ranks_in_sums_are_those_of_the_untouched_sample(model: oi.Model) -> None:
    job = Job(model, X, "top - top:2", engine=ENGINE, labels=LABELS)
    order = np.argsort(-LOGITS, axis=1)
    fed = job.target.feeds(4)
    np.testing.assert_array_equal(fed["target.index.0"], order[:, :2])
    other = nets.images(8)[4:]
    found = job.forward([], job.target, {"image": other, **fed})[SCORE]
    rows = nets.forward(other)["logits"]
    np.testing.assert_allclose(found, rows[range(4), order[:, 0]] - rows[range(4), order[:, 1]], rtol=1e-4, atol=1e-5)
    one = job.fixed[2].feeds(3)
    np.testing.assert_array_equal(one["target.index.0"], [order[2, :2]] * 3)
    assert str(job.target) == "top - top:2"
    assert any("top:2 is" in note for note in job.notes)
    assert job.explained(job.clean) == [None] * 4


def test_one_compiled_model_serves_all_contrasts(model: oi.Model) -> None:
    keys = {parse(text, model, LABELS).key() for text in ("0 - 1", "dog - 2", "3 - 1")}
    assert len(keys) == 1
    assert parse("0 + 1", model, LABELS).key() not in keys
    assert parse("2 * 0 - 1", model, LABELS).key() not in keys


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("top - top:2", lambda f: np.diff(np.sort(f["logits"], axis=1)[:, -2:])[:, 0]),
        ("0.5 * dog - scores[1]", lambda f: 0.5 * f["logits"][:, 3] - f["logits"][:, 1]),
        ("'a:2/x;0'[1] . mean", lambda f: f["a"][:, 1].mean(axis=(1, 2))),
        ("scores . norm", lambda f: norm(f["logits"])),
        ("'a:2/x;0'[1:3] . max", lambda f: f["a"][:, 1:3].max(axis=(1, 2, 3))),
        (
            "layer:body.conv2[2] . norm - 2 * scores[:2] . min",
            lambda f: norm(f["c2"][:, 2]) - 2 * f["logits"][:, :2].min(axis=1),
        ),
    ],
)
def test_gradients(model: oi.Model, text: str, formula: Callable[[dict[str, np.ndarray]], np.ndarray]) -> None:
    g = Job(model, X, text, engine=ENGINE, labels=LABELS).gradients(["image"])["gradient.image"].astype(np.float64)
    rng, step = np.random.default_rng(0), 1e-7
    for _ in range(2):
        u = rng.normal(size=X.shape)
        plus, minus = (formula(nets.forward(X + s * step * u)) for s in (1, -1))
        np.testing.assert_allclose((g * u).sum(axis=(1, 2, 3)), (plus - minus) / (2 * step), rtol=1e-3, atol=1e-4)


def test_a_sum_is_the_sum_of_its_maps(model: oi.Model) -> None:
    both, *each = (
        oi.input_x_gradient(model, X, target, engine=ENGINE, labels=LABELS).values
        for target in ("3 - 0.5 * 1", "3", "1")
    )
    np.testing.assert_allclose(both, each[0] - 0.5 * each[1], atol=1e-5)


def test_elements_that_something_has_to_pass_are_summed(model: oi.Model) -> None:
    with pytest.raises(TargetError, match="no element"):
        Job(model, X, engine=ENGINE).gradients(["image"], through="body.conv2[1] . max")


def test_attacks_need_a_class(model: oi.Model) -> None:
    with pytest.raises(TargetError, match="is no class"):
        oi.fgsm(model, X, "3 - 1", engine=ENGINE, bounds=(-9, 9))


def regressor(final: str = "") -> Any:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["u" if final else "price"])]
    nodes += [helper.make_node(final, ["u"], ["price"])] if final else []
    graph = helper.make_graph(
        nodes,
        "regressor",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("price", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array([[1], [-2], [3]], np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_single_number_is_a_number_by_its_name() -> None:
    x = np.array([[1, 2, 3], [0, 1, 0]], np.float32)
    found = oi.input_x_gradient(oi.load(regressor()), x, "price", engine=ENGINE)
    np.testing.assert_allclose(found.scores, [6, -2])
    np.testing.assert_allclose(found.values, x * [1, -2, 3])
    assert found.predictions == [[], []]
    assert found.explained == [None, None]
    assert not any("yes or no" in n for n in found.notes)
    as_class = oi.input_x_gradient(oi.load(regressor()), x, 0, engine=ENGINE)
    np.testing.assert_allclose(as_class.scores, [-6, 2])
    assert any("yes or no" in n for n in as_class.notes)
    squashed = oi.input_x_gradient(oi.load(regressor("Sigmoid")), x, "price", engine=ENGINE, score="output")
    np.testing.assert_allclose(squashed.scores, 1 / (1 + np.exp([-6.0, 2])), rtol=1e-5)


def test_half_precision_is_summed_in_single() -> None:
    values = np.full((1, 2, 30, 40), 300, np.float16)  # their norm, 14696.94, is not a half
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 2, 30, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["N", 2, 30, 40])],
    )
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    found = Job(model, values, "y . norm - 2 * y . mean", engine=ENGINE).clean[SCORE]
    np.testing.assert_allclose(found, 300 * np.sqrt(2400) - 600, rtol=1e-6)
