"""Where the time of a method goes, node by node, by onnxruntime's profiler: the graph that the engine really runs."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import bench
import numpy as np
import onnxruntime as ort
import tables

import onnx_inspect as oi

RUNS, WARM, TOP = 9, 2, 25


@dataclass(frozen=True)
class Node:
    """A node as onnxruntime ran it, fusions and changes of layout included; ms: the median of its runs."""

    name: str
    op: str
    shapes: str
    ms: float


def recorded(make: Callable[[], Callable[[], Any]], runs: int) -> list[list[Node]]:
    """The nodes of every session that calls run on, the slowest session first."""
    opened: list[ort.InferenceSession] = []

    class Recorded(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: Any, options: ort.SessionOptions, **how: Any) -> None:
            options.enable_profiling, options.profile_file_prefix = True, f"{folder}/{len(opened)}"
            super().__init__(model, options, **how)
            opened.append(self)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(ort, "InferenceSession", Recorded):
        call = make()
        for _ in range(runs):
            call()
        found = [nodes(json.loads(Path(each.end_profiling()).read_text())) for each in opened]
    return sorted(filter(None, found), key=lambda found: -sum(node.ms for node in found))


def nodes(events: list[dict[str, Any]]) -> list[Node]:
    """The medians of nodes, warm-ups left out; none of a session that never ran warm."""
    starts = sorted(e["ts"] for e in events if e["name"] == "model_run")
    if len(starts) <= WARM:
        return []
    taken: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for e in events:
        if e["name"].endswith("_kernel_time") and e["ts"] >= starts[WARM]:
            taken[e["name"].removesuffix("_kernel_time")].append(e)
    count = len(starts) - WARM
    # A node of a loop's body runs many times in a run.
    share = {name: max(1, round(len(some) / count)) for name, some in taken.items()}
    return [
        Node(name, some[0]["args"]["op_name"], shapes(some[0]["args"]), share[name] * median(some))
        for name, some in taken.items()
    ]


def median(events: list[dict[str, Any]]) -> float:
    return float(np.median([e["dur"] for e in events])) / 1000


def shapes(given: dict[str, Any]) -> str:
    ins, outs = (
        ", ".join("x".join(map(str, next(iter(one.values())))) or "1" for one in given.get(key, []))
        for key in ("input_type_shape", "output_type_shape")
    )
    return f"{ins} → {outs}"


def by_operator(found: list[Node], forward: list[Node]) -> str:
    """Milliseconds by operator, beside those of the plain forward pass."""
    ours, plain, count, usual = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for some, ms, number in ((found, ours, count), (forward, plain, usual)):
        for node in some:
            ms[node.op] += node.ms  # type: ignore[assignment]
            number[node.op] += 1
    total, base = sum(ours.values()), sum(plain.values())
    rows = [
        (op, count[op], f"{ours[op]:.2f}", f"{100 * ours[op] / total:.1f} %", usual[op], f"{plain[op]:.2f}")
        for op in sorted(ours | plain, key=lambda op: -ours[op])
        if ours[op] >= 0.002 * total
    ]
    rows.append(("all", len(found), f"{total:.2f}", f"{total / base:.2f} x", len(forward), f"{base:.2f}"))
    return tables.markdown(("", "nodes", "ms", "share", "forward: nodes", "ms"), rows)


def profile(network: str, method: str, device: str, threads: int) -> str:
    """By operator and by node, of the session in which most of the time is spent."""
    x = bench.photo()

    def plain() -> Callable[[], Any]:
        session = bench.session(network, device, threads)
        return lambda: session.run(None, {"input": x})

    runs = WARM + RUNS if bench.ROUNDS[method] > 5 else WARM
    (forward,) = recorded(plain, WARM + RUNS)
    sessions = recorded(lambda: bench.ours(network, method, oi.Engine(device, threads)), runs)
    found = sessions[0]
    total = sum(node.ms for node in found)
    top = sorted(found, key=lambda node: -node.ms)[:TOP]
    rows = [(n.op, n.shapes, f"{n.ms:.2f}", f"{100 * n.ms / total:.1f} %", n.name[-60:]) for n in top]
    others = "; ".join(f"{len(some)} nodes, {sum(n.ms for n in some):.2f} ms" for some in sessions[1:])
    return "\n\n".join(
        [
            f"{method} of {network}, {threads} thread(s): the slowest of {len(sessions)} sessions, by operator",
            by_operator(found, forward),
            tables.markdown(("", "shapes", "ms", "share", "node"), rows),
            *([f"Other sessions: {others}"] if others else []),
        ]
    )
