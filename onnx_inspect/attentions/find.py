"""Every attention of a model, choosing one, and which of its queries a score is read from."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import structure
from ..decompose.fusion import unfused
from ..errors import InspectError, LayerError
from ..globs import matcher
from ..model import Model
from ..places import Places
from ..reach import regions
from .reading import read
from .weights import Attention


def opened(model: Model) -> Model:
    """The model with the weights of every attention as a tensor: itself, or a copy without fused Attention nodes."""
    if not any(structure.key(node) == "Attention" for node in model.ir.graph):
        return model

    def build() -> Model:
        copy = model.clone()
        unfused(copy.ir)
        return copy.derived("attention written out")

    return model.memo("attention written out", build)


def find(model: Model, places: Places) -> list[Attention]:
    """Every attention of a model, in the order of computation; nodes of fused Attention are none, see `opened`.

    Args:
        model: the model.
        places: where its tensors lie on the picture.
    """
    names = {c.tensor: c.name for c in model.layers}
    found = list(read(model, places))
    layers = [names.get(a.name, a.name) for a in found]
    modules = [name.rpartition(".")[0] or name for name in layers]
    called = [module if modules.count(module) == 1 else name for module, name in zip(modules, layers, strict=True)]
    return [replace(a, name=name) for a, name in zip(found, called, strict=True)]


def choose(found: list[Attention], text: str) -> Attention:
    """One by name, by the module that holds it, by glob, by number from 0, or the "last".

    Raises:
        LayerError: there is none, or several are meant.
    """
    if not found:
        raise LayerError(
            "This model has no attention: no Softmax makes weights for a product of tensors. `onnx-inspect doctor "
            "MODEL` lists the methods that fit."
        )
    if text == "last":
        return found[-1]
    if text.lstrip("-").isdigit():
        if not -len(found) <= int(text) < len(found):
            raise LayerError(f"There are {len(found)} layers of attention, counted from 0: {text} is none of them.")
        return found[int(text)]
    levels = matcher(text)
    for meant in (
        [a for a in found if text in (a.tensor, a.name)],
        [a for a in found if a.tensor.startswith(f"{text}.") or a.name.startswith(f"{text}.")],
        [a for a in found if levels(a.name) or levels(a.tensor)],
        [a for a in found if text.startswith(f"{a.name}.")],
    ):
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise LayerError(f"'{text}' means {len(meant)} layers of attention: name one of {_listed(meant)}.")
    raise LayerError(f"There is no attention '{text}': there are {_listed(found)} (--layer NAME).")


def _listed(found: list[Attention]) -> str:
    return ", ".join(f"'{a.name}'" for a in found[:5]) + (", ..." if len(found) > 5 else "")


def readout(model: Model, last: Attention, scores: list[str], places: Places) -> NDArray[np.bool_] | None:
    """Which queries of an attention scores depend on, by no other attention: behind the last one the class token may.

    Returns:
        (windows · queries,), or None if that cannot be followed.
    """
    if last.windows > 1:
        return None
    try:
        masks = [region[last.kept] for region in regions(model, last.output, scores, places)]
    except InspectError:
        return None
    found = functools.reduce(np.logical_or, masks)
    return found if found.any() else None
