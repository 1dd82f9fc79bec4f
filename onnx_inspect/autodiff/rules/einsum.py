"""Sums of products over named axes."""

from __future__ import annotations

import string

import onnx_ir as ir

from ...emit import Op, inputs
from ..table import Cotangents, rule


@rule("Einsum")
def einsum(op: Op, node: ir.Node, dy: ir.Value) -> Cotangents:
    """Y = the product of the operands, summed over the letters that Y does not have.

    The adjoint of one operand is the same product with dY in its place, and its own letters as the output.
    """
    xs = inputs(node, len(node.inputs))
    terms, result = _letters(op, node, xs)
    return [_operand(op, k, xs, terms, result, dy) if op.wants(x) else None for k, x in enumerate(xs)]


def _operand(op: Op, k: int, xs: list[ir.Value], terms: list[str], result: str, dy: ir.Value) -> ir.Value:
    """The cotangent of operand `k`: of letters that occur twice in it, only the diagonal has one."""
    x, own = xs[k], terms[k]
    # dY first: it has every axis at full size, and shape inference believes whom it meets first.
    factors, letters = [dy, *xs[:k], *xs[k + 1 :]], [result, *terms[:k], *terms[k + 1 :]]
    known = set("".join(letters))
    spare = iter(sorted(set(string.ascii_letters) - known - set(own)))
    target = ""
    for i, c in enumerate(own):
        if c in own[:i]:
            factors.append(_eye(op, op.size(x, i), dy))
            letters.append(c + next(spare))
        elif c not in known:  # summed over by itself: dY is spread along it
            factors.append(op.full(op.size(x, i), 1, dy.dtype or ir.DataType.FLOAT))
            letters.append(c)
        target += letters[-1][1] if c in own[:i] else c
    dx = op.Einsum(*factors, equation=f"{','.join(letters)}->{target}")
    if not any(_stretched(xs, terms, c) for c in own):
        return dx  # type: ignore[no-any-return]
    return op.sum_to(op.Expand(dx, op.shape(x)), x)


def _stretched(xs: list[ir.Value], terms: list[str], letter: str) -> bool:
    """True if an axis may be repeated in one operand to meet another: their sizes are not known to agree."""
    pairs = [(x.shape, i) for x, t in zip(xs, terms, strict=True) for i, c in enumerate(t) if c == letter]
    sizes = [shape[i] if shape is not None else None for shape, i in pairs]
    named = all(isinstance(size, int) or (size is not None and size.value is not None) for size in sizes)
    return len(sizes) > 1 and not (named and all(size == sizes[0] for size in sizes))


def _eye(op: Op, size: ir.Value, like: ir.Value) -> ir.Value:
    dtype = like.dtype or ir.DataType.FLOAT
    return op.EyeLike(op.full(op.Concat(size, size, axis=0), 0, dtype))  # type: ignore[no-any-return]


def _letters(op: Op, node: ir.Node, xs: list[ir.Value]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, an ellipsis spelt out."""
    left, arrow, right = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    plain = left.replace(",", "").replace(".", "")
    depths = [op.rank(x) - len(t) + 3 if "..." in t else 0 for x, t in zip(xs, terms, strict=True)]
    spare = [c for c in string.ascii_letters if c not in plain + right]
    dots = "".join(spare[: max(depths)])
    if not arrow:
        right = "..." * ("..." in left) + "".join(c for c in sorted(set(plain)) if plain.count(c) == 1)
    spelt = [t.replace("...", dots[len(dots) - depth :]) for t, depth in zip(terms, depths, strict=True)]
    return spelt, right.replace("...", dots)
