"""Units: the tally against plain computation over all photos, the study against the model in NumPy, kills, commands."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from onnx import helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError, LayerError, OutputError, PhotoError, ResultError
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.responses import strongest
from onnx_inspect.responses.tally import Tally
from onnx_inspect.studies.embed import embed
from onnx_inspect.studies.units import units

from . import nets

ENGINE = Engine("cpu", threads=1)
PIXELS = Preprocessing((nets.SIZE, nets.SIZE), "squash", scale=1 / 64, mean=(2.0,))


# The tally.


def activations(photos: int = 37, units: int = 7, positions: int = 20) -> np.ndarray:
    """Few different values, so that there are ties; a dead unit, one that is always on, one of both signs."""
    rng = np.random.default_rng(0)
    values = rng.integers(-3, 5, (photos, units, positions)).astype(np.float32)
    values = np.maximum(values, 0)
    values[:, 0] = 0
    values[:, 1] += 1
    values[:, 2] -= 2
    return values


def classes(count: int = 37) -> list[int | None]:
    return [None if i % 9 == 8 else i % 4 for i in range(count)]


def parts(values: np.ndarray, top: int = 5) -> list[Tally]:
    cuts = [0, 1, 4, 12, 13, 30, len(values)]
    kinds = classes(len(values))
    return [Tally.of(values[a:b], list(range(a, b)), kinds[a:b], top) for a, b in pairwise(cuts)]


def folded(tallies: list[Tally]) -> Tally:
    found = tallies[0]
    for other in tallies[1:]:
        found = found.add(other)
    return found


def test_strongest_places_are_those_of_sorting_all() -> None:
    values = activations()
    tally = folded(parts(values))
    for unit in range(values.shape[1]):
        every = [(-values[i, unit].max(), i, values[i, unit].argmax()) for i in range(len(values))]
        wanted = sorted(every)[:5]
        assert [(-v, i, p) for v, i, p in wanted] == list(
            zip(tally.value[unit], tally.photo[unit], tally.place[unit], strict=True)
        )


def test_statistics_are_the_plain_ones() -> None:
    values = activations() + 1000 * (np.arange(7) == 6)[:, None].astype(np.float32)  # a large mean costs no digits
    tally = folded(parts(values))
    plain = values.astype(np.float64)
    assert np.allclose(tally.mean, plain.mean((0, 2)), rtol=1e-6)
    assert np.allclose(tally.std, plain.std((0, 2)), rtol=1e-5)
    assert np.array_equal(tally.fires_on, (plain.max(2) > 0).mean(0))
    assert np.array_equal(tally.fires_at, (plain > 0).mean((0, 2)))
    assert np.array_equal(tally.low, plain.min((0, 2)))
    fifth = np.sort(plain.max(2), 0)[-5]
    wanted = (fifth - plain.mean((0, 2)))[1:] / plain.std((0, 2))[1:]
    assert np.allclose(tally.prominence[1:], wanted, rtol=1e-4)
    assert tally.prominence[0] == 0  # never anything but 0


def test_selectivity_is_that_of_the_paper() -> None:
    values, kinds = activations(), classes()
    got, best = folded(parts(values)).selectivity()
    for unit in range(1, values.shape[1]):
        active = np.maximum(values[:, unit], 0).mean(1)
        means = [active[[i for i, c in enumerate(kinds) if c == kind]].mean() for kind in range(4)]
        most = max(means)
        rest = np.mean([m for k, m in enumerate(means) if k != np.argmax(means)])
        assert got[unit] == pytest.approx((most - rest) / (most + rest), abs=1e-6)
        assert best[unit] == np.argmax(means)
    assert np.isnan(got[0]) and best[0] == -1  # a dead unit


def test_the_order_of_merging_does_not_matter() -> None:
    values = activations()
    wanted = folded(parts(values))
    shuffle = random.Random(3)
    for _ in range(5):
        tallies = parts(values)
        while len(tallies) > 1:
            shuffle.shuffle(tallies)
            tallies.append(tallies.pop().add(tallies.pop()))
        for name in ("value", "photo", "place", "fired", "firing", "low"):
            assert np.array_equal(getattr(tallies[0], name), getattr(wanted, name)), name
        assert np.allclose(tallies[0].spread, wanted.spread) and np.allclose(tallies[0].mean, wanted.mean)
        assert list(tallies[0].classes) == list(wanted.classes)


def test_a_tally_survives_its_table() -> None:
    tally = folded(parts(activations()))
    again, known = Tally.from_arrow(tally.to_arrow({"more": [1]}))
    assert again is not None and known["more"] == [1]
    for name, value in vars(tally).items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, getattr(again, name)) and value.dtype == getattr(again, name).dtype, name
    assert all(
        np.array_equal(s, again.classes[k][1]) and n == again.classes[k][0] for k, (n, s) in tally.classes.items()
    )


# The study.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos in three classes, and one that is broken."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for i in range(40):
        pixels = image.resize(rng.uniform(0, 255, (3, 3, 3)).astype(np.float32), (16, 20), "linear")
        kind = root / ("cat", "dog", "owl")[i % 3]
        kind.mkdir(exist_ok=True)
        image.write(kind / f"{i:02}.png", pixels.astype(np.uint8))
    (root / "dog" / "05_broken.png").write_bytes(b"no photo")
    return root


def named(folder: Path, **options: object) -> Path:
    return nets.save(folder, metadata=nets.NAMES, **options)


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize(("layer", "key"), [("body.relu2", "a"), ("body.conv2", "c2"), ("f", "p"), ("head", "logits")])
def test_units_are_those_of_the_model_in_numpy(folder: Path, tmp_path: Path, nhwc: bool, layer: str, key: str) -> None:
    how = Preprocessing(**{**PIXELS.to_json(), "layout": "NHWC"} if nhwc else PIXELS.to_json())
    result = units(named(tmp_path, nhwc=nhwc), folder, layer=layer, top=4, preprocessing=how, engine=ENGINE)
    paths = [p for p in sorted(folder.rglob("*.png")) if "broken" not in p.name]
    values = nets.forward(np.stack([PIXELS.apply(image.read(p)) for p in paths]))[key]
    values = values.reshape(*values.shape[:2], -1)
    found = result.arrays
    assert np.allclose(found["mean"], values.mean((0, 2)), rtol=1e-4, atol=1e-5)
    assert np.allclose(found["std"], values.std((0, 2)), rtol=1e-4, atol=1e-5)
    assert np.allclose(found["max"], values.max((0, 2)), rtol=1e-4, atol=1e-5)
    assert np.allclose(found["fires_on"], (values.max(2) > 0).mean(0))
    assert np.abs(found["fires_at"] - (values > 0).mean((0, 2))).max() < 1e-3
    # Numbers count the broken photo, the 17th.
    order = np.argsort(-values.max(2), 0)[:4].T
    alive = values.max((0, 2)) > 0
    assert np.array_equal((found["photo"] - (found["photo"] > 16))[alive], order[alive])
    kinds = [p.parent.name for p in paths]
    active = np.maximum(values, 0).mean(2)
    means = np.stack([active[[k == kind for k in kinds]].mean(0) for kind in ("cat", "dog", "owl")])
    most, rest = means.max(0), (means.sum(0) - means.max(0)) / 2
    some = most > 0
    assert np.allclose(found["selectivity"][some], (most - rest)[some] / (most + rest)[some], atol=1e-4)
    assert result.skipped[0]["photo"].endswith("05_broken.png") and result.values["photos"] == 40
    assert ("not rectified" in " ".join(result.notes)) == (key in ("c2", "logits"))
    assert result.values["selectivity"]["classes"] == {"cat": 14, "dog": 13, "owl": 13}


def test_the_layer_is_the_last_map_that_weights_decide_upon(folder: Path, tmp_path: Path) -> None:
    result = units(named(tmp_path), folder / "cat", preprocessing=PIXELS, engine=ENGINE)
    assert result.layer == "body.relu2"
    assert any("--layer NAME" in note for note in result.notes)


def test_without_labels_predicted_classes_count(folder: Path, tmp_path: Path) -> None:
    result = units(named(tmp_path), folder / "cat", preprocessing=PIXELS, engine=ENGINE)
    kinds = result.values["selectivity"]
    paths = sorted((folder / "cat").iterdir())
    rows = nets.forward(np.stack([PIXELS.apply(image.read(p)) for p in paths]))["logits"]
    assert kinds["by"] == "prediction" and sum(kinds["classes"].values()) == 14
    labels = oi.load(named(tmp_path)).metadata["class_names"]
    wanted = {
        json.loads(labels)[k].split(" ", 1)[-1].split(",")[0]: int((rows.argmax(1) == k).sum())
        for k in set(rows.argmax(1))
    }
    assert sorted(kinds["classes"].values()) == sorted(wanted.values())
    assert any("predicted class" in note and note.endswith("(PHOTO)") for note in result.notes)


def test_dead_units_and_those_that_never_rest(folder: Path, tmp_path: Path) -> None:
    proto = nets.classifier()
    for tensor in proto.graph.initializer:
        if tensor.name == "b2":
            bias = np.array([-1e3, 1e3, 0, 0, 0, -1e3], np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias, "b2"))
    result = units(proto, folder, preprocessing=PIXELS, engine=ENGINE)
    assert result.values["dead"]["units"] == [0, 5] and result.values["dead"]["share"] == pytest.approx(2 / 6)
    assert 1 in result.values["always"]["units"]
    assert any(line.startswith("dead") and "0, 5" in line for line in result.lines)
    assert result.picture.shape[2] == 3


@pytest.mark.parametrize("workers", [1, 3])
def test_tables_hold_what_arrays_do_and_workers_change_nothing(folder: Path, tmp_path: Path, workers: int) -> None:
    model = named(tmp_path)
    plain = units(model, folder, preprocessing=PIXELS, engine=ENGINE)
    written = units(model, folder, preprocessing=PIXELS, engine=ENGINE, out=tmp_path / "out", workers=workers)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["strongest.parquet", "units.parquet"]
    assert written.skipped == plain.skipped and not written.arrays
    table = pq.read_table(tmp_path / "out" / "units.parquet")
    for name in ("fires_on", "fires_at", "min", "max"):
        assert np.array_equal(table[name].to_numpy(), plain.arrays[name]), name
    assert np.allclose(table["std"].to_numpy(), plain.arrays["std"])
    places = pq.read_table(tmp_path / "out" / "strongest.parquet").to_pylist()
    assert len(places) == 6 * 9 and set(places[0]) == {
        "unit",
        "rank",
        "value",
        "photo",
        "path",
        "label",
        "row",
        "column",
    }
    for one in places:
        assert one["photo"] == plain.arrays["photo"][one["unit"], one["rank"]]
        assert one["row"] * 6 + one["column"] == plain.arrays["place"][one["unit"], one["rank"]]
        assert Path(one["path"]).parent.name == one["label"]


RUN = """
import sys
from pathlib import Path
from onnx_inspect.engine import Engine
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.responses import strongest
from onnx_inspect.studies.units import units
strongest.SHARD = 4
how = Preprocessing((12, 12), "squash", scale=1 / 64, mean=(2.0,))
slow = Preprocessing.apply
if sys.argv[4] == "slow":
    import time
    Preprocessing.apply = lambda self, photo: (time.sleep(0.01), slow(self, photo))[1]
