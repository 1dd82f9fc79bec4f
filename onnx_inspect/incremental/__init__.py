"""Incremental occlusion: what covering a box changes is computed, and nothing else, as far as that pays.

A box of the input changes a box of every map behind it, until something reads all positions. So the first nodes are run
on crops: what the box changes, with clean values around it from one run of the sample as it is. From some map on whole
maps are computed, that map being the clean one with the crop put in. Results are those of running all of it.

Nakandala, Kumar & Papakonstantinou, Incremental and Approximate Inference for Faster Occlusion-based Deep CNN
Explanations, SIGMOD 2019.
"""

from . import rules  # noqa: F401  (fills the table)
from .cost import GAIN, Choice, choose
from .graph import Crops, write
from .path import Edge, Layout, Path
from .places import Ground
from .run import Patches
from .table import Boxes

__all__ = ["GAIN", "Boxes", "Choice", "Crops", "Edge", "Ground", "Layout", "Patches", "Path", "choose", "write"]
