import struct
import subprocess
import sys
from threading import Thread

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_inspect import image
from onnx_inspect.errors import InputError, OutputError, PhotoError

from .test_header import gif, png

GIF = [".gif"] if cv2.haveImageWriter("x.gif") else []  # OpenCV 4.11 and later
SUFFIXES = [".jpg", ".png", ".webp", ".bmp", ".tif", *GIF]


@pytest.fixture(scope="module")
def photo():
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (9, 9), 2)


def save(path, pixels, *parameters):
    """Pixels as they are (RGB, RGBA, grey, any depth), written by OpenCV itself."""
    swapped = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(swapped), parameters)[1].tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_what_is_written_is_read_back(tmp_path, photo, suffix):
    path = tmp_path / f"Größe 猫{suffix}"
    image.write(path, photo)
    np.testing.assert_array_equal(image.read(path), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", *GIF])
def test_lossy_formats_are_read_in_rgb(tmp_path, suffix):
    flat = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    image.write(tmp_path / f"x{suffix}", flat)
    assert abs(image.read(tmp_path / f"x{suffix}").mean((0, 1)) - (200, 40, 90)).max() < 12  # GIF dithers


def test_grey_becomes_three_channels(tmp_path, photo):
    for suffix in (".png", ".tif"):
        read = image.read(save(tmp_path / f"x{suffix}", photo[..., 0]))
        np.testing.assert_array_equal(read, np.stack([photo[..., 0]] * 3, -1))


def test_transparency_shows_white(tmp_path, photo):
    alpha = np.arange(37 * 53).reshape(37, 53, 1) % 256
    expected = np.rint(photo * (alpha / 255) + 255 * (1 - alpha / 255))
    for suffix in (".png", ".tif"):
        read = image.read(save(tmp_path / f"x{suffix}", np.concatenate([photo, alpha], -1).astype(np.uint8)))
        assert abs(read - expected).max() <= 1


def test_what_is_left_out_is_remarked(tmp_path, photo):
    alpha = np.full((37, 53, 1), 255, np.uint8)
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tif"):
        assert image.remarks(save(tmp_path / f"a{suffix}", photo)) == []
    for suffix in (".png", ".webp", ".tif"):
        path = save(tmp_path / f"b{suffix}", np.concatenate([photo, alpha], -1))
        assert image.remarks(path) == []
        path = save(tmp_path / f"c{suffix}", np.concatenate([photo, alpha - 9], -1))
        assert image.remarks(path) == [f"'c{suffix}' is transparent in places, which are taken to be white (PHOTO)"]
    path = tmp_path / "x.gif"
    path.write_bytes(gif(2))
    assert "'x.gif' is an animation: its first frame is explained (PHOTO)" in image.remarks(path)
    with pytest.raises(PhotoError, match=r"Cannot read the photo .*none\.png: No such file"):
        image.remarks(tmp_path / "none.png")


def test_sixteen_bits_become_eight(tmp_path, photo):
    deep = photo.astype(np.uint16) * 257
    deep[1::3] += 100
    deep[2::3] += 150
    deep[0, 0] = 65535
    expected = np.rint(deep / 257).astype(np.uint8)
    for suffix in (".png", ".tif"):
        np.testing.assert_array_equal(image.read(save(tmp_path / f"x{suffix}", deep)), expected)
    half = np.full((37, 53, 1), 32768, np.uint16)
    read = image.read(save(tmp_path / "half.png", np.concatenate([photo.astype(np.uint16) * 257, half], -1)))
    assert abs(read - (photo + 255.0) / 2).max() <= 1


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation(orientation):
    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    stored = np.zeros((40, 56, 3), np.uint8)
    stored[:16, :16] = (250, 20, 20)
    expected = UPRIGHT[orientation](stored)

    plain = cv2.imencode(".jpg", stored[..., ::-1])[1].tobytes()
    app1 = b"Exif\0\0" + exif
    jpeg = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + plain[2:]
    read = image.decode(jpeg)
    assert read.shape == expected.shape and abs(read.astype(int) - expected).mean() < 3

    for pixels in (stored, np.concatenate([stored, np.full((40, 56, 1), 255, np.uint8)], -1)):
        swapped = pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]
        whole = cv2.imencode(".png", np.ascontiguousarray(swapped))[1].tobytes()
        chunk = png(1, 1, (b"eXIf", exif))[33:-12]
        np.testing.assert_array_equal(image.decode(whole[:33] + chunk + whole[33:]), expected)

    np.testing.assert_array_equal(image.decode(tiff(stored, orientation)), expected)

    lossless = cv2.imencode(".webp", np.ascontiguousarray(stored[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, 101])
    size = b"".join((side - 1).to_bytes(3, "little") for side in (56, 40))
    exif = b"Exif\0\0" + exif
    parts = [(b"VP8X", b"\x08\0\0\0" + size), (b"", lossless[1].tobytes()[12:]), (b"EXIF", exif)]
    body = b"".join((kind + struct.pack("<I", len(data)) if kind else b"") + data for kind, data in parts)
    webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    np.testing.assert_array_equal(image.decode(webp), expected)


def tiff(pixels, orientation):
    height, width = pixels.shape[:2]
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 134), (274, orientation)]
    tags += [(277, 3), (278, height), (279, pixels.nbytes)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + pixels.tobytes()


def test_a_truncated_photo_is_refused_at_every_length(photo):
    for suffix in (".jpg", ".png"):
        whole = cv2.imencode(suffix, photo)[1].tobytes()
        assert image.decode(whole + b"\0\0garbage").shape == photo.shape
        for length in range(0, len(whole), max(1, len(whole) // 60)):
            with pytest.raises(PhotoError):
                image.decode(whole[:length])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: None, "No such file"),
        (lambda p: p.mkdir(), "directory"),
        (lambda p: p.write_bytes(b""), "empty"),
        (lambda p: p.write_text("hello"), "not a JPEG"),
        (lambda p: p.write_bytes(png(30000, 30000)), "30000x30000 pixels, more than 178 million"),
        (lambda p: p.write_bytes(png(3, 3)), "damaged"),
        (lambda p: save(p.with_suffix(".tif"), np.ones((3, 3), np.float32)).rename(p), "float32"),
    ],
)
def test_what_is_no_photo_is_a_sentence_with_its_path(tmp_path, make, why, capfd):
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(PhotoError, match=rf"x\.png: .*{why}.*\.$"):
        image.read(path)
    assert capfd.readouterr() == ("", "")


