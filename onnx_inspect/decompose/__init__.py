"""One decomposition per operator, one file per family. Importing this package fills `DECOMPOSITIONS`."""

# ruff: noqa: F401

from . import (
    attention,
    bias,
    conv_transpose,
    decoder,
    early,
    forms,
    fused,
    gelu,
    ml,
    normalisation,
    packed,
    quantised,
    quantised_layers,
    quantised_products,
)
