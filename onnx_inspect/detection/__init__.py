"""Detectors: where a graph ends in candidates, how their boxes and scores are read, and what is found.

The graph is cut before what chooses among candidates (NonMaxSuppression, TopK, ArgMax). What is left are tensors of
boxes and class scores, of every candidate; an element of theirs is followed back through what only moves it to the
tensor that made it: the logit, on its level of the pyramid.
"""

from .formats import Stated as Stated
from .formats import overlap as overlap
from .formats import parse as parse
from .found import Candidates as Candidates
from .found import Detection as Detection
from .found import candidates as candidates
from .found import detection as detection
from .found import detections as detections
from .head import Head as Head
from .presence import present as present
from .settling import find as find
