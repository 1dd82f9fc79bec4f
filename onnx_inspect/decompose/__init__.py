"""One decomposition per operator, one file per family. Importing this package fills `DECOMPOSITIONS`."""

# ruff: noqa: F401

from . import gelu
