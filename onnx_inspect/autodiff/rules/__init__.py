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
    linalg,
    linear,
    loss,
    norm,
    pool,
    quantize,
    recurrent,
    reduce,
    region,
    resize,
    scatter,
    sequence,
    shape,
    spatial,
    trigonometric,
)
