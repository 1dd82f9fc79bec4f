"""One row of docs/matrix.md: everything that one model file is asked. `matrix.py` runs this for every file.

Gradients are held against central differences along random directions, at the input and at a layer; those of quantised
models against the twin of `straight.py`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx_ir as ir
import straight
from scipy.io import wavfile

import onnx_inspect as oi
from onnx_inspect.autodiff.gradient import differentiate, scored
from onnx_inspect.doctor import examine, feeds
from onnx_inspect.errors import InspectError
from onnx_inspect.maps import blank
from onnx_inspect.methods.job import SCORE, Job
from onnx_inspect.methods.registry import METHODS, every
from onnx_inspect.naming import Layer
from onnx_inspect.rewrite import cut, expose
from onnx_inspect.structure import needed
from onnx_inspect.target import Element, Index

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import blobs  # noqa: E402
from tests.differences import in_double  # noqa: E402

SHARED = ROOT.parent / "shared"
PHOTO = next(
    (p for p in [SHARED / "assets/images/imagenet/n02099601_golden_retriever.jpg"] if p.exists()),
    ROOT / "models/signs/photos/00_stop.jpg",
)
FIXTURES = ROOT / "tests" / "zoo"  # trained on the made-up data of tests/blobs.py
STANDARD = ("jax", "keras", "paddle")  # whose tables were standardised before they were trained on
LIMIT = 120  # seconds per cell
DIRECTIONS, STEPS = 4, (1e-6, 1e-5, 1e-7, 1e-4)
AGREES, HALF = 1e-3, 5e-2  # how far off a gradient may be, and that of a model in half precision

# One method per family, with as few samples as say that it works.
CELLS: dict[str, dict[str, Any]] = {
    "gradcam": {},
    "layercam": {},
    "eigencam": {},
    "scorecam": {},
    "cam": {},
    "saliency": {},
    "integrated_gradients": {"steps": 8},
    "smoothgrad": {"samples": 4},
    "guided_backprop": {},
    "lrp": {},
    "deeplift": {},
    "occlusion": {},
    "rise": {"samples": 32},
    "lime": {"samples": 600},
    "feature_ablation": {},
    "activations": {},
}
# How models are fed that a guess would feed wrongly: fields of Preprocessing.
FLAGS: dict[str, dict[str, Any]] = {
    "squeezenet1.1": {"preset": "caffe"},
    "yolox_nano": {"preset": "raw", "color": "BGR", "resize": "letterbox"},
    "ultraface": {"mean": (127.0,), "std": (128.0,), "resize": "squash"},
    "cifar10_cnn": {"scale": 1 / 255, "mean": (0.5,), "std": (0.5,)},
    "resnet8": {"preset": "raw"},
    "fer2013": {"scale": 1 / 255, "mean": (0.5,), "std": (0.5,), "color": "GREY"},
}
SPEECH = SHARED / "assets/images/audio/hey_jane.wav"


def row_of_table(path: Path) -> dict[str, Any]:
    """A row as the tables of tests/zoo have it; nothing for other files."""
    index = path.with_name("index.json")
    known = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    entry = next((e for e in known if e["file"] == path.name), {})
    columns = (entry.get("truth") or {}).get("columns", {})
    if isinstance(columns, list):
        columns = {next(iter(entry["inputs"])): columns}
    usual = {c: m + d / 2 for c, m, d in zip(blobs.COLUMNS, blobs.MEANS, blobs.DEVIATIONS, strict=True)}
    row = {
        name: np.array([["calm"]], object) if own == ["pulse"] else np.array([[usual[c] for c in own]], np.float32)
        for name, own in columns.items()
    }
    return {k: blobs.standard(v) for k, v in row.items()} if entry.get("from") in STANDARD else row


def speech(path: Path) -> dict[str, Any]:
    """The loudest 32 ms of a recording, for the model that hears speech; nothing for other files."""
    if "silero" not in path.name:
        return {}
    rate, heard = wavfile.read(SPEECH)
    pieces = heard[: len(heard) // 512 * 512].reshape(-1, 512) / np.float32(2**15)
    return {"sr": np.array(rate), "input": pieces[[np.abs(pieces).mean(axis=1).argmax()]]}


def photo(path: Path) -> tuple[Path, dict[str, Any]]:
    """What a file is asked about, and how it is fed where a guess would feed it wrongly."""
    if path.parent != FIXTURES:
        return PHOTO, next((v for k, v in FLAGS.items() if k in path.name), {})
    made = Path(tempfile.mkdtemp()) / "blobs.png"
    cv2.imwrite(str(made), blobs.photos(seed=1, count=1, size=(48, 80))[0].pixels[..., ::-1])
    return made, {"preset": "raw" if "uint8" in path.name else "unit"}


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def cell(ask: Callable[[], str]) -> str:
    """What was answered: the answer, or a sentence."""
    try:
        with limited(LIMIT):
            return ask()
    except TimeoutError:
        return f"SLOW: more than {LIMIT} s."
    except InspectError as error:
        return f"SLOW: more than {LIMIT} s." if "TimeoutError" in str(error) else str(error)
    except Exception as error:
        return f"TRACEBACK: {type(error).__name__}: {error}"


def examined(path: Path) -> dict[str, Any]:
    """All cells of one file."""
    every()
    engine = oi.Engine("cpu", threads=1)
    row: dict[str, Any] = {}
    found: list[Any] = []
    row["loads"] = cell(lambda: found.append(oi.load(path)) or "ok")
    if not found:
        return row
    model = found[0]
    row["layers"] = str(len(model.layers))
    picture, flags = photo(path)
    made: list[Any] = []

    def ready() -> str:
        try:
            values, how, _ = feeds.make(model, [picture], flags, engine)
        except InspectError:  # no photos
            values, how, _ = feeds.make(model, [], {}, engine)
        values |= speech(path) | row_of_table(path)
        made.append((values, how, aim(model, values, engine)))
        return "ok"

    if (trouble := cell(ready)) != "ok":
        return row | dict.fromkeys(("grid", "input", "layer", *CELLS), trouble)
    values, how, target = made[0]
    row["target"] = str(target)

    def job() -> Job:
        return Job(model, values, target, engine=engine, preprocessing=how)

    layer, mapped = None, None

    def grid() -> str:
        nonlocal layer, mapped
        mapped = job()
        layer = mapped.layer("auto")
        return extent(layer)

    row["grid"] = cell(grid)
    at = layer.tensor if layer is not None else middle(model)
    row["input"] = cell(lambda: verified(job(), job().attributed()[0]))
    row["layer"] = cell(lambda: verified(mapped if layer else job(), at)) if at else "-"
    fitting: dict[str, bool] = {}

    def diagnosed() -> str:
        report = examine(model, [], target, preprocessing=flags if how is not None else None)
        fitting.update(report.fitting)
        return report.verdict

    row["doctor"] = cell(diagnosed)
    for name, more in CELLS.items():
        given = {"target": target, **more} if name != "activations" else more
        ask = partial(METHODS[name], model, values, engine=engine, preprocessing=how, **given)
        row[name] = cell(lambda ask=ask: judged(ask()))
    row["claims"] = sorted(n for n, fits in fitting.items() if n in CELLS and fits != (row[n] in ("ok", "blank")))
    return row


def aim(model: oi.Model, values: dict[str, Any], engine: oi.Engine) -> Any:
    """The top class, the first detection, a class of a segmentation; else the largest element of an output."""
    if Job(model, values, engine=engine).scores is not None:
        return "top"
    for target in ("box:1", "segmentation:class=1"):
        with contextlib.suppress(InspectError):
            Job(model, values, target, engine=engine).fixed  # noqa: B018  (finds it)
            return target
    output = next((o for o in model.outputs if o.dtype.startswith("float")), None)
    if output is None:
        return "top"
    one = engine.run(model, values, [output.name])[output.name][0]
    return Element(output.name, tuple(int(i) for i in np.unravel_index(np.nanargmax(one), one.shape)), "output")


def extent(layer: Layer) -> str:
    """What a layer's positions are: a map, a grid of tokens, a signal or nothing of the kind."""
    if layer.grid is not None:
        return f"{'signal' if len(layer.grid.sizes) == 1 else 'tokens'} {layer.grid}"
    sizes = [
        d if isinstance(d, int) else "?" for a, d in zip(layer.layout or "", layer.shape, strict=False) if a in "DHW"
    ]
    return f"{'signal' if len(sizes) == 1 else 'map'} {'×'.join(map(str, sizes))}" if sizes else "vector"


