"""What is explained: one score per sample, written into the graph.

The language, the same on the command line and in Python:

    top                  the most probable class (a single logit: the side it is on)
    top:3                the third most probable
    281                  a class by index
    "tiger cat"          a class by name, or synset id
    logits[281]          an element of an output; the batch is never counted
    features.3[7, 2, 2]  an element of any tensor, by its readable or exact name: a unit of the network
    'Identity:0'[0, 5:8] odd names are quoted; slices and missing axes are summed

The score is taken before a final softmax or sigmoid where there is one: probabilities saturate, and their gradients
vanish for sure predictions. `score="output"` takes the output as it is.
"""

from .base import Target as Target
from .classes import Index as Index
from .classes import Top as Top
from .classes import rows_of as rows_of
from .elements import Element as Element
from .language import TargetLike as TargetLike
from .language import gradient as gradient
from .language import parse as parse
