"""Can this model be explained? What stands in the way, named, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import detection
from ..autodiff.gradient import scored
from ..errors import InputError, InspectError, TargetError, UnsupportedError
from ..methods.inputs import image_input
from ..methods.job import SCORE, Job
from ..model import Model
from ..target.detected import Detected
from ..versions import versions
from . import feeds, file, install, path, photos, probe, sightings, subject
from .report import Finding, Report, Severity

if TYPE_CHECKING:
    from ..engine import Engine
    from ..naming import Layer
    from ..scores import ScoreKind

__all__ = ["Finding", "Report", "examine"]


def examine(
    model: Any,
    pictures: Sequence[str | Path] = (),
    target: Any = "top",
    *,
    layer: str = "auto",
    score: ScoreKind = "logits",
    labels: Any = None,
    preprocessing: Mapping[str, Any] | None = None,
    device: str = "auto",
    **engine: Any,
) -> Report:
    """Can this model be explained?

    The file is read, the operators between input and target are looked up, and the gradient is run: on the pictures,
    or on made-up input. With pictures, every preprocessing is tried as well.

    Args:
        model: a path, bytes, a ModelProto or a model.
        pictures: photos, by path.
        target: what is to be explained, as in every method.
        layer: the map to explain at, "auto" for the one that gradcam would choose.
        score: "logits" or "output", as in every method.
        labels: class names, or the file that holds them.
        preprocessing: preset and fields of Preprocessing that are known, as on the command line.
        device: where to run; what cannot run there runs on the CPU, with a finding.
        engine: more of `Engine`: threads, batch, lowering, tf32, half, graphs, verbose.

    Raises:
        ModelError: this is no ONNX model at all.
        TargetError, LayerError, InputError, PhotoError: what was asked for makes no sense.
    """
    report = Report({})
    proto, loaded, trouble = file.open_model(model)
    runner, refused = install.engine(device, **engine)
    report.add(*install.check(), *refused, *trouble)
    report.facts = {"model": _name(model, loaded), "versions": versions(), "provider": runner.provider}
    if proto is not None:
        report.facts |= _facts(proto)
        report.add(*file.check(proto, loaded))
    if loaded is None:
        return report
    report.facts |= _more(loaded)
    _try(report, loaded, [Path(p) for p in pictures], target, layer, score, labels, dict(preprocessing or {}), runner)
    return report


def _name(given: Any, loaded: Model | None) -> str:
    if loaded is not None:
        return str(loaded.source.path or loaded.source.name)
    return str(given) if isinstance(given, str | Path) else "(model in memory)"


def _facts(proto: Any) -> dict[str, Any]:
    return {
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "ir_version": proto.ir_version,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "operators": dict(file.operators(proto).most_common()),
    }


def _more(model: Model) -> dict[str, Any]:
    return {
        "canonical_opset": model.opset,
        "without_rule": dict(path.without_rule(model)),
        "external_data": [str(f) for f in model.source.data_files],
        "inputs": [vars(s) for s in model.inputs],
        "outputs": [vars(s) for s in model.outputs],
        "batch_freed": model.batch_relaxed,
    }


def _try(
    report: Report,
    model: Model,
    pictures: list[Path],
    target: Any,
    layer: str,
    score: ScoreKind,
    labels: Any,
    flags: dict[str, Any],
    engine: Engine,
) -> None:
    """Run the model and its gradients."""
    try:
        image_input(model)
    except InputError as error:
        return report.add(Finding("error", "file", str(error)))
    values, how, notes = feeds.make(model, pictures, flags, engine)
    job = Job(model, values, target, engine=engine, preprocessing=how, score=score, labels=labels)
    report.notes = list(dict.fromkeys([*notes, *(n for n in job.notes if n not in model.notes)]))
    if job.scores is None and not job.target.reads(model):
        report.add(subject.stand_in(report, job))
        if not report.target:
            return None
    with suppress(UnsupportedError):
        scored(model, job.target, score=SCORE)  # a target that makes no sense is no finding
    at = subject.layer_of(report, job, layer)
    if _gradients(report, job, at, bool(pictures)):
        report.fitting = subject.fitting(job, at, report.methods)
    if able := next((name for name, works in report.methods.items() if works), ""):
        report.add(*subject.arrays(job, able))
    if pictures and how is not None and detection.present(model, job.input):
        stated = job.target.stated if isinstance(job.target, Detected) else None
        found = sightings.sightings(model, pictures, how, stated, labels=labels, engine=engine)
        report.presets = found
        report.add(*sightings.check(found))
    elif pictures:
        report.presets = trials = photos.trials(job, pictures)
        report.add(*photos.check(trials))
    return None


def _gradients(report: Report, job: Job, at: Layer | None, real: bool) -> bool:
    """Whether there are gradients at the layer and at the input, and what they are like; False if nothing runs."""
    picture, stand = job.preprocessing is not None, job.stands.get(job.input.name)
    source = job.input.name if stand is None else stand.tensors[0].name or ""
    able = dict.fromkeys([*([at.tensor] if at is not None else []), source], False)
    smooth = [name for name in able if name != source or stand or np.dtype(job.input.dtype).kind == "f"]
    if source not in smooth:
        report.add(subject.no_floats(job, at))
    stopped = None
    try:
        found = dict.fromkeys(smooth, probe.gradients(job, smooth))
    except InspectError:  # one by one, then
        found, stopped = {}, probe.forward(job, made_up=not picture)
        report.add(*filter(None, [stopped]))
    runs, told = stopped is None or stopped.severity != "error", set()
    hidden = probe.covered(job, at) if picture and stopped is None else None
    for name in smooth if runs else ():
        severity: Severity = "warning" if any(able.values()) else "error"
        try:
            values = found.get(name) or probe.gradients(job, [name], run=stopped is None)
        except (UnsupportedError, TargetError) as error:
            ways = ["cover parts of the input instead (occlusion)"] if picture and not hidden else []
            blame = path.blocked(job.model, job.explained_tensor, name, error, severity, ways)
            if not blame.where or all(f.where != blame.where for f in report.findings):  # the layer's is the same
                report.add(blame)
            continue
        except InspectError as error:
            if str(error) not in told:
                report.add(Finding(severity, "gradient", str(error), where=name))
            told.add(str(error))
            continue
        wrong = list(probe.check(job, values, name, real)) if values else []
        report.add(*(f for f in wrong if f.where not in told))  # what is wrong at the layer is so at the input
        told |= {f.where for f in wrong}
        able[name] = all(f.severity != "error" for f in wrong)
    if at is not None or picture:
        report.methods["gradcam"] = at is not None and able[at.tensor]
    report.methods["saliency"] = able[source]
    if picture:
        report.methods["occlusion"] = stopped is None and hidden is None
    if hidden is not None and (hidden.severity == "warning" or all(f.severity != "error" for f in report.findings)):
        report.add(hidden)
    return runs
