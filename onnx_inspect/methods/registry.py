"""`@method`: puts a function among the methods, and with that on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from ..attribution import Attribution

F = TypeVar("F", bound=Callable[..., Attribution])
Need = Literal["gradient", "map", "head", "picture"]

METHODS: dict[str, Callable[..., Attribution]] = {}
NEEDS: dict[str, tuple[Need, ...]] = {}


def method(*needs: Need) -> Callable[[F], F]:
    """Register a method under its own name.

    Args:
        needs: what a model must offer: "gradient", a differentiable way from input to score; "map", a layer with
            positions; "head", global average pooling and a linear layer at the end; "picture", an input with height
            and width.
    """

    def register(function: F) -> F:
        METHODS[function.__name__] = function
        NEEDS[function.__name__] = needs
        return function

    return register
