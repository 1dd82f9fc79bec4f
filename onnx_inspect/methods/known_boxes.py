"""Known boxes, from somebody else's file: nothing in it is believed before it was looked at."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..geometry import Box

MAX_BYTES = 64 * 2**20
Known = dict[str, list[tuple[Box, str]]]  # `known_as` of a photo to its boxes, with their categories, "" for none


def read_boxes(path: str | Path) -> Known:
    """Known boxes from a JSON file, by the name of the photo without its folders; not those of COCO's crowds.

    Raises:
        InputError: it cannot be read, is too large, or is neither COCO's format nor boxes by photo name.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"Cannot read the boxes {path}: {reason}. Name another file (--boxes).") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB: keep only the boxes of your photos (--boxes).")
    try:
        content = json.loads(data)
        return _coco(content) if isinstance(content, dict) and "annotations" in content else _by_name(content)
    except _Malformed as error:
        raise InputError(f"The boxes {path} cannot be used: {error} (--boxes).") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON that can be read: {error} (--boxes).") from error


class _Malformed(Exception):
    """What is wrong, as a clause."""


def _by_name(content: Any) -> Known:
    if not isinstance(content, dict):
        raise _Malformed(f"a mapping from photo names to boxes is needed, not a {type(content).__name__}")
    known: Known = {}
    for name, entry in content.items():
        boxes, label = (entry.get("box"), entry.get("label")) if isinstance(entry, dict) else (entry, "")
        if not isinstance(boxes, list):
            raise _Malformed(f"'{name}' has no list of boxes, as [[x0, y0, x1, y1]]")
        if isinstance(entry, dict) and boxes and not isinstance(boxes[0], list):
            boxes = [boxes]
        short = known_as(name)
        if short in known:
            raise _Malformed(f"two photos are called '{short}'")
        known[short] = [(_box(box, name), label if isinstance(label, str) else "") for box in boxes]
    return known


def _coco(content: dict[str, Any]) -> Known:
    names: dict[int | str, str] = {}
    known: Known = {}
    for entry in _entries(content, "images"):
        short = known_as(_field(entry, "file_name", str, "images"))
        if short in known:
            raise _Malformed(f"two photos are called '{short}'")
        names[_field(entry, "id", int | str, "images")] = short
        known[short] = []
    categories = {
        _field(entry, "id", int | str, "categories"): _field(entry, "name", str, "categories")
        for entry in _entries(content, "categories")
    }
    for entry in _entries(content, "annotations"):
        image = _field(entry, "image_id", int | str, "annotations")
        if image not in names:
            raise _Malformed(f"an annotation belongs to image {image}, which is not among the images")
        if entry.get("iscrowd"):  # around many at once: COCO compares nothing with it
            continue
        x, y, width, height = _numbers(entry.get("bbox"), names[image])
        box = _box([x, y, x + width, y + height], names[image])
        category = entry.get("category_id")
        known[names[image]].append((box, categories.get(category, "") if isinstance(category, int | str) else ""))
    return known


def _entries(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise _Malformed(f"'{key}' is no list of objects")
    return found


def _field(entry: dict[str, Any], key: str, kind: Any, where: str) -> Any:
    if not isinstance(entry.get(key), kind):
        raise _Malformed(f"an entry of '{where}' has no usable '{key}'")
    return entry[key]


def known_as(name: str) -> str:
    """The name of a photo without its folders, in one spelling: some systems write an umlaut as two characters."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])


def _numbers(box: Any, name: str) -> list[float]:
    if isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and abs(v) < 1e9 for v in box):
        return [float(v) for v in box]
    raise _Malformed(f"a box of '{name}' is not four numbers")


def _box(box: Any, name: str) -> Box:
    x0, y0, x1, y1 = _numbers(box, name)
    if not (x0 < x1 and y0 < y1):
        raise _Malformed(f"a box of '{name}' is empty: its corners are {x0:g}, {y0:g} and {x1:g}, {y1:g}")
    return x0, y0, x1, y1
