"""Many strings in little room."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator


class Strings:
    """A sequence of strings that costs their UTF-8 bytes and eight more each; a str costs 49 more, a Path hundreds."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("Q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """One more at the end; names of files that are no valid UTF-8 come back as they were."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, k: int) -> str:
        k = range(len(self))[k]
        return self._bytes[self._ends[k] : self._ends[k + 1]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[k] for k in range(len(self)))
