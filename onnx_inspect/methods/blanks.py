"""Maps that show nothing say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from ..maps import blank
from ..naming import Layer
from .arguments import signature_of
from .registry import METHODS


def remarks(method: str, name: Callable[[int], str], heat: NDArray[Any], layer: Layer | None) -> Iterator[str]:
    """A sentence for each map that is zero, or the same, everywhere, with the flags that change it.

    Args:
        method: its name.
        name: of a sample.
        heat: (N, h, w), their maps.
        layer: that was explained at.
    """
    for i, one in enumerate(heat):
        where = f" at '{layer.name}'" if layer is not None else ""
        if not one.any():
            what = f"is zero everywhere: nothing{where} speaks for this target"
        elif one.size > 1 and blank(one):
            what = f"is the same everywhere{where}, as it is behind global pooling, say: it tells no place from another"
        else:
            continue
        yield f"the {method} map of '{name(i)}' {what} ({_ways(method, layer)})"


def _ways(method: str, layer: Layer | None) -> str:
    """The flags that another map would come from."""
    takes = signature_of(METHODS[method]).parameters if method in METHODS else {"target": None}
    taken = [k for k in takes if k == "target" or (k == "layer" and layer is not None)]
    return " or ".join({"target": "--target CLASS", "layer": "--layer NAME"}[k] for k in taken)
