import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_inspect import files
from onnx_inspect.errors import OutputError, PhotoError


def test_a_file_appears_whole_in_folders_that_did_not_exist(tmp_path):
    path = tmp_path / "új mappa" / "猫.txt"
    files.write_text(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["猫.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_a_failure_keeps_the_old_file_and_leaves_no_draft(tmp_path, failure):
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(failure), files.atomic(path) as draft:
        assert draft.parent == tmp_path and draft.suffix == ".json" and draft.name.startswith(".")
        draft.write_text("half")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"Cannot write .*out\.png: No space left"):  # noqa: SIM117
        with files.atomic(tmp_path / "out.png") as draft:
            draft.write_text("half")
            raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and device files")
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, Path("/dev/null"), tmp_path / "a\0b"):
        with pytest.raises(OutputError, match="Cannot write"):
            files.write_text(path, "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        files.write_text(tmp_path / "file" / "below", "x")
    assert fifo.is_fifo() and Path("/dev/null").is_char_device()


@pytest.mark.skipif(os.name == "nt", reason="needs the right to make links")
def test_a_link_is_written_through(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"x"


def test_json_says_numpy_and_turns_nan_into_null(tmp_path):
    value = {
        "a": np.float32(0.5),
        "b": np.array([[1, 2]], np.int8),
        "c": [float("nan"), np.inf, np.nan],
        4: (Path("x/ü"), {3, 1}, None, True, np.bool_(False)),
    }
    files.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text("utf-8")
    expected = {"a": 0.5, "b": [[1, 2]], "c": [None] * 3, "4": ["x/ü", [1, 3], None, True, False]}
    assert json.loads(text) == expected and "ü" in text


def test_npz_takes_any_name_and_no_objects(tmp_path):
    arrays = {"file": np.arange(6).reshape(2, 3), "layer4/conv ü": np.float16(2), "args": np.array(["a"])}
    files.write_npz(tmp_path / "x.npz", arrays)
    with np.load(tmp_path / "x.npz") as loaded:
        assert set(loaded) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
    first = (tmp_path / "x.npz").read_bytes()
    files.write_npz(tmp_path / "x.npz", arrays)
    assert (tmp_path / "x.npz").read_bytes() == first
    with pytest.raises(ValueError):
        files.write_npz(tmp_path / "x.npz", {"a": np.array([{}])})
    assert (tmp_path / "x.npz").read_bytes() == first and len(list(tmp_path.iterdir())) == 1


def test_photos_by_name_folder_and_pattern(tmp_path, monkeypatch):
    for name in ("b.JPG", "ä.png", "notes.txt", ".hidden.png", "sub/c.webp", "a[1].tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    assert files.photos(["."]) == [Path("a[1].tif"), Path("b.JPG"), Path("ä.png")]
    assert files.photos(["notes.txt", "a[1].tif"]) == [Path("notes.txt"), Path("a[1].tif")]
    assert files.photos(["*.png", Path("ä.png"), "**/*.webp"]) == [Path("ä.png"), Path("sub/c.webp")]
    assert files.photos([str(tmp_path / "*")]) == [tmp_path / n for n in ("a[1].tif", "b.JPG", "ä.png")]


@pytest.mark.parametrize("arg", ["missing.png", "*.gif", "empty", "a\0b", "x" * 5000, ""])
def test_no_photos_is_a_sentence(tmp_path, monkeypatch, arg):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoError, match=r"photo|images"):
        files.photos([arg])


def test_what_is_read_is_spared(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("")
    os.link(tmp_path / "a.png", tmp_path / "c.png")
    files.spare(
        {tmp_path / "a.png": "the photo", "": "the labels"}, [tmp_path / "b.png", tmp_path / "none", Path("a\0b")]
    )
    for path in (tmp_path / "a.png", tmp_path / "." / "c.png"):
        with pytest.raises(OutputError, match=r"png' is the photo itself: name another file with -o\."):
            files.spare({tmp_path / "a.png": "the photo"}, [tmp_path / "b.png", path])


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below", "file/x/y"):
        assert files.in_the_way(tmp_path / path) == tmp_path / "file"
    for path in ("", "new/folder", "x" * 5000):
        assert files.in_the_way(tmp_path / path) is None


def test_stems():
    assert files.stems(["a/cat.jpg", "b/dog.jpg"]) == ["cat", "dog"]
    assert files.stems(["cat.jpg", "cat.png", "dog.png"]) == ["cat_jpg", "cat_png", "dog"]
    assert files.stems(["a/cat.jpg", "b/cat.jpg", "b/CAT.png"]) == ["a_cat_jpg", "b_cat_jpg", "CAT_png"]
    assert files.stems(["x/a/cat.jpg", "y/a/cat.jpg"]) == ["a_cat_jpg", "a_cat_jpg-2"]


@given(st.lists(st.tuples(*map(st.sampled_from, ("ab", ["c", "C", "c_j", "a_c_j-2"], [".j", ".p", ""])))))
def test_stems_never_collide(parts):
    stems = files.stems([f"{folder}/{stem}{suffix}" for folder, stem, suffix in parts])
    assert len({stem.casefold() for stem in stems}) == len(parts)
