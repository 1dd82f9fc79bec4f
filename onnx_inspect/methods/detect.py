"""What a detector finds in photos, read from its raw head."""

from __future__ import annotations

from typing import Unpack

from ..detection import Detection, Stated, parse
from ..target.everything import Everything
from .inputs import Input, ModelLike
from .job import How, Job


def detect(model: ModelLike, x: Input, *, head: Stated | str = "", **how: Unpack[How]) -> list[list[Detection]]:
    """The detections of each photo, the surest first, as the targets box:1, box:2, ... number them.

    The graph is cut before NonMaxSuppression, TopK and the like; boxes are decoded from the raw head, and of those of
    a class that overlap the surest stays. Where nothing is found, the preprocessing is most often a wrong guess:
    `onnx-inspect doctor MODEL PHOTO` compares the usual ones.

    Args:
        model: a model, or what `load` takes.
        x: a photo's path, several, or an array as the model takes it.
        head: what the file does not tell, as "format=cxcywh,objectness=no,threshold=0.3"; see
            `onnx_inspect.detection.Stated`.
        how: what every method takes by keyword: preprocessing, labels, engine and so on.

    Returns:
        A list for each sample; boxes are in pixels of the photo.

    Raises:
        TargetError: the model ends in no boxes and class scores that can be read.

    Example:
        >>> detect("yolox_nano.onnx", "dog.jpg")[0][0].label
    """
    return detections(Job(model, x, target(head), **how))


def target(head: Stated | str) -> Everything:
    """What makes a job look for all detections."""
    return Everything(parse(head) if isinstance(head, str) else head)


def detections(job: Job) -> list[list[Detection]]:
    """What such a job has found."""
    assert isinstance(job.target, Everything)
    return [list(one) for one in job.target.found]
