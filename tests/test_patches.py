"""Patches: projections against a literal deconvnet and captum, crops by perturbation, sheets, commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.cli import cli
from onnx_inspect.engine import Engine
from onnx_inspect.errors import InputError
from onnx_inspect.methods.setting import Setting
from onnx_inspect.preprocess import Preprocessing
from onnx_inspect.resources import bundled
from onnx_inspect.responses import sheet
from onnx_inspect.responses.projection import Projection, drawn
from onnx_inspect.responses.sheet import Frame
from onnx_inspect.studies.patches import patches

from . import nets

ENGINE = Engine("cpu", threads=1)
SIGNS = bundled("signs/clean.onnx")
PHOTOS = bundled("signs/photos")
SIDE = 29
STRIDES, POOLS = (1, 2, 1), ((3, 2), (2, 2))  # the first pool overlaps
PIXELS = Preprocessing((SIDE, SIDE), "squash", scale=1 / 64, mean=(2.0,))


def kernels() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.normal(0, 0.4, s).astype(np.float32) for s in ((4, 3, 3, 3), (5, 4, 3, 3), (6, 5, 3, 3))]


def network(kind: str = "") -> onnx.ModelProto:
    """Conv, Relu, overlapping MaxPool, strided Conv, Relu, MaxPool, Conv, Relu: a little AlexNet, and classes."""
    n = helper.make_node
    first = {"uint8": [n("Cast", ["image"], ["x"], to=TensorProto.FLOAT)], "nhwc": [
        n("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])
    ]}.get(kind, [n("Identity", ["image"], ["x"])])  # fmt: skip
    bend = {"gelu": "Gelu"}.get(kind, "Relu")
    nodes, x = [*first], "x"
    for k, stride in enumerate(STRIDES, 1):
        nodes.append(n("Conv", [x, f"w{k}"], [f"c{k}"], strides=[stride] * 2, pads=[1] * 4))
        nodes.append(n(bend, [f"c{k}"], [f"r{k}"]))
        x = f"r{k}"
        if k < 3:
            size, step = POOLS[k - 1]
            nodes.append(n("MaxPool", [x], [f"p{k}"], kernel_shape=[size] * 2, strides=[step] * 2))
            x = f"p{k}"
    if kind == "nhwc":
        nodes += [n("Transpose", ["r3"], ["t"], perm=[0, 2, 3, 1]), n("Add", ["t", "one"], ["last"])]
        nodes += [n("ReduceMean", ["last"], ["f"], axes=[1, 2], keepdims=0)]
    else:
        nodes += [n("GlobalAveragePool", ["r3"], ["g"]), n("Flatten", ["g"], ["f"])]
    nodes.append(n("MatMul", ["f", "w4"], ["y"]))
    weights = {f"w{k}": w for k, w in enumerate(kernels(), 1)}
    weights["w4"] = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    weights["one"] = np.ones(6, np.float32)
    shape = ["N", SIDE, SIDE, 3] if kind == "nhwc" else ["N", 3, SIDE, SIDE]
    dtype = TensorProto.UINT8 if kind == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "alex",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    version = 20 if kind == "gelu" else 17
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=9)


# The projection, literally.


def convolved(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows, columns = ((side - 1) // stride + 1 for side in x.shape[1:])
    out = np.zeros((len(w), rows, columns))
    for i in range(rows):
        for j in range(columns):
            out[:, i, j] = np.tensordot(w, padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3], 3)
    return out


def transposed(y: np.ndarray, w: np.ndarray, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """Every number of a map paints its filter, as strongly as it is."""
    out = np.zeros((shape[0], shape[1] + 2, shape[2] + 2))
    for o, i, j in np.ndindex(*y.shape):
        out[:, i * stride : i * stride + 3, j * stride : j * stride + 3] += y[o, i, j] * w[o]
    return out[:, 1:-1, 1:-1]


def pooled(x: np.ndarray, size: int, step: int) -> tuple[np.ndarray, dict[tuple[int, ...], tuple[int, ...]]]:
    """Maxima, and the switches: where each came from."""
    rows, columns = ((side - size) // step + 1 for side in x.shape[1:])
    out, switches = np.zeros((len(x), rows, columns)), {}
    for c, i, j in np.ndindex(*out.shape):
        window = x[c, i * step : i * step + size, j * step : j * step + size]
        a, b = np.unravel_index(window.argmax(), window.shape)
        out[c, i, j] = window[a, b]
        switches[c, i, j] = (c, i * step + int(a), j * step + int(b))
    return out, switches


def unpooled(y: np.ndarray, switches: dict[tuple[int, ...], tuple[int, ...]], shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape)
    for at, where in switches.items():
        out[where] += y[at]
    return out


def literal(x: np.ndarray, unit: tuple[int, ...], guided: bool = False) -> tuple[float, np.ndarray]:
    """The activation, and its deconvnet projection; guided ones are shut where the rectifier was."""
    weights = [w.astype(np.float64) for w in kernels()]
    steps: list[tuple[np.ndarray, np.ndarray, object]] = []
    for k, (w, stride) in enumerate(zip(weights, STRIDES, strict=True)):
        c = convolved(x, w, stride)
        r = np.maximum(c, 0)
        pool = pooled(r, *POOLS[k]) if k < 2 else (r, None)
        steps.append((x, c, pool[1]))
        x = pool[0]
    value = float(x[unit])
    back = np.zeros_like(x)
    back[unit] = value
    for (given, c, switches), w, stride in reversed(list(zip(steps, weights, STRIDES, strict=True))):
        back = unpooled(back, switches, c.shape) if isinstance(switches, dict) else back
        back = np.maximum(back, 0) * ((c > 0) if guided else 1)
        back = transposed(back, w, stride, given.shape)
    return value, back


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
def test_projections_are_those_of_the_paper(rule: str) -> None:
    setting = Setting(network(), engine=ENGINE, preprocessing=PIXELS)
    samples = np.random.default_rng(4).normal(0, 1, (3, 3, SIDE, SIDE)).astype(np.float32)
    [map_] = setting.engine.run(oi.expose(setting.model, ["r3"]), {"image": samples}, ["r3"]).values()
    units = [tuple(int(i) for i in np.unravel_index(m.argmax(), m.shape)) for m in map_]
    second = int(map_[1].max((1, 2)).argsort()[-2])
    units[1] = (second, *(int(i) for i in np.unravel_index(map_[1, second].argmax(), map_.shape[2:])))
    values = [float(m[u]) for m, u in zip(map_, units, strict=True)]
    got = Projection(setting, "r3", map_.shape[1:])(rule, samples, units, values)
    for k, unit in enumerate(units):
        value, wanted = literal(samples[k].astype(np.float64), unit, rule == "guided")
        assert value == pytest.approx(values[k], rel=1e-5) and value > 0
        assert np.abs(got[k] - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("network", ["vgg", "resnet", "densenet"])
@pytest.mark.parametrize(("rule", "row"), [("deconvnet", "deconvnet-unit"), ("guided", "guided-backprop-unit")])
def test_projections_of_an_activation_of_1_are_captums(network: str, rule: str, row: str) -> None:
    parity = Path(__file__).parent / "parity"
    golden = np.load(parity / "goldens" / f"{network}.npz")
    seed, unit = int(golden[f"{row}/seed"]), tuple(int(i) for i in golden[f"{int(golden[f'{row}/seed'])}/unit"])
    samples, wanted = golden[f"{seed}/input.image"], golden[f"{row}/image"]
    size = samples.shape[-2:]
    setting = Setting(parity / "models" / f"{network}-dynamo.onnx", engine=ENGINE, preprocessing=Preprocessing(size))
    layer = setting.model.layer(str(golden["layer.dynamo.early"]))
    shape = ENGINE.run(oi.expose(setting.model, [layer.tensor]), {setting.input.name: samples}, [layer.tensor])
    project = Projection(setting, layer.tensor, shape[layer.tensor].shape[1:])
    got = project(rule, samples.astype(np.float32), [unit] * len(samples), [1.0] * len(samples))
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_projections_come_in_rgb_whatever_the_model_takes() -> None:
    samples = np.random.default_rng(4).normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    made = []
    for kind, how in (("", {}), ("", {"color": "BGR"}), ("nhwc", {"layout": "NHWC"}), ("uint8", {"dtype": "uint8"})):
        setting = Setting(network(kind), engine=ENGINE, preprocessing=replace(PIXELS, **how))
        x = np.moveaxis(samples, 1, -1) if kind == "nhwc" else samples
        x = np.rint(100 + 30 * x).astype(np.uint8) if kind == "uint8" else x
        project = Projection(setting, "r3", (6, 3, 3))
        made.append(project("deconvnet", np.ascontiguousarray(x), [(2, 1, 1)], [2.0])[0])
    assert np.array_equal(made[1], made[0][::-1]) and np.allclose(made[2], made[0], atol=1e-5)
    assert made[3].shape == made[0].shape and project.pixels == "x"


def test_a_quantiser_from_0_is_the_rectifier_that_was_folded_into_it() -> None:
    """Without pools a deconvnet depends on no activation, so neither rounding nor saturation may change it."""
    n, rng = helper.make_node, np.random.default_rng(3)
    weights = {f"w{k}": rng.normal(0, 0.4, s).astype(np.float32) for k, s in ((1, (4, 3, 3, 3)), (2, (5, 4, 3, 3)))}
    numbers = {"scale": np.float32(0.002), "zero": np.uint8(0), "wide": np.float32(0.02), "middle": np.uint8(128)}

    def net(quantised: bool) -> onnx.ModelProto:
        nodes = [
            n("QuantizeLinear", ["image", "wide", "middle"], ["q0"]),
            n("DequantizeLinear", ["q0", "wide", "middle"], ["x0"]),
        ]
        for k in (1, 2):
            nodes.append(n("Conv", [f"x{k - 1}", f"w{k}"], [f"c{k}"], pads=[1] * 4))
            if quantised:
                nodes += [n("QuantizeLinear", [f"c{k}", "scale", "zero"], [f"q{k}"])]
                nodes += [n("DequantizeLinear", [f"q{k}", "scale", "zero"], [f"x{k}"])]
            else:
                nodes.append(n("Relu", [f"c{k}"], [f"x{k}"]))
        nodes += [n("GlobalAveragePool", ["x2"], ["g"]), n("Flatten", ["g"], ["y"])]
        graph = helper.make_graph(
            nodes,
            "quantised",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights | numbers).items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    samples = rng.normal(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    made = []
    for quantised in (False, True):
        project = Projection(Setting(net(quantised), engine=ENGINE, preprocessing=PIXELS), "x2", (5, SIDE, SIDE))
        assert not project.notes
        made += [project(rule, samples, [(2, 9, 9)], [3.0])[0] for rule in ("deconvnet", "guided")]
    assert made[0].any() and np.allclose(made[2], made[0], atol=1e-6)
    assert not np.allclose(made[3], made[2])


def test_zero_is_grey_and_contrast_is_each_patchs_own() -> None:
    values = np.zeros((3, 10, 10), np.float32)
    values[0, 2, 3], values[1, 4, 5] = 2, -1
    found = drawn(values, 100)
    assert found[2, 3].tolist() == [255, 128, 128] and found[4, 5].tolist() == [128, 64, 128]
    assert np.array_equal(drawn(values * 1e-6, 100), found) and (drawn(values * 0) == 128).all()
    assert (drawn(values)[2, 3] == [255, 128, 128]).all()  # more than one percent of zeros does not matter


# Tiles.


def test_a_field_that_leaves_the_input_is_grey_there() -> None:
    white = np.full((6, 6, 3), 255, np.uint8)
    inside = Frame((6, 6), (20, 20), (4, 5, 10, 11), 60)
    assert (inside.place(white, (4, 5, 10, 11)) == 255).all()
    first = Frame((6, 6), (20, 20), (0, 5, 4, 11), 60).place(white[:, :4], (0, 5, 4, 11))
    assert (first[:, :20] == sheet.GREY).all() and (first[:, 20:] == 255).all()
    last = Frame((6, 6), (20, 20), (5, 17, 11, 20), 60).place(white[:3], (5, 17, 11, 20))
    assert (last[:30] == 255).all() and (last[30:] == sheet.GREY).all()
    padded = Frame((6, 6), (20, 20), (4, 5, 10, 11), 60).place(white[:, :3], (7, 5, 10, 11))  # by a letterbox
    assert (padded[:, :30] == sheet.GREY).all() and (padded[:, 30:] == 255).all()
    flat = Frame((4, 8), (20, 20), (4, 5, 12, 9), 80)
    assert flat.place(white, (4, 5, 12, 9)).shape == (40, 80, 3)


# The study.


@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox"])
def test_pixels_outside_of_a_patch_do_not_matter(resize: str) -> None:
    model = oi.load(SIGNS)
    how = replace(Preprocessing.from_json(json.loads(json.dumps(_signs().to_json()))), resize=resize)
    result = patches(model, PHOTOS, layer="features.4.2", channel=[3, 11], top=3, preprocessing=how, engine=ENGINE)
    layer = model.layer("features.4.2").tensor
    shown = oi.expose(model, [layer])
    rng = np.random.default_rng(0)

    def unit(photo: np.ndarray) -> float:
        found = ENGINE.run(shown, {model.inputs[0].name: how.apply(photo)[None]}, [layer])[layer]
        return float(found[(0, channel["channel"], *place["position"])])

    for channel in result.values["channels"]:
        assert len(channel["places"]) == 3
        for place in channel["places"]:
            photo = image.read(place["photo"])
            x0, y0, x1, y1 = place["photo_box"]
            assert 0 < (x1 - x0) * (y1 - y0) < photo.shape[0] * photo.shape[1] // 2
            noise = rng.integers(0, 256, photo.shape, np.uint8)
            noise[y0:y1, x0:x1] = photo[y0:y1, x0:x1]
            assert unit(photo) == pytest.approx(place["value"], rel=1e-4)
            assert unit(noise) == pytest.approx(place["value"], rel=1e-4)
            hole = photo.copy()
            hole[y0:y1, x0:x1] = 255 - photo[y0:y1, x0:x1]
            assert unit(hole) != pytest.approx(place["value"], rel=1e-2)


def _signs() -> Preprocessing:
    from onnx_inspect.methods.inputs import guess_preprocessing

    return guess_preprocessing(oi.load(SIGNS))[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos in two classes."""
    rng = np.random.default_rng(8)
    for i in range(10):
        pixels = image.resize(rng.uniform(0, 255, (5, 5, 3)).astype(np.float32), (40, 50), "linear").astype(np.uint8)
        kind = tmp_path / "photos" / ("cat", "dog")[i % 2]
        kind.mkdir(parents=True, exist_ok=True)
        image.write(kind / f"{i}.png", pixels)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("kind", "layer", "how"),
    [
        ("", "r2", {}),
        ("", "x", {}),
        ("", "f", {}),
        ("", "y", {}),
        ("gelu", "r2", {}),
        ("nhwc", "last", {"layout": "NHWC"}),
        ("uint8", "r2", {"dtype": "uint8", "scale": 1.0, "mean": (0.0,)}),
    ],
)
def test_any_layer_of_any_model(folder: Path, kind: str, layer: str, how: dict[str, object]) -> None:
    given = replace(PIXELS, **how)  # type: ignore[arg-type]
    result = patches(network(kind), folder, layer=layer, channel=[1], top=4, preprocessing=given, engine=ENGINE)
    [one] = result.values["channels"]
    vector = layer in ("f", "y")
    for place in one["places"]:
        assert len(place["position"]) == (0 if vector else 2)
        assert (place["photo_box"] == [0, 0, 50, 40]) == vector
    assert len(result.notes) == len(set(result.notes))
    text = " ".join(result.notes)
    assert ("no rectifier" in text) == (kind == "gelu" or layer == "x")
    assert ("not rectified" in text) == (kind == "gelu" or layer in ("x", "y"))
    assert result.picture.shape[1] > 500  # patches and both projections


