"""One rule per operator, one file per family. Importing this package fills `RULES`."""

# ruff: noqa: F401

from . import (
    activation,
    attention,
    control,
    convolution,
    einsum,
    elementwise,
    fourier,
    index,
    linear,
    loss,
    norm,
    pool,
    quantize,
    recurrent,
    reduce,
    resize,
    scatter,
    shape,
    spatial,
    trigonometric,
)
