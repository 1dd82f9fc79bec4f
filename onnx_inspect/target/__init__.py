"""What is explained: one score per sample, written into the graph.

The language, the same on the command line and in Python:

    top  top:3  281  "tiger cat"            a class by rank, index, name or synset id
    logits[281]  OUT[0, 12, 4:] . max       elements of an output
    layer:features.3[7] . norm              a unit of the network
    cat - dog  top - 0.5 * top:2            sums of targets, times numbers
    segmentation:class=15@mask              the score of a class over a region of a segmentation
    embedding:similarity=cat.jpg            the cosine to another photo's embedding
    box:3  class:dog  box:3.x0              a detection, see `onnx_inspect.target.detections`

Its grammar; blanks may stand between all parts:

    target       = CLASS | sum
    sum          = ["-"] term { ("+" | "-") term }
    term         = [NUMBER "*"] part
    part         = "top" [":" RANK] | INDEX | CLASS | elements | segmentation | embedding | detection
    elements     = ["layer:"] NAME ["[" axis { "," axis } "]"] ["." ("sum" | "mean" | "max" | "min" | "norm")]
    axis         = INDEX | [INDEX] ":" [INDEX]
    segmentation = "segmentation:" ["output=" NAME ","] "class=" (INDEX | CLASS) ["@" region] ["." ("mean" | "sum")]
    region       = "mask" | "all" | X0 "," Y0 "," X1 "," Y1
    embedding    = "embedding:similarity=" FILE ["@" NAME]

Names may be quoted, and have to be where they hold what the grammar would read: 'Identity:0'[3]. A name between quotes
is that of a tensor first, any other that of a class. Without quotes it reaches as far as a known name does, and a text
that is a class as a whole is that class: 'black-and-tan coonhound' is no difference. Axes never count the batch; those
that are left out are taken whole, and several elements are summed. docs/targets.md has examples.

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
from .language import several as several
from .segmentation import Segmentation as Segmentation
from .similarity import Similarity as Similarity
from .sums import Sum as Sum
