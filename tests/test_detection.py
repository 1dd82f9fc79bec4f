"""Detectors: reading raw heads, detections against literal decoding, and targets that are boxes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import onnx_inspect as oi
from onnx_inspect import detection, image
from onnx_inspect.cli import cli
from onnx_inspect.detection import formats, settling
from onnx_inspect.detection.lineage import Lineage
from onnx_inspect.engine import Engine
from onnx_inspect.errors import AbsentError, TargetError
from onnx_inspect.labels import Labels
from onnx_inspect.methods.detect import detect
from onnx_inspect.methods.inputs import guess_preprocessing
from onnx_inspect.methods.job import Job
from onnx_inspect.target import detections as targets
from onnx_inspect.target.detected import PARTS
from onnx_inspect.target.everything import Everything

from . import blobs, detectors
from .detectors import CELLS, HEIGHT, WIDTH, Graph
from .differences import in_double
from .shared import ASSETS, ZOO, needs_assets, needs_zoo

ENGINE = Engine("cpu", threads=1)
X = detectors.photos()
NAMES = ("cat", "stop sign", "dog")
OWN = Path(__file__).parent / "zoo"
COCO = ASSETS / "labels/coco80.txt"
YOLOX = oi.Preprocessing((416, 416), "letterbox", color="BGR")
ULTRAFACE = oi.Preprocessing((240, 320), "squash", mean=(127.0,), std=(128.0,))


def outputs(proto: onnx.ModelProto, x: np.ndarray = X) -> list[np.ndarray]:
    return in_double(oi.load(proto)).run(None, {"x": x.astype(np.float64)})


# Literal decoding, candidate by candidate: (corners in pixels, probabilities of the classes that mean something).


def of_yolox(y: np.ndarray) -> list[tuple[list[float], list[float]]]:
    found = []
    for (row, column, s), (a, b, c, d, thing, *p) in zip(CELLS, y, strict=True):
        cx, cy, w, h = (column + a) * s, (row + b) * s, np.exp(c) * s, np.exp(d) * s
        found.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], [thing * q for q in p]))
    return found


def of_yolov8(y: np.ndarray) -> list[tuple[list[float], list[float]]]:
    return [([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], list(p)) for cx, cy, w, h, *p in y.T]


def of_ssd(scores: np.ndarray, boxes: np.ndarray) -> list[tuple[list[float], list[float]]]:
    return [
        ([a * WIDTH, b * HEIGHT, c * WIDTH, d * HEIGHT], [0.0, *p[1:]])
        for p, (a, b, c, d) in zip(scores, boxes, strict=True)
    ]


def of_detr(logits: np.ndarray, boxes: np.ndarray) -> list[tuple[list[float], list[float]]]:
    found = []
    for z, (cx, cy, w, h) in zip(logits, boxes, strict=True):
        p = np.exp(z) / np.exp(z).sum()
        corners = [(cx - w / 2) * WIDTH, (cy - h / 2) * HEIGHT, (cx + w / 2) * WIDTH, (cy + h / 2) * HEIGHT]
        found.append((corners, [*p[:-1], 0.0]))
    return found


DETECTORS: dict[str, tuple[onnx.ModelProto, Any]] = {
    "yolox": (detectors.yolox(), of_yolox),
    "yolov8": (detectors.yolov8(), of_yolov8),
    "ssd": (detectors.ssd(), of_ssd),
    "detr": (detectors.detr(), of_detr),
}


def literal_iou(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def literal_detections(candidates: list[tuple[list[float], list[float]]], threshold: float, iou: float) -> list[Any]:
    rows = [(max(p), int(np.argmax(p)), box, a) for a, (box, p) in enumerate(candidates) if max(p) >= threshold]
    kept: list[Any] = []
    for row in sorted(rows, key=lambda r: -r[0]):
        if all(k[1] != row[1] or literal_iou(k[2], row[2]) <= iou for k in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(("threshold", "iou"), [(0.25, 0.45), (0.1, 0.2)])
def test_detections_are_those_of_literal_decoding(name: str, threshold: float, iou: float) -> None:
    proto, decode = DETECTORS[name]
    got = detect(proto.SerializeToString(), X, head=f"threshold={threshold},iou={iou}", engine=ENGINE)
    values = outputs(proto)
    wanted = [literal_detections(decode(*(v[i] for v in values)), threshold, iou) for i in range(len(X))]
    assert sum(map(len, wanted)) >= 3
    for found, expected in zip(got, wanted, strict=True):
        assert [d.number for d in found] == list(range(1, len(expected) + 1))
        assert [(d.index, d.candidate) for d in found] == [(k[1], k[3]) for k in expected]
        np.testing.assert_allclose([d.score for d in found], [k[0] for k in expected], rtol=1e-4)
        clipped = [np.clip(k[2], 0, [WIDTH, HEIGHT] * 2) for k in expected]
        np.testing.assert_allclose([d.box for d in found], clipped, atol=1e-3)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_batch_finds_what_single_photos_do(name: str) -> None:
    model = oi.load(DETECTORS[name][0])
    singly = [detect(model, x[None], engine=ENGINE, head="threshold=0.1")[0] for x in X]
    for one, other in zip(detect(model, X, engine=ENGINE, head="threshold=0.1"), singly, strict=True):
        assert [(d.candidate, d.index) for d in one] == [(d.candidate, d.index) for d in other]


def test_the_graph_is_cut_before_suppression() -> None:
    plain = detect(detectors.yolov8().SerializeToString(), X, engine=ENGINE, head="threshold=0.1")
    model = oi.load(detectors.yolov8(nms=True))
    assert detect(model, X, engine=ENGINE, head="threshold=0.1") == plain
    job = Job(model, X[:1], "box:1", engine=ENGINE)
    assert any("conv" in tensor for tensor in job.target.reads(model))


@pytest.mark.parametrize(
    ("name", "said", "stated"),
    [
        ("yolox", "format=yolox", "objectness=yes"),
        ("yolov8", "format=cxcywh", "objectness=no"),
        ("ssd", "format=xyxy", "background=first"),
        ("detr", "format=cxcywh", "background=last"),
    ],
)
def test_what_was_inferred_is_said_with_how_to_say_otherwise(name: str, said: str, stated: str) -> None:
    for target, way in ((Everything(), "(--head '"), ("class:0", "(--target 'box:1@")):
        job = Job(
            oi.load(DETECTORS[name][0]), X, target if name != "ssd" or way[3] == "h" else "class:1", engine=ENGINE
        )
        note = next(n for n in job.notes if n.startswith("detector:"))
        assert said in note
        assert stated in note
        assert way in note


def test_what_is_stated_wins() -> None:
    proto = DETECTORS["yolov8"][0]
    (values,) = outputs(proto, X[:1])
    found = detect(proto.SerializeToString(), X[:1], head="format=xywh,threshold=0.1,iou=1", engine=ENGINE)[0]
    for d in found:
        x, y, w, h = values[0, :4, d.candidate]
        np.testing.assert_allclose(d.box, np.clip([x, y, x + w, y + h], 0, [WIDTH, HEIGHT] * 2), atol=1e-3)


def test_four_classes_are_told_from_four_coordinates() -> None:
    model = oi.load(detectors.ssd(3))  # nothing and three classes: both tables have four columns
    assert detection.find(Job(model, X, Everything(), engine=ENGINE))[0].raw.boxes.name == "boxes"


# Formats.


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(["xyxy", "yxyx", "cxcywh", "xywh", "yolox"]),
    share=st.booleans(),
)
def test_the_format_is_told_from_where_boxes_lie(seed: int, form: str, share: bool) -> None:
    # Boxes of things, each found in the cell that its middle is in, as detectors are trained to.
    size, stride = (64, 96), 8.0
    rng = np.random.default_rng(seed)
    centre, wh = rng.uniform(2, [90, 54], (12, 2)), rng.uniform(3, 40, (12, 2))
    wh[0] = 4  # less than a cell, whose logarithm is negative: YOLOv5 has none such
    cell = np.floor(centre / stride)
    cells = np.hstack([(cell + 0.5) * stride, np.full((12, 2), stride), np.zeros((12, 2))])
    every = np.array([[x, y] for y in range(4, 64, 8) for x in range(4, 96, 8)], float)
    low, high = (centre - wh / 2).clip(0), (centre + wh / 2).clip(0, [96, 64])
    centre, wh = (low + high) / 2, high - low
    t = {
        "xyxy": np.hstack([low, high]),
        "yxyx": np.hstack([low[:, ::-1], high[:, ::-1]]),
        "cxcywh": np.hstack([centre, wh]),
        "xywh": np.hstack([low, wh]),
        "yolox": np.hstack([centre / stride - cell, np.log(wh / stride)]),
    }[form]
    assume(np.abs(centre[:, 0] - centre[:, 1]).mean() > 12)  # on the diagonal x is y
    if share and form != "yolox":
        t = t / (size * 2 if form == "yxyx" else size[::-1] * 2)
    unit = "share" if share and form != "yolox" else "pixel"
    assert formats.likely(t, np.ones(12), cells, every, size, "", "") == (form, unit)


def anchored() -> onnx.ModelProto:
    """As YOLOv5 without its anchors: two candidates a cell."""
    g = Graph(5)
    heads = [g("Sigmoid", g.conv(m, 6, 2 * 7)) for m in g.maps()]
    two = [g("Reshape", h, g.const([0, 2, 7, -1])) for h in heads]
    rows = [g("Reshape", g("Transpose", t, perm=[0, 1, 3, 2]), g.const([0, -1, 7])) for t in two]
    offset, size, rest = g("Split", g("Concat", *rows, axis=1), g.const([2, 2, 3]), axis=2, outputs=3)
    offset = g("Sub", g("Mul", offset, g.const(2, np.float32)), g.const(0.5, np.float32))
    size = g("Pow", g("Mul", size, g.const(2, np.float32)), g.const(2, np.float32))
    return g.model(output=g("Concat", offset, size, rest, axis=2))


def test_raw_boxes_in_anchors_need_the_anchors() -> None:
    proto = anchored()
    with pytest.raises(TargetError, match=r"anchors.*format=yolov5"):
        detect(proto.SerializeToString(), X, engine=ENGINE)
    head = "format=yolov5,anchors=3x4 6x5 8x7 9x12,threshold=0.05,iou=1"
    found = detect(proto.SerializeToString(), X[:1], head=head, engine=ENGINE)[0]
    (values,) = outputs(proto, X[:1])
    anchors, fine = [(3, 4), (6, 5), (8, 7), (9, 12)], 24
    for d in found:
        level, within = (0, d.candidate) if d.candidate < 2 * fine else (1, d.candidate - 2 * fine)
        cells = [c for c in CELLS if c[2] == (4, 8)[level]]
        which, (row, column, s) = within // len(cells), cells[within % len(cells)]
        a, b, c, e, thing, *p = values[0, d.candidate]
        (aw, ah), cx, cy = anchors[2 * level + which], (column + a) * s, (row + b) * s
        box = [cx - c * aw / 2, cy - e * ah / 2, cx + c * aw / 2, cy + e * ah / 2]
        np.testing.assert_allclose(d.box, np.clip(box, 0, [WIDTH, HEIGHT] * 2), atol=1e-3)
        assert d.score == pytest.approx(thing * max(p), rel=1e-4)
    assert found


@pytest.mark.parametrize(
    "text", ["format=circle", "size=3", "threshold=2", "objectness=maybe", "threshold=many", "xyxy"]
)
def test_nonsense_about_a_detector_is_refused(text: str) -> None:
    with pytest.raises(TargetError):
        formats.parse(text)


@settings(deadline=None, max_examples=20)
@given(
    form=st.sampled_from(["", "xyxy", "dfl"]),
    own=st.sampled_from(["", "yes", "no"]),
    threshold=st.sampled_from([0.25, 0.5, 0.125]),
)
def test_what_is_stated_can_be_written_and_read(form: str, own: str, threshold: float) -> None:
    stated = formats.Stated(format=form, objectness=own, threshold=threshold)
    assert formats.parse(str(stated)) == stated


def test_formats_are_told_in_little_memory() -> None:
    rng = np.random.default_rng(0)
    every = np.hstack([rng.uniform(0, 640, (8400, 2)), np.full((8400, 2), 8.0), np.zeros((8400, 2))])
    cells = every[rng.integers(8400, size=4000)]  # of many photos
    boxes = np.hstack([cells[:, :2], np.full((4000, 2), 50.0)])
    tracemalloc.start()
    assert formats.likely(boxes, np.ones(4000), cells, every, (640, 640), "", "") == ("cxcywh", "pixel")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


# What graphs hold besides.


def raw_yolox() -> onnx.ModelProto:
    """`detectors.yolox` with all activations left to who decodes it."""
    g = Graph()
    heads = [g("Concat", *(g.conv(m, 6, k) for k in (4, 1, 3)), axis=1) for m in g.maps()]
    return g.model(output=g("Transpose", g.rows(heads, 8), perm=[0, 2, 1]))


def test_a_raw_objectness_is_a_logit_too() -> None:
    wanted = detect(detectors.yolox().SerializeToString(), X, engine=ENGINE, head="threshold=0.1")
    found = detect(raw_yolox().SerializeToString(), X, engine=ENGINE, head="threshold=0.1,objectness=yes,format=yolox")
    for one, other in zip(found, wanted, strict=True):
        assert [(d.index, d.candidate) for d in one] == [(d.index, d.candidate) for d in other]
        np.testing.assert_allclose([d.score for d in one], [d.score for d in other], rtol=1e-4)
    for score in ("logits", "output"):
        for text in ("box:1@format=yolox", "box:1.objectness@format=yolox", "box:1.class@format=yolox"):
            jobs = [Job(oi.load(p), X, text, score=score, engine=ENGINE) for p in (raw_yolox(), detectors.yolox())]
            np.testing.assert_allclose(*(job.clean["inspect/score"] for job in jobs), rtol=1e-4)


def test_a_product_in_the_graph_has_parts() -> None:
    g = Graph(2)
    maps = g.maps()
    boxes, things, classes = (g.rows([g.conv(m, 6, k) for m in maps], k) for k in (4, 1, 3))
    scores = g("Mul", g("Sigmoid", things), g("Sigmoid", classes))
    rows = [g("Transpose", t, perm=[0, 2, 1]) for t in (boxes, scores)]
    model = oi.load(g.model(boxes=rows[0], scores=rows[1], things=g("Sigmoid", things), classes=g("Sigmoid", classes)))
    values = ENGINE.run(model, {"x": X})
    for part, name in (("objectness", "things"), ("class", "classes")):
        job = Job(model, X, f"box:1.{part}@format=yolox,threshold=0.05,boxes=boxes,scores=scores", score="output")
        for i, f in enumerate(job.target.found):
            row = 0 if part == "objectness" else f.detection.index
            wanted = values[name][i, row, f.detection.candidate]
            assert job.clean["inspect/score"][i] == pytest.approx(wanted, rel=1e-4)


def test_suppression_of_all_classes_together_has_classes() -> None:
    proto = detectors.yolov8(nms=True)
    nms = next(n for n in proto.graph.node if n.op_type == "NonMaxSuppression")
    place = list(proto.graph.node).index(nms)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axis"))
    largest = onnx.helper.make_node("ReduceMax", [nms.input[1], "axis"], ["largest"], keepdims=1)
    nms.input[1] = "largest"
    proto.graph.node.insert(place, largest)
    plain = detect(detectors.yolov8().SerializeToString(), X, engine=ENGINE)
    assert detect(proto.SerializeToString(), X, engine=ENGINE) == plain


def levels() -> onnx.ModelProto:
    """Boxes and scores of each level as outputs of their own."""
    g = Graph(3)
    outs = {}
    for i, m in enumerate(g.maps()):
        for name, k in (("boxes", 4), ("scores", 3)):
            y = g("Transpose", g.conv(m, 6, k), perm=[0, 2, 3, 1])
            outs[f"{name}_{i}"] = g("Sigmoid", g("Reshape", y, g.const([0, -1, k])))
    return g.model(**outs)


def test_levels_in_outputs_of_their_own_are_not_passed_over() -> None:
    model = oi.load(levels())
    with pytest.raises(TargetError, match=r"2 pairs of outputs.*boxes=NAME,scores=NAME"):
        detect(model, X, engine=ENGINE)
    assert detect(model, X, head="boxes=boxes_0,scores=scores_0,threshold=0.1,format=xyxy", engine=ENGINE)[0]


def queries(top: bool = True) -> onnx.ModelProto:
    """As RT-DETR: a decoder behind the best positions of a map; class logits, none of which means nothing."""
    g = Graph(5)
    positions = g("Transpose", g("Reshape", g.maps()[0], g.const([0, 6, -1])), perm=[0, 2, 1])

    def linear(x: str, inside: int, out: int, bias: float = 0) -> str:
        w = g.const(g.rng.normal(size=(inside, out)), np.float32)
        return str(g("Add", g("MatMul", x, w), g.const(bias + g.rng.normal(size=out), np.float32)))

    if top:
        best = g("ReduceMax", linear(positions, 6, 3), g.const([2]), keepdims=0)
        which = g("Unsqueeze", g("TopK", best, g.const([5]), axis=1, outputs=2)[1], g.const([2]))
        positions = g("GatherElements", positions, g("Expand", which, g.const([1, 1, 6])), axis=1)
    hidden = g("Relu", linear(positions, 6, 8))
    logits = g("Add", linear(hidden, 8, 3, -2), g.const([0, 1, 0], np.float32))
    return g.model(pred_logits=logits, pred_boxes=g("Sigmoid", linear(hidden, 8, 4)))


def test_what_is_chosen_inside_of_the_network_is_no_end() -> None:
    model = oi.load(queries())
    job = Job(model, X, "class:1", engine=ENGINE)
    assert {v.name for v in (job.target.head.raw.boxes, job.target.head.raw.scores)} == {"pred_boxes", "pred_logits"}
    assert any("inside of the network" in n for n in job.notes)
    values = ENGINE.run(model, {"x": X})["pred_logits"]
    candidates = [f.detection.candidate for f in job.target.found]
    np.testing.assert_allclose(job.clean["inspect/score"], values[[0, 1], candidates, 1], rtol=1e-5)
    assert not any("inside" in n for n in Job(oi.load(queries(top=False)), X, "class:1", engine=ENGINE).notes)


def test_queries_without_a_class_that_means_nothing_have_sigmoids() -> None:
    job = Job(oi.load(queries(top=False)), X, Everything(), engine=ENGINE)
    assert any("background=none,activation=sigmoid" in n for n in job.notes)


def test_a_class_that_most_candidates_are_of_is_no_background() -> None:
    proto = detectors.ssd()
    for bias in (w for w in proto.graph.initializer if w.name in ("w11", "w13")):  # of the classes' logits
        values = onnx.numpy_helper.to_array(bias) + np.tile([1, 0, 4, 0], 2).astype(np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    job = Job(oi.load(proto), X, Everything(formats.parse("threshold=0.05")), engine=ENGINE)
    assert any("background=first" in n for n in job.notes)
    assert {d.index for one in job.target.found for d in one} <= {1, 2, 3}


def test_distributions_have_several_bins() -> None:
    with pytest.raises(TargetError, match="state another format"):
        detect(detectors.yolox().SerializeToString(), X, head="format=dfl", engine=ENGINE)


@pytest.mark.filterwarnings("error::RuntimeWarning")  # nor do boxes of any size overflow
def test_what_is_said_of_the_head_is_not_lost_to_defaults(tmp_path: Path) -> None:
    onnx.save(detectors.yolox(), tmp_path / "model.onnx")
    image.write(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8))
    args = ["boxes", *(str(tmp_path / n) for n in ("model.onnx", "photo.png")), "--preset", "raw", "--json"]
    done = CliRunner().invoke(cli, [*args, "--head", "threshold=1,iou=0.2", "-o", f"{tmp_path}/out/"])
    (entry,) = json.loads(done.stdout)
    assert any("threshold=1,iou=0.2" in n for n in entry["notes"])


def test_a_head_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = oi.load(detectors.yolox()), []
    read = settling.read
    monkeypatch.setattr(settling, "read", lambda *args: calls.append(1) or read(*args))
    for x in X:
        detect(model, x[None], engine=ENGINE)
    assert len(calls) == 1


def tokens() -> onnx.ModelProto:
    """As the last hidden state of a transformer for pictures: a table, of no boxes."""
    g = Graph(6)
    rows = g("Transpose", g("Reshape", g.conv("x", 3, 6, 4, 4), g.const([0, 6, -1])), perm=[0, 2, 1])
    return g.model(hidden=g("Relu", rows))


def classifier() -> onnx.ModelProto:
    g = Graph()
    return g.model(logits=g("Flatten", g("GlobalAveragePool", g.conv("x", 3, 5))))


def segmenter() -> onnx.ModelProto:
    g = Graph()
    return g.model(scores=g("Relu", g.conv("x", 3, 5)))


# What advises, by what is wrong: whoever lists boxes has --head and no --target.
REFUSED = {
    "no boxes": (classifier, "No boxes and class scores", "boxes=NAME,scores=NAME"),
    "levels": (levels, "2 pairs of outputs", "boxes=NAME,scores=NAME"),
    "anchors": (anchored, "in units of anchors", "format=yolov5,anchors="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_advise_what_the_caller_can_use(name: str) -> None:
    build, what, text = REFUSED[name]
    model = oi.load(build())
    with pytest.raises(TargetError, match=what) as listed:
        detect(model, X, engine=ENGINE)
    assert f"(--head '{text}" in str(listed.value)
    assert "from Python head=" in str(listed.value)
    assert "--target" not in str(listed.value)
    with pytest.raises(TargetError, match=what) as explained:
        oi.saliency(model, X, "box:1", engine=ENGINE)
    assert f"(--target 'box:1@{text}" in str(explained.value)
    assert "--head" not in str(explained.value)


@pytest.mark.parametrize("build", [*(lambda d=d: d[0] for d in DETECTORS.values()), levels, anchored])
def test_detectors_are_told_from_the_graph(build: Any) -> None:
    model = oi.load(build())
    assert detection.present(model, model.inputs[0])
    free = onnx.ModelProto.FromString(build().SerializeToString())
    for axis in free.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "side"
    how, notes = guess_preprocessing(oi.load(free))
    assert (how.resize, how.scale, how.mean, how.pad_value, how.source) == (
        "letterbox",
        1 / 255,
        (0,),
        114,
        "guess: unit",
    )
    assert any(n.endswith("as the model is a detector (--preset NAME, --color ORDER, --resize RULE)") for n in notes)


@pytest.mark.parametrize("build", [classifier, segmenter, tokens])
def test_what_is_no_detector_is_not_taken_for_one(build: Any) -> None:
    model = oi.load(build())
    assert not detection.present(model, model.inputs[0])
    assert guess_preprocessing(model)[0].resize == "crop"


# Which preprocessing.


def as_photos(folder: Path, model: oi.Model, count: int) -> tuple[list[Path], list[blobs.Photo]]:
    made = blob(model, count, seed=7, blobs=(1, 3))
    paths = [folder / f"{i}.png" for i in range(count)]
    for path, photo in zip(paths, made, strict=True):
        image.write(path, photo.pixels)
    return paths, made


def of_bytes(name: str, folder: Path) -> Path:
    """A trained detector that takes pixels of 0 to 255, with nothing in front of its layers that says so."""
    proto = onnx.load(OWN / name)
    first = next(n for n in proto.graph.node if n.op_type == "Conv")
    weight = next(w for w in proto.graph.initializer if w.name == first.input[1])
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) / 255, weight.name))
    onnx.save(proto, folder / "bytes.onnx")
    return folder / "bytes.onnx"


def test_a_first_call_finds_what_is_there(tmp_path: Path) -> None:
    paths, made = as_photos(tmp_path, oi.load(OWN / "torch_legacy_yolo.onnx"), 2)
    done = CliRunner().invoke(
        cli, ["boxes", *map(str, [OWN / "torch_legacy_yolo.onnx", *paths]), "--json", "-o", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    for entry, photo in zip(json.loads(done.stdout), made, strict=True):
        assert {b["index"] for b in entry["boxes"]} >= set(photo.labels.tolist())
        assert any("letterbox, as the model is a detector" in n for n in entry["notes"]), "the guess is stored"
    table = [line.split() for line in done.stderr.splitlines() if " %  " in line]
    assert table[0][-2:] == ["as", "used"]


def test_where_a_guess_finds_nothing_the_right_preprocessing_is_named(tmp_path: Path) -> None:
    model = of_bytes("torch_legacy_yolo.onnx", tmp_path)
    paths, _ = as_photos(tmp_path, oi.load(model), 2)
    words = ["boxes", *map(str, [model, *paths]), "-o", str(tmp_path)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "try --preset raw --color RGB" in done.stderr
    assert next(line for line in done.stderr.splitlines() if " %  " in line).endswith("--preset raw --color RGB")
    (tmp_path / "broken.png").write_text("no photo")
    broken = CliRunner().invoke(cli, ["boxes", str(model), str(tmp_path / "broken.png"), "-o", str(tmp_path)])
    assert broken.exit_code == 2, broken.output
    assert "again" not in broken.stderr, "there is nothing to compare on"
    said = CliRunner().invoke(cli, [*words, "--preset", "raw", "--color", "RGB"])
    assert "again" not in said.stderr, "nothing is compared where the preprocessing is given"
    assert said.stdout.count("\n   1  ") == 2
    quiet = CliRunner().invoke(cli, [*words, "-q", "--threshold", "1"])
    assert quiet.stderr == ""
    assert "nothing at 1 or surer" in quiet.stdout
    assert "onnx-inspect doctor" in quiet.stdout


# Lineage.


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_elements_are_followed_back_through_what_moves_them(data: st.DataObject) -> None:
    g, shape = Graph(), [1, 3, HEIGHT, WIDTH]
    x = leaf = g("Abs", "x")
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["Transpose", "Reshape", "Slice", "Concat", "Split", "Gather", "Unsqueeze"]))
        axis = data.draw(st.integers(1, len(shape) - 1))
        if kind == "Transpose":
            perm = [0, *data.draw(st.permutations(range(1, len(shape))))]
            x, shape = g("Transpose", x, perm=perm), [shape[p] for p in perm]
        elif kind == "Reshape":
            x, shape = g("Reshape", x, g.const([0, -1])), [1, int(np.prod(shape))]
        elif kind == "Slice":
            step = data.draw(st.sampled_from([1, 2, -1]))
            start, end = (-1, -(2**31)) if step < 0 else (shape[axis] // 3, 2**31)
            x = g("Slice", x, g.const([start]), g.const([end]), g.const([axis]), g.const([step]))
            shape[axis] = len(range(shape[axis])[::-1] if step < 0 else range(shape[axis])[start::step])
        elif kind == "Concat":
            x, shape[axis] = g("Concat", x, g("Identity", x), axis=axis), 2 * shape[axis]
        elif kind == "Split" and shape[axis] > 1:
            parts = [shape[axis] // 2, shape[axis] - shape[axis] // 2]
            x, shape[axis] = g("Split", x, g.const(parts), axis=axis, outputs=2)[1], parts[1]
        elif kind == "Gather":
            which = data.draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
            x, shape[axis] = g("Gather", x, g.const(which), axis=axis), len(which)
        elif kind == "Unsqueeze" and len(shape) < 5:
            x = g("Unsqueeze", x, g.const([axis]))
            shape.insert(axis, 1)
    model = oi.load(g.model(y=g("Sigmoid", x), leaf=leaf))
    values = ENGINE.run(model, {"x": X})
    lineage = Lineage(model, {"x": (1, 3, HEIGHT, WIDTH)})
    (elements,) = lineage.of(model.value("y"), steps_over=True)
    assert [(e.tensor, e.activation) for e in elements.leaves] == [(leaf, "sigmoid")]
    assert elements.numbers.shape == tuple(shape[1:])
    followed = 1 / (1 + np.exp(-elements.values({leaf: values["leaf"]})))
    np.testing.assert_allclose(followed, values["y"], rtol=1e-5)


# Targets.


def scores_of(name: str, values: list[np.ndarray], i: int, candidate: int, index: int) -> float:
    """The documented score, from the model's outputs: logits, added up."""
    if name == "yolox":
        thing, p = values[0][i, candidate, 4], values[0][i, candidate, 5 + index]
        return float(np.log(thing / (1 - thing)) + np.log(p / (1 - p)))
    if name == "yolov8":
        p = values[0][i, 4 + index, candidate]
        return float(np.log(p / (1 - p)))
    return float(values[0][i, candidate, index])


