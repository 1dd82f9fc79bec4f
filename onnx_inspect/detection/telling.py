"""How a caller states something of a detector; and the error that says what is left to state."""

from __future__ import annotations

from ..errors import TargetError

TENSORS = "boxes=NAME,scores=NAME"


def way(text: str, listing: bool) -> str:
    """How `Stated` is written: behind the @ of a target, or by itself where all boxes are listed."""
    return f"--head '{text}'" if listing else f"--target 'box:1@{text}'"


class HeadError(TargetError):
    """The raw head of a detector cannot be read.

    Args:
        what: the trouble, as the beginning of a sentence.
        say: what would help if it were stated, as in "state the tensors"; "" for nothing.
        text: how that is written in `Stated`.
        elements: what a method can explain instead, as a target.
        several: there are several heads, and not none.
        listing: in the words of those who list boxes, and have no target.
    """

    def __init__(
        self,
        what: str,
        say: str = "",
        text: str = TENSORS,
        *,
        elements: str = "OUTPUT[row, column]",
        several: bool = False,
        listing: bool = False,
    ) -> None:
        self.several, self._parts = several, (what, say, text, elements)
        python = ", from Python head=" if listing else ""
        ways = [f"{say} ({way(text, listing)}{python})"] if say else []
        if not listing:
            ways.append(f"name the elements to explain (--target {elements})")
        elif not ways:
            ways.append(f"boxes cannot be listed, but methods explain elements (--target {elements})")
        super().__init__(f"{what}: {', or '.join(ways)}.")

    @property
    def listed(self) -> HeadError:
        """The same for those who list boxes."""
        what, say, text, elements = self._parts
        return HeadError(what, say, text, elements=elements, several=self.several, listing=True)