def test_a_model_without_a_way_back_shows_patches_alone(folder: Path) -> None:
    proto = network("uint8")
    proto.graph.node.insert(0, helper.make_node("BitShift", ["raw", "by"], ["image"], direction="RIGHT"))
    proto.graph.input[0].name = "raw"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.uint8), "by"))
    how = replace(PIXELS, dtype="uint8", scale=1.0, mean=(0.0,))
    result = patches(proto, folder, layer="r2", channel=[1], preprocessing=how, engine=ENGINE)
    assert any("nothing is projected" in note for note in result.notes)
    assert result.picture.shape[1] < 320


def test_places_are_the_strongest_and_labels_are_counted(folder: Path) -> None:
    result = patches(network(), folder, layer="r3", channel=[0, 4], top=3, preprocessing=PIXELS, engine=ENGINE)
    paths = sorted(folder.rglob("*.png"))
    samples = np.stack([PIXELS.apply(image.read(p)) for p in paths])
    model = oi.load(network())
    found = ENGINE.run(oi.expose(model, ["r3"]), {"image": samples}, ["r3"])["r3"]
    for one in result.values["channels"]:
        peaks = found[:, one["channel"]].max((1, 2))
        order = [i for i in np.argsort(-peaks, kind="stable")[:3] if peaks[i] > 0]
        assert [Path(p["photo"]) for p in one["places"]] == [paths[i] for i in order]
        assert [p["value"] for p in one["places"]] == pytest.approx([peaks[i] for i in order], rel=1e-4)
        assert all(p["label"] == Path(p["photo"]).parent.name for p in one["places"])