@pytest.mark.parametrize("name", ["yolox", "yolov8", "detr"])
@pytest.mark.parametrize("text", ["box:1", "box:2", "class:1", "box:(2, 1, 14, 12)"])
def test_scores_are_sums_of_logits(name: str, text: str) -> None:
    model = oi.load(DETECTORS[name][0])
    job = Job(model, X, text + "@threshold=0.05", engine=ENGINE)
    values = outputs(DETECTORS[name][0])
    for i, found in enumerate(job.target.found):
        d = found.detection
        assert job.clean["inspect/score"][i] == pytest.approx(
            scores_of(name, values, i, d.candidate, d.index), abs=1e-4
        )


@pytest.mark.parametrize("part", ["x0", "y0", "x1", "y1", "w", "h", "area"])
@pytest.mark.parametrize("name", DETECTORS)
def test_coordinates_are_those_of_the_box(name: str, part: str) -> None:
    proto, decode = DETECTORS[name]
    job = Job(oi.load(proto), X, f"box:1.{part}@threshold=0.05", engine=ENGINE)
    values = outputs(proto)
    for i, found in enumerate(job.target.found):
        x0, y0, x1, y1 = decode(*(v[i] for v in values))[found.detection.candidate][0]
        wanted = {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "w": x1 - x0, "h": y1 - y0, "area": (x1 - x0) * (y1 - y0)}
        assert job.clean["inspect/score"][i] == pytest.approx(wanted[part], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("text", ["box:1", "box:1.x0", "box:2.area", "class:1", "box:1.objectness", "box:1 - box:2"])
@pytest.mark.parametrize("name", DETECTORS)
def test_gradients_are_those_of_finite_differences(name: str, text: str) -> None:
    if "objectness" in text and name != "yolox":
        return
    proto, decode = DETECTORS[name]
    text = " - ".join(f"{part}@threshold=0.05" for part in text.split(" - "))
    job = Job(oi.load(proto), X, text, engine=ENGINE)
    gradient = job.gradients(["x"])["gradient.x"]
    reference = in_double(with_logits(oi.load(proto)) if name == "ssd" else oi.load(proto))
    direction = np.random.default_rng(3).normal(size=X.shape)
    rows = []
    for step in (1e-5, -1e-5):
        values = reference.run(None, {"x": X.astype(np.float64) + step * direction})
        rows.append([literal_score(job.target, name, decode, values, i) for i in range(len(X))])
    slope = (np.array(rows[0]) - rows[1]) / 2e-5
    np.testing.assert_allclose((gradient * direction).sum((1, 2, 3)), slope, rtol=2e-3, atol=1e-3)


def literal_score(target: Any, name: str, decode: Any, values: list[np.ndarray], i: int) -> float:
    if hasattr(target, "terms"):
        return sum(k * literal_score(t, name, decode, values, i) for k, t in target.terms)
    d = target.found[i].detection
    if target.part == "objectness":
        thing = values[0][i, d.candidate, 4]
        return float(np.log(thing / (1 - thing)))
    if target.part:
        x0, y0, x1, y1 = decode(*(v[i] for v in values[:2]))[d.candidate][0]
        return float({"x0": x0, "area": (x1 - x0) * (y1 - y0)}[target.part])
    return (
        float(values[2][i, d.candidate, d.index]) if name == "ssd" else scores_of(name, values, i, d.candidate, d.index)
    )


def with_logits(model: oi.Model) -> oi.Model:
    """A model that ends in a softmax, with the logits as one more output."""
    (softmax,) = (n for n in model.ir.graph if n.op_type == "Softmax")
    return oi.expose(model, [softmax.inputs[0].name])


def test_the_output_itself_is_the_product_of_probabilities() -> None:
    job = Job(oi.load(DETECTORS["yolox"][0]), X, "box:1@threshold=0.05", score="output", engine=ENGINE)
    np.testing.assert_allclose(job.clean["inspect/score"], [f.detection.score for f in job.target.found], rtol=1e-5)


def test_one_compiled_model_serves_all_boxes_and_classes() -> None:
    model = oi.load(DETECTORS["yolox"][0])
    keys = {
        Job(model, X, text, engine=ENGINE).target.key() for text in ("box:1@threshold=0.05", "class:2", "box@2,1,14,12")
    }
    assert len(keys) == 1


def test_the_score_is_read_from_the_level_that_the_candidate_is_on() -> None:
    model = oi.load(DETECTORS["yolox"][0])
    shapes = set()
    for box in ("box@1,1,4,4", "box@2,1,22,15"):
        job = Job(model, X[:1], box, engine=ENGINE)
        *_, stride = CELLS[job.target.found[0].detection.candidate]
        maps = [model.spec(model.values[t]).shape[-2:] for t in job.target.reads(model)]
        assert set(maps) == {(HEIGHT // stride, WIDTH // stride)}
        shapes |= set(maps)
        assert job.layer("auto").shape[-2:] == maps[0]
    assert len(shapes) >= 1


@settings(deadline=None, max_examples=20)
@given(
    which=st.one_of(
        st.integers(1, 99).map(lambda n: f"box:{n}"),
        st.sampled_from(["class:dog", "class:stop sign", "class:17", "class:T-shirt", "class:'Mt. Fuji.x0'"]),
        st.sampled_from([r"class:'a - b'", r"class:'it\'s; a@b=c'", "box:(1234567.25, 0.5, 2234567.5, 4)"]),
        st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(51, 999)] * 2).map(lambda b: f"box:{b}"),
    ),
    part=st.sampled_from(["", *PARTS]),
    options=st.sampled_from(["", "@format=xyxy", "@objectness=no,threshold=0.5"]),
)
def test_targets_can_be_written_and_read(which: str, part: str, options: str) -> None:
    text = f"{which}{'.' if part else ''}{part}{options}"
    target = targets.parse(text, None, Labels())  # type: ignore[arg-type]
    assert str(target) == text
    assert targets.parse(str(target), None, Labels()) == target  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["box:0", "box:", "box:(3, 4, 1, 9)", "box:1.size", "class:", "box@1,2,3", "box:x", "class:@iou=0.5"]
)
def test_texts_that_are_no_targets_are_refused(text: str) -> None:
    with pytest.raises(TargetError):
        targets.parse(text, None, Labels())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("box:99", "There is no box:99"),
        ("class:horse", "No class is called 'horse'"),
        ("class:7", "There is no class 7"),
        ("box@1000,1000,1010,1010", "no candidate"),
        ("box:1.objectness", "no objectness"),
    ],
)
def test_what_is_not_there_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        Job(oi.load(DETECTORS["yolov8"][0]), X[:1], text, labels=list(NAMES), engine=ENGINE)


