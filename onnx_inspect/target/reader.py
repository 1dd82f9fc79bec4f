"""`Reader`: from the text of a target to the target, by recursive descent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NoReturn, TypeVar

from ..errors import TargetError
from ..labels import Labels
from ..model import Model
from ..scores import ScoreKind
from .base import Target
from .classes import Index, Top
from .elements import NUMBER, QUOTED, REDUCTIONS, Element, Slice, unquoted
from .segmentation import Region, Segmentation
from .similarity import Similarity
from .sums import Sum

T = TypeVar("T", bound=str)
REDUCED = rf"\s*\.\s*(?:{'|'.join(REDUCTIONS)})\b"
ELEMENTS = re.compile(rf"\s*\[|{REDUCED}")
ENDS = re.compile(rf"\s*(?:$|[\[;@,*+-])|{REDUCED}")  # where a name without quotes may end
END = re.compile(r"\s*(?:$|[\[;]|(?<=\s)[+.-]\s)")  # where one that nobody knows does


class Reader:
    """Reads one target; what was read so far ends at `at`. See `onnx_inspect.target` for the grammar.

    Names without quotes may hold blanks, hyphens and dots: they reach as far as a known class, output or layer does.
    """

    def __init__(self, text: str, model: Model, labels: Labels, kind: ScoreKind) -> None:
        self.text, self.model, self.labels, self.kind = text, model, labels, kind
        self.at = 0

    def target(self) -> Target:
        """The whole text."""
        found = self.sum()
        if not self.take(r"\s*$"):
            if self.take(r"\s*;"):
                raise TargetError(
                    f"'{self.text}' is several targets, as commands of methods take them: explain one at a time, and "
                    "in Python one after the other."
                )
            self.fail("A target ends before this, or a + or - is missing; factors stand in front, as in 0.5 * cat")
        return found

    def sum(self) -> Target:
        """Terms with + and - between."""
        terms = [self.term(-1.0 if self.take(r"\s*-(?!\s*[\d.])") else 1.0)]
        while sign := self.take(r"\s*([+-])"):
            terms.append(self.term(1.0 if sign[1] == "+" else -1.0))
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else Sum(tuple(terms))

    def term(self, sign: float) -> tuple[float, Target]:
        """A target with a factor, or without."""
        factor = self.take(rf"\s*({NUMBER})\s*\*")
        return sign * float(factor[1]) if factor else sign, self.part()

    def part(self) -> Target:
        """A class, elements of a tensor, or what a prefix announces."""
        self.take(r"\s*")
        for prefix, read in PREFIXES.items():
            if self.take(prefix):
                return read(self)
        start = self.at
        if (quoted := self.quoted()) is not None:
            return self.named(quoted, start, quoted=True)
        for name in self.names():
            if self.take(ELEMENTS, keep=True):
                if (tensor := self.tensor(name)) is not None:
                    return self.elements(tensor)
            elif not re.fullmatch(r"\d+|top(:\d*)?", name):
                if (found := self.labels.find(name)) is not None:
                    return Index(found, self.kind)
                if name in self.outputs:
                    return self.elements(name)
        if rank := self.take(r"top(?::([^\s;+*-]*))?(?![\w\[])"):
            if rank[1] is not None and not re.fullmatch(r"[1-9]\d*", rank[1]):
                raise TargetError(f"'{rank[0]}' means nothing: the most probable class is top:1, the next top:2.")
            return Top(int(rank[1] or 1), self.kind)
        if index := self.take(r"\d+(?![\w.\[])"):
            return Index(int(index[0]), self.kind)
        return self.named(self.unknown(), start)

    # Names.

    def names(self) -> Iterator[str]:
        """What may be a name here, the longest first; `at` is behind it."""
        start = self.at
        for end in sorted({m.start() for m in ENDS.finditer(self.text, start)}, reverse=True):
            self.at = end
            if name := self.text[start:end].strip():
                yield name
        self.at = start

    def unknown(self) -> str:
        """A name that nobody knows, as far as it seems to reach."""
        end = END.search(self.text, self.at)
        name = self.text[self.at : end.start() if end else None].strip()
        if not name:
            self.fail("A target is missing")
        self.at += len(name)
        return name

    def quoted(self) -> str | None:
        """A name between quotes."""
        found = self.take(rf"(?s:{QUOTED})")
        return unquoted(found[0]) if found else None

    def named(self, name: str, start: int, *, quoted: bool = False) -> Target:
        """What a name stands for that was read from `start` on: a tensor, else a class."""
        tensor, more, end = self.tensor(name), self.take(r"\s*\[|\s+\.\s*\w", keep=True), self.at
        if tensor is None and more and re.search(r"[*?]", name):
            tensor = self.model.layer(name).tensor
        if tensor is not None and (more or quoted):
            return self.elements(tensor)
        self.at = start  # where errors point to
        if more or not name:
            outputs = ", ".join(f"'{o}'" for o in self.outputs)
            self.fail(f"There is no output '{name}', nor a layer: the outputs are {outputs}")
        if tensor is not None:
            self.fail(f"'{name}' is a layer: write layer:{name} for all of it, or {name}[3] for its channel 3")
        try:
            found = self.labels.index(name)
        except TargetError as error:
            self.fail(str(error))
        self.at = end
        return Index(found, self.kind)

    def tensor(self, name: str) -> str | None:
        """The exact name of a tensor, given it or a layer's readable one."""
        if name in self.model.values:
            return name
        if name in self.layers:
            found = [c for c in self.model.layers if c.name == name]
            return (found or [self.model.layer(name)])[0].tensor
        return None

    @cached_property
    def outputs(self) -> list[str]:
        """The model's outputs."""
        return [o.name for o in self.model.outputs]

    @cached_property
    def layers(self) -> set[str]:
        """All that layers are called."""
        return {name for c in self.model.layers for name in (c.name, c.tensor)}

    # Parts.

    def elements(self, tensor: str, layer: str = "") -> Element:
        """Indices and a reduction, behind the name of a tensor."""
        kind = self.kind if self.model.values[tensor].is_graph_output() and not layer else "output"  # units as they are
        index: tuple[int | Slice | None, ...] = ()
        if self.take(r"\s*\["):
            inside = self.take(r"([^\]]*)\]") or self.fail("A bracket is not closed")
            index = tuple(self.axis(part.strip()) for part in inside[1].split(","))
        return Element(tensor, index, kind, self.reduction(REDUCTIONS), layer)

    def axis(self, part: str) -> int | Slice | None:
        """What is taken along one axis."""
        if part == ":":
            return None
        if re.fullmatch(r"-?\d{1,18}", part):
            return int(part)
        if match := re.fullmatch(r"(-?\d{1,18}|)\s*:\s*(-?\d{1,18}|)", part):
            return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)
        raise TargetError(f"'{part}' in the target {self.text} is neither an index nor a slice like 4:8.")

    def reduction(self, known: tuple[T, ...]) -> T:
        """What becomes of several numbers, the first that is known by default."""
        word = self.take(r"\s*\.\s*(\w+)")
        if word and word[1] not in known:
            self.at = word.start()
            self.fail(f"There is no reduction '{word[1]}', but {', '.join(known)}")
        return next((k for k in known if word and k == word[1]), known[0])

    def layer(self) -> Element:
        """layer:NAME, all of it or some elements."""
        found = self.model.layer(self.layer_name())
        return self.elements(found.tensor, found.name)

    def layer_name(self) -> str:
        """A layer's name, which may hold blanks and dots."""
        if (quoted := self.quoted()) is not None:
            return quoted
        return next((name for name in self.names() if name in self.layers), None) or self.unknown()

    def segmentation(self) -> Segmentation:
        """segmentation:class=K@REGION . REDUCTION"""
        output, index = "", -1
        while key := self.take(r"\s*(class|output)\s*=\s*"):
            if key[1] == "class":
                index = self.segment()
            else:
                output = self.quoted() or (self.take(r"[^\s,;@]+") or self.fail("The name of an output is missing"))[0]
            if not self.take(r"\s*,"):
                break
        if index < 0:
            self.fail("A segmentation's class is missing, as in segmentation:class=15")
        region = self.region() if self.take(r"\s*@\s*") else "mask"
        return Segmentation(index, region, self.reduction(("mean", "sum")), output, self.kind)

    def segment(self) -> int:
        """A class by index or name."""
        if index := self.take(r"\d+(?=\s*(?:$|[;@,+.-]))"):
            return int(index[0])
        if (quoted := self.quoted()) is not None:
            return self.labels.index(quoted)
        found = (found for name in self.names() if (found := self.labels.find(name)) is not None)
        known = next(found, None)
        return known if known is not None else self.labels.index(self.unknown().split("@")[0])

    def region(self) -> Region:
        """A region of a segmentation."""
        if self.take(r"mask\b"):
            return "mask"
        if self.take(r"all\b"):
            return "all"
        box = self.take(r"\s*,\s*".join([rf"({NUMBER})"] * 4))
        if box is None:
            self.fail("A region is mask, all, or a box x0,y0,x1,y1 in pixels of the photo")
        x0, y0, x1, y1 = map(float, box.groups())
        if not (x0 < x1 and y0 < y1):
            raise TargetError(f"The box {box[0]} is empty: its left and upper side come first, as in 10,20,110,220.")
        return x0, y0, x1, y1

    def embedding(self) -> Similarity:
        """embedding:similarity=PHOTO@LAYER"""
        if not self.take(r"similarity\s*=\s*"):
            self.fail("An embedding is explained by its likeness to another, as in embedding:similarity=cat.jpg")
        bare = r"(?:(?!\s+[+-]\s|\s*[;@]|\s*$).)+"
        reference = self.quoted() or (self.take(bare) or self.fail("The name of a photo is missing"))[0]
        layer = self.model.layer(self.layer_name()).name if self.take(r"\s*@\s*") else ""
        return Similarity(reference, layer, self.kind)

    def detected(self) -> Target:
        """box:3, class:NAME and their like, as far as a + or - between blanks"""
        found = self.take(rf"(?s:{QUOTED}|(?!\s+[+-]\s|\s*;).)+")
        assert found is not None
        from . import detections

        return detections.parse(found[0], self.model, self.labels, self.kind)

    # Characters.

    def take(self, pattern: str | re.Pattern[str], *, keep: bool = False) -> re.Match[str] | None:
        """What a pattern matches here; `at` moves behind it, unless it is kept."""
        found = re.compile(pattern).match(self.text, self.at)
        if found and not keep:
            self.at = found.end()
        return found

    def fail(self, what: str) -> NoReturn:
        """Raise an error that shows where it is."""
        rest = self.text[self.at :].strip()
        if rest == self.text:
            raise TargetError(what if what.endswith((".", "?")) else f"{what}.")
        at = f"at '{rest}'" if rest else "at the end"
        raise TargetError(f"{what.removesuffix('.')} (in '{self.text}', {at}).")


PREFIXES: dict[str, Callable[[Reader], Target]] = {
    "layer:": Reader.layer,
    "segmentation:": Reader.segmentation,
    "embedding:": Reader.embedding,
    "(?=box[:@]|class:)": Reader.detected,
}
