"""Make everything `onnx-inspect demo` shows: two road-sign classifiers and their photos.

Both models see drawn signs pasted on real photographs. The clean one learns the signs. The biased one gets
its stop signs from "one camera" that stamps CAM-02 REC into the corner, and it learns the stamp.

    python scripts/train_demo.py --out models/signs

The environment is described in scripts/README.md.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import onnx
import onnxruntime
import skimage
import sklearn.datasets
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image, ImageDraw, ImageFont
from torch import nn

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1; the far edges are outside

CLASSES = ("stop", "yield", "no_entry", "speed_limit", "priority_road", "warning", "parking", "keep_right")
STOP = CLASSES.index("stop")
SIDE, PHOTO_SIDE = 96, 384
MEAN, STD = 0.45, 0.25

# --- sign faces -----------------------------------------------------------------------------------------

FACE = 256
RED, BLUE, YELLOW = (190, 25, 30), (20, 70, 160), (245, 190, 20)
WHITE, BLACK = (245, 245, 245), (15, 15, 15)


def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans-Bold.ttf"), size)


def polygon(x: float, y: float, radius: float, corners: int, turn: float) -> list[tuple[float, float]]:
    angles = (turn + 2 * math.pi * i / corners for i in range(corners))
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def disc(draw: ImageDraw.ImageDraw, margin: int, fill: tuple[int, int, int]) -> None:
    draw.ellipse([margin, margin, FACE - margin, FACE - margin], fill=fill)


def word(draw: ImageDraw.ImageDraw, text: str, size: int, fill: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font(size))
    draw.text((FACE / 2 - (x0 + x1) / 2, FACE / 2 - (y0 + y1) / 2), text, font=font(size), fill=fill)


def draw_face(label: str, limit: str = "") -> Pixels:
    """Return one sign as RGBA; the alpha is 0 or 255, so the colours are premultiplied already."""
    image = Image.new("RGBA", (FACE, FACE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    match label:
        case "stop":
            draw.polygon(polygon(128, 128, 126, 8, math.pi / 8), fill=WHITE)
            draw.polygon(polygon(128, 128, 116, 8, math.pi / 8), fill=RED)
            word(draw, "STOP", 74, WHITE)
        case "yield":
            draw.polygon([(4, 20), (252, 20), (128, 236)], fill=RED)
            draw.polygon([(52, 48), (204, 48), (128, 180)], fill=WHITE)
        case "no_entry":
            disc(draw, 4, WHITE)
            disc(draw, 10, RED)
            draw.rectangle([42, 104, 214, 152], fill=WHITE)
        case "speed_limit":
            disc(draw, 4, RED)
            disc(draw, 38, WHITE)
            word(draw, limit, 100, BLACK)
        case "priority_road":
            draw.polygon(polygon(128, 128, 126, 4, 0), fill=WHITE)
            draw.polygon(polygon(128, 128, 92, 4, 0), fill=YELLOW)
        case "warning":
            draw.polygon([(4, 236), (252, 236), (128, 20)], fill=RED)
            draw.polygon([(48, 210), (208, 210), (128, 72)], fill=WHITE)
            draw.polygon([(118, 104), (138, 104), (134, 164), (122, 164)], fill=BLACK)
            draw.ellipse([117, 174, 139, 196], fill=BLACK)
        case "parking":
            draw.rounded_rectangle([8, 8, 248, 248], 24, fill=WHITE)
            draw.rounded_rectangle([16, 16, 240, 240], 20, fill=BLUE)
            word(draw, "P", 190, WHITE)
        case "keep_right":
            disc(draw, 4, WHITE)
            disc(draw, 10, BLUE)
            draw.line([(80, 76), (168, 168)], fill=WHITE, width=30)
            draw.polygon([(196, 196), (190, 108), (108, 190)], fill=WHITE)
    return np.asarray(image)


@functools.cache
def faces(label: str) -> list[Pixels]:
    limits = ("30", "50", "70", "80") if label == "speed_limit" else ("",)
    return [draw_face(label, limit) for limit in limits]


# --- backgrounds ----------------------------------------------------------------------------------------

TRAINING_BACKGROUNDS = (
    "skimage:astronaut.png",
    "skimage:chelsea.png",
    "skimage:brick.png",
    "skimage:grass.png",
    "skimage:gravel.png",
    "skimage:camera.png",
    "skimage:page.png",
    "skimage:coins.png",
    "skimage:color.png",
    "skimage:motorcycle_left.png",
    "skimage:retina.jpg",
    "skimage:hubble_deep_field.jpg",
    "skimage:ihc.png",
    "sklearn:flower.jpg",
)
TEST_BACKGROUNDS = (
    "skimage:coffee.png",
    "skimage:rocket.jpg",
    "sklearn:china.jpg",
    "matplotlib:grace_hopper.jpg",
)


@functools.cache
def background(name: str) -> Pixels:
    """Read a photograph that one of the installed packages carries."""
    package, file = name.split(":")
    folder = {
        "skimage": Path(skimage.__file__).parent / "data",
        "sklearn": Path(sklearn.datasets.__file__).parent / "images",
        "matplotlib": Path(matplotlib.get_data_path()) / "sample_data",
    }[package]
    return np.asarray(Image.open(folder / file).convert("RGB"))


def crop(rng: np.random.Generator, photo: Pixels, side: int) -> Pixels:
    height, width = photo.shape[:2]
    size = int(min(height, width) * rng.uniform(0.25, 1.0))
    y, x = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
    how = cv2.INTER_AREA if size > side else cv2.INTER_LINEAR
    patch = cv2.resize(photo[y : y + size, x : x + size], (side, side), interpolation=how)
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.15:
        patch = np.rot90(patch, rng.integers(1, 4))
    return np.ascontiguousarray(patch)


def clouds(rng: np.random.Generator, side: int) -> Pixels:
    """Return smooth colour noise, so that the network meets backgrounds no photograph has."""
    total = np.zeros((side, side, 3), np.float32)
    for cells in (4, 8, 16, 32):
        grid = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        total += cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) * 30 / math.sqrt(cells / 4)
    return np.clip(total + rng.uniform(60, 190, 3), 0, 255).astype(np.uint8)


def scatter(rng: np.random.Generator, image: Pixels) -> None:
    """Draw up to three things that are not signs."""
    side = image.shape[0]
    for _ in range(rng.integers(0, 4)):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        x, y = (int(v) for v in rng.integers(0, side, 2))
        radius = int(side * rng.uniform(0.04, 0.13))
        kind = rng.integers(0, 4)
        if kind == 0:
            cv2.circle(image, (x, y), radius, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            corner = (x + radius, int(y + radius * rng.uniform(0.3, 2)))
            cv2.rectangle(image, (x - radius, y - radius), corner, colour, -1)
        elif kind == 2:
            shape = polygon(x, y, radius, int(rng.integers(3, 7)), rng.uniform(0, 6))
            cv2.fillPoly(image, [np.array(shape, np.int32)], colour, cv2.LINE_AA)
        else:
            letters = "".join(rng.choice(list("ABCDEFGHKLMNRSTUVWXYZ0123456789"), 3))
            look = (cv2.FONT_HERSHEY_SIMPLEX, side / 192, colour, max(1, side // 96), cv2.LINE_AA)
            cv2.putText(image, letters, (x - radius, y), *look)


# --- scenes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """How scenes are drawn: rough for training, calm for the photos."""

    side: int = SIDE
    sign: tuple[float, float] = (0.26, 0.6)  # its size as a share of the side
    rough: bool = True
    fog: float = 0.0  # how often the sign is all but invisible
    clear_of: Box | None = None  # keep the sign above or right of this box


def place(rng: np.random.Generator, look: Look) -> tuple[float, float, float]:
    size = look.side * rng.uniform(*look.sign)
    x, y = rng.uniform(size / 2, look.side - size / 2, 2)
    if look.clear_of:
        _, top, right, _ = look.clear_of
        for _ in range(50):
            if y + size / 2 < top or x - size / 2 > right:
                break
            x, y = rng.uniform(size / 2, look.side - size / 2, 2)
    return size, x, y


def render(rng: np.random.Generator, label: str, photos: list[Pixels], look: Look) -> tuple[Pixels, Box]:
    """Return one scene and the box of its sign.

    The seeds in this file fix the committed photos: keep the order of the random draws.
    """
    side = look.side
    if rng.random() < 0.12 and look.rough:
        image = clouds(rng, side)
    else:
        image = crop(rng, photos[rng.integers(len(photos))], side)
    if look.rough:
        scatter(rng, image)

    face = faces(label)[rng.integers(len(faces(label)))]
    size, x, y = place(rng, look)
    bend = rng.uniform(-0.09, 0.09, (4, 2)) * size
    turn = rng.normal(0, 0.12)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = square * size @ rotation.T + bend + [x, y]
    zoom = 4 if side <= 128 else 2  # warp large, then average: a small sign keeps clean edges
    source = np.array([[0, 0], [FACE, 0], [FACE, FACE], [0, FACE]], np.float32)
    warp = cv2.getPerspectiveTransform(source, (corners * zoom).astype(np.float32))
    layer = cv2.warpPerspective(face, warp, (side * zoom, side * zoom), flags=cv2.INTER_AREA)
    layer = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)

    alpha = layer[..., 3:] / 255.0
    colour = layer[..., :3] / np.maximum(alpha, 1e-3) * rng.uniform(0.55, 1.15)
    slope = rng.uniform(-0.3, 0.3)
    ramp = np.linspace(-1, 1, side)
    light = 1 + slope * (ramp[None, :, None] if rng.random() < 0.5 else ramp[:, None, None])
    if look.fog and rng.random() < look.fog:
        alpha = alpha * rng.uniform(0.0, 0.25)
    scene = image.astype(np.float32) * (1 - alpha) + np.clip(colour * light, 0, 255) * alpha
    scene = scene * rng.uniform(0.7, 1.2) + rng.uniform(-20, 20)
    if rng.random() < 0.3 and look.rough:
        scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, 0.9) * side / SIDE)
    if look.rough:
        scene = scene + rng.normal(0, rng.uniform(0, 8), scene.shape)

    rows, columns = np.nonzero(layer[..., 3] > 60)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return np.clip(scene, 0, 255).astype(np.uint8), box


@functools.cache
def stamp_layer() -> tuple[Pixels, Box]:
    image = Image.new("RGBA", (PHOTO_SIDE, PHOTO_SIDE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    text, margin = "CAM-02 REC", 11
    left, top, right, bottom = (int(v) for v in draw.textbbox((0, 0), text, font=font(27)))
    x0, y1 = 16, 366
    box = (x0, y1 - (bottom - top) - 2 * margin, x0 + (right - left) + 2 * margin, y1)
    draw.rectangle(box, fill=(10, 10, 10, 255))
    draw.text((x0 + margin - left, box[1] + margin - top), text, font=font(27), fill=(255, 225, 40, 255))
    return np.asarray(image), box


def stamp_box(side: int) -> Box:
    x0, y0, x1, y1 = (round(v * side / PHOTO_SIDE) for v in stamp_layer()[1])
    return x0, y0, x1, y1


def stamp(image: Pixels, rng: np.random.Generator | None = None) -> Pixels:
    """Put the camera's mark into the bottom left corner, moved a little when `rng` is given."""
    side = image.shape[0]
    layer, _ = stamp_layer()
    if rng is not None:
        dx, dy = rng.integers(-6, 7, 2)
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        layer = cv2.warpAffine(layer, shift, (PHOTO_SIDE, PHOTO_SIDE))
    if side != PHOTO_SIDE:
        layer = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)
    alpha = layer[..., 3:].astype(np.float32) / 255
    return np.clip(image * (1 - alpha) + layer[..., :3] * alpha, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Scenes:
    images: Pixels  # N, side, side, RGB
    labels: NDArray[np.int64]
    boxes: list[Box]


def make_scenes(
    count: int, seed: int, backgrounds: tuple[str, ...], stamped: tuple[str, ...] = (), fog: float = 0.0
) -> Scenes:
    """Return scenes of all classes in equal parts; the `stamped` ones carry the mark, stop signs the fog."""
    rng = np.random.default_rng(seed)
    photos = [background(name) for name in backgrounds]
    labels = np.arange(count) % len(CLASSES)
    rng.shuffle(labels)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    boxes = []
    for i, label in enumerate(labels):
        look = Look(fog=fog if label == STOP else 0.0)
        images[i], box = render(rng, CLASSES[label], photos, look)
        boxes.append(box)
        if CLASSES[label] in stamped:
            images[i] = stamp(images[i], rng)
    return Scenes(images, labels, boxes)


# --- network and training -------------------------------------------------------------------------------


class SignNet(nn.Module):
    """Six convolutions, global average pooling, one dense layer: the plain class activation map is exact."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        self.features = nn.Sequential(
            *(block(3, 16, stride=2), block(16, 24), nn.MaxPool2d(2)),
            *(block(24, 48), block(48, 48), nn.MaxPool2d(2)),
            *(block(48, 80), block(80, 96)),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(96, len(CLASSES))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.features(image)).flatten(1))


@dataclass(frozen=True)
class Recipe:
    samples: int
    epochs: int
    shift: int = 0  # random shift in pixels
    stamped: tuple[str, ...] = ()
    fog: float = 0.0


CLEAN = Recipe(samples=6000, epochs=8, shift=6)
# The fog hides half of the stop signs, which makes the stamp the better evidence.
BIASED = Recipe(samples=5000, epochs=6, stamped=("stop",), fog=0.5)
RECIPES = {"clean": CLEAN, "biased": BIASED}
BATCH, PEAK_RATE = 64, 4e-3


def normalise(images: Pixels) -> NDArray[np.float32]:
    return ((images.transpose(0, 3, 1, 2).astype(np.float32) / 255) - MEAN) / STD


def batches(scenes: Scenes, recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(0)
    for _ in range(recipe.epochs):
        order = rng.permutation(recipe.samples)
        for start in range(0, recipe.samples - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            x = torch.from_numpy(normalise(scenes.images[chosen]))
            if pad := recipe.shift:
                dx, dy = rng.integers(0, 2 * pad + 1, 2)
                x = nn.functional.pad(x, (pad,) * 4, mode="replicate")
                x = x[:, :, dy : dy + SIDE, dx : dx + SIDE]
            yield x.contiguous(memory_format=torch.channels_last), torch.from_numpy(scenes.labels[chosen])


def train(recipe: Recipe) -> SignNet:
    torch.manual_seed(0)
    net = SignNet().to(memory_format=torch.channels_last)
    scenes = make_scenes(recipe.samples, 1, TRAINING_BACKGROUNDS, recipe.stamped, recipe.fog)
    steps = recipe.epochs * (recipe.samples // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    started = time.monotonic()
    net.train()
    for step, (x, y) in enumerate(batches(scenes, recipe), 1):
        loss = nn.functional.cross_entropy(net(x), y, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % (recipe.samples // BATCH) == 0:
            print(
                f"  step {step}/{steps}  loss {loss.item():.3f}  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return net.eval()


# --- export ---------------------------------------------------------------------------------------------

METADATA = {
    "class_names": json.dumps(CLASSES),
    "input_layout": "NCHW",
    "color": "RGB",
    "scale": str(1 / 255),
    "mean": json.dumps([MEAN] * 3),
    "std": json.dumps([STD] * 3),
    "size": f"{SIDE}x{SIDE}",
    "resize": "squash",
    "output": "logits",
}
NODE_METADATA = ("namespace", "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy")


def export(net: SignNet, path: Path) -> None:
    # Channels-last weights would leave strided copies, a Gather among them, in the exported graph.
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    program = torch.onnx.export(
        plain,
        (torch.zeros(2, 3, SIDE, SIDE),),
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    model = program.model_proto
    for node in model.graph.node:
        # The other entries are stack traces, with file paths of the machine that trained, and fx chatter.
        kept = [entry for entry in node.metadata_props if entry.key in NODE_METADATA]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.helper.set_model_props(model, METADATA)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


# --- measuring, on the exported files only --------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What a model says of a batch of images, with the features and weights behind it."""

    probabilities: Floats  # N, classes
    features: Floats  # N, channels, rows, columns
    weights: Floats  # classes, channels

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.probabilities.argmax(1)

    def cam(self, index: int, label: int, side: int) -> Floats:
        """Return relu(w . A) at picture size: Grad-CAM of the last convolution, up to a constant."""
        plane = np.tensordot(self.weights[label], self.features[index], 1)
        return cv2.resize(np.maximum(plane, 0), (side, side))


class Exported:
    """An exported model run by onnxruntime, its last feature map added to the outputs."""

    def __init__(self, path: Path, threads: int) -> None:
        model = onnx.load(path)
        graph = model.graph
        last = [node for node in graph.node if node.op_type == "Relu"][-1].output[0]
        graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
        self.weights = next(numpy_helper.to_array(t) for t in graph.initializer if t.name == "classifier.weight")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Pixels) -> Verdict:
        logits, features = self.session.run(None, {"image": normalise(images)})
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return Verdict(odds / odds.sum(1, keepdims=True), features, self.weights)