def test_a_box_that_one_photo_lacks_is_absent_from_it() -> None:
    with pytest.raises(AbsentError, match=r"There is no box:\d+.* things are found in sample [01]"):
        Job(oi.load(DETECTORS["yolox"][0]), X, "box:26@threshold=0.1,iou=1", engine=ENGINE)


@pytest.mark.parametrize("method", ["gradcam", "gradcam_plusplus", "xgradcam", "hirescam", "layercam"])
def test_weights_for_all_positions_are_noted_where_one_box_is_explained(method: str) -> None:
    model = oi.load(DETECTORS["yolox"][0])
    for text, local in (("box:1@threshold=0.05", True), ("output[3, 4]", False)):
        notes = getattr(oi, method)(model, X[:1], text, layer="relu_2", engine=ENGINE).notes
        assert any("one weight for all positions" in n for n in notes) == (local and "gradcam" in method)


def test_a_box_needs_a_photo() -> None:
    with pytest.raises(TargetError, match="found in a photo"):
        oi.gradient(oi.load(DETECTORS["yolov8"][0]), "box:1", ["x"])


def test_a_class_that_is_not_found_is_explained_at_its_likeliest_candidate() -> None:
    proto, decode = DETECTORS["yolox"]
    job = Job(oi.load(proto), X[:1], "class:stop sign@threshold=0.999", labels=list(NAMES), engine=ENGINE)
    best = int(np.argmax([p[1] for _, p in decode(outputs(proto, X[:1])[0][0])]))
    assert job.target.found[0].detection.candidate == best
    assert any("nothing is found to be one" in n for n in job.notes)


