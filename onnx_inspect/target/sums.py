"""Targets that are sums of others: contrasts, mixtures."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..emit import Op
from ..errors import TargetError
from ..model import Model
from ..scores import scores
from .base import Asks, Target, floats
from .classes import INPUT, Index, Top, mixed, settled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sum(Target):
    """Targets times numbers, added up: S = sum_k f_k S_k.

    The class of a rank is that of the untouched sample, whatever a changed one looks like.

    Attributes:
        terms: factors and targets.

    Raises:
        TargetError: a factor is 0, or no number.
    """

    terms: tuple[tuple[float, Target], ...]

    def __post_init__(self) -> None:
        if wrong := [factor for factor, _ in self.terms if not factor or not isfinite(factor)]:
            raise TargetError(f"A target cannot be taken {wrong[0]:g} times: leave it out, or give another factor.")

    def __str__(self) -> str:
        text = ""
        for factor, term in self.terms:
            size = abs(factor) if text else factor
            sign = (" + " if factor > 0 else " - ") if text else ""
            text += sign + ("" if size == 1 else f"{_number(size)} * ") + str(term)
        return text

    @property
    def local(self) -> bool:
        """As its terms are."""
        return any(term.local for _, term in self.terms)

    def reads(self, model: Model) -> list[str]:
        """All tensors that its terms are read from."""
        found = [name for _, term in self.terms for name in term.reads(model) or self._rows(term, model)]
        return list(dict.fromkeys(found))

    def _rows(self, term: Target, model: Model) -> list[str]:
        return [scores(model, kind=term.kind if isinstance(term, Index | Top) else "logits").tensor]

    def key(self) -> Hashable:
        """Classes are inputs here, too."""
        return ("sum", *((factor, term.key()) for factor, term in self.terms))

    def check(self, count: int | None) -> None:
        """Every term has to be there."""
        for _, term in self.terms:
            term.check(count)

    def settle(self, runs: Asks) -> Target:
        """Every term for these samples."""
        terms, told = [], []
        for factor, term in self.terms:
            found = settled(term, runs) if isinstance(term, Top) else term.settle(runs)
            if isinstance(found, Index) and (isinstance(term, Top) or runs.labels.names):
                told.append(f"{found} is {_named(found, runs)}")
            terms.append((factor, found))
        if told:
            runs.notes.append(f"target: in '{self}', {', '.join(dict.fromkeys(told))} (--target CLASS)")
        return Sum(tuple(terms))

    def sample(self, i: int) -> Target:
        """Every term for one of the samples."""
        return Sum(tuple((factor, term.sample(i)) for factor, term in self.terms))

    def emit(self, op: Op, model: Model) -> ir.Value:
        """The sum. Inputs that terms add get the number of their part, since they would have the same name."""
        total: Any = None
        for i, terms in enumerate(self._parts()):
            factor, term = terms[0]
            if isinstance(term, Index):
                value = mixed(op, model, [(f, t) for f, t in terms if isinstance(t, Index)], f"{INPUT}.{i}")
            else:
                known = len(op.graph.inputs)
                value = floats(op, term.emit(op, model))
                for added in op.graph.inputs[known:]:
                    added.name = f"{added.name}.{i}"
                value = value if factor == 1 else value * factor
            total = value if total is None else total + value
        total.shape = ir.Shape([None])
        return total  # type: ignore[no-any-return]

    def feeds(self, n: int) -> dict[str, NDArray[Any]]:
        """Those of all terms, of classes beside each other."""
        fed: dict[str, NDArray[Any]] = {}
        for i, terms in enumerate(self._parts()):
            if isinstance(terms[0][1], Index):
                fed[f"{INPUT}.{i}"] = np.stack([term.feeds(n)[INPUT] for _, term in terms], axis=1)
            else:
                fed |= {f"{k}.{i}": v for k, v in terms[0][1].feeds(n).items()}
        return fed

    def _parts(self) -> list[list[tuple[float, Target]]]:
        """The classes of each kind of score together, every other term alone."""
        parts: dict[Hashable, list[tuple[float, Target]]] = {}
        for i, (factor, term) in enumerate(self.terms):
            parts.setdefault(term.key() if isinstance(term, Index) else i, []).append((factor, term))
        return list(parts.values())


def _number(factor: float) -> str:
    return str(int(factor)) if factor == int(factor) and abs(factor) < 1e15 else repr(factor)


def _named(found: Index, runs: Asks) -> str:
    """The classes of the samples, a few of them by name."""
    names = [runs.labels.name(i) for i in dict.fromkeys(found.indices)]
    return " or ".join(names[:3]) + (f" or one of {len(names) - 3} more" if len(names) > 3 else "")
