"""One rule per operator, one file per family. Importing this package fills `RULES`."""

# ruff: noqa: F401

from . import (
    activation,
    convolution,
    elementwise,
    index,
    linear,
    norm,
    pool,
    reduce,
    resize,
    shape,
    trigonometric,
)