@pytest.mark.parametrize("method", ["gradcam", "layercam", "saliency", "rise", "occlusion", "ablationcam"])
def test_methods_take_boxes(method: str) -> None:
    how: dict[str, Any] = {"samples": 20} if method == "rise" else {}
    result = getattr(oi, method)(oi.load(DETECTORS["yolox"][0]), X, target="box:1@threshold=0.05", engine=ENGINE, **how)
    assert len(result) == 2
    assert np.ptp(result.values) > 0
    assert result.target == "box:1@threshold=0.05"


# Trained detectors of our own: blobs whose places are known.

TRAINED = sorted({p.name for k in ("yolo", "ssd", "detr", "twostage") for p in OWN.glob(f"*_{k}*.onnx")})
KINDS = [name for name in TRAINED if "dynamo" not in name or "ssd" in name]  # one exporter of each


def blob(model: oi.Model, count: int = 1, **how: Any) -> list[blobs.Photo]:
    """Photos of the size that a model takes."""
    height, width = model.inputs[0].shape[2:]
    return blobs.photos(count=count, size=(int(height), int(width)), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TRAINED)
def test_trained_detectors_find_the_blobs(name: str) -> None:
    model = oi.load(OWN / name)
    first = 1 if "ssd" in name else 0  # class 0 of SSD is nothing
    right = total = 0
    for photo in blob(model, 6, seed=7, blobs=(1, 3)):
        (found,) = detect(model, blobs.floats([photo]), engine=ENGINE)
        for box, label in zip(photo.boxes.tolist(), photo.labels, strict=True):
            total += 1
            right += any(d.index == label + first and literal_iou(list(d.box), box) > 0.5 for d in found)
    assert right >= 0.75 * total, f"{right} of {total}"