units(sys.argv[1], sys.argv[2], preprocessing=how, engine=Engine("cpu", threads=1, batch=2), out=sys.argv[3]).save(
    Path(sys.argv[3]) / "units"
)
"""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    model = named(tmp_path)

    def start(out: str, slow: str = "slow") -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", RUN, str(model), str(folder), str(tmp_path / out), slow]
        return subprocess.Popen(words)

    with start("whole", "") as whole:
        assert whole.wait() == 0
    shards = [0]
    for seed in range(3):
        chance = random.Random(seed)
        with start("killed") as process:
            while _shards(tmp_path / "killed") <= shards[-1] and process.poll() is None:
                time.sleep(0.002)
            time.sleep(0.03 * chance.random())
            process.kill()
        shards.append(_shards(tmp_path / "killed"))
    assert 0 < shards[1] < shards[2] < shards[3] < 11
    with start("killed", "") as again:
        assert again.wait() == 0
    names = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "killed").iterdir())
    assert {"units.parquet", "strongest.parquet", "units.json", "units.png"} <= set(names)
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def _shards(out: Path) -> int:
    return len(list((out / "parts").glob("[0-9]*.parquet")))


def test_unfinished_work_of_another_kind_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = named(tmp_path), tmp_path / "out"
    monkeypatch.setattr("onnx_inspect.studies.units._write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        units(model, folder, preprocessing=PIXELS, engine=ENGINE, out=out)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="top was 9 and is 3 now"):
        units(model, folder, preprocessing=PIXELS, engine=ENGINE, out=out, top=3)
    units(model, folder, preprocessing=PIXELS, engine=ENGINE, out=out)


def test_memory_does_not_grow_with_the_photos() -> None:
    one = activations(8, 50, 30)
    tally = Tally.of(one, list(range(8)), [0] * 8, 9)
    size = sum(v.nbytes for v in vars(tally).values() if isinstance(v, np.ndarray))
    for k in range(1, 20):
        tally = tally.add(Tally.of(one + k, list(range(8 * k, 8 * k + 8)), [0] * 8, 9))
    assert sum(v.nbytes for v in vars(tally).values() if isinstance(v, np.ndarray)) == size
    assert tally.photos == 160 and strongest.SHARD


def test_file_names_that_are_no_text(folder: Path, tmp_path: Path) -> None:
    for kind in (b"one\xff", b"two\xfe"):
        place = Path(os.fsdecode(os.fsencode(tmp_path / "odd") + b"/" + kind))
        try:
            place.mkdir(parents=True)
        except OSError:
            pytest.skip("this file system takes no such names")
        for photo in sorted((folder / "cat").iterdir())[:2]:
            shutil.copy(photo, place)
    units(named(tmp_path), tmp_path / "odd", preprocessing=PIXELS, engine=ENGINE, out=tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "strongest.parquet")
    assert set(table["label"].to_pylist()) == {"one\\udcff", "two\\udcfe"}
    found = embed(named(tmp_path), tmp_path / "odd", preprocessing=PIXELS, engine=ENGINE)
    assert found.values["classes"] == {"one\\udcff": 2, "two\\udcfe": 2}


def test_classes_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    result = units(named(tmp_path), folder / "cat", preprocessing=PIXELS, engine=ENGINE, labels=["crane"] * 4)
    found = result.values["selectivity"]["classes"]
    assert sum(found.values()) == 14 and len(found) > 1 and all(name.startswith("crane (") for name in found)


def test_labels_without_end_are_no_classes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strongest, "CLASSES", 2)
    result = units(named(tmp_path), folder, preprocessing=PIXELS, engine=ENGINE)
    assert result.values["selectivity"] == {"by": None, "classes": {}, "most": []}
    assert any("3 labels, too many" in note for note in result.notes)


def test_a_layer_without_a_row_per_photo_is_refused(folder: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["m"], keepdims=1),
        helper.make_node("Sub", ["c", "m"], ["y"]),
    ]
    size = [nets.SIZE, nets.SIZE]
    graph = helper.make_graph(
        nodes,
        "meeting",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, *size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2, *size])],
        [
            onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w"),
            onnx.numpy_helper.from_array(np.array([0]), "axes"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(InputError, match=r"'m' has no row per photo: .*--layer"):
        units(proto, folder / "cat", layer="reducemean_1", preprocessing=PIXELS, engine=ENGINE)


def test_what_cannot_be_done_is_said(folder: Path, tmp_path: Path) -> None:
    model = named(tmp_path)
    with pytest.raises(InputError, match=r"0 strongest places are none.*--top"):
        units(model, folder, top=0, engine=ENGINE)
    with pytest.raises(LayerError, match=r"body\.relu9"):
        units(model, folder, layer="body.relu9", engine=ENGINE)
    (tmp_path / "bad.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"None of the 1 photos can be read, the first: .*bad\.png"):
        units(model, tmp_path / "bad.png", engine=ENGINE)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    words = [
        "units",
        named(tmp_path),
        folder,
        "--layer",
        "body.relu1",
        "--top",
        "2",
        "-o",
        tmp_path / "out",
        "--size",
        "12x12",
    ]
    result = CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "strongest.parquet", "units.json", "units.parquet", "units.png"
    }  # fmt: skip
    record = json.loads((tmp_path / "out" / "units.json").read_text())
    assert record["layer"] == "body.relu1" and record["params"]["top"] == 2 and len(record["skipped"]) == 1
    assert "never fire" in CliRunner().invoke(cli, ["units", "--help"]).output


def test_the_photo_that_gives_no_numbers_is_named(tmp_path: Path) -> None:
    size = ["N", 3, nets.SIZE, nets.SIZE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Sqrt", ["c"], ["y"])],
        "roots",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1, nets.SIZE, nets.SIZE])],
        [onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    image.write(tmp_path / "a.png", np.full((8, 8, 3), 200, np.uint8))
    image.write(tmp_path / "b.png", np.full((8, 8, 3), 10, np.uint8))
    how = Preprocessing((nets.SIZE, nets.SIZE), mean=(100.0,))
    with pytest.raises(ResultError, match=r"'y' is not a number.*It is the photo '[^']*b\.png'"):
        units(proto, tmp_path, layer="y", preprocessing=how, engine=ENGINE)
