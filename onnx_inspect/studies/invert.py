"""From a layer's features back to a picture: what a network still knows of a photo, from first layer to last."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .. import depth
from ..ascent import recovered
from ..ascent.climb import Adam, Climb, climb
from ..ascent.distance import AlphaNorm, Likeness, Shrinking, TotalVariation, Waning
from ..ascent.easel import Easel, whole
from ..ascent.waves import Waves
from ..autodiff.gradient import float_value
from ..errors import InputError, TargetError
from ..files import short_names, stems
from ..film import Format, interval
from ..finding import Finding
from ..image import Picture
from ..methods import predict
from ..methods.inputs import ModelLike
from ..naming import Layer
from ..photos.source import gather
from ..scores import Scores
from ..surveys.survey import Over
from .registry import study

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYERS = 6
FADE = 1e-4  # of the penalties, from the first step to the last


@study
def invert(
    model: ModelLike,
    photos: Any,
    *,
    layer: Sequence[str] = (),
    steps: int = 300,
    rate: float = 0.5,
    tv: float = 0.1,
    beta: float = 2.0,
    norm: float = 0.1,
    alpha: float = 6.0,
    seed: int = 0,
    seconds: float = 0.0,
    film: Format = "",
    every: int = 0,
    **how: Unpack[Over],
) -> Finding:
    """Inversion: pictures whose features are those of a photo, layer by layer.

    The picture x that minimises |phi(x) - phi0|^2 / |phi0|^2 + norm R_alpha(x) + tv R_TV(x), where phi0 are a layer's
    features of the photo. R_alpha is the mean over pixels of (|x - grey| / 80)^alpha, R_TV that of ((|right|^2 +
    |down|^2) / 12.3^2)^(beta / 2) for the differences to neighbours; both are 1 to 8 for photos. x begins as noise
    in grey, and is made of waves in colours that vary independently in photos. What a layer forgets is invented. For
    each layer the distance of the features (0: the same, 1: as far as none at all), the PSNR to the photo as the model
    sees it, and what the model says; all of the picture that is saved, of whole pixels.

    Mahendran & Vedaldi, Understanding Deep Image Representations by Inverting Them, CVPR 2015; Visualizing Deep
    Convolutional Neural Networks Using Natural Pre-Images, IJCV 2016. Unlike theirs, penalties count less from step
    to step, so that the same weights serve all layers, and the steps are Adam's.

    Args:
        layer: the layers; by default 6 from the first to the scores.
        steps: for each layer.
        rate: of Adam's steps, at first; they shrink to nothing.
        tv: weight of the total variation, at first; 1/10000 of it is left at the last step.
        beta: exponent of the total variation: 2 blurs, towards 1 allows edges.
        norm: weight of the alpha norm, at first, as tv.
        alpha: its exponent.
        seed: of the noise: the same seed gives the same bytes.
        seconds: how long at the most, for all layers and photos; 0 for as long as it takes.
        film: also write the way from grey as a film, gif or mp4, or its frames, png; of the first photo.
        every: steps from one frame of the film to the next; 0 for 60 frames.

    Raises:
        LayerError: no such layer, or it holds whole numbers.
        InputError: the input is no picture, or takes whole numbers; or a number is out of its range.

    Example:
        >>> invert("model.onnx", ["cat.jpg"], layer=["features.1", "features.8"]).save("known")
    """
    _check(rate=rate, tv=tv, norm=norm, beta=beta, alpha=alpha)
    how.pop("workers", 0)  # pictures are climbed one after the other: each keeps all cores busy
    easel = Easel(model, **how)  # type: ignore[misc]
    layers = _layers(easel, layer)
    # What lies behind a layer is not run for it: class scores are asked for apart.
    scores, easel.scores = easel.scores, None
    found = gather(photos)
    every = interval(film, every, steps)
    records: list[dict[str, Any]] = []
    pictures: dict[str, Picture] = {}
    history: dict[str, Any] = {}
    rows: list[list[Picture]] = []
    frames: list[Picture] = []
    skipped: list[dict[str, str]] = []
    named = stems([found.name(i) for i in range(len(found))])
    for i, photo in found.legible(skipped):
        stem, photo = named[i], easel.preprocessing.inverse(easel.preprocessing.apply(photo))
        climbs: list[Climb] = []
        entries: list[dict[str, Any]] = []
        for key, chosen in layers.items():
            features = _compute(easel, photo, chosen.tensor)
            canvas = Waves(easel.size, seed, grey=easel.grey)
            climbs.append(
                climb(
                    functools.partial(easel.slope, target=Likeness(chosen.tensor, features)),
                    canvas,
                    Shrinking(Adam(rate), steps),
                    steps,
                    penalties=[Waning(p, FADE, steps) for p in (AlphaNorm(norm, alpha), TotalVariation(tv, beta))],
                    after=canvas.bounded,
                    seconds=seconds / len(layers) / len(found),
                    every=every if film and not records else 0,
                    name=f"{stem}, {chosen.name}",
                    progress=easel.progress,
                )
            )
            picture = pictures[f"{stem}.{key}"] = whole(climbs[-1].pixels)
            history[f"history.{stem}.{key}"] = -np.array(climbs[-1].history)
            entries.append(
                {
                    "layer": chosen.name,
                    "tensor": chosen.tensor,
                    "picture": f"{stem}.{key}",
                    "distance": _distance(_compute(easel, picture, chosen.tensor), features),
                    "psnr": _psnr(picture, photo),
                    "steps": len(climbs[-1].history),
                    "predictions": _predictions(easel, scores, picture),
                }
            )
        easel.notes += [c.ended for c in climbs if c.ended]
        frames += recovered.frames(photo, climbs)
        records.append({"photo": found.name(i), "predictions": _predictions(easel, scores, photo), "layers": entries})
        if len(rows) < recovered.ROWS:
            rows.append([photo, *(pictures[entry["picture"]] for entry in entries)])
    if len(records) > recovered.ROWS:
        easel.notes.append(
            f"the overview shows the first {recovered.ROWS} photos; every picture is a file of its own (PHOTO)"
        )
    names = [c.name for c in layers.values()]
    return easel.finding(
        "invert",
        {"layers": recovered.means(records, names), "photos": records},
        pictures={"": recovered.overview(rows, records, names), "psnr": recovered.chart(records, names)} | pictures,
        arrays=history,
        frames=frames,
        lines=recovered.lines(records, names),
        layer=names[0] if len(names) == 1 else "",
        photos=len(found),
        skipped=skipped,
        params={
            "layers": names,
            "steps": steps,
            "rate": rate,
            "tv": tv,
            "beta": beta,
            "norm": norm,
            "alpha": alpha,
            "seed": seed,
            "seconds": seconds,
            "film": film,
        },
    )


def _check(**numbers: float) -> None:
    """InputError for numbers out of their range."""
    for name, value in numbers.items():
        least = 1 if name in ("alpha", "beta") else 0
        if not least <= value < np.inf:
            raise InputError(f"A {name} of {value} is impossible: it has to be at least {least} (--{name}).")


def _layers(easel: Easel, named: Sequence[str]) -> dict[str, Layer]:
    """The layers by what their files are called; chosen ones are noted."""
    if named:
        layers = list(dict.fromkeys(easel.layer(name) for name in ([named] if isinstance(named, str) else named)))
    else:
        if easel.scores is None:
            raise TargetError("The model has no row of class scores to find layers before: name them (--layer).")
        layers = depth.along(easel.model, easel.scores.tensor, LAYERS)
        easel.notes.append(f"layers: {len(layers)} from the first to the scores (--layer NAME)")
    for layer in layers:
        float_value(easel.model, layer.tensor)
    return dict(zip(short_names((c.name for c in layers), 40), layers, strict=True))


def _compute(easel: Easel, picture: Picture, tensor: str) -> NDArray[Any]:
    """A tensor, for a picture."""
    return easel.forward([tensor], feeds={easel.input.name: easel.encode(picture)})[tensor]


# What became of it.


def _distance(features: NDArray[Any], wanted: NDArray[Any]) -> float:
    away, size = (float((v.astype(np.float64) ** 2).sum()) for v in (features - wanted, wanted))
    return away / max(size, 1e-12)


def _psnr(picture: Picture, photo: Picture) -> float:
    """10 log10(255^2 / mean squared difference), 100 at the most."""
    error = float(((picture.astype(np.float64) - photo) ** 2).mean())
    return float(10 * np.log10(255**2 / max(error, 255**2 / 1e10)))


def _predictions(easel: Easel, scores: Scores | None, picture: Picture) -> list[dict[str, Any]]:
    """The most probable classes."""
    if scores is None:
        return []
    rows = predict.rows(scores, easel.score, _compute(easel, picture, scores.tensor))
    return [
        vars(p) for p in predict.ranked(rows, predict.probabilities(scores, easel.score, rows), easel.labels)[0][:5]
    ]