@pytest.mark.parametrize("name", KINDS)
def test_maps_lie_on_the_blob(name: str) -> None:
    model = oi.load(OWN / name)
    (photo,) = blob(model, seed=11)
    result = oi.hirescam(model, blobs.floats([photo]), target="box:1", engine=ENGINE)
    energy = float(oi.energy_in_box(result, [[tuple(photo.boxes[0].tolist())]])[0])
    share = float(np.prod(photo.boxes[0][2:] - photo.boxes[0][:2])) / photo.mask.size
    assert energy > 4 * share, f"{energy:.2f}, by chance {share:.2f}"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("text", ["box:1", "box:1.y1"])
def test_gradients_of_trained_detectors_are_finite_differences(name: str, text: str) -> None:
    model = oi.load(OWN / name)
    x = blobs.floats(blob(model, seed=11))
    job = Job(model, x, text, engine=ENGINE)
    gradient = job.gradients(["x"])["gradient.x"]
    direction = np.sign(gradient) * np.random.default_rng(0).uniform(0.5, 1, x.shape).astype(np.float32)
    step = 2e-4
    ends = [
        job.forward([], job.target, {"x": x + s * step * direction} | job.target.feeds(1))["inspect/score"][0]
        for s in (1, -1)
    ]
    assert (gradient * direction).sum() == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=0.05)


