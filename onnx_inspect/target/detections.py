"""Targets that are boxes of a detector.

    box:3                 the score of the third detection, as `onnx-inspect boxes` numbers them
    class:dog             that of the surest detection of a class, by name or index; odd names are quoted
    box:(40, 60, 200, 310)    the candidate that best overlaps a box in pixels of the photo; box@40,60,200,310 as well
    box:3.x0              a coordinate of it, in pixels of the photo: x0, y0, x1, y1, w, h, area
    box:3.objectness      objectness alone; .class for the class without it
    box:3@format=cxcywh,objectness=no,threshold=0.3    what the file does not tell, see `onnx_inspect.detection.Stated`

The graph is cut before NonMaxSuppression, TopK and the like, and the box found in the raw head on the untouched sample:
from then on the target is that candidate and that class, whatever becomes of the others. Its score is the logit of the
class, plus that of objectness where there is one: like the product of the two probabilities it rises with both, but it
saturates with neither. `score="output"` takes the product itself.
"""

from __future__ import annotations

import re

from ..detection import formats
from ..errors import TargetError
from ..labels import Labels
from ..model import Model
from ..scores import ScoreKind
from .detected import AS_IS, PARTS, Detected
from .elements import NUMBER, QUOTED, unquoted

_FOUR = ",".join([rf"\s*({NUMBER})\s*"] * 4)
_CLASS = re.compile(rf"class:\s*({QUOTED})(.*)", re.DOTALL)
_BOX = re.compile(rf"(?::\s*\({_FOUR}\)|@{_FOUR})(.*)", re.DOTALL)


def parse(text: str, model: Model, labels: Labels, kind: ScoreKind = "logits") -> Detected:
    """A target from a text that begins with "box:", "box@" or "class:".

    Raises:
        TargetError: it means nothing.
    """
    body, stated = text.strip(), AS_IS
    name, body = (unquoted(found[1]), f"class:{found[2]}") if (found := _CLASS.fullmatch(body)) else ("", body)
    said = re.search(r"@(\s*[a-z]+\s*=.*)$", body, re.DOTALL)
    if said is not None:
        body, stated = body[: said.start()].rstrip(), formats.parse(said[1])
    part = next((p for p in PARTS if body.endswith("." + p)), "")
    body = body[: len(body) - len(part) - 1].rstrip() if part else body
    if body.startswith("class:") and bool(name) != bool(rest := body[6:].strip()) and (name := name or rest):
        return Detected(" ".join(name.split()), part, stated, kind)
    if re.fullmatch(r"box:\s*[1-9]\d*", body):
        return Detected(int(body[4:]), part, stated, kind)
    if body.startswith("box") and (match := _BOX.fullmatch(body[3:])) and not match[9].strip():
        x0, y0, x1, y1 = (float(side) for side in match.groups()[:8] if side is not None)
        if x0 < x1 and y0 < y1:
            return Detected((x0, y0, x1, y1), part, stated, kind)
        raise TargetError(f"'{text}' is no box: (x0, y0, x1, y1) has its left upper corner first.")
    raise TargetError(
        f"'{text}' is no target: write box:3 for the third detection, box:(x0, y0, x1, y1) for a box in pixels, or "
        f"class:NAME, and behind it one of {', '.join('.' + p for p in PARTS)} if that is to be explained."
    )
