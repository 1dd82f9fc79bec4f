"""What is no photo: tokens, signals, states and tables; given as arrays, in files and on the command line."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import onnx_inspect as oi
from onnx_inspect import arrays, rows, signals, vocabulary
from onnx_inspect.cli import cli
from onnx_inspect.errors import InputError
from onnx_inspect.methods.embeddings import stand
from onnx_inspect.methods.inputs import image_input
from onnx_inspect.methods.samples import fitted
from onnx_inspect.methods.tabular import samples as tabulate
from onnx_inspect.structure import Spec

from . import inputs as tiny
from . import nets

ENGINE = oi.Engine("cpu")
IDS = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
RNG = np.random.default_rng(3)


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


# Tokens. The model is mean(tanh(e) mask) W + b: all is known in closed form.


def embedded(ids: np.ndarray) -> np.ndarray:
    return np.asarray(tiny.TABLE.astype(np.float64)[ids])


def score(e: np.ndarray, target: int = 1) -> np.ndarray:
    return np.asarray(np.tanh(e).mean(axis=1) @ tiny.WEIGHT[:, target] + tiny.BIAS[target])


def slopes(e: np.ndarray, target: int = 1) -> np.ndarray:
    return np.asarray((1 - np.tanh(e) ** 2) * tiny.WEIGHT[:, target] / e.shape[1])


@pytest.mark.parametrize("lookup", ["clipped", "selected", "one-hot", "quantised"])
def test_tokens_are_attributed_to_at_their_embedding(lookup: str) -> None:
    model = oi.load(tiny.text(lookup))
    result = oi.input_x_gradient(model, {"ids": IDS}, 1, engine=ENGINE)
    e = embedded(IDS)
    if lookup == "quantised":
        e = (np.rint(tiny.TABLE / 0.02 + 128).clip(0, 255)[IDS] - 128) * 0.02
    np.testing.assert_allclose(result.values, (e * slopes(e)).sum(axis=-1), atol=1e-5)
    assert list(result.tensors) == ["ids"]
    assert any("attributed to at 'embedded'" in note and note.endswith("(--wrt NAME)") for note in result.notes)
    by_hand = oi.input_x_gradient(model, {"ids": IDS}, 1, wrt="embedded", engine=ENGINE)
    np.testing.assert_allclose(by_hand.values, e * slopes(e), atol=1e-5)


def test_saliency_of_a_token_is_the_sum_of_magnitudes() -> None:
    result = oi.saliency(tiny.text(), {"ids": IDS}, 1, engine=ENGINE)
    np.testing.assert_allclose(result.values, np.abs(slopes(embedded(IDS))).sum(axis=-1), atol=1e-5)


@pytest.mark.parametrize(
    ("baseline", "start"),
    [("0", embedded(np.zeros_like(IDS))), ("3", embedded(0 * IDS + 3)), ("zeros", np.zeros((2, 5, 6)))],
)
def test_integrated_gradients_of_tokens(baseline: str, start: np.ndarray) -> None:
    """The score is a sum over tokens: each gets what it adds, exactly."""
    result = oi.integrated_gradients(tiny.text(), {"ids": IDS}, 1, baseline=baseline, steps=200, engine=ENGINE)
    added = ((np.tanh(embedded(IDS)) - np.tanh(start)) @ tiny.WEIGHT[:, 1]) / 5
    np.testing.assert_allclose(result.values, added, atol=1e-4)
    np.testing.assert_allclose(result.measures["delta"], 0, atol=1e-4)


@pytest.mark.parametrize("name", ["deeplift", "deep_shap", "feature_ablation", "occlusion", "kernel_shap"])
def test_other_methods_replace_tokens_by_another(name: str) -> None:
    result = getattr(oi, name)(tiny.text(), {"ids": IDS}, 1, baseline="3", engine=ENGINE)
    added = ((np.tanh(embedded(IDS)) - np.tanh(embedded(0 * IDS + 3))) @ tiny.WEIGHT[:, 1]) / 5
    np.testing.assert_allclose(result.tensors["ids"], added, atol=1e-4)


def test_noise_on_tokens_is_noise_on_their_embedding() -> None:
    quiet = oi.smoothgrad(tiny.text(), {"ids": IDS}, 1, noise=0, samples=2, engine=ENGINE)
    np.testing.assert_allclose(quiet.values, slopes(embedded(IDS)).sum(axis=-1), atol=1e-5)
    loud = oi.smoothgrad(tiny.text(), {"ids": IDS}, 1, samples=4, engine=ENGINE)
    assert not np.allclose(loud.values, quiet.values)


@pytest.mark.parametrize("baseline", ["mean", "noise", "blur", "grey"])
def test_tokens_have_no_mean(baseline: str) -> None:
    for method in (oi.integrated_gradients, oi.feature_ablation):
        with pytest.raises(InputError, match=rf"'ids' holds tokens, which have no {baseline}"):
            method(tiny.text(), {"ids": IDS}, 1, baseline=baseline, engine=ENGINE)


def test_masks_and_what_nobody_gave_get_no_attribution() -> None:
    model = oi.load(tiny.text())
    result = oi.saliency(model, IDS, 1, engine=ENGINE)
    assert "'mask' is not given and taken as ones (--input mask=FILE)" in result.notes
    given = oi.saliency(model, {"ids": IDS, "mask": np.ones_like(IDS)}, 1, engine=ENGINE)
    np.testing.assert_array_equal(given.values, result.values)
    assert list(given.tensors) == ["ids"]
    half = oi.saliency(model, {"ids": IDS, "mask": [[1, 1, 1, 0, 0], [1] * 5]}, 1, engine=ENGINE)
    assert not half.values[0, 3:].any()
    assert half.values[0, :3].all()


def test_words_may_be_looked_up_as_single_numbers() -> None:
    """A bag of words: each has a weight of its own."""
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["weights"]),
        onnx.helper.make_node("ReduceSum", ["weights", "one"], ["y"], keepdims=1),
    ]
    sizes = ({"ids": ("i", ["N", "L"])}, {"y": ("f", ["N", 1])})
    model = tiny.build(nodes, *sizes, table=tiny.TABLE[:, 0], one=np.array([1]))
    result = oi.input_x_gradient(model, {"ids": IDS}, "'y'[0]", engine=ENGINE)
    np.testing.assert_allclose(result.values, tiny.TABLE[IDS, 0], atol=1e-6)


def test_numbers_that_only_count_are_no_tokens() -> None:
    """A Gather from what is computed looks up no words."""
    nodes = [
        onnx.helper.make_node("Shape", ["x"], ["shape"]),
        onnx.helper.make_node("Gather", ["shape", "k"], ["size"], axis=0),
        onnx.helper.make_node("Cast", ["size"], ["sizes"], to=1),
        onnx.helper.make_node("ReduceSum", ["x", "one"], ["sum"], keepdims=1),
        onnx.helper.make_node("Mul", ["sum", "sizes"], ["y"]),
    ]
    model = oi.load(
        tiny.build(nodes, {"x": ("f", ["N", 3]), "k": ("i", [1])}, {"y": ("f", ["N", 1])}, one=np.array([1]))
    )
    assert stand(model, model.ir.graph.inputs[1]) is None
    chosen = [onnx.helper.make_node("Gather", ["bank", "k"], ["y"])]  # rows of what is given are no embedding either
    picked = oi.load(tiny.build(chosen, {"bank": ("f", [5, 3]), "k": ("i", ["N"])}, {"y": ("f", ["N", 3])}))
    assert stand(picked, picked.ir.graph.inputs[1]) is None


# Values and their types.


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([[1.0, 2.0]]), "takes int64, whole numbers, not float64"),
        (np.array([[2**63]], np.uint64), "cannot hold 9223372036854775808"),
        ([["a"]], "takes int64 numbers, not 'a'"),
        ([[1], [1, 2]], "'ids' is no array"),
    ],
)
def test_no_number_is_changed(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        oi.saliency(tiny.text(), {"ids": value}, engine=ENGINE)


def test_what_floats_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match=r"'x' takes float32, which cannot hold 1e\+300"):
        oi.saliency(tiny.rows(), {"x": [[1e300, 0, 0]]}, engine=ENGINE)
    whole = oi.saliency(tiny.rows(), {"x": np.array([[1, 2, 3]], np.int8)}, 0, engine=ENGINE)
    np.testing.assert_array_equal(whole.values, [[1, 2, 3]])


@pytest.mark.parametrize(("shape", "said"), [((1, 4), r"'x' has shape N×3, the value 1×4"), ((1, 1, 3), "has 3")])
def test_shapes_are_told(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        oi.saliency(tiny.rows(), {"x": np.zeros(shape)}, engine=ENGINE)


def test_the_axis_of_samples_may_be_missing() -> None:
    state = RNG.normal(size=(1, 4)).astype(np.float32)
    x = RNG.normal(size=(7, 2)).astype(np.float32)
    model = oi.load(tiny.recurrent())
    alone = oi.saliency(model, {"x": x, "h0": state}, 1, engine=ENGINE)
    whole = oi.saliency(model, {"x": x[None], "h0": state[:, None]}, 1, engine=ENGINE)
    np.testing.assert_array_equal(alone.values, whole.values)
    assert whole.values.shape == (1, 7, 2)


def test_one_number_is_one_sample() -> None:
    model = tiny.rows(1)
    np.testing.assert_array_equal(oi.saliency(model, {"x": 3}, 0, engine=ENGINE).values, [[1]])
    assert fitted(Spec("x", (), "float32"), 3, None).shape == ()


@pytest.mark.parametrize("value", [np.array([[1j, 2, 3]]), np.array([[1, 2, 3]], "m8[s]")])
def test_only_numbers_become_numbers(value: np.ndarray) -> None:
    with pytest.raises(InputError, match="takes float32 numbers"):
        fitted(Spec("x", ("N", 3), "float32"), value, "N")


def test_words_as_bytes_are_words() -> None:
    text = fitted(Spec("x", ("N", 1), "unknown"), np.array([["Zürich".encode()]]), "N")
    assert text.tolist() == [["Zürich"]]


def test_there_have_to_be_samples(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Mul", ["x", "w"], ["y"])]
    lone = tiny.build(nodes, {"x": ("f", [])}, {"y": ("f", [2])}, w=np.ones(2, np.float32))
    for model, value, said in (
        (lone, 3, "'x' is a single number"),
        (tiny.rows(), np.zeros((0, 3)), "'x' holds no sam"),
    ):
        with pytest.raises(InputError, match=said):
            oi.saliency(model, {"x": value}, 0, engine=ENGINE)
        onnx.save(model, tmp_path / "m.onnx")
        np.save(tmp_path / "x.npy", value)
        result = call("saliency", tmp_path / "m.onnx", tmp_path / "x.npy", "-o", tmp_path / "out")
        assert result.exit_code == 2, result.output
        assert said in result.stderr


def test_masks_of_floats_have_to_be_given() -> None:
    """Zeros hide everything where the mask is a factor, and nothing where it is added."""
    nodes = [
        onnx.helper.make_node("Mul", ["x", "attention_mask"], ["kept"]),
        onnx.helper.make_node("MatMul", ["kept", "w"], ["y"]),
    ]
    sizes = ("f", ["N", 3])
    model = tiny.build(
        nodes, {"x": sizes, "attention_mask": sizes}, {"y": ("f", ["N", 2])}, w=np.ones((3, 2), np.float32)
    )
    with pytest.raises(InputError, match=r"'attention_mask' \(float32, N×3\) has no value"):
        oi.saliency(model, {"x": np.ones((1, 3))}, 0, engine=ENGINE)


def test_the_axis_of_samples_is_where_the_graph_has_it() -> None:
    state = Spec("h", (2, "N", 4), "float32")
    assert fitted(state, np.zeros((2, 4)), "N").shape == (2, 1, 4)
    assert fitted(Spec("x", (None, 4), "float32"), [1, 2, 3, 4], None).shape == (1, 4)


def test_a_state_is_zeros_or_given_and_can_be_attributed_to() -> None:
    model = oi.load(tiny.recurrent())
    x = RNG.normal(size=(2, 7, 2)).astype(np.float32)
    without = oi.saliency(model, {"x": x}, 1, engine=ENGINE)
    assert "'h0' is not given and taken as zeros (--input h0=FILE)" in without.notes
    zeros = oi.saliency(model, {"x": x, "h0": np.zeros((1, 2, 4)), "c0": np.zeros((1, 2, 4))}, 1, engine=ENGINE)
    np.testing.assert_array_equal(without.values, zeros.values)
    assert any("'h0' has its samples on axis 1: left out (--wrt h0)" in note for note in zeros.notes)
    h, e = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 4), np.float32)
    e[0, 0, 2] = 1e-2
    feeds = {"x": x[:1], "h0": h}
    result = oi.saliency(model, feeds, 1, wrt=["h0"], signed=True, engine=ENGINE)
    assert result.tensors["h0"].shape == (1, 1, 4)
    ends = [ENGINE.run(model, {**feeds, "c0": h, "h0": h + s * e}, ["y"])["y"][0, 1] for s in (1, -1)]
    assert result.values[0, 0, 2] == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-2)


def test_samples_come_first_in_results() -> None:
    """y = x + state[0] + 2 state[1], with a state of 2 x N x 3."""
    nodes = [
        onnx.helper.make_node("Mul", ["state", "factors"], ["weighed"]),
        onnx.helper.make_node("ReduceSum", ["weighed", "zero"], ["both"], keepdims=0),
        onnx.helper.make_node("Add", ["x", "both"], ["y"]),
    ]
    sizes = {"x": ("f", ["N", 3]), "state": ("f", [2, "N", 3])}
    factors = np.array([1, 2], np.float32).reshape(2, 1, 1)
    model = tiny.build(nodes, sizes, {"y": ("f", ["N", 3])}, factors=factors, zero=np.array([0]))
    result = oi.saliency(model, {"x": np.ones(3), "state": np.ones((2, 3))}, 1, wrt=["state"], engine=ENGINE)
    np.testing.assert_array_equal(result.values, [[[0, 1, 0], [0, 2, 0]]])


def test_one_value_stands_for_all_samples() -> None:
    model = nets.classifier(extra_input=True)
    assert list(oi.saliency(model, nets.images(3), 1, engine=ENGINE).tensors) == ["image"]
    result = oi.saliency(model, {"image": nets.images(3), "offset": [1, 2, 3, 4]}, 1, engine=ENGINE)
    assert "'offset' has one value, which stands for all 3 samples (--input offset=FILE)" in result.notes
    assert result.tensors["offset"].shape == (3, 4)


def test_lone_numbers_have_to_be_given() -> None:
    wave = np.sin(np.arange(100))
    with pytest.raises(
        InputError, match=r"'sr' \(int64, a single number\) has no value: give it with --input sr=NUMBER"
    ):
        oi.saliency(tiny.heard(), wave, engine=ENGINE)
    result = oi.saliency(tiny.heard(), {"wave": wave, "sr": 100}, "'y'[0]", engine=ENGINE)
    np.testing.assert_allclose(result.values[0], np.abs(2 * wave / 1e4), rtol=1e-5, atol=1e-9)


def test_positions_count_and_unknown_sizes_are_refused() -> None:
    n = onnx.helper.make_node
    nodes = [
        n("Gather", ["table", "ids"], ["e"]),
        n("Gather", ["places", "position_ids"], ["p"]),
        n("Add", ["e", "p"], ["both"]),
        n("ReduceSum", ["both", "one"], ["y"], keepdims=0),
    ]
    given = {"ids": ("i", ["N", "L"]), "position_ids": ("i", ["N", "L"])}
    places = RNG.normal(size=(9, 3)).astype(np.float32)
    table = RNG.normal(size=(9, 3)).astype(np.float32)
    model = tiny.build(nodes, given, {"y": ("f", ["N", 3])}, table=table, places=places, one=np.array([1]))
    result = oi.input_x_gradient(model, {"ids": [[4, 5]]}, 0, engine=ENGINE)
    assert any("'position_ids' is not given and taken as 0, 1, 2, ..." in note for note in result.notes)
    assert result.scores[0] == pytest.approx((table[[4, 5]] + places[[0, 1]])[:, 0].sum(), abs=1e-5)
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "M"
    with pytest.raises(
        InputError, match=r"'position_ids' \(int64, N×M\) has no value: give it with --input position_ids="
    ):
        oi.saliency(model, {"ids": [[4, 5]]}, engine=ENGINE)


def test_the_main_input_is_what_the_model_is_about() -> None:
    assert image_input(oi.load(tiny.recurrent())).name == "x"
    assert image_input(oi.load(tiny.heard())).name == "wave"
    swapped = tiny.text()
    for first in ("mask",):
        assert swapped.graph.input[1].name == first
    swapped.graph.input.reverse()
    assert image_input(oi.load(swapped)).name == "ids"


def test_photos_and_other_inputs(tmp_path: Path) -> None:
    photo = nets.photo(tmp_path)
    model = nets.classifier(extra_input=True)
    result = oi.input_x_gradient(model, {"image": photo, "offset": [[0, 5, 0, 0]]}, 1, engine=ENGINE)
    np.testing.assert_allclose(result.tensors["offset"], [[0, 5, 0, 0]])
    assert result.overlay().shape[2] == 3
    assert result.panel().shape[0] > oi.input_x_gradient(nets.classifier(), photo, 1, engine=ENGINE).panel().shape[0]


# Arrays in files and words.


def test_arrays_in_words_and_files(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for order in (x, np.asfortranarray(x)):
        np.save(tmp_path / "ä ö.npy", order)
        np.testing.assert_array_equal(arrays.read(str(tmp_path / "ä ö.npy")), x)
    np.savez(tmp_path / "one.npz", only=x)
    np.savez_compressed(tmp_path / "two.npz", a=x, b=2 * x)
    (tmp_path / "list.json").write_text("[[0, 1, 2], [3, 4, 5]]", encoding="utf-8")
    for text in ("one.npz", "two.npz:a", "list.json"):
        np.testing.assert_array_equal(arrays.read(str(tmp_path / text)), x)
    np.testing.assert_array_equal(arrays.read(str(tmp_path / "two.npz"), "b"), 2 * x)
    assert arrays.read("16000").dtype.kind == "i"
    assert arrays.read("1e-3") == 1e-3
    np.testing.assert_array_equal(arrays.read("0.5, 1,2"), [0.5, 1, 2])
    assert arrays.read("a,b").item() == "a,b"
    assert arrays.read("[[1, 2.5]]").tolist() == [[1, 2.5]]
    assert arrays.read("Bern").tolist() == "Bern"
    assert arrays.read('["Bern", "Zug"]').tolist() == ["Bern", "Zug"]
    with pytest.raises(InputError, match=r"holds 'a', 'b': name one, as two\.npz:KEY"):
        arrays.read(str(tmp_path / "two.npz"))


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.array([1j]))
    np.save(tmp_path / "fine.npy", np.arange(100))
    data = (tmp_path / "fine.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(data[:-8])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "ragged.json").write_text("[[1, 2], [3]]")
    (tmp_path / "mixed.json").write_text('[1, "a"]')
    (tmp_path / "dict.json").write_text('{"a": 1}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
        np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "huge.npy").read_bytes())
    for name in sorted(p.name for p in tmp_path.iterdir() if p.name != "fine.npy"):
        with pytest.raises(InputError) as error:
            arrays.read(str(tmp_path / name))
        assert "pickle" not in str(error.value), name
    with pytest.raises(InputError, match="No such file"):
        arrays.read(str(tmp_path / "none.npy"))


# Vocabularies.


@pytest.mark.parametrize(("flag", "at"), [("encrypted", 8), ("unknown method", 10), ("garbled", None)])
def test_archives_that_cannot_be_read(flag: str, at: int | None, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=RNG.normal(size=1000))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    if at is None:
        data[200:400] = bytes(byte ^ 0x5A for byte in data[200:400])
    else:
        for header, offset in ((data.rfind(b"PK\x01\x02"), at), (0, at - 2)):
            data[header + offset] = {"encrypted": 1, "unknown method": 99}[flag]
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.npz' cannot be read: it is not what numpy\.save"):
        arrays.read(str(tmp_path / "x.npz"))


def test_json_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[[1, 2]]", encoding="utf-8-sig")
    np.testing.assert_array_equal(arrays.read(str(tmp_path / "x.json")), [[1, 2]])


def test_vocabularies(tmp_path: Path) -> None:
    words = ["[PAD]", "größer", "▁als"]
    forms: dict[str, Any] = {
        "vocab.txt": "\n".join(words) + "\n",
        "list.json": json.dumps(words),
        "numbers.json": json.dumps({w: i for i, w in enumerate(words)}),
        "texts.json": json.dumps({str(i): w for i, w in enumerate(words)}),
        "tokenizer.json": json.dumps(
            {
                "model": {"vocab": {w: i for i, w in enumerate(words[:2])}},
                "added_tokens": [{"id": 2, "content": "▁als"}],
            }
        ),
        "unigram.json": json.dumps({"model": {"vocab": [[w, -1.5] for w in words]}}),
    }
    for name, content in forms.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert vocabulary.read(tmp_path / name) == dict(enumerate(words)), name
    for content in ("5", '{"a": [1]}', '{"model": {}}', "[1]", "{"):
        (tmp_path / "no.json").write_text(content)
        with pytest.raises(InputError, match="--tokens"):
            vocabulary.read(tmp_path / "no.json")


# Tables.


def table(folder: Path, text: str, name: str = "räume.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_become_the_input_in_their_order(delimiter: str, tmp_path: Path) -> None:
    text = '\ufeffid,"a, or b",b,c,label\n7,1,2,3,yes\n\n8,4,5.5,-6e1,no\n'.replace(
        '"a, or b"', '"a;;;;;; or\t\t\t\t\t\tb"'
    ).replace(",", delimiter)
    found, notes = tabulate(rows.read(table(tmp_path, text)), oi.load(tiny.rows()).inputs)
    np.testing.assert_array_equal(found["x"], [[1, 2, 3], [4, 5.5, -60]])
    assert found.columns == {"x": ["a;;;;;; or\t\t\t\t\t\tb", "b", "c"]}
    assert found.names == ["räume-1", "räume-2"]
    assert notes == ["left out: 'id', 'label', which the model has no input for (--drop)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,c\n1,,3\n", "Column 'b' of '.*' is empty in line 2"),
        ("a,b,c\n1,2,3\n1,NA,3\n", "Column 'b' of '.*' holds 'NA', which is no number in line 3"),
        ("a,b,c\n1,2,3\n1,2\n", "Line 3 of '.*' has 2 cells, the header 3"),
        ("1,2,3\n4,5,6\n", "holds numbers: write the names"),
        ("a,b,b\n4,5,6\n", "two columns 'b'"),
        ("a,b,c\n", "a header and no rows"),
        ("", "is empty"),
        ("a,b\n1,2\n", "2 columns that fit, the input 'x' takes 3"),
        ("a,b,c\n1,2,red\n", "2 columns that fit, the input 'x' takes 3: add what is missing; no numbers are in c"),
        ("a,b,c,d\n1,2,3,4\n", r"4 columns that fit .* takes 3: name those to leave out \(--drop NAME\)"),
        ('a,b,c\n1,2,"3\n', "is no table"),
        ("a,b,c\n1_000,2,3\n", "2 columns that fit, the input 'x' takes 3: add what is missing; no numbers are in a"),
        ("5.1,3.5,1.4,red\n4.9,3,1.4,red\n", "holds numbers: write the names"),
        # Another column of numbers does not take the place of a feature that cannot be read.
        ("id;a;b;c\n1;1,5;2;3\n2;2,5;2;3\n", r"Column 'a' of '.*' holds '1,5', .* in line 2: .* \(--drop\)"),
        ('id,a,b,c\n1,4,2,3\n2,"1,000",2,3\n', "Column 'a' of '.*' holds '1,000', .* in line 3"),
        ("id,a,b,c\n1,5,2,3\n2,x,2,3\n", "Column 'a' of '.*' holds 'x', .* in line 3"),
    ],
)
def test_tables_that_do_not_fit(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        tabulate(rows.read(table(tmp_path, text)), oi.load(tiny.rows()).inputs)


def test_what_describes_a_row_is_left_out(tmp_path: Path) -> None:
    # The first column is how pandas writes the numbers of rows.
    read = rows.read(table(tmp_path, ",date,a,b,c,label\n0,2020-01-01,1,2,3,1\n1,2020-01-02,4,5,6,x\n"))
    found, notes = tabulate(read, oi.load(tiny.rows()).inputs)
    np.testing.assert_array_equal(found["x"], [[1, 2, 3], [4, 5, 6]])
    assert notes == ["left out: '', 'date', 'label', which the model has no input for (--drop)"]


def test_whole_numbers_of_tables_are_exact(tmp_path: Path) -> None:
    text = "area,age,rooms,town\n1,2,9007199254740993,Bern\n"
    with pytest.raises(InputError, match=r"'rooms' of '.*' holds 9.0072e\+15 in line 2, .* up to 2\^53"):
        tabulate(rows.read(table(tmp_path, text)), oi.load(tiny.columns()).inputs)


def test_columns_can_be_left_out(tmp_path: Path) -> None:
    read = rows.read(table(tmp_path, "a,b,c,d\n1,,3,4\n"))
    found, _ = tabulate(read, oi.load(tiny.rows()).inputs, ["b"])
    np.testing.assert_array_equal(found["x"], [[1, 3, 4]])
    with pytest.raises(InputError, match="no column 'e': there are a, b, c, d"):
        tabulate(read, oi.load(tiny.rows()).inputs, ["e"])


def test_columns_are_matched_by_name(tmp_path: Path) -> None:
    text = "town,price,rooms,age,area\nBern,9,2,30,50\nZug,8,3,40,60\n"
    model = oi.load(tiny.columns())
    found, notes = tabulate(rows.read(table(tmp_path, text)), model.inputs)
    assert notes == ["left out: 'price', which the model has no input for (--drop)"]
    result = oi.feature_ablation(model, found, 0, engine=ENGINE)
    # y = area + 2 age + 3 rooms + 10 if Bern
    assert {k: v.ravel().tolist() for k, v in result.tensors.items()} == {
        "area": [50, 60],
        "age": [60, 80],
        "rooms": [6, 9],
    }
    np.testing.assert_allclose(result.scores, [126, 149])
    with pytest.raises(InputError, match=r"Column 'rooms' of '.*' holds 2.5 in line 2"):
        tabulate(rows.read(table(tmp_path, text.replace("9,2,", "9,2.5,"))), model.inputs)


def test_columns_are_given_to_inputs(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Concat", ["p", "q"], ["c"], axis=1),
        onnx.helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    weight = np.array([[1], [10], [100]], np.float32)
    proto = tiny.build(nodes, {"p": ("f", ["N", 2]), "q": ("f", ["N", 1])}, {"y": ("f", ["N", 1])}, w=weight)
    read, specs = rows.read(table(tmp_path, "a,b,c\n1,2,3\n")), oi.load(proto).inputs
    found, _ = tabulate(read, specs, said={"p": ["c", "a"]})
    assert {k: v.tolist() for k, v in found.items()} == {"p": [[3, 1]], "q": [[2]]}
    assert found.columns == {"p": ["c", "a"], "q": ["b"]}
    with pytest.raises(InputError, match=r"do not fit the inputs 'p' .* \(--input p=COLUMN,COLUMN\)"):
        tabulate(read, specs)
    with pytest.raises(InputError, match="takes 2 columns, not 1"):
        tabulate(read, specs, said={"p": ["c"], "q": ["a"]})
    onnx.save(proto, tmp_path / "two.onnx")
    result = call(
        "saliency", tmp_path / "two.onnx", read.path, "--input", "p=c,a", "-t", "y[0]", "-o", tmp_path / "o.png"
    )
    assert result.exit_code == 0, result.output


def test_columns_of_numbers_and_of_words(tmp_path: Path) -> None:
    n = onnx.helper.make_node
    nodes = [
        n("OneHotEncoder", ["words"], ["hot"], domain="ai.onnx.ml", cats_strings=["red"], zeros=1),
        n("Reshape", ["hot", "pairs"], ["coded"]),
        n("Concat", ["numbers", "coded"], ["all"], axis=1),
        n("ReduceSum", ["all", "one"], ["y"], keepdims=1),
    ]
    given = {"numbers": ("f", ["N", 2]), "words": ("s", ["N", 2])}
    proto = tiny.build(nodes, given, {"y": ("f", ["N", 1])}, pairs=np.array([-1, 2]), one=np.array([1]))
    found, _ = tabulate(rows.read(table(tmp_path, "a,colour,b,size\n1,red,2,red\n")), oi.load(proto).inputs)
    assert found.columns == {"numbers": ["a", "b"], "words": ["colour", "size"]}
    assert oi.feature_ablation(proto, found, "'y'[0]", engine=ENGINE).scores.tolist() == [5]
    given["words"] = ("s", ["N", 1])
    nodes[1] = n("Reshape", ["hot", "pairs"], ["coded"])
    proto = tiny.build(nodes, given, {"y": ("f", ["N", 1])}, pairs=np.array([-1, 1]), one=np.array([1]))
    found, _ = tabulate(rows.read(table(tmp_path, "a,words,b\n1,red,2\n")), oi.load(proto).inputs)
    assert found.columns == {"numbers": ["a", "b"], "words": ["words"]}


# Pictures.


def test_bars_are_sorted_and_named(tmp_path: Path) -> None:
    samples = oi.Samples({"x": [[3.0, 1.0, 0.5]]}, ["first"], {"x": ["a", "b", "c"]})
    result = oi.input_x_gradient(tiny.rows(), samples, 0, engine=ENGINE)
    [part] = result.parts()
    assert part.features
    assert signals.entries([part]) == [("a = 3", 3), ("b = 1", 2), ("c = 0.5", 1.5)]
    against = signals.Part("y", np.array([1.0, -4.0]))
    assert signals.entries([part, against])[0] == ("y[1]", -4)
    assert [part.called(i) for i in range(3)] == ["a = 3", "b = 1", "c = 0.5"]
    assert {f.name for f in result.save(tmp_path / "out", csv=True)} == {"out.png", "out.npz", "out.json", "out.csv"}
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["sample", "target", "input", "index", "name", "value", "attribution"]
    assert lines[1:] == [
        ["first", "0", "x", str(i), "abc"[i], str([3.0, 1.0, 0.5][i]), str([3.0, 2.0, 1.5][i])] for i in range(3)
    ]


def test_names_have_to_fit() -> None:
    for samples, said in (
        (oi.Samples({"x": np.eye(3)}, ["a"]), "1 names for 3 samples"),
        (
            oi.Samples({"x": np.eye(3)}, columns={"x": ["a", "b"]}),
            r"2 names for the last axis of 'x', which is \(3, 3\)",
        ),
        (oi.Samples({"x": np.eye(3)}, columns={"y": ["a"]}), "'y', which is not given"),
    ):
        with pytest.raises(InputError, match=said):
            oi.saliency(tiny.rows(), samples, 0, engine=ENGINE)


def test_names_of_samples_stay_in_their_folder(tmp_path: Path) -> None:
    samples = oi.Samples({"x": np.eye(3)}, ["../up", "a b", "a b"])
    oi.saliency(tiny.rows(), samples, 0, engine=ENGINE).save(tmp_path / "out", npz=False, manifest=False)
    names = {"up.saliency.png", "a_b-1.saliency.png", "a_b-2.saliency.png"}
    assert {f.name for f in (tmp_path / "out").glob("*.png")} == names
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(c) for c in picture.reshape(-1, 3).tolist()}


def test_words_have_the_colour_of_their_number() -> None:
    samples = oi.Samples({"ids": IDS}, tokens=tiny.WORDS)
    result = oi.input_x_gradient(tiny.text(), samples, 1, engine=ENGINE)
    assert result.parts(1)[0].words == ["very", "good", "!", "not", "bad"]
    worth = result.values[1] / np.abs(result.values[1]).max()
    from onnx_inspect import image

    expected = {tuple(c) for c in image.colormap(worth, "coolwarm").tolist()}
    assert expected <= colours(result.overlay(1))
    assert oi.Samples({}, tokens={1: "a"}).words("ids", np.array([1, 2])) == ["a", "[2]"]


def test_words_that_are_left_out_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    line = signals.layout.line
    monkeypatch.setattr(signals.layout, "line", lambda text, *how: said.append(text) or line(text, *how))
    signals.drawing([signals.Part("ids", np.array([1.0, 2, 3, 5]), words=["so", "no", "no", "no"], tokens=True)], True)
    assert "and 2 times no, together 8" in said


def test_long_names_stay_within_the_picture() -> None:
    """Titles keep their end, which tells channels apart."""
    worth = RNG.normal(size=(2, 30))
    drawn = signals.drawing([signals.Part("long " * 60, worth, worth, layout="CW")], True)
    assert (drawn[:16, :20] == 255).all()
    assert (drawn[:16] < 128).any()


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "gradcam", "occlusion"])
def test_signals_are_drawn(name: str, tmp_path: Path) -> None:
    for count in (1, 3, 9):
        x = RNG.normal(size=(2, count, 90)).astype(np.float32)
        result = getattr(oi, name)(tiny.channels(count), x, 0, engine=ENGINE)
        plain, panel = result.overlay(1), result.panel(1)
        assert len(colours(plain)) > 50
        assert panel.shape[1] > plain.shape[1]
        assert len(result.save(tmp_path / name)) == 5


def test_a_map_of_positions_lies_on_its_signal() -> None:
    """Grad-CAM of a 1-D network, whose layer is as long as its signal."""
    x = RNG.normal(size=(1, 3, 80)).astype(np.float32)
    result = oi.gradcam(tiny.channels(), x, 0, engine=ENGINE)
    [part] = result.parts()
    np.testing.assert_array_equal(part.worth, result.heat[0])
    assert part.value is not None
    assert part.value.shape == (3, 80)


@pytest.mark.parametrize("file", ["torch_dynamo_gru", "jax_gru"])
def test_a_lone_row_is_a_signal(file: str) -> None:
    """(N, 1, 128), cut into frames before anything tells: a window covers some of the steps, not the whole."""
    x = RNG.normal(size=(1, 1, 128)).astype(np.float32)
    result = oi.occlusion(Path(__file__).parent / "zoo" / f"{file}.onnx", x, 0, window=8, stride=8, engine=ENGINE)
    assert "are taken to be samples, one channel and positions" in " ".join(result.notes)
    assert len(np.unique(result.values.reshape(16, 8), axis=0)) == 16


# The command line.


def test_the_command_takes_arrays(tmp_path: Path) -> None:
    model = tmp_path / "heard.onnx"
    onnx.save(tiny.heard(), model)
    np.save(tmp_path / "wäve.npy", np.sin(np.arange(200)))
    out = tmp_path / "out"
    result = call("saliency", model, tmp_path / "wäve.npy", "--input", "sr=100", "-o", out, "--csv")
    assert result.exit_code == 0, result.output
    names = {"wäve.saliency.png", "wäve.saliency.npz", "saliency.csv"}
    assert {f.name for f in out.iterdir()} == names
    assert np.load(out / "wäve.saliency.npz")["values"].shape == (200,)
    again = call(
        "saliency", model, "--input", f"wave={tmp_path / 'wäve.npy'}", "--input", "sr=100", "-o", out / "b.png"
    )
    assert again.exit_code == 0, again.output
    assert (out / "b.png").read_bytes() == (out / "wäve.saliency.png").read_bytes()
    unnamed = call("saliency", model, tmp_path / "wäve.npy", "--input", "100", "-o", out / "c.png")
    assert unnamed.exit_code == 0, unnamed.output
    for words, said in (
        ([tmp_path / "wäve.npy"], "'sr' (int64, a single number) has no value: give it with --input sr=NUMBER"),
        (["--input", "sr=100"], "'wave' (N×L float32) has no value"),
        ([tmp_path / "wäve.npy", "--input", "rate=100"], "There is no input 'rate': the model has 'wave', 'sr'"),
        ([tmp_path / "wäve.npy", "--input", "sr=100.5"], "'sr' takes int64, whole numbers, not float64"),
        ([tmp_path / "none.npy", "--input", "sr=100"], "No such file"),
        ([tmp_path / "wäve.npy", "--input", "sr=1", "-o", tmp_path / "wäve.png", "--drop", "a"], "(--drop)"),
    ):
        refused = call("saliency", model, *words)
        assert refused.exit_code == 2, refused.output
        assert said in refused.stderr


def test_several_samples_are_numbered(tmp_path: Path) -> None:
    model = tmp_path / "rows.onnx"
    onnx.save(tiny.rows(), model)
    result = call("saliency", model, "--input", "[[1, 2, 3], [4, 5, 6]]", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert [r["sample"] for r in json.loads(result.stdout)["results"]] == ["x-1", "x-2"]
    assert {f.name for f in (tmp_path / "out").glob("*.png")} == {"x-1.saliency.png", "x-2.saliency.png"}


def test_the_command_takes_tables(tmp_path: Path) -> None:
    model, out = tmp_path / "rows.onnx", tmp_path / "out"
    onnx.save(tiny.rows(), model)
    file = table(tmp_path, "id,a,b,c\n1,1,2,3\n2,4,5,6\n", "rows.csv")
    for name in ("feature_ablation", "saliency", "lime", "kernel_shap", "permutation"):
        result = call(name, model, file, "-t", "0", "-o", out, "--csv")
        assert result.exit_code == 0, result.output
        assert "left out: 'id'" in result.stderr
        assert (out / f"rows-2.{name}.png").exists()
    with (out / "feature_ablation.csv").open(encoding="utf-8", newline="") as made:
        lines = list(csv.DictReader(made))
    assert [(r["sample"], r["name"], float(r["attribution"])) for r in lines] == [
        (f"rows-{i}", c, v) for i, row in ((1, (1, 4, 9)), (2, (4, 10, 18))) for c, v in zip("abc", row, strict=True)
    ]
    result = call("saliency", model, file, "-t", "0; 1", "-o", out, "--csv")
    assert result.exit_code == 0, result.output
    with (out / "saliency.csv").open(encoding="utf-8", newline="") as made:
        lines = list(csv.DictReader(made))
    assert [(r["target"], r["sample"], r["name"]) for r in lines] == [
        (t, f"rows-{i}", c) for t in "01" for i in (1, 2) for c in "abc"
    ]
    single = table(tmp_path, "a,b,c\n1,2,3\n", "single.csv")
    refused = call("saliency", model, single, "-o", tmp_path / "single.png", "--csv")
    assert "single.csv' is what is to be explained itself" in refused.stderr
    assert single.read_text() == "a,b,c\n1,2,3\n"


def test_python_takes_the_files_that_the_command_takes(tmp_path: Path) -> None:
    text, ids = oi.load(tiny.text()), IDS.astype(np.int64)
    np.save(tmp_path / "ids.npy", ids)
    np.savez(tmp_path / "both.npz", ids=ids, mask=ids > 0)
    (tmp_path / "ids.json").write_text(json.dumps(ids.tolist()))
    wanted = oi.integrated_gradients(text, ids, engine=ENGINE)
    given: dict[str, Any] = {
        "ids": tmp_path / "ids.npy", "both": f"{tmp_path}/both.npz:ids", "by name": {"ids": str(tmp_path / "both.npz")}
    }  # fmt: skip
    for x in [*given.values(), str(tmp_path / "ids.json")]:
        got = oi.integrated_gradients(text, x, engine=ENGINE)
        np.testing.assert_array_equal(got.values, wanted.values)
        assert got.names[0].endswith("-1")
    assert oi.integrated_gradients(text, given["ids"], engine=ENGINE).names == ["ids-1", "ids-2"]
    masked = oi.saliency(text, {"ids": ids, "mask": tmp_path / "both.npz"}, engine=ENGINE)
    by_hand = oi.saliency(text, {"ids": ids, "mask": (ids > 0).astype(np.int64)}, engine=ENGINE)
    np.testing.assert_array_equal(masked.values, by_hand.values)
    file = table(tmp_path, "id,a,b,c\n1,1,2,3\n2,4,5,6\n", "rows.csv")
    rows_ = oi.saliency(oi.load(tiny.rows()), file, "0", engine=ENGINE)
    assert rows_.names == ["rows-1", "rows-2"]
    assert any("left out: 'id'" in note for note in rows_.notes)
    with pytest.raises(InputError, match=r"ids\.npy' has to be given alone"):
        oi.saliency(text, [given["ids"], given["ids"]], engine=ENGINE)
    with pytest.raises(InputError, match=r"none\.npy' cannot be read"):
        oi.saliency(text, tmp_path / "none.npy", engine=ENGINE)


@pytest.mark.parametrize(("method", "how"), [
    ("saliency", {"preset": "unit"}), ("gradcam", {"preset": "unit"}), ("detect", {"preset": "unit"}),
    ("saliency", {"preprocessing": "unit"}),
])  # fmt: skip
def test_presets_for_pixels_have_a_way_in_python(method: str, how: dict[str, Any]) -> None:
    with pytest.raises((InputError, TypeError)) as refused:
        getattr(oi, method)(nets.classifier(), np.zeros((1, 3, 16, 16), np.float32), **how)
    assert str(refused.value).endswith(
        " Pixels become numbers by preprocessing=oi.Preprocessing((height, width), scale=1/255)."
    )


def test_the_command_takes_tokens(tmp_path: Path) -> None:
    model = tmp_path / "text.onnx"
    onnx.save(tiny.text(), model)
    words = tmp_path / "vocab.txt"
    words.write_text("\n".join(tiny.WORDS), encoding="utf-8")
    given = ["--input", "ids=[1, 2, 3, 4, 0]", "--tokens", words, "-o", tmp_path / "text.png", "--csv"]
    result = call("integrated_gradients", model, *given)
    assert result.exit_code == 0, result.output
    with (tmp_path / "text.csv").open(encoding="utf-8", newline="") as made:
        assert [r["name"] for r in csv.DictReader(made)] == ["the", "movie", "was", "very", "[PAD]"]


def test_the_command_takes_photos_with_other_inputs(tmp_path: Path) -> None:
    model = nets.save(tmp_path, "two.onnx", extra_input=True)
    photos = [nets.photo(tmp_path, f"{name}.png") for name in "ab"]
    np.save(tmp_path / "offset.npy", np.array([[100, 0, 0, 0], [0, 100, 0, 0]], np.float32))
    (tmp_path / "bad.png").write_bytes(b"none")
    result = call(
        "gradcam", model, *photos, "--input", f"offset={tmp_path / 'offset.npy'}", "-o", tmp_path / "out", "--json"
    )
    assert result.exit_code == 0, result.output
    assert [r["explained"]["index"] for r in json.loads(result.stdout)["results"]] == [0, 1]
    three = call("gradcam", model, *photos, tmp_path / "bad.png", "--input", f"offset={tmp_path / 'offset.npy'}")
    assert "'offset' has 2 values for 3 samples" in three.stderr
    np.save(tmp_path / "offset.npy", np.array([[100, 0, 0, 0], [0, 0, 100, 0], [0, 100, 0, 0]], np.float32))
    words = (photos[0], tmp_path / "bad.png", photos[1], "--input", f"offset={tmp_path / 'offset.npy'}")
    result = call("gradcam", model, *words, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 2
    assert [r["explained"]["index"] for r in json.loads(result.stdout)["results"]] == [0, 1]


def test_an_array_in_the_place_of_a_photo(tmp_path: Path) -> None:
    model = nets.save(tmp_path)
    np.save(tmp_path / "x.npy", nets.images(1)[0])
    result = call("gradcam", model, tmp_path / "x.npy", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "x.gradcam.png").exists()