def test_boxes_of_two_stages_make_sums() -> None:
    model = oi.load(OWN / "torch_legacy_twostage.onnx")
    x = blobs.floats(blob(model, seed=7, blobs=(3, 3)))
    one, two, both = (
        Job(model, x, t, engine=ENGINE).clean["inspect/score"] for t in ("box:1", "box:2", "box:1 - 2 * box:2")
    )
    np.testing.assert_allclose(both, one - 2 * two, rtol=1e-5)


def test_proposals_stay_those_of_the_untouched_photo() -> None:
    model = oi.load(OWN / "torch_legacy_twostage.onnx")
    x = blobs.floats(blob(model, seed=11))
    job = Job(model, x, "box:1.x0", engine=ENGINE)
    head, d = job.target.head, job.target.found[0].detection
    dark = x * 0.6
    (score,) = job.forward([], job.target, {"x": dark} | job.target.feeds(1))["inspect/score"]
    rois = detection.proposals.tensor(model)
    held = oi.cut(model, inputs=[rois], outputs=head.tensors)
    own = ENGINE.run(held, {"x": dark, rois: job.target.proposals[0]}, head.tensors)
    assert score == pytest.approx(head.corners(own)[0, d.candidate, 0], abs=1e-3)
    free = job.forward([rois], feeds={"x": dark})[rois]
    assert free.shape != job.target.proposals[0].shape or np.abs(free - job.target.proposals[0]).max() > 0.1


