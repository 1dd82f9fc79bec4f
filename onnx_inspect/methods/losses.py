"""What attacks on a classifier change: losses, as targets."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..model import Model
from ..target import Index, rows_of


class CrossEntropy(Index):
    """-log of a class's probability: what training made small, and attacks make large again."""

    def key(self) -> Hashable:
        """All classes share one compiled model."""
        return ("cross entropy", self.kind)

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The loss, from the scores before the final activation or after it."""
        score = super().emit(op, model)
        found, rows = rows_of(op, model, self.kind)
        if rows.dtype == ir.DataType.FLOAT16:
            score, rows = (op.Cast(v, to=ir.DataType.FLOAT) for v in (score, rows))
        if self.kind == "output" and found.activation is not None:
            loss = -score if found.activation == "log softmax" else -op.Log(score)
        elif found.activation == "sigmoid" or found.count == 1:
            loss = op.Softplus(-score)
        else:
            loss = op.ReduceLogSumExp(rows, [1], keepdims=0) - score
        loss.shape = ir.Shape([None])
        return loss  # type: ignore[no-any-return]


class Margin(CrossEntropy):
    """The largest score of the other classes less that of a class: as slopes go, never too sure to be flat.

    Carlini & Wagner, Towards Evaluating the Robustness of Neural Networks, S&P 2017.
    """

    def key(self) -> Hashable:
        """All classes share one compiled model."""
        return ("margin", self.kind)

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The margin, in float32."""
        score = Index.emit(self, op, model)
        _, rows = rows_of(op, model, self.kind)
        score, rows = (op.Cast(v, to=ir.DataType.FLOAT) for v in (score, rows))
        own = op.OneHot(op.graph.inputs[-1], op.size(rows, 1), op.const(np.array([0, 1e30], np.float32)))
        margin = op.ReduceMax(rows - own, [1], keepdims=0) - score
        margin.shape = ir.Shape([None])
        return margin  # type: ignore[no-any-return]
