"""What a layer computes, as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from ..attribution import Attribution
from ..errors import InputError, ResultError
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Activations(Attribution):
    """Feature maps: `values` is the layer's tensor as the model holds it, `heat` the mean of |A| over channels."""

    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """A grid of the strongest feature maps (or the first ones), each scaled on its own."""
        from .. import render

        order = self.extra["order"][i][: self.params["limit"]]
        return render.feature_grid(self.extra["maps"][i][order], len(order), names=[str(k) for k in order])

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo beside the grid."""
        from .. import layout

        picture = self.overlay(i)
        height = len(picture)
        tiles = [layout.fit(self.photo(i).pixels, height, 2 * height), picture]
        return layout.figure(tiles, ["photo", "channels"], self.title(i))

    def arrays(self, i: int) -> dict[str, NDArray[Any]]:
        """The tensors, under their names, and the order of the channels."""
        return {"values": self.values[i], **{k: v[i] for k, v in self.extra.items() if k != "maps"}}

    def title(self, i: int = 0) -> list[str]:
        """What the grid shows."""
        return [f"activations of {self.layer}", self.model["name"]]


@method("map", explains=False)
def activations(
    model: ModelLike,
    x: Input,
    *,
    layer: str = "auto",
    tensors: Sequence[str] = (),
    sort: Literal["strength", "index"] = "strength",
    limit: int = 64,
    **how: Unpack[How],
) -> Activations:
    """Activations: the feature maps of a layer as a grid, and any tensors as arrays.

    Values are the layer's tensor, N on the first axis; the tensors asked for are in `extra` by name.

    Args:
        layer: the layer to show: readable name, exact tensor name, or "auto" for the last map.
        tensors: further tensors for the npz, by name or glob.
        sort: order of the grid: by the mean of |A| ("strength") or by channel ("index").
        limit: the most maps in the grid.

    Raises:
        LayerError: no such layer or tensor.

    Example:
        >>> activations("model.onnx", "cat.jpg", layer="features.0").values.shape
    """
    job = Job(model, x, "top", **how)
    at = job.layer(layer)
    more = [c.tensor for pattern in tensors for c in job.model.find_layers(pattern)]
    found = job.forward([at.tensor, *more])
    values = found[at.tensor]
    if limit < 1:
        raise InputError(f"A grid of {limit} maps shows nothing (--limit).")
    maps = at.maps(values)
    if maps.ndim < 4:  # a vector or tokens: one picture, a row per token
        maps = maps.reshape(len(maps), 1, -1, maps.shape[-1])
    if maps.ndim != 4:
        raise ResultError(f"'{at.name}' has {values.ndim} axes: only maps, tokens and vectors can be drawn.")
    strength = np.abs(maps).mean(axis=(2, 3))
    order = (
        np.argsort(-strength, axis=1, kind="stable")
        if sort == "strength"
        else np.tile(np.arange(maps.shape[1]), (len(maps), 1))
    )
    return job.attribution(  # type: ignore[no-any-return]
        "activations",
        values,
        found,
        heat=np.abs(maps).mean(axis=1),
        layer=at,
        kind=Activations,
        params={"sort": sort, "limit": limit},
        extra={"maps": maps, "order": order, **{t: found[t] for t in more}},
    )
