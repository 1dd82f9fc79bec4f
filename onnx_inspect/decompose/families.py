"""Importing this fills `DECOMPOSITIONS`; models without foreign operators do without."""

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
