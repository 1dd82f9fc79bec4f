"""`--layer best`: the layer is measured on the first samples before a method runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import options

if TYPE_CHECKING:
    from ..evidence import LayerRanking
    from ..model import Model
    from .given import Given

HELP = {"layer": " best: measured, by deletion and insertion on the first photos."}
_HOW = ("labels", "score", "precision", "engine", "preprocessing", "progress")


def possible(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """True for the parameters of a method that chooses a layer."""
    return "layer" in parameters and parameters["layer"].default == "auto"


def asked(values: dict[str, Any]) -> bool:
    """True if the options ask for the best layer.

    Raises:
        LayerError: and for others beside it.
    """
    from ..errors import LayerError

    given = values.get("layer", ())
    layers = [given] if isinstance(given, str) else list(given)
    if "best" in layers[:-1] or "best" in layers[1:]:
        raise LayerError("The best layer is one: give it alone, or name several (--layer).")
    return layers == ["best"]


def ranking(
    method: str, model: Model, given: Given, targets: Sequence[str], values: dict[str, Any], quiet: bool
) -> LayerRanking:
    """Layers in the order of their evidence.

    Args:
        method: its name; localize leaves the map to another.
        model: the model.
        given: what is explained, of which the first samples are looked at.
        targets: what is explained of them; the first ranks, none stands for the most probable class.
        values: the options of the method, and what all methods share.
        quiet: do not say what it takes.
    """
    from ..evidence import PHOTOS, best_layer, few

    maker = values.get("of", method)
    own = {k: v for k, v in values.items() if k not in (*_HOW, "layer")} if maker == method else {}
    found = best_layer(
        model,
        given.part(range(min(PHOTOS, len(given)))),
        maker,
        targets[0] if targets else "top",
        options=own,
        say=lambda text: options.say([text], quiet),
        **{k: values[k] for k in _HOW},
    )
    values["progress"].hide()
    if len(given) > PHOTOS:
        found.notes.append(few(len(given)))
    if len(targets) > 1:
        found.notes.append(f"layer: the best is that for the first target, '{targets[0]}' (--layer NAME)")
    return found
