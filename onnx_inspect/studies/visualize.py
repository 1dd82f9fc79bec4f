"""What a class, a unit, a channel or a direction looks like to a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from .. import charts, layout
from ..ascent import styles
from ..ascent.aims import aims_of
from ..ascent.climb import Climb, climb
from ..ascent.easel import GREY, Easel, whole
from ..ascent.objective import Direction
from ..errors import InputError
from ..files import short_names
from ..film import Format, interval
from ..finding import Finding
from ..methods import predict
from ..methods.inputs import ModelLike
from ..methods.job import SCORE
from ..methods.setting import How
from ..target import Index, Target
from .registry import study

if TYPE_CHECKING:
    from numpy.typing import NDArray

Style = Literal["fourier", "yosinski", "simonyan"]
STYLES: dict[Style, tuple[Callable[..., styles.Way], float, str]] = {  # the way, its usual rate, its own numbers
    "fourier": (styles.fourier, 0.05, "jitter rotate zoom"),
    "simonyan": (styles.simonyan, 1.5, "l2"),
    "yosinski": (styles.yosinski, 5.0, "decay blur blur_every small_norm small_contribution"),
}
LIMITS = {  # of numbers that are not just at least 0
    "jitter": (0, 1),
    "rotate": (0, 180),
    "zoom": (0, 0.9),
    "decay": (0, 1),
    "blur": (0, 100),
    "blur_every": (1, np.inf),
    "small_norm": (0, 100),
    "small_contribution": (0, 100),
}


@study
def visualize(
    model: ModelLike,
    *,
    target: Sequence[str] = (),
    layer: str = "",
    channel: Sequence[int] = (),
    direction: str = "",
    cosine: bool = False,
    style: Style = "fourier",
    steps: int = 256,
    rate: float = 0.0,
    jitter: float = 0.05,
    rotate: float = 10.0,
    zoom: float = 0.1,
    l2: float = 0.001,
    decay: float = 0.005,
    blur: float = 0.7,
    blur_every: int = 4,
    small_norm: float = 20.0,
    small_contribution: float = 20.0,
    seed: int = 0,
    seconds: float = 0.0,
    film: Format = "",
    every: int = 0,
    **how: Unpack[How],
) -> Finding:
    """Images by ascent: what a class, a unit, a channel or a direction looks like to the model.

    The picture I that raises a score S(I) by gradient ascent: the class before its softmax, a unit ("layer[7,2,2]"),
    the mean of a channel over all positions, or of the features along a direction. Three ways to a picture rather than
    to noise. fourier: I is made of waves of the sizes that photos have, in colours that vary independently; Adam; and I
    is shifted, turned and scaled at random before each step. simonyan: S(I) - l2 |I - grey|^2, I in shares of full
    colour. yosinski: after each step I decays towards grey, is blurred every few steps, and pixels of small norm or
    contribution become grey. Pixels lie in 0 to 255 throughout; scores are given for the picture that is saved, of
    whole pixels, which is the one called after its target beside the overview. Save it as PNG: JPEG changes it.

    Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014; Yosinski et al., Understanding Neural
    Networks Through Deep Visualization, 2015; Olah et al., Feature Visualization, Distill 2017.

    Args:
        target: classes by index or name, top, or units, "layer[7,2,2]"; several make a grid. Where neither they nor a
            layer are given: all classes if there are at most 10, else the one that the model sees in plain grey.
        layer: the layer of the channels or the direction; auto chooses.
        channel: channels of the layer; the first 9 if none are given.
        direction: a .npy file with a number per channel of the layer, by default what the class scores are made from.
        cosine: weigh the features along a direction by their cosine with it: purer, but weaker.
        style: fourier, yosinski or simonyan.
        steps: how many.
        rate: of the steps; 0 for the style's own: 0.05 for fourier's Adam, else the pixel steps that a number moves by
            on average, 1.5 or (yosinski) 5.
        jitter: fourier: the most that the picture is shifted by, as a share of its sides.
        rotate: fourier: the most degrees that it is turned by.
        zoom: fourier: the most that it is scaled by, as a share.
        l2: simonyan: weight of the sum of squares.
        decay: yosinski: share of the contrast that is lost at each step.
        blur: yosinski: deviation of the Gaussian in pixels; 0 for none.
        blur_every: yosinski: steps from one blur to the next.
        small_norm: yosinski: per cent of the pixels, those of smallest norm, that become grey.
        small_contribution: yosinski: per cent of the pixels, those that count least for the score, that become grey.
        seed: of the first picture and of the shifts: the same seed gives the same bytes.
        seconds: how long at the most, for all pictures; 0 for as long as it takes.
        film: also write the way from grey as a film, gif or mp4, or its frames, png.
        every: steps from one frame of the film to the next; 0 for 60 frames.

    Raises:
        TargetError: no such target, or it does not depend on the input.
        InputError: the input is no picture, or takes whole numbers; or a number is out of its range.

    Example:
        >>> visualize("model.onnx", target=["flamingo", "daisy"]).save("flowers_and_birds")
    """
    numbers: dict[str, Any] = {
        "jitter": jitter,
        "rotate": rotate,
        "zoom": zoom,
        "l2": l2,
        "decay": decay,
        "blur": blur,
        "blur_every": blur_every,
        "small_norm": small_norm,
        "small_contribution": small_contribution,
    }
    _check(rate=rate, **numbers)
    make, usual, names = STYLES[style]
    own = {name: numbers[name] for name in names.split()}
    rate = rate or usual
    easel = Easel(model, **how)
    aims = aims_of(easel, target, layer, channel, direction, cosine)
    every = interval(film, every, steps)
    files = _files(aims)
    begun = time.monotonic()
    made: list[tuple[str, Climb, dict[str, Any]]] = []
    for name, aim in aims.items():
        easel.target, way = aim, make(easel.size, seed, easel.grey, rate, **own)
        climbed = climb(
            easel.slope,
            way.canvas,
            way.stride,
            steps,
            penalties=way.penalties,
            view=way.view,
            after=way.after,
            seed=seed,
            seconds=max(1e-3, (seconds - time.monotonic() + begun) / (len(aims) - len(made))) if seconds else 0.0,
            every=every if film else 0,
            name=name,
            progress=easel.progress,
        )
        made.append((name, climbed, _record(easel, name, files[name], aim, climbed)))
        easel.notes += [climbed.ended] if climbed.ended else []
    named = {e["layer"] for *_, e in made if e["layer"]}
    return easel.finding(
        "visualize",
        {"pictures": [record for *_, record in made]},
        pictures=_pictures(made),
        arrays={f"history.{record['picture']}": np.array(climbed.history) for _, climbed, record in made},
        frames=_frames([(record, climbed.frames) for _, climbed, record in made]) if film else (),
        lines=[_line(record) for *_, record in made],
        layer=named.pop() if len(named) == 1 else "",
        params={
            "style": style,
            "steps": steps,
            "rate": rate,
            **own,
            "cosine": cosine,
            "seed": seed,
            "seconds": seconds,
            "film": film,
            "size": list(easel.size),
        },
    )


def _check(**numbers: float) -> None:
    """InputError for numbers out of their range."""
    for name, value in numbers.items():
        least, most = LIMITS.get(name, (0, np.inf))
        if not least <= value <= most:
            wanted = f"at least {least}" if most == np.inf else f"from {least} to {most:g}"
            word = name.replace("_", "-")
            raise InputError(f"A {word.replace('-', ' ')} of {value} is impossible: it has to be {wanted} (--{word}).")


def _files(aims: dict[str, Target]) -> dict[str, str]:
    """What the files of the pictures are called: all differently."""
    names = [f"class{aim}" if isinstance(aim, Index) else name for name, aim in aims.items()]
    return dict(zip(aims, short_names(names, 80), strict=True))


# What became of it.


def _record(easel: Easel, name: str, file: str, aim: Target, climbed: Climb) -> dict[str, Any]:
    """What the model says of the picture, before and after it was made whole pixels."""
    saved = easel.look(whole(climbed.pixels))
    layer = ""
    if isinstance(aim, Direction):
        layer = next(c.name for c in easel.model.layers if c.tensor == aim.tensor)
    record = {
        "name": name,
        "picture": file,
        "target": name if isinstance(aim, Direction) else str(aim),
        "layer": layer,
        "score": float(saved[SCORE][0]),
        "score_before_rounding": float(easel.look(climbed.pixels)[SCORE][0]),
        "score_of_grey": float(easel.look(np.full((*easel.size, 3), GREY))[SCORE][0]),
        "steps": len(climbed.history),
    }
    rows = easel.rows(saved)
    if rows is not None:
        ranked = predict.ranked(rows, easel.probabilities(rows), easel.labels)[0]
        record["predictions"] = [vars(p) for p in ranked[:5]]
        if isinstance(aim, Index):
            record["probability"] = next(p.probability for p in ranked if p.index == aim.index)
    if climbed.flat == len(climbed.history):
        easel.notes.append(
            f"'{name}' has no gradient anywhere on the way: its picture shows nothing (--seed, --target)"
        )
    return record


def _line(record: dict[str, Any]) -> str:
    sure = f"   {100 * record['probability']:5.1f} %" if "probability" in record else ""
    return f"{record['name']:<28} score {record['score_of_grey']:8.3g} in grey, {record['score']:8.4g} here{sure}"


def _tile(picture: NDArray[np.uint8], record: dict[str, Any]) -> NDArray[np.uint8]:
    sure = f", {100 * record['probability']:.1f} %" if "probability" in record else ""
    heads = [record["name"], f"score {record['score']:.4g}{sure} (grey {record['score_of_grey']:.3g})"]
    return layout.titled(layout.enlarge(picture), heads, 15)


def _pictures(made: list[tuple[str, Climb, dict[str, Any]]]) -> dict[str, NDArray[np.uint8]]:
    exact = {record["picture"]: whole(climbed.pixels) for _, climbed, record in made}
    tiles = [_tile(exact[record["picture"]], record) for *_, record in made]
    longest = max(len(climbed.history) for _, climbed, _ in made)
    series = {name: [*c.history, *[np.nan] * (longest - len(c.history))] for name, c, _ in made}
    curve = charts.curves(range(longest), series, title="score while climbing", xlabel="step", ylabel="score")
    return {"": layout.frame(layout.grid(tiles, gap=12), 10), "curve": charts.figure([curve]), **exact}


def _frames(made: list[tuple[dict[str, Any], list[NDArray[np.uint8]]]]) -> list[NDArray[np.uint8]]:
    """The pictures side by side, frame by frame; one that was ready earlier waits."""
    longest = max(len(frames) for _, frames in made)
    return [
        layout.frame(
            layout.grid(
                [layout.titled(layout.enlarge(f[min(k, len(f) - 1)]), [record["name"]], 15) for record, f in made],
                gap=12,
            ),
            10,
        )
        for k in range(longest)
    ]
