"""Which pixels of a photo count for a part of the model's input: found by changing every line of the photo."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_inspect.preprocess import Preprocessing


def counts(made: Preprocessing, photo: np.ndarray, part: tuple[slice, slice]) -> list[np.ndarray]:
    """Rows and columns of the photo that change a part of the input."""
    before, found = made.apply(photo)[part], []
    for axis in (0, 1):
        changes = []
        for line in range(photo.shape[axis]):
            hit = False
            for value in (0, 255):
                other = photo.copy()
                other[(slice(None), line) if axis else line] = value
                hit |= bool((made.apply(other)[part] != before).any())
            changes.append(hit)
        found.append(np.flatnonzero(changes))
    return found


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_support_is_what_counts(resize: str) -> None:
    rng = np.random.default_rng(0)
    empty = 0
    for trial in range(120):
        photo = rng.integers(0, 256, (*rng.integers(2, 50, 2), 3), dtype=np.uint8)
        height, width = rng.integers(2, 50, 2)
        if trial % 4 == 0:  # one side grows, the other shrinks; whole steps
            height, width = -(-photo.shape[0] // 2), photo.shape[1] * 2
        made = Preprocessing((int(height), int(width)), resize, float(rng.choice([1, 0.8])), layout="NHWC")
        y0, x0 = rng.integers(0, height), rng.integers(0, width)
        y1, x1 = min(y0 + rng.integers(1, 6), height), min(x0 + rng.integers(1, 6), width)
        rows, columns = counts(made, photo, np.s_[y0:y1, x0:x1])
        expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)
        empty += not len(rows)
        assert made.geometry(photo.shape).support((x0, y0, x1, y1)) == expected
    assert bool(empty) == (resize == "letterbox")


@pytest.mark.parametrize("resize", ["squash", "letterbox"])
def test_the_whole_input_comes_from_the_whole_photo(resize: str) -> None:
    """Also where 46 times 52 / 46 is a little less than 52."""
    for photo in np.ndindex(60, 9):
        for size in ((46, 39), (21, 42), (7, 7)):
            height, width = photo[0] + 1, photo[1] * 7 + 1
            found = Preprocessing(size, resize).geometry((height, width)).support((0, 0, size[1], size[0]))
            assert found == (0, 0, width, height), (photo, size)


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("photo", [(3000, 4001), (1733, 997), (61, 4099)])
def test_nothing_else_counts_in_a_large_photo(resize: str, photo: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    made = Preprocessing((224, 231), resize, 0.875, layout="NHWC")
    pixels, other = rng.integers(0, 256, (2, *photo, 3), dtype=np.uint8)
    before, geometry = made.apply(pixels), made.geometry(photo)
    for x0, y0, x1, y1 in [(0, 0, 7, 3), (100, 110, 131, 112), (215, 200, 231, 224), (17, 90, 18, 91)]:
        left, top, right, bottom = geometry.support((x0, y0, x1, y1))
        changed = other.copy()
        changed[top:bottom, left:right] = pixels[top:bottom, left:right]
        np.testing.assert_array_equal(made.apply(changed)[y0:y1, x0:x1], before[y0:y1, x0:x1])
