"""How much memory a run takes, estimated from the graph, and how much there is."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from .collector import uncollected
from .facts import kept
from .model import Model
from .structure import all_inputs, subgraphs, varying

if TYPE_CHECKING:
    from .sizes import Sized, Sizes

_UNKNOWN = 4 * 10**9  # of a machine that says nothing about itself
_ARENA = 1.7  # onnxruntime's arena grows by doubling: on large runs it was seen to take 1.1 to 1.65 times what is live
_SAME = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})  # give their input's bytes on


# How much there is.


def available(root: Path = Path("/")) -> int:
    """Bytes that this machine can still give: what it says is free, or the limit of the container if that is less."""
    with suppress(OSError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        return min([free, *_limits(root)])
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        with suppress(AttributeError, OSError, ValueError):
            return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    return _UNKNOWN


def _limits(root: Path) -> Iterator[int]:
    """Limits of the control group: version 2, then version 1, where "max" and absurd numbers mean none."""
    own = [""]
    with suppress(OSError):
        own += [line.rpartition(":")[2] for line in (root / "proc/self/cgroup").read_text().splitlines()]
    for group in own:
        for file in (f"{group}/memory.max", f"memory{group}/memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                yield int((root / "sys/fs/cgroup" / file.lstrip("/")).read_text())


def trim() -> None:
    """Give back to the system what is free: glibc keeps what reading and optimising a model took, twice its weights."""
    with suppress(OSError, AttributeError, TypeError):  # another C library; Windows
        ctypes.CDLL(None).malloc_trim(0)


def cuda() -> ctypes.CDLL:
    """The driver of NVIDIA's cards.

    Raises:
        OSError: there is none.
    """
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def of_card(number: int) -> int:
    """Bytes that a CUDA card has, as its driver says."""
    with suppress(OSError, AttributeError):
        driver = cuda()
        card, size = ctypes.c_int(), ctypes.c_size_t()
        asked = driver.cuInit(0), driver.cuDeviceGet(ctypes.byref(card), number)
        if not any(asked) and not driver.cuDeviceTotalMem_v2(ctypes.byref(size), card):
            return size.value
    return _UNKNOWN


# How much a run takes.


@kept
@dataclass(frozen=True)
class Need:
    """The memory that runs of a model take, in bytes.

    fixed: weights, and what follows from them alone. steps: what is live at the nodes of the graph where that is most:
    bytes per sample, and bytes of scratch space however many samples there are.
    """

    fixed: int
    steps: tuple[tuple[int, int], ...]

    def of(self, samples: int) -> int:
        """Bytes of a run with so many samples."""
        return self.fixed + int(_ARENA * max((samples * each + once for each, once in self.steps), default=0))

    def fit(self, limit: int) -> int:
        """How many samples go into one run; 0 if not even one."""
        left = (limit - self.fixed) / _ARENA
        return max(0, min((int((left - once) // each) for each, once in self.steps if each), default=sys.maxsize))


@uncollected()
def need(model: Model, sizes: Sizes, samples: frozenset[str]) -> Need:
    """Estimate what a run takes: the most bytes that are live at once, in the order of the graph.

    Tensors live from the node that computes them to the last that reads them; inputs and outputs all the time. What
    nodes write in place is counted as if they did not.

    Args:
        model: what is run.
        sizes: of the inputs, for one sample.
        samples: the inputs that hold samples.
    """
    from .decompose.table import lowered
    from .sizes import Sized

    graph = lowered(model.ir).graph
    per_sample = varying(graph, [v for v in graph.inputs if v.name in samples])
    sized = Sized(graph, sizes, per_sample)
    computed = [y for node in graph for y in node.outputs if y not in per_sample]
    fixed = [*graph.initializers.values(), *(v for v in graph.inputs if v not in per_sample), *computed]
    most: dict[int, int] = {}
    for each, once in _steps(graph, sized, per_sample):
        most[once] = max(each, most.get(once, 0))
    return Need(sum(map(sized.bytes, fixed)), tuple((each, once) for once, each in most.items()))


def views(nodes: Iterable[ir.Node], values: set[ir.Value]) -> dict[ir.Value, ir.Value]:
    """Of those values that show the bytes of another, that other."""
    owner: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        first, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type in _SAME and not node.domain and first in values and not y.is_graph_output():
            owner[y] = owner.get(first, first)
    return owner


def _steps(graph: ir.Graph, sized: Sized, per_sample: set[ir.Value]) -> Iterator[tuple[int, int]]:
    """What is live while each node runs: bytes per sample, and scratch space."""
    order = list(graph)
    owner = views(order, per_sample)
    last: dict[ir.Value, int] = {}
    for i, node in enumerate(order):
        for x in all_inputs(node):
            last[owner.get(x, x)] = i
    for y in graph.outputs:
        last[owner.get(y, y)] = len(order)
    given = [v for v in graph.inputs if v in per_sample]
    live = sum(map(sized.bytes, given))
    ends: dict[int, int] = {}
    for i, node in enumerate(order):
        for y in node.outputs:
            if y in per_sample and y not in owner:
                size = sized.bytes(y)
                live += size
                end = last.get(y, i)
                ends[end] = ends.get(end, 0) + size
        bodies = [step for inner in subgraphs(node) for step in _steps(inner, sized, _all(inner))]
        inside = [max(each, default=0) for each in zip(*bodies, strict=True)] or [0, 0]
        yield live + inside[0], _scratch(node, sized) + inside[1]
        live -= ends.get(i, 0)


def _all(body: ir.Graph) -> set[ir.Value]:
    return {*body.inputs, *(y for node in body for y in node.outputs)}


def _scratch(node: ir.Node, sized: Sized) -> int:
    """What a kernel needs for itself: a ConvTranspose writes a column per position, for one sample at a time."""
    if node.op_type != "ConvTranspose" or len(node.inputs) < 2:
        return 0
    x, w = node.inputs[:2]
    channels = w.shape[0] if w is not None and w.shape is not None else None
    if x is None or w is None or not isinstance(channels, int) or not channels:
        return 0
    return sized.bytes(x) // channels * (sized.elements(w) // channels)
