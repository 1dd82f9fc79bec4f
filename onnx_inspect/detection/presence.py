"""Is a model a detector? Told from its graph alone, before anything runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..errors import TargetError
from ..guess import FREE
from ..labels import Labels
from ..model import Model
from ..structure import Spec
from .formats import Stated
from .frontier import POOLING
from .head import Head
from .lineage import Lineage
from .reading import read
from .telling import HeadError

_SELECTING = POOLING | {"NonMaxSuppression"}
_FREE = {"N": 1, "C": 3, "H": FREE[True], "W": FREE[True]}


def present(model: Model, picture: Spec) -> bool:
    """Whether the model ends in boxes and class scores.

    Suppression and the pooling of regions say so; so do tensors of four numbers and of scores for as many candidates.
    A single table may be anything, tokens for example: its rows have to come from several maps, or several from a cell.

    Args:
        model: the model.
        picture: its input that takes photos.
    """
    return model.fact(("is a detector", picture.name), lambda: _present(model, picture))


def _present(model: Model, picture: Spec) -> bool:
    if picture.layout is None or len(picture.layout) != 4:
        return False
    if any(node.op_type in _SELECTING for node in model.ir.graph.all_nodes()):
        return True
    if all(_is_row(v) for v in model.ir.graph.outputs):
        return False  # as of all classifiers, whose shapes need no reckoning
    sizes = {s.name: tuple(d if isinstance(d, int) else 1 for d in s.shape) for s in model.inputs}
    sizes[picture.name] = tuple(
        d if isinstance(d, int) else _FREE[k] for d, k in zip(picture.shape, picture.layout, strict=True)
    )
    axes = dict(zip(picture.layout, sizes[picture.name], strict=True))
    try:
        head = read(Lineage(model, sizes, axes["N"]), (axes["H"], axes["W"]), Stated(), Labels())
    except HeadError as error:
        return error.several
    except TargetError:
        return False
    return head.raw.boxes is not head.raw.scores or _of_maps(head)


def _of_maps(head: Head) -> bool:
    """Rows that come from the cells of several maps, or several from each cell."""
    if head.cells is None:
        return False
    return len(np.unique(head.cells[:, 2])) > 1 or len(np.unique(head.cells[:, :2], axis=0)) < len(head.cells)


def _is_row(value: ir.Value) -> bool:
    """A number per sample, or a row of them."""
    return value.shape is not None and len(value.shape) <= 2