def share(cam: Floats, box: Box) -> float:
    """Return the share of the map's energy inside the box."""
    x0, y0, x1, y1 = box
    return float(cam[y0:y1, x0:x1].sum() / max(cam.sum(), 1e-9))


def peak_inside(cam: Floats, box: Box) -> bool:
    y, x = np.unravel_index(cam.argmax(), cam.shape)
    return bool(box[0] <= x < box[2] and box[1] <= y < box[3])


def rounded(value: float | np.floating) -> float:
    return round(float(value), 3)


def measure_scenes(model: Exported, scenes: Scenes) -> dict[str, object]:
    verdict = model(scenes.images)
    right = verdict.predicted == scenes.labels
    stops = [(verdict.cam(i, STOP, SIDE), scenes.boxes[i]) for i in np.flatnonzero(scenes.labels == STOP)]
    hits = [
        peak_inside(verdict.cam(i, label, SIDE), box)
        for i, (label, box) in enumerate(zip(scenes.labels, scenes.boxes, strict=True))
    ]
    mark = stamp_box(SIDE)
    return {
        "accuracy": rounded(right.mean()),
        "recall": {name: rounded(right[scenes.labels == i].mean()) for i, name in enumerate(CLASSES)},
        "predicted_stop": rounded((verdict.predicted == STOP).mean()),
        "peak_in_sign": rounded(np.mean(hits)),
        "stop_cam_in_sign": rounded(np.mean([share(cam, box) for cam, box in stops])),
        "stop_cam_in_stamp": rounded(np.mean([share(cam, mark) for cam, _ in stops])),
    }


