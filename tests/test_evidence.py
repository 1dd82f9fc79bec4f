"""Layers by evidence: a network in which one layer is provably right, and the command line around it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError, PhotoError

from . import nets

ENGINE = Engine("cpu", threads=1)
ZOO = Path(__file__).parent / "zoo"
SIZE, FAR, GAIN = 8, 4, 6.0


def displaced() -> onnx.ModelProto:
    """Class 0 is the mean of a map that shows everything FAR columns further right than it lies on the picture.

    The map before it is in place, and as long as the right half is empty each position adds its own value to the score.
    """
    moved = np.zeros((1, 1, 1, 2 * FAR + 1), np.float32)
    moved[..., 0] = 1
    arrays = {"one": np.ones((1, 1, 1, 1)), "moved": moved, "w": [[GAIN * SIZE, 0.0]], "b": [-2.0, 0.0]}
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "one"], ["c1"]),
        n("Relu", ["c1"], ["there"]),
        n("Conv", ["there", "moved"], ["c2"], pads=[0, FAR, 0, FAR]),
        n("Relu", ["c2"], ["elsewhere"]),
        n("GlobalAveragePool", ["elsewhere"], ["p"]),
        n("Flatten", ["p"], ["f"]),
        n("Gemm", ["f", "w", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "displaced",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def half(count: int = 3) -> np.ndarray:
    """Pictures whose left half has all different values, and whose right half is empty."""
    x = np.random.default_rng(0).uniform(0.1, 1, (count, 1, SIZE, SIZE)).astype(np.float32)
    x[..., FAR:] = 0
    return x


MODEL = oi.load(displaced())
X = half()
GREY_IS_ZERO = oi.Preprocessing((SIZE, SIZE), color="GREY", scale=1 / 128, mean=(1.0,))


def least(x: np.ndarray, steps: int) -> float:
    """The area of deletion if positions go in the order of what they add to the score: no order has a smaller one."""
    worth = np.sort(x.ravel().astype(np.float64))[::-1]
    left = [worth[int(np.ceil(k / steps * len(worth))) :].sum() / len(worth) for k in range(steps + 1)]
    curve = [1 / (1 + np.exp(-(GAIN * SIZE * mean - 2))) for mean in left]
    return float(sum((a + b) / 2 / steps for a, b in itertools.pairwise(curve)))


def ranked(method: str = "gradcam", **options: Any) -> oi.LayerRanking:
    given: dict[str, Any] = {"steps": 8, "engine": ENGINE, "preprocessing": GREY_IS_ZERO}
    return oi.best_layer(MODEL, X, method, 0, **given | options)


def test_the_layer_that_is_right_comes_first() -> None:
    ranking = ranked()
    best, other = ranking.rows
    assert [best.tensor, other.tensor] == ["there", "elsewhere"]
    assert [best.automatic, other.automatic] == [False, True]
    assert ranking.best == best.layer and best.size == "8×8" and ranking.samples == 3
    np.testing.assert_allclose(best.deletion, [least(x, 8) for x in X], rtol=1e-4)
    assert (best.deletion + 0.1 < other.deletion).all() and (best.insertion > other.insertion).all()
    np.testing.assert_allclose(best.score, (best.insertion - best.deletion).mean())
    lead = best.scores - other.scores
    said = f"{lead.mean():.3f} ahead of 'relu_2', which auto takes, with a standard error of {lead.std(ddof=1) / 3**0.5:.3f}"
    assert said in ranking.notes[-1] and ranking.notes[-1].endswith("(--layer NAME)")


def test_the_ranking_says_its_numbers() -> None:
    ranking = ranked()
    lines = ranking.table().splitlines()
    assert lines[0].split() == ["rank", "layer", "op", "size", "deletion", "insertion", "difference"]
    best = ranking.rows[0]
    numbers = [f"{v:.3f}" for v in (best.deletion.mean(), best.insertion.mean(), best.score)]
    assert lines[1].split() == ["1", "relu_1", "Relu", "8×8", *numbers]
    assert lines[2].split()[:3] == ["2", "relu_2", "(auto)"]
    record = ranking.to_json()
    assert record["rows"][0]["layer"] == record["best"] == "relu_1"
    assert record["rows"][0]["deletion"] == pytest.approx(best.deletion.mean())


def test_the_same_again() -> None:
    assert ranked().to_json() == ranked().to_json()
    assert ranked("layercam").to_json() != ranked().to_json()


def test_what_it_takes_is_said_before() -> None:
    said: list[str] = []
    ranked(say=said.append)
    assert said == [
        "layer: 2 are ranked by gradcam on 3 photos, which takes 108 runs and the maps (--layer auto takes none)"
    ]
    counted: list[int] = []

    def progress(name: str, total: int) -> Any:
        assert (name, total) == ("layers", 2)
        return counted.append

    ranked(progress=progress)
    assert counted == [1, 1]


def test_candidates_by_name_and_layers_without_a_map() -> None:
    ranking = ranked(candidates=["f", "elsewhere", "there"])
    assert [row.tensor for row in ranking.rows] == ["there", "elsewhere", "f"]
    assert "is not a map" in ranking.rows[2].reason and np.isnan(ranking.rows[2].score)
    assert ranking.table().splitlines()[3].split()[-3:] == ["–"] * 3
    assert any("'flatten_1' is not ranked" in note for note in ranking.notes), ranking.notes
    with pytest.raises(LayerError, match="makes no map at any of 1 layers"):
        ranked(candidates=["f"])
    with pytest.raises(LayerError, match="no layer to rank"):
        ranked(candidates=[])
    with pytest.raises(LayerError, match="no layer or tensor 'nowhere'"):
        ranked(candidates=["nowhere"])


def test_blank_maps_come_behind_whatever_their_curves_say() -> None:
    even = X.copy()
    even[1] = 0.3  # in place there is nothing to tell apart, and further right the zeros of the padding stand out
    given: dict[str, Any] = {"steps": 8, "engine": ENGINE, "preprocessing": GREY_IS_ZERO}
    ranking = oi.best_layer(MODEL, even, "gradcam", 0, **given)
    assert [(row.tensor, row.blank) for row in ranking.rows] == [("elsewhere", 0), ("there", 1)]
    assert ranking.rows[1].score > ranking.rows[0].score
    assert "layer: at 'relu_1' the maps of 1 of 3 photos are blank (--layer NAME)" in ranking.notes
    assert ranking.to_json()["rows"][1]["blank"] == 1


def test_which_method_ranks() -> None:
    ranking = ranked("activations", options={"limit": 3})
    assert ranking.method == "gradcam"
    assert any("activations makes no map of the target at a layer" in note for note in ranking.notes)
    assert ranked("gradcam", options={"signed": True}).method == "gradcam"
    with pytest.raises(InputError, match="'saliency' takes no layer"):
        ranked("saliency")
    with pytest.raises(InputError, match="no method 'gradcamm': did you mean 'gradcam'"):
        ranked("gradcamm")


def test_a_long_way_has_nine_candidates_at_most() -> None:
    nodes, before = (
        [helper.make_node("Mul", ["x", "half"], ["early"]), helper.make_node("Conv", ["early", "one"], ["c"])],
        "c",
    )
    for k in range(20):
        nodes += [helper.make_node("Mul", [before, "half"], [f"m{k}"])]
        before = f"m{k}"
    nodes += [
        helper.make_node("ReduceMean", [before], ["f"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    arrays = {"one": np.ones((1, 1, 1, 1)), "half": np.full((1, 1, 1, 1), 0.9), "w": np.ones((1, 2))}
    graph = helper.make_graph(
        nodes,
        "long",
        [info("x", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in arrays.items()],
    )
    model = oi.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    ranking = oi.best_layer(model, X, target=0, steps=2, engine=ENGINE)
    found = {row.tensor for row in ranking.rows}
    assert len(found) == 9 and {"m0", "m18", "m19"} <= found
    assert "early" not in found and "c" not in found  # before all weights, and before what follows it
    # All maps are the same: of equals the last comes first.
    assert ranking.rows[0].tensor == "m19" and ranking.notes[-1].endswith("and what auto takes (--layer NAME)")


def test_at_most_sixteen_photos_are_looked_at(tmp_path: Path) -> None:
    model = oi.load(nets.classifier())
    ranking = oi.best_layer(model, nets.images(18), steps=1, candidates=["auto"], engine=ENGINE)
    assert ranking.samples == 16
    assert "layer: the best is measured on the first 16 of 18 samples (PHOTO)" in ranking.notes
    paths = [nets.photo(tmp_path, f"{i}.png") for i in range(2)]
    (tmp_path / "bad.png").write_bytes(b"no photo")
    ranking = oi.best_layer(model, [*paths, tmp_path / "bad.png"], steps=1, candidates=["auto"], engine=ENGINE)
    assert ranking.samples == 2
    assert any("1 of 3 photos cannot be explained" in note for note in ranking.notes)
    with pytest.raises(PhotoError):
        oi.best_layer(model, [tmp_path / "bad.png"], steps=1, engine=ENGINE)


def test_grids_of_tokens_are_candidates() -> None:
    model = oi.load(ZOO / "torch_legacy_vit.onnx")
    shape = [1 if isinstance(n, str) or n is None else n for n in model.inputs[0].shape]
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    ranking = oi.best_layer(model, x, steps=2, engine=ENGINE)
    assert all(row.size == "6×10" for row in ranking.rows) and not any(row.reason for row in ranking.rows)
    chosen = oi.gradcam(model, x, engine=ENGINE).tensor
    assert [row.tensor for row in ranking.rows if row.automatic] == [chosen]
    order = [c.tensor for c in model.layers]
    assert max(order.index(row.tensor) for row in ranking.rows) == order.index(chosen)


def test_methods_from_python_name_what_measures() -> None:
    with pytest.raises(LayerError, match=r"oi\.best_layer\(model, photos\)\.best"):
        oi.gradcam(MODEL, X, layer="best", engine=ENGINE)


# The command line.


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return nets.save(tmp_path), nets.photo(tmp_path)


def test_the_command_line_runs_with_the_winner(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, photo = files
    done = call(
        "gradcam", model, photo, "--layer", "best", "--json", "--manifest", "--target", 2, "-o", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    ranking = oi.best_layer(model, [photo], target=2)
    assert record["layer"] == ranking.best
    assert record["layer_ranking"]["rows"] == json.loads(json.dumps(ranking.to_json()["rows"]))
    assert ranking.table() in done.stderr
    assert done.stderr.index("which takes 84 runs") < done.stderr.index("rank  layer")
    assert ranking.notes[-1] in record["notes"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["layer_ranking"]["best"] == ranking.best


def test_quiet_says_no_table(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = call("localize", *files, "--of", "layercam", "--layer", "best", "-q", "-o", tmp_path / "out.png")
    assert done.exit_code == 0 and not done.stderr and (tmp_path / "out.png").exists()


def test_targets_share_the_layer_of_the_first(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = call("gradcam", *files, "--layer", "best", "-t", "1; 2", "--json", "-o", tmp_path / "out")
    record = json.loads(done.stdout)
    assert record["layer_ranking"]["target"] == "1"
    assert "layer: the best is that for the first target, '1' (--layer NAME)" in record["notes"]


def test_best_stands_alone(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = call("gradcam", *files, "--layer", "best", "--layer", "auto", "-o", tmp_path)
    assert done.exit_code == 2 and "The best layer is one" in done.stderr
    done = call("attention", *files, "--layer", "best", "-o", tmp_path)
    assert done.exit_code == 2 and "'attention' takes layers that are no maps" in done.stderr
    assert "best: measured" in " ".join(call("gradcam", "--help").output.split())
    assert "best: measured" not in " ".join(call("attention", "--help").output.split())
