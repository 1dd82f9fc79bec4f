"""Ablation: which layers, blocks and channels the predictions rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import charts, structure
from ..changes.effects import Effects, measure, number
from ..errors import LayerError
from ..finding import Finding
from ..gates import CHANNELS, GATES, Gate, Part, chosen, gated, masked, parts
from ..image import Picture
from ..methods.inputs import ModelLike
from ..rewrite import cut
from ..surveys.survey import Over
from ..surveys.variants import Floats, Variants
from .registry import study

IDENTITY, ZERO, CUT = "identity", "zeros", "zeros, nothing passes"
SHOWN = 20  # channels in the picture, and lines on the terminal


@dataclass(frozen=True)
class Removal:
    """Something that is taken out: what, and how."""

    part: Part
    how: str

    @property
    def gate(self) -> Gate:
        """What does it in the graph."""
        return Gate(self.part.tensor, self.part.inputs[0] if self.how == IDENTITY else "")


@study
def ablate(
    model: ModelLike,
    photos: Any,
    *,
    layer: str = "",
    channels: bool = False,
    **how: Unpack[Over],
) -> Finding:
    """What the network loses without one of its layers, blocks or channels.

    A layer is a convolution or dense layer with the normalisation and activation that follow it; a block is the longer
    branch of a residual connection, or parallel branches that are concatenated. Each is taken out by itself, without
    training anew: where input and output have the same shape, the input stands in for the output; else the output is
    zero, which in a network without branches lets nothing pass, and is marked so. Without the branch, a residual block
    is its shortcut; where zeros for the last layer of the branch come to the same, it is listed as the block. The layer
    that makes the scores stays.

    Where photos have labels (folders, or a column of a list): the drop of the accuracy; else the share of photos whose
    predicted class changes. Beside it the drop of the probability, and of the score, of the class that the intact
    network predicts. All are means over the photos with their standard error. The picture has a bar per layer, in order
    of depth. With `channels`, each channel of one layer is set to zero by itself instead; the picture shows all drops,
    sorted, and the most important channels.

    Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014 (section 5.1 and table 3, who
    trained anew each time); Morcos et al., On the importance of single directions for generalization, ICLR 2018.

    Args:
        layer: a name or glob: only these layers or blocks, or any other tensor; all of them where it is left out.
        channels: take out the channels of the layer one at a time, by default of the last map.

    Raises:
        LayerError: no such layer, or several where one is needed.
        TargetError: the model has no row of class scores.
        PhotoError: no photo can be read.

    Example:
        >>> ablate("model.onnx", "photos/").values["removed"][0]["probability_drop"]
    """
    survey = Variants(model, photos, **how)
    survey.need_scores()
    every = parts(survey.model, survey.explained_tensor)
    if not every and not layer and not channels:
        raise LayerError("Only the layer that makes the scores has weights: there is none to take out (MODEL).")
    if channels:
        return _channels(survey, every, layer)
    removals = _removals(survey, _before(survey, chosen(survey.model, every, layer)))
    found = measure(
        survey,
        gated(survey.model, [r.gate for r in removals]),
        {GATES: np.vstack([np.ones((1, len(removals)), bool), ~np.eye(len(removals), dtype=bool)])},
    )
    kinds = [CUT if cut and r.how == ZERO else r.how for r, cut in zip(removals, found.cut, strict=True)]
    names = [f"{r.part.name} (block)" if r.part.block else r.part.name for r in removals]
    rows = [
        {"name": r.part.name, "tensor": r.part.tensor, "block": r.part.block, "replaced_by": r.how, "cut": bool(cut)}
        | found.record(k)
        for k, (r, cut) in enumerate(zip(removals, found.cut, strict=True))
    ]
    return survey.finding(
        "ablate",
        _values(found) | {"removed": rows},
        pictures={"": _picture(survey, found, names, kinds)},
        lines=[_intact(found), *_lines(found, names, kinds)],
        params={"layer": layer, "channels": False},
    )


def _channels(survey: Variants, every: Sequence[Part], name: str) -> Finding:
    """One channel of a layer at a time."""
    if name:
        meant = list({p.tensor: p for p in chosen(survey.model, every, name)}.values())
        if len(meant) > 1:
            raise LayerError(
                f"'{name}' means {len(meant)} layers ({', '.join(repr(p.name) for p in meant[:5])}), and channels are "
                "those of one: name it (--layer)."
            )
        (part,) = _before(survey, meant)
    else:
        last = survey.layer("auto")
        part = Part(last.name, last.tensor)
    (value,) = _blank(survey, [part.tensor]).values()
    letters = survey.layout(part.tensor) or ""
    axis = letters.index("C") if "C" in letters else value.ndim - 1
    if value.ndim < 2 or len(value) != 1:
        raise LayerError(f"'{part.name}' has shape {value.shape} for one photo, no channels: name another --layer.")
    count = value.shape[axis]
    keep = np.vstack([np.ones((1, count), bool), ~np.eye(count, dtype=bool)])
    behind = cut(survey.model, inputs=[part.tensor], outputs=survey._outputs())
    found = measure(survey, masked(behind, part.tensor, axis), {CHANNELS: keep}, part.tensor)
    order = np.lexsort((-found.wrong[0], -found.probability[0])).tolist()
    rows = [{"channel": k} | found.record(k) for k in order]
    idle = sum(not found.wrong[0][k] and abs(found.probability[0][k]) < 1e-6 for k in range(count))
    top = {f"channel {k}": k for k in order[:SHOWN]}
    picture = charts.figure(
        [
            charts.curves(
                range(1, count + 1),
                {n: np.sort(v)[::-1].tolist() for n, v in _named(found).items()},
                title=f"all {count} channels of {charts.shortened(part.name, 32)}, each drop sorted",
                xlabel="rank",
                ylabel="drop",
            ),
            charts.bars(
                {n: float(found.probability[0][k]) for n, k in top.items()},
                errors=np.nan_to_num(found.probability[1][list(top.values())]).tolist(),
                title=f"the {len(top)} most important",
                xlabel="drop of the probability, with its standard error",
            ),
        ],
        size=(620, 460),
        title=f"{part.name} of {survey.model.source.name}, one channel at zero, {found.photos} photos",
    )
    return survey.finding(
        "ablate",
        _values(found) | {"channels": rows, "without_effect": int(idle)},
        pictures={"": picture},
        lines=[
            _intact(found),
            f"of the {count} channels of {part.name}, {idle} change nothing, {(found.wrong[0] == 0).sum()} no class",
            "those that cost the most of the probability:",
            *(f"channel {k:<5d} {found.line(k)}" for k in order[:10]),
        ],
        layer=part.name,
        params={"layer": part.name, "channels": True},
    )


def _before(survey: Variants, meant: Sequence[Part]) -> list[Part]:
    """Those of some parts that the scores are computed from."""
    goal = survey.model.value(survey.explained_tensor)
    on_path = {v.name for v in structure.needed(survey.model.ir.graph, goal) if v is not goal}
    if found := [p for p in meant if p.tensor in on_path]:
        return found
    raise LayerError(
        f"'{meant[0].name}' holds the scores themselves, or they are not computed from it: name another --layer."
    )


def _removals(survey: Variants, wanted: Sequence[Part]) -> list[Removal]:
    """How each part can be taken out, seen from the shapes of a run."""
    shapes = _blank(survey, list(dict.fromkeys(t for p in wanted for t in (p.tensor, *p.inputs))))

    def like(a: str, b: str) -> bool:
        alike = shapes[a].shape == shapes[b].shape and shapes[a].dtype == shapes[b].dtype
        return alike and (survey.layout(a) or "") == (survey.layout(b) or "")

    found = []
    for part in wanted:
        if shapes[part.tensor].shape[:1] != (1,):
            survey.notes.append(f"'{part.name}' holds no row per photo and stays as it is (--layer)")
            continue
        inputs = tuple(t for t in part.inputs if like(t, part.tensor))
        same = Part(part.name, part.tensor, inputs, part.block, part.also)
        found.append(Removal(same, IDENTITY if inputs else ZERO))
    if not found:
        raise LayerError("None of these layers holds a row per photo: name others (--layer).")
    blocks = {(r.part.tensor, r.how) for r in found if r.part.block}
    return [r for r in found if r.part.block or (r.part.tensor, r.how) not in blocks]


def _blank(survey: Variants, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Tensors for a black photo: what shape they have is what is asked for."""
    sample = survey.sample(np.zeros((*survey.preprocessing.size, 3), np.uint8))
    graph = {v.name for v in survey.model.ir.graph.inputs}
    _, found = next(survey.found([sample], [t for t in tensors if t not in graph]))
    return {t: sample[None] if t == survey.input.name else found[t] for t in tensors}