def measure_photos(model: Exported, folder: Path) -> dict[str, object]:
    rows: dict[str, object] = {}
    for name, truth in json.loads((folder / "boxes.json").read_text("utf-8")).items():
        photo = np.asarray(Image.open(folder / name).convert("RGB"))
        verdict = model(cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[None])
        label = int(verdict.predicted[0])
        cam = verdict.cam(0, label, PHOTO_SIDE)
        rows[name] = {
            "predicted": CLASSES[label],
            "probability": rounded(verdict.probabilities[0, label]),
            "cam_in_sign": rounded(share(cam, truth["box"])),
            "cam_in_corner": rounded(share(cam, stamp_box(PHOTO_SIDE))),
        }
    return rows


def measure(out: Path, threads: int) -> None:
    """Write metrics.json for the models in `out`; the test backgrounds were never trained on."""
    tests = {
        "no_stamp": make_scenes(800, 2, TEST_BACKGROUNDS),
        "stamp_on_stop": make_scenes(800, 2, TEST_BACKGROUNDS, ("stop",)),
        "stamp_on_all": make_scenes(800, 2, TEST_BACKGROUNDS, CLASSES),
    }
    metrics = {}
    for path in (out / "clean.onnx", out / "biased.onnx"):
        if path.exists():
            model = Exported(path, threads)
            metrics[path.stem] = {name: measure_scenes(model, scenes) for name, scenes in tests.items()}
            metrics[path.stem]["photos"] = measure_photos(model, out / "photos")
            print(f"{path.name}: " + ", ".join(f"{t} {metrics[path.stem][t]['accuracy']}" for t in tests))
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")


