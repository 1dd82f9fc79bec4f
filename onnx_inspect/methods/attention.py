"""What a layer of attention looks at, head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np

from .. import attentions
from ..attribution import Attribution
from .attention_common import asked, found_in, layer_of, on_grid
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 24  # heads in a picture


class AttentionMaps(Attribution):
    """Maps per head: `values` is (N, heads, h, w), or (N, heads, keys) without a grid; `heat` is their mean."""

    def overlay(self, i: int = 0) -> NDArray[np.uint8]:
        """The mean of the heads and each of them over the photo, each scaled on its own."""
        from .. import layout, render

        if self.photos[i] is None or not self.drawable:
            return super().overlay(i)
        photo = self.photo(i)
        heads = self.values[i][:SHOWN]
        maps = [photo.geometry.to_photo(one) for one in (self.heat[i], *heads)]
        seen = photo.geometry.mask_in_photo()
        tiles = [layout.fit(render.overlay(photo.pixels, one, seen=seen), 220, 300) for one in maps]
        names = ["mean", *(f"head {k}" for k in range(len(heads)))]
        note = [f"{SHOWN} of {len(self.values[i])} heads"] if len(self.values[i]) > SHOWN else []
        return layout.frame(layout.titled(layout.grid(tiles, titles=names), [*self.title(i), *note], 16), 8)

    def panel(self, i: int = 0) -> NDArray[np.uint8]:
        """The photo beside the heads."""
        from .. import layout

        picture = self.overlay(i)
        if self.photos[i] is None or not self.drawable:
            return picture
        return layout.row([layout.frame(layout.fit(self.photo(i).pixels, 360, 480), 8), picture], 4)

    def title(self, i: int = 0) -> list[str]:
        """Which layer, and of which tokens."""
        return [f"{self.heading}: {self.layer}, {self.params['of']}", self.model["name"]]


@method("attention", explains=False)
def attention(
    model: ModelLike,
    x: Input,
    *,
    layer: str = "last",
    query: str = "",
    **how: Unpack[How],
) -> AttentionMaps:
    """Attention: what a layer of a transformer looks at, a map for each head.

    The rows of softmax(Q K^T / sqrt d) that belong to the class token, on the grid of the tokens: how much of each
    token's value it takes. Without a class token it is the mean over the tokens that the score is read from. Values are
    (N, heads, h, w), and the picture shows them with their mean; what falls on class tokens is left out, and windows,
    as Swin has them, are put together. It shows where a layer looks, not what the score is made of.

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR
    2021.

    Args:
        layer: the layer of attention: its name, its number from 0 (or from the end: -1), or "last".
        query: whose attention it is: "ROW,COLUMN" of the grid, a token's number, or "all" for the mean over all tokens;
            by default the class token, or the tokens that the score is read from.

    Raises:
        LayerError: there is no such layer, or no attention in this model.
        InputError: there is no such token.

    Example:
        >>> attention("vit.onnx", "cat.jpg", layer="-1").values.shape
    """
    job = Job(model, x, "top", **how)
    found = found_in(job)
    at = attentions.choose(found, layer)
    if layer == "last":
        job.notes.append(f"layer: '{at.name}', the last of {len(found)} layers of attention (--layer 0, say)")
    tokens = asked(job, at, found, query)
    one_by_one = (job.forward([at.tensor], feeds=job.copies(i, 1))[at.tensor] for i in range(job.n))
    seen = np.concatenate([at.seen(at.weights(values, 1), tokens) for values in one_by_one])
    maps = on_grid(seen, at.keys)
    mean = maps.mean(axis=1)
    text = at.keys is None and job.feeds[job.input.name].shape == mean.shape  # a number for each token of the input
    return job.attribution(  # type: ignore[no-any-return]
        "attention",
        {job.input.name: mean} if text else maps,
        job.forward([]) if job.scores is not None else {},
        heat=mean,
        layer=layer_of(job, at),
        kind=AttentionMaps,
        params={"of": _of(query, len(tokens), at.windows * at.size[0]), "query": query},
        extra={"heads": maps} if text else {},
    )


def _of(query: str, tokens: int, count: int) -> str:
    if query and query != "all":
        return f"token {query}"
    if tokens == count:
        return "mean over all tokens"
    return "class token" if tokens == 1 else f"mean over {tokens} tokens"