def test_every_channel_stacks_into_pages(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_inspect.studies.patches.PAGE", 4)
    how = dict(layer="r3", channel=["all"], top=2, preprocessing=PIXELS, engine=ENGINE)
    result = patches(network(), folder, **how)  # type: ignore[arg-type]
    assert list(result.pictures) == ["", "page-2"]
    assert [one["channel"] for one in result.values["channels"]] == list(range(6))
    written = patches(network(), folder, out=tmp_path / "out", **how)  # type: ignore[arg-type]
    assert [p.name for p in written.written] == ["patches.page-2.png"] and list(written.pictures) == [""]
    assert np.array_equal(image.read(written.written[0]), result.pictures["page-2"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["patches.page-2.png"]


def test_default_channels_stand_out_and_dead_ones_have_no_patches(folder: Path) -> None:
    proto = network()
    for tensor in proto.graph.initializer:
        if tensor.name == "w3":
            weights = numpy_helper.to_array(tensor).copy()
            weights[2] = 0
            tensor.CopyFrom(numpy_helper.from_array(weights, "w3"))
    result = patches(proto, folder, channel=[2], preprocessing=PIXELS, engine=ENGINE)
    assert result.values["channels"][0]["places"] == []
    result = patches(proto, folder, preprocessing=PIXELS, engine=ENGINE)
    assert any("--channel NUMBER, --channel all" in note for note in result.notes) and result.layer == "relu_3"


def test_results_among_the_photos_are_no_photos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_inspect.studies.patches.PAGE", 2)
    digests = []
    for _ in range(2):
        result = patches(network(), folder, channel="all", preprocessing=PIXELS, engine=ENGINE, out=folder / "out")
        digests.append([path.read_bytes() for path in result.save(folder / "out" / "patches")])
    assert digests[0] == digests[1] and (folder / "out" / "patches.page-2.png").exists()
    pages = [folder / "out" / "patches.png"]
    assert patches(network(), pages, preprocessing=PIXELS, engine=ENGINE, out=folder / "out").photos == 1
    assert patches(network(), folder / "out", preprocessing=PIXELS, engine=ENGINE, out=folder / "out").photos == 3


def test_after_an_error_the_folder_is_free(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no channel 6") as error:
        patches(network(), folder, channel=[6], preprocessing=PIXELS, engine=ENGINE, out=tmp_path / "out")
    result = patches(network(), folder, channel="all", preprocessing=PIXELS, engine=ENGINE, out=tmp_path / "out")
    assert len(result.values["channels"]) == 6 and error.tb is not None  # whose frames still hold all they had
    assert not (tmp_path / "out" / "parts").exists()


def test_what_cannot_be_done_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match=r"'relu_3' has no channel 6: they are numbered 0 to 5 \(--channel\)"):
        patches(network(), folder, channel=[6], preprocessing=PIXELS, engine=ENGINE)
    with pytest.raises(InputError, match=r"--top"):
        patches(network(), folder, top=0, preprocessing=PIXELS, engine=ENGINE)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "alex.onnx")
    words = ["patches", tmp_path / "alex.onnx", folder, "--layer", "relu_2", "--channel", 1, "--channel", 3]
    result = CliRunner().invoke(cli, [str(w) for w in [*words, "-o", tmp_path / "out", "--top", 4]])
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"patches.json", "patches.png"}
    record = json.loads((tmp_path / "out" / "patches.json").read_text())
    assert record["params"]["channel"] == [1, 3] and record["values"]["field"]["height"] > 3
    assert nets.SIZE