def middle(model: oi.Model) -> str:
    """A tensor half way to what is explained, where there is no map."""
    path = set.union(*(needed(model.ir.graph, v) for v in model.ir.graph.outputs[:1]))
    floats = [at for at in model.layers if model.values[at.tensor] in path]
    return floats[len(floats) // 2].tensor if floats else ""


def verified(job: Job, tensor: str) -> str:
    """How far the gradient is from central differences along random directions, as a share of these.

    The model is differentiated as it is; differences are those of its twin in float64, on onnx's own implementation. Of
    several steps the first that agrees counts: long ones meet kinks, short ones drown in rounding. Maps behind a Relu
    are full of zeros that tie where a maximum follows: such a map is compared once more a little beside where it is.
    """
    target, name = job.fixed[0], f"gradient.{tensor}"
    given = job.feeds | target.feeds(job.n)

    def gradient(model: oi.Model, feeds: Mapping[str, Any]) -> Any:
        return job.engine.run(differentiate(model, target, [tensor], score=SCORE), feeds, [name])[name]

    if not (found := gradient(job.model, given)).any():
        return "blank"
    smooth, place = straight.twin(job.model, job.feeds, job.engine), whereabouts(job)
    smooth, end = (smooth, job.scores.tensor) if job.scores and place else (scored(smooth, target, score=SCORE), SCORE)
    kinds = {s.name: np.dtype(s.dtype) for s in smooth.inputs if s.dtype != "unknown"}  # words stay as they are
    fed = {s.name: np.asarray(given[s.name], kinds.get(s.name)) for s in smooth.inputs}
    outer = smooth.values[tensor].is_graph_input()
    start = fed[tensor] if outer else job.engine.run(expose(smooth, [tensor]), fed, [tensor])[tensor]
    part = cut(smooth, [tensor], [end])
    rest = {s.name: fed[s.name] for s in part.inputs if s.name != tensor}
    sign = -1 if place and job.scores and job.scores.count == 1 and target.index == 0 else 1
    score = _score(in_double(part), end, rest, tensor, place, sign)
    bound = HALF if any(v.dtype == ir.DataType.FLOAT16 for v in job.model.values.values()) else AGREES
    off = _off(score, start, found, bound)
    if off > bound and not outer and not any(n.op_type in straight.QUANTISERS for n in job.model.ir.graph):
        size = np.abs(start).max()
        beside = (start + np.random.default_rng(1).normal(0, 0.1 * size, start.shape)).astype(start.dtype)
        off = _off(score, beside, gradient(cut(job.model, [tensor]), given | {tensor: beside}), bound)
    return f"{off:.0e}" if off <= bound else f"WRONG: {off:.2g} off central differences."


def _score(
    forward: Any, end: str, rest: Mapping[str, Any], tensor: str, place: tuple[int, ...], sign: int
) -> Callable[[Any], float]:
    """The explained score as a function of one tensor."""
    wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in rest.items()}

    def score(x: Any) -> float:
        found = np.asarray(forward.run([end], wide | {tensor: x})[0])
        return sign * float(found.reshape(-1)[place[-1]] if place else found.sum())

    return score