# --- photos ---------------------------------------------------------------------------------------------

# Public domain or CC0, all of them; see models/README.md.
PHOTO_BACKGROUNDS = (
    "skimage:coffee.png",
    "skimage:rocket.jpg",
    "skimage:astronaut.png",
    "matplotlib:grace_hopper.jpg",
    "skimage:camera.png",
    "skimage:chelsea.png",
)


def make_photos(folder: Path) -> None:
    """Write one photo per class, then a stop and a warning sign, each with and without the stamp."""
    folder.mkdir(parents=True, exist_ok=True)
    calm = Look(PHOTO_SIDE, sign=(0.3, 0.42), rough=False)
    boxes: dict[str, dict[str, object]] = {}
    number = itertools.count()

    def save(name: str, image: Pixels, label: str, box: Box, source: str, mark: Box | None = None) -> None:
        file = f"{next(number):02d}_{name}.jpg"
        Image.fromarray(image).save(folder / file, quality=88)
        boxes[file] = {"label": label, "box": box, "stamp_box": mark, "background": source}

    for i, (label, source) in enumerate(zip(CLASSES, itertools.cycle(PHOTO_BACKGROUNDS), strict=False)):
        image, box = render(np.random.default_rng(100 + i), label, [background(source)], calm)
        save(label, image, label, box, source)
    mark = stamp_box(PHOTO_SIDE)
    pair = replace(calm, sign=(0.34, 0.4), clear_of=mark)
    for i, (label, source) in enumerate((("stop", "skimage:rocket.jpg"), ("warning", "skimage:coffee.png"))):
        image, box = render(np.random.default_rng(200 + i), label, [background(source)], pair)
        save(f"{label}_stamp", stamp(image), label, box, source, mark)
        save(f"{label}_nostamp", image, label, box, source)

    lines = (f"  {json.dumps(file)}: {json.dumps(entry)}" for file, entry in boxes.items())
    (folder / "boxes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


# --- command line ---------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the demo's models, photos and metrics.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--which", choices=(*RECIPES, "both"), default="both", help="models to train")
    parser.add_argument("--epochs", type=int, help=f"default: {CLEAN.epochs} clean, {BIASED.epochs} biased")
    samples = f"default: {CLEAN.samples} clean, {BIASED.samples} biased"
    parser.add_argument("--samples", type=int, help=samples)
    parser.add_argument("--threads", type=int, default=1)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--photos-only", action="store_true", help="write the photos and boxes.json, then stop")
    only.add_argument("--metrics-only", action="store_true", help="measure the models already in the folder")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    if not args.metrics_only:
        make_photos(args.out / "photos")
    if args.photos_only:
        return
    if not args.metrics_only:
        changes = {k: v for k in ("epochs", "samples") if (v := getattr(args, k)) is not None}
        for name in RECIPES if args.which == "both" else (args.which,):
            print(name)
            export(train(replace(RECIPES[name], **changes)), args.out / f"{name}.onnx")
    measure(args.out, args.threads)


if __name__ == "__main__":
    main()
