"""Class names from whatever people and exporters write them in, and never a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnx_inspect.errors import TargetError
from onnx_inspect.labels import Labels, parse, resolve

ABC = ("a", "b", "c")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(["a", "b", "c"]),
        json.dumps({"0": "a", "1": "b", "2": "c"}),
        json.dumps({"1": "a", "3": "c", "2": "b"}),
        json.dumps({"a": 0, "c": 2, "b": 1}),
        json.dumps({"architectures": ["ViT"], "id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {}}),
        json.dumps({"path": "data", "names": ["a", "b", "c"]}),
        json.dumps([[1, "b"], [0, "a"], [2, "c"]]),
        json.dumps([["a", "1"], ["b", "2"], ["c", "3"]]),
        "{0: 'a', 1: 'b', 2: 'c'}",
        "['a', 'b', 'c']",
        "a, b, c",
        "a\n\n  b \r\nc\n",
        "0,a\n1,b\n2,c",
        "1 a\n2 b\n3 c",
        "0: a\n1: b\n2: c",
        "0\ta\n1\tb\n2\tc",
        'index,name\n0,"a"\n1,"b"\n2,"c"',
    ],
)
def test_one_list_in_many_forms(text: str) -> None:
    assert parse(text) == ABC
    for key in ("class_names", "names", "labels", "classes"):
        assert resolve({key: text}, 3) == (Labels(ABC, f"the model's metadata ({key})"), [])


def test_names_that_look_like_indices_are_names() -> None:
    assert parse("1 euro\n2 euro") == ("1 euro", "2 euro")
    assert parse("30 km/h\n50 km/h") == ("30 km/h", "50 km/h")
    assert parse("[0, 1, 2]") == ("0", "1", "2")
    assert parse("  grey   fox \n owl") == ("grey fox", "owl")


def test_synonyms_and_synsets() -> None:
    names = Labels(parse('{"0": ["n01440764", "tench"], "1": ["n02123045", "tabby"]}'))
    assert (names.name(0), names.index("n02123045")) == ("tench", 1)
    assert parse('[["cat", "kitty"], ["dog", "hound"]]') == ("cat, kitty", "dog, hound")


HOSTILE = [
    "",
    " \n ",
    "__import__('os')",
    "{'a': 5}",
    "{-1: 'a'}",
    "{99999999999: 'a'}",
    "{0: 'a', 2: 'b'}",
    "{0: {'a': 1}, 1: 'b'}",
    '{"cat": true, "dog": false}',
    '{"cat": 0.2, "dog": 1.7}',
    '["a", null]',
    '[["0", "a"], ["5", "b"]]',
    '[{"id": 0, "name": "cat"}]',
    "[",
    "[]",
    "{}",
    "{broken\nlines",
    "[" * 9999,
    '["", ""]',
    "a\0b\nc",
    "3",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_holds_no_names_gives_none(text: str, tmp_path: Path) -> None:
    assert resolve({"names": text}, None)[0].names == ()
    path = tmp_path / "names.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        TargetError, match=r"names\.txt' (holds no|is damaged|has indices|has a control).*: write one name per line\.$"
    ):
        resolve({}, None, path)


def test_labels_from_a_file_win(tmp_path: Path) -> None:
    path = tmp_path / "ñames.txt"
    path.write_text("\ufeffLöwe\n\n Katze \n", encoding="utf-8")
    assert resolve({"names": "a, b"}, 2, path)[0].names == ("Löwe", "Katze")
    with pytest.raises(TargetError, match="cannot be read"):
        resolve({}, 2, path.with_name("missing.txt"))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not UTF-8"):
        resolve({}, 2, path)


def test_offsets_are_seen() -> None:
    imagenet, notes = resolve({}, 1000)
    assert imagenet.name(281) == "tabby"
    assert imagenet.index("tiger cat") == 282
    assert "--labels" in notes[0]
    shifted, notes = resolve({}, 1001)
    assert shifted.name(0) == "background"
    assert shifted.index("n02123159") == 283
    assert "background" in notes[0]
    given, notes = resolve({}, 1001, [f"name {i}" for i in range(1000)])
    assert given.names[:2] == ("background", "name 0")
    assert notes == ["class names: 1000 names for 1001 outputs, so output 0 is taken to be background (--labels FILE)"]


@pytest.mark.parametrize(("names", "count"), [("abc", 4), ("abc", 2), ("abc", 1), ("ab", 1000)])
def test_a_wrong_number_of_names_names_nothing(names: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    with pytest.raises(TargetError, match=rf"names\.txt' has {len(names)} names for .*: name every class\.$"):
        resolve({}, count, path)
    with pytest.raises(TargetError, match=f"The list of names has {len(names)} names for "):
        resolve({}, count, list(names))
    found, notes = resolve({"names": ",".join(names)}, count)
    assert found.guessed == (count == 1000)
    assert found.names[:2] != tuple(names[:2])
    assert f"(names) has {len(names)} names for " in notes[0]
    assert notes[0].endswith("so none is used (--labels FILE)")


def test_metadata_that_do_not_fit_leave_the_word_to_others() -> None:
    assert resolve({"class_names": "a, b", "names": "a, b, c"}, 3)[0].names == ABC
    assert resolve({"names": "no, yes"}, 1)[0].names == ("no", "yes")


def test_classes_without_names_are_noted() -> None:
    assert resolve({}, 10) == (Labels(), ["the classes have no names (--labels FILE)"])
    assert resolve({}, 1) == resolve({}, None) == (Labels(), [])
    assert Labels(("a", "")).name(1) == "class 1"


def test_names_that_several_classes_share_are_refused() -> None:
    imagenet, _ = resolve({}, 1000)
    with pytest.raises(TargetError, match=r"2 classes are called 'crane'"):
        imagenet.index("crane")
    assert imagenet.name(2000) == "class 2000"
    assert imagenet.name(None) == ""


def test_suggestions_prefer_whole_words() -> None:
    imagenet, _ = resolve({}, 1000)
    assert imagenet.index("  Tiger \n cat") == 282
    with pytest.raises(
        TargetError, match=r"'tabby cat' \(281\), 'tiger cat' \(282\), 'Persian cat' \(283\), "
    ) as error:
        imagenet.index("cat")
    assert "coat" not in str(error.value)
    with pytest.raises(TargetError, match=r"Did you mean 'goldfish' \(1\)"):
        imagenet.index("goldfsh")
    with pytest.raises(TargetError, match=r"in ImageNet-1k\.$"):
        imagenet.index("xyzzyx")
    assert imagenet.find(" ") is None


@pytest.mark.parametrize("damage", ["\x00", "\x07", "\x1b[2J", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\x9b"])
def test_a_control_character_is_named_by_its_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(f"a\r\nb\nc{damage}d\n".encode())
    with pytest.raises(TargetError, match=r"names\.txt' has a control character in line 3: write one name per line\.$"):
        resolve({}, 3, path)


@pytest.mark.parametrize("damage", ["\x00", "\x1b"])
def test_a_control_character_is_named_by_its_place(damage: str) -> None:
    with pytest.raises(ValueError, match="has a control character in name 2"):
        parse(json.dumps(["a", f"b{damage}b"]))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029"])
def test_only_ends_of_lines_end_lines(separator: str) -> None:
    assert parse(f"a{separator}a\rb\r\nc\n") == ("a a", "b", "c")