def _off(score: Callable[[Any], float], start: Any, gradient: Any, bound: float) -> float:
    """How far a gradient is from differences: at the first step that is within the bound, or at the best."""
    along = np.random.default_rng(0).normal(size=(DIRECTIONS, *start.shape))
    expected, off = (along * gradient.astype(np.float64)).reshape(DIRECTIONS, -1).sum(axis=1), list[float]()
    size = float(np.sqrt(np.mean(np.square(start, dtype=np.float64)))) or 1.0
    for h in np.array(STEPS) * size:
        measured = np.array([(score(start + h * v) - score(start - h * v)) / (2 * h) for v in along])
        off.append(float(np.linalg.norm(measured - expected) / max(np.linalg.norm(measured), 1e-30)))
        if off[-1] <= bound:
            return off[-1]
    return min(off)


def whereabouts(job: Job) -> tuple[int, ...]:
    """Where in the class scores the explained one stands; nowhere if a target writes its own score."""
    target = job.fixed[0]
    if job.scores is None or not isinstance(target, Index):
        return ()
    return (0 if job.scores.count == 1 else int(np.ravel(target.index)[0]),)


def judged(result: oi.Attribution) -> str:
    """Whether a result says something: finite, not zero, not the same everywhere; or owns up to it in a note."""
    told = any("zero everywhere" in note or "same everywhere" in note for note in result.notes)
    for one in result.heat:
        if not np.isfinite(one).all():
            return "NONSENSE: not finite."
        if one.size > 1 and blank(one):
            return "blank" if told else "NONSENSE: the same everywhere, and no note says so."
    return "ok"


if __name__ == "__main__":
    print(json.dumps(examined(Path(sys.argv[1]))))
