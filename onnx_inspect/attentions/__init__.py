"""Finding attention in a graph, whatever the exporter wrote."""

from .find import choose as choose
from .find import find as find
from .find import opened as opened
from .find import readout as readout
from .weights import Attention as Attention