@given(st.integers(0, 10**9), st.integers(0, 255), st.sampled_from(SUFFIXES))
def test_damaged_photos_decode_or_are_refused(at, value, suffix):
    data = bytearray(cv2.imencode(suffix, np.arange(300, dtype=np.uint8).reshape(10, 10, 3))[1].tobytes())
    data[at % len(data)] = value
    try:
        assert image.decode(bytes(data)).shape[2] == 3
    except PhotoError as error:
        assert str(error)


def test_nothing_is_printed_and_stderr_lives_on():
    code = """
import sys, numpy as np, cv2
from threading import Thread
from onnx_inspect import image
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
data = bytearray(cv2.imencode(".jpg", noise)[1])
data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
threads = [Thread(target=lambda: [image.decode(bytes(data)) for _ in range(20)]) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print("alive", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "alive\n"


def test_threads_read_the_same(photo):
    data = image.encode_png(photo)
    seen = []
    threads = [Thread(target=lambda: seen.append(image.decode(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and all((pixels == photo).all() for pixels in seen)


def test_writing_what_cannot_be_written(tmp_path, photo):
    for name, pixels in (("x.docx", photo), ("x", photo), ("x.png", photo[:0])):
        with pytest.raises(OutputError, match="Cannot write"):
            image.write(tmp_path / name, pixels)
    assert not list(tmp_path.iterdir())


def test_area_is_the_mean_of_blocks(photo):
    blocks = photo[:36, :52].reshape(9, 4, 13, 4, 3).mean((1, 3))
    assert abs(image.resize(photo[:36, :52], (9, 13)) - blocks).max() <= 0.5
    floats = image.resize(photo[:36, :52].astype(np.float64), (9, 13), "area")
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, blocks, rtol=1e-5)


def test_linear_keeps_edges_on_edges():
    ramp = np.arange(8, dtype=np.float32) + 0.5
    out = image.resize(np.tile(ramp, (3, 1)), (3, 40))
    np.testing.assert_allclose(out[0], ((np.arange(40) + 0.5) / 5).clip(0.5, 7.5), atol=1e-5)


def test_auto_treats_each_side_on_its_own():
    stripes = np.zeros((8, 4), np.float32)
    stripes[::2] = 1
    np.testing.assert_allclose(image.resize(stripes, (4, 9)), 0.5)


def test_nearest_takes_the_centre():
    np.testing.assert_array_equal(image.resize(np.arange(9.0).reshape(3, 3), (1, 1), "nearest"), [[4]])


@pytest.mark.parametrize("channels", [1, 2, 5, 130, 700])
def test_any_number_of_channels(channels):
    array = np.random.default_rng(0).random((6, 8, channels), np.float32)
    for size in ((3, 4), (12, 16)):
        out = image.resize(array, size)
        assert out.shape == (*size, channels)
        np.testing.assert_allclose(out[..., -1], image.resize(array[..., -1], size), rtol=1e-5)
    with pytest.raises(InputError, match="zero"):
        image.resize(array, (0, 3))


def test_colour_maps():
    values = np.array([[0, 0.5, 1], [-1, 2, 0]], np.float32)
    jet = image.colormap(values)
    assert jet.shape == (2, 3, 3) and jet.dtype == np.uint8
    assert jet[0, 0, 2] > 100 > jet[0, 0, 0] and jet[0, 2, 0] > 100 > jet[0, 2, 2]
    np.testing.assert_array_equal(jet[1], jet[0, [0, 2, 0]])
    np.testing.assert_array_equal(image.colormap(np.float32(0.2), "grey"), [51, 51, 51])
    signed = image.colormap(np.array([-2, -1, 0, 1]), "coolwarm")
    assert signed.tolist() == [[59, 76, 192], [59, 76, 192], [255, 255, 255], [180, 4, 38]]
    for name in ("viridis", "magma", "inferno", "turbo"):
        assert len(np.unique(image.colormap(np.linspace(0, 1, 256), name), axis=0)) > 200


def test_blend_and_grey(photo):
    heat = photo[::-1]
    np.testing.assert_array_equal(image.blend(photo, heat, 0), photo)
    np.testing.assert_array_equal(image.blend(photo, heat, np.ones(photo.shape[:2])), heat)
    assert abs(image.blend(photo, heat, 0.25) - (0.75 * photo + 0.25 * heat)).max() <= 0.5
    grey = image.to_grey(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]))
    np.testing.assert_allclose(grey, [[76.245, 149.685, 29.07]], rtol=1e-6)


@pytest.mark.parametrize("string", ["Grüße", "猫 кот", "a\0b\nc", "\udcff.jpg", "🐱", ""])
def test_any_text_stays_inside_its_line(string):
    width, height = image.text_size(string, 20)
    canvas = np.full((height + 40, width + 40, 3), 255, np.uint8)
    image.text(canvas, string, (20, 20), 20, (200, 0, 0))
    inked = canvas.min(-1) < 255
    assert inked.any() == bool(string)
    inked[20 : 20 + height, 18 : 22 + width] = False
    assert not inked.any()
    assert canvas[..., 0].min() >= 200 - 1


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="this OpenCV has no fonts")
def test_letters_without_a_glyph_are_told_by_their_numbers():
    def written(string):
        canvas = np.full((30, 300, 3), 255, np.uint8)
        image.text(canvas, string, (5, 2), 16)
        return canvas

    assert np.array_equal(written("ka 🐱 ሰ"), written(r"ka \U0001f431 \u1230"))
    assert not np.array_equal(written("金魚"), written(r"\u91d1\u9b5a"))
    assert image.text_size("🐱", 16) == image.text_size(r"\U0001f431", 16)


def test_old_opencv_letters_ascii(monkeypatch):
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    canvas = np.full((40, 200, 3), 255, np.uint8)
    image.text(canvas, "naïve 猫", (5, 5), 20)
    question = np.full((40, 200, 3), 255, np.uint8)
    image.text(question, r"na\xefve \u732b", (5, 5), 20)
    assert canvas.min() < 100 and (canvas == question).all()
    assert image.text_size("naïve 猫", 20) == image.text_size(r"na\xefve \u732b", 20)