# Real files.


@needs_zoo
@pytest.mark.parametrize("name", ["torch_dynamo_det.onnx", "torch_legacy_det.onnx"])
def test_a_head_in_units_of_anchors_says_what_it_lacks(name: str) -> None:
    x = np.random.default_rng(0).uniform(size=(1, 3, 32, 32)).astype(np.float32)
    model = oi.load(ZOO / name)
    with pytest.raises(TargetError, match="anchors"):
        detect(model, x, engine=ENGINE)
    found = detect(model, x, engine=ENGINE, head="format=yolov5,anchors=4x4 8x8,threshold=0.01")[0]
    (y,) = ENGINE.run(model, {"x": x}).values()
    assert all(d.score == pytest.approx(y[0, d.candidate, 4] * y[0, d.candidate, 5:].max(), rel=1e-4) for d in found)


@needs_assets
def test_yolox_finds_the_cat(tmp_path: Path) -> None:
    photo = ASSETS / "images/coco/000000000443.jpg"
    args = ["boxes", ASSETS / "models/yolox_nano.onnx", photo, "--labels", COCO, "--preset", "raw", "--color", "BGR"]
    done = CliRunner().invoke(cli, [*map(str, args), "--resize", "letterbox", "--json", "-q", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(done.stdout)
    first = entry["boxes"][0]
    assert (first["number"], first["label"]) == (1, "cat")
    assert literal_iou(first["box"], [198.6, 53.3, 571.0, 434.0]) > 0.5
    assert Path(entry["picture"]).exists()


@needs_assets
def test_ultraface_finds_the_astronaut() -> None:
    ((face,),) = detect(
        ASSETS / "models/ultraface_version-RFB-320.onnx",
        ASSETS / "images/misc/astronaut.png",
        preprocessing=ULTRAFACE,
        labels=["background", "face"],
        engine=ENGINE,
    )
    assert face.label == "face"
    assert face.score > 0.99
    assert literal_iou(list(face.box), [177, 62, 270, 174]) > 0.8
