"""What is explained: target, map and input, and what stands in where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import onnx_ir as ir

from .. import attentions, detection
from ..dtypes import is_float
from ..errors import InspectError, LayerError
from ..layer import before_pooling
from ..methods.job import Job
from ..methods.registry import NEEDS, every
from ..naming import Layer
from ..structure import needed, varying
from ..target import parse
from . import path
from .report import Finding, Report, Severity, typed

# What can be asked of models without class scores, whatever is on the photo, and what one would rather ask.
_BOXES = "explain what it finds, as in --target box:1 (`onnx-inspect boxes` lists it)"
_KINDS = (
    ("detector", "class:0", _BOXES),
    ("detector", "class:1", _BOXES),  # where class 0 means nothing
    ("segmentation", "segmentation:class=0@all", "explain a class, as in --target segmentation:class=0"),
)


def stand_in(report: Report, job: Job) -> Finding:
    """Without class scores, something else is explained: a class that is found, or a channel of a tensor."""
    for kind, told, remedy in _KINDS:
        with suppress(InspectError):
            job.target = parse(told, job.model, job.labels, job.score).settle(job)
            report.target = told
            return Finding("note", "operators", f"this is a {kind}", remedy)
    graph, source = job.model.ir.graph, job.input.name
    starts = [v for v in graph.inputs if v.name == source]
    told = path.element(job.model, reversed(graph.outputs))
    if not told:  # sequences: what they are made of
        made = [node for v in graph.outputs if isinstance(v.type, ir.SequenceType) and (node := v.producer())]
        told = path.element(job.model, [x for node in made for x in node.inputs if x is not None])
    ends = [n for v in graph.outputs for n in path.cutters(job.model, v, starts)]
    if told:
        shape = ", ".join(f"'{s.name}' {s.sizes()} {s.dtype}" for s in job.model.outputs[:4])
        what = f"no output holds one score per class ({shape})"
        finding = Finding("warning", "operators", what, f"name the elements to explain, as in --target {typed(told)}")
    elif ends:
        told = path.element(job.model, [x for x in ends[-1].inputs if x is not None])
        finding = path.cut(job.model, ends[-1], source, "error")
    else:
        what = "no output depends on the input by floating-point numbers, so nothing has a gradient"
        finding = Finding("error", "operators", what)
    if told:
        job.target = parse(told, job.model, job.labels, job.score)
        report.target = told
    return finding


def arrays(job: Job, method: str) -> Iterator[Finding]:
    """What is no photo, and how to give it."""
    specs = {s.name: s for s in job.model.inputs}
    if len(specs) > 1:
        others = ", ".join(f"'{name}' ({s.sizes()} {s.dtype})" for name, s in specs.items() if name != job.input.name)
        feeds = ", ".join(f"{name!r}: ..." for name in specs)
        what = f"there are more inputs than a photo, {others}, and made-up numbers stood for them"
        one = next(name for name in specs if name != job.input.name)
        remedy = f"give yours (--input {typed(one)}=FILE), from Python as in oi.{method}(model, {{{feeds}}})"
        yield Finding("note", "file", what, remedy)
    elif job.preprocessing is None:
        what = f"the input '{job.input.name}' ({job.input.sizes()} {job.input.dtype}) takes no photos"
        yield Finding(
            "note", "file", what, f"give x.npy or rows.csv instead, from Python an array: oi.{method}(model, x)"
        )


def fitting(job: Job, at: Layer | None, ways: Mapping[str, bool]) -> dict[str, bool]:
    """All methods, and whether they fit: gradients at the layer or the input, a map, a linear head, a picture."""
    every()
    smooth, detects, found = ways.get("saliency", False), _detects(job), {}
    for name, needs in sorted(NEEDS.items()):
        offers = {
            "gradient": ways.get("gradcam", False) if "map" in needs else smooth,
            "map": at is not None,
            "head": smooth and _linear_head(job),
            "picture": job.preprocessing is not None,
            "attention": bool(attentions.find(attentions.opened(job.model), job.places)),
            "detector": detects,
        }
        found[name] = all(offers[need] for need in needs)
    return found


def _detects(job: Job) -> bool:
    with suppress(InspectError):
        return bool(detection.find(job))
    return False


def _linear_head(job: Job) -> bool:
    try:
        before_pooling(job.model, job.explained_tensor)
    except LayerError:
        return False
    return True


def layer_of(report: Report, job: Job, name: str) -> Layer | None:
    """The map that is explained, None if there is none."""
    known = len(job.notes)
    try:
        at = job.layer(name)
    except LayerError:
        if name != "auto":
            raise
        if not any("::" in op and not op.startswith("ai.onnx.ml") for op in path.without_rule(job.model)):
            report.add(_no_map(job))
        return None
    if at.axes != "HW":
        if name == "auto":
            report.add(_no_map(job))
            return None
        raise LayerError(
            f"'{at.name}' ({at.op_type}) is not a map with height and width: "
            "`onnx-inspect layers MODEL --spatial` lists those that are."
        )
    report.notes += job.notes[known:]
    return at


def _no_map(job: Job) -> Finding:
    """Why gradcam and occlusion have nothing to draw on, and a map that not all of the path runs through."""
    graph, start, end = job.model.ir.graph, job.model.value(job.input.name), job.model.value(job.explained_tensor)
    way = needed(graph, end) & varying(graph, [start])
    maps = [at for at in path.maps(job.model) if job.model.values[at.tensor] in way]
    severity: Severity = "warning" if job.preprocessing is not None else "note"
    if not maps:
        what = "no tensor on the path to the target is a map with height and width, as maps of layers need"
        return Finding(severity, "operators", what)
    what = "no map with height and width has all of the path to the target run through it"
    return Finding(severity, "operators", what, f"choose one, as --layer {typed(maps[-1].name)}", maps[-1].name)


def no_floats(job: Job, at: Layer | None) -> Finding:
    """An input of integers: a note where there is a map, else the tensor to look at instead."""
    what = f"the input '{job.input.name}' holds {job.input.dtype} numbers, which have no gradient"
    if at is not None:
        return Finding("note", "gradient", what, "gradcam and occlusion need none there", job.input.name)
    floats = (y for node in job.model.ir.graph for y in node.outputs if is_float(y) and y in job.model.varying)
    first = next((y.name for y in floats), None)
    remedy = f"ask for that of a tensor, from Python: oi.gradient(model, {str(job.target)!r}, [{first!r}])"
    return Finding("error", "gradient", what, remedy if first else "", job.input.name)
