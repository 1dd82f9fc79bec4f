from __future__ import annotations

from typing import Any

import numpy as np

from .harness import Array, Case, normal, positive


class Loss:
    """Both losses in NumPy, by the letter of the standard."""

    def __init__(self, softmax: bool, outputs: int, reduction: str = "mean", ignore_index: int | None = None) -> None:
        self.softmax, self.outputs, self.reduction, self.ignored = softmax, outputs, reduction, ignore_index

    def __call__(self, x: Array, label: Array, w: Array | None = None) -> list[Array]:
        if self.softmax:
            x = x - np.log(np.exp(x).sum(1, keepdims=True))
        counts = np.ones(label.shape) if self.ignored is None else label != self.ignored
        at = np.where(counts, label, 0)
        each = counts * (1.0 if w is None else w[at])
        loss = -np.take_along_axis(x, at[:, None], 1)[:, 0] * each
        reduced = {"none": lambda: loss, "sum": loss.sum, "mean": lambda: loss.sum() / each.sum()}[self.reduction]()
        return [np.asarray(reduced), x][: self.outputs]


def row(
    op: str, rest: tuple[int, ...], weighted: bool = False, outputs: int = 1, label: type = np.int64, **attributes: Any
) -> Case:
    labels = (np.arange(5 * np.prod(rest, dtype=int)).reshape(5, *rest) * 7 % 4).astype(label)
    ignored = attributes.get("ignore_index")
    if ignored is not None:
        labels.reshape(-1)[1::3] = ignored
    forward = Loss(op == "SoftmaxCrossEntropyLoss", outputs, **attributes)
    weights = [positive(4)] if weighted else []
    return Case(
        op,
        [normal(5, 4, *rest), labels, *weights],
        attributes,
        outputs=outputs,
        forward=forward,
        label=f"{label.__name__}{ignored}",
    )


CASES = [
    *(
        row(op, rest, weighted, reduction=reduction, **ignore)
        for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
        for reduction in ("none", "sum", "mean")
        for weighted in (False, True)
        for rest, ignore in (((), {}), ((3, 2), {}), ((3,), {"ignore_index": 2}), ((2, 1, 3), {"ignore_index": -1}))
    ),
    *(
        row("SoftmaxCrossEntropyLoss", rest, weighted, outputs=2, reduction=reduction, ignore_index=2)
        for reduction in ("none", "mean")
        for weighted in (False, True)
        for rest in ((), (2, 3))
    ),
    row("SoftmaxCrossEntropyLoss", (3,), True, outputs=2),
    row("NegativeLogLikelihoodLoss", (3,), True, label=np.int32),
]