# How it is told.


def _values(found: Effects) -> dict[str, Any]:
    accuracy = {"accuracy": number(found.accuracy)} if found.labelled else {}
    return {"photos": found.photos, "labelled": found.labelled, **accuracy}


def _intact(found: Effects) -> str:
    if found.labelled:
        return f"intact: accuracy {found.accuracy:.3f} over {found.photos} photos"
    return f"{found.photos} photos whose class nobody says: 'changed' is the share with another predicted class"


def _lines(found: Effects, names: Sequence[str], kinds: Sequence[str]) -> list[str]:
    width = min(40, max(map(len, names)))
    order = range(len(names))
    if len(names) > 2 * SHOWN:
        order = sorted(np.argsort(-found.probability[0], kind="stable")[[*range(SHOWN), *range(-SHOWN, 0)]].tolist())  # type: ignore[assignment]
    shown = [f"{names[k][-width:]:{width}s}  {found.line(k)}  ({kinds[k]})" for k in order]
    left = len(names) - len(shown)
    return [*shown, f"... and {left} between those that matter most and least"] if left else shown


def _named(found: Effects) -> dict[str, Floats]:
    wrong = "accuracy" if found.labelled else "photos whose class changes"
    return {wrong: found.wrong[0], "probability": found.probability[0]}


def _picture(survey: Variants, found: Effects, names: Sequence[str], kinds: Sequence[str]) -> Picture:
    wrong = "drop of the accuracy" if found.labelled else "share of photos whose class changes"
    panels = {wrong: found.wrong, "drop of the probability of the predicted class": found.probability}
    return charts.figure(
        [
            charts.bars(
                list(zip(names, mean.tolist(), strict=True)),
                errors=np.nan_to_num(error).tolist(),
                kinds=["its input instead" if k == IDENTITY else k for k in kinds],
                title=title,
            )
            for title, (mean, error) in panels.items()
        ],
        size=(640, 120 + 17 * len(names)),
        title=f"{survey.model.source.name} without one layer or block, the first on top, {found.photos} photos",
    )
