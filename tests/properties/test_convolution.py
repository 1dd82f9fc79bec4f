"""Conv, ConvTranspose and pools on random windows."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..rules.harness import Case
from ..rules.pool import Pool
from .oracle import EXAMPLES, Draw, adjoint, generators, ints, maybe, mostly, quotient, spaced, whole

MODES = ["NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]


@st.composite
def windows(draw: Draw, pool: bool = False) -> tuple[list[int], dict[str, Any]]:
    """Sizes of a map that has room for a window, and the window as attributes; some of them left out."""
    rank = draw(st.integers(1, 3))
    kernel = draw(ints(1, 4 if rank < 3 else 3, rank))
    mode = draw(st.sampled_from(MODES))
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    for name in ("strides", "dilations"):
        if draw(mostly) and not (name == "dilations" and mode[:4] == "SAME" and not pool):
            attributes[name] = draw(ints(1, 3, rank))
    pads = [0] * 2 * rank
    if mode != "NOTSET":
        attributes["auto_pad"] = mode
    elif draw(maybe):
        pads = [draw(st.integers(0, min(3, k - 1) if pool else 3)) for k in kernel * 2]
        attributes["pads"] = pads
    if pool and mode[:4] == "SAME" and "strides" in attributes:  # else onnxruntime moves the windows: no pads say that
        attributes["strides"] = list(map(min, attributes["strides"], kernel))
    dilations = attributes.get("dilations", [1] * rank)
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    # A pool on a map that is shorter than a dilation may have windows between whose taps the map falls.
    least = [max(1, e - b, d * pool) for e, b, d in zip(extent, total(pads), dilations, strict=True)]
    if mode[:4] == "SAME" and not pool:
        least = [1] * rank
    return [n + draw(st.integers(0, 5)) for n in least], attributes


def total(pads: list[int]) -> list[int]:
    return [b + e for b, e in zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)]


def static(attributes: dict[str, Any]) -> bool:
    """True where pads depend on sizes, which therefore must be known."""
    return attributes.get("auto_pad", "")[:4] == "SAME" and max(attributes.get("strides", [1])) > 1


@st.composite
def convolutions(draw: Draw) -> Case:
    (size, attributes), rng = draw(windows()), draw(generators)
    batch, group, ins, outs = draw(ints(1, 3, 4))
    kernel = attributes["kernel_shape"]
    if draw(maybe):
        attributes["group"] = group
    else:
        group = 1
    inputs = [whole(rng, batch, group * ins, *size), whole(rng, group * outs, ins, *kernel)]
    inputs += [whole(rng, group * outs)] * draw(maybe)
    fixed = draw(st.sampled_from([[], list(range(1, len(inputs)))]))
    if draw(maybe) and (fixed or attributes.get("auto_pad", "VALID") == "VALID"):
        del attributes["kernel_shape"]
    return Case("Conv", inputs, attributes, dynamic=not static(attributes), fixed=fixed)


@st.composite
def transposed(draw: Draw) -> Case:
    rank, rng = draw(st.integers(1, 3)), draw(generators)
    size, kernel = draw(ints(1, 4, rank)), draw(ints(1, 4 if rank < 3 else 3, rank))
    strides, dilations = (draw(st.one_of(st.just([1] * rank), ints(1, 3, rank))) for _ in range(2))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    more = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True)]
    if draw(maybe):
        attributes["output_padding"] = more
    else:
        more = [0] * rank
    full = [
        s * (n - 1) + d * (k - 1) + 1 + m for s, n, d, k, m in zip(strides, size, dilations, kernel, more, strict=True)
    ]
    mode = draw(st.sampled_from(MODES))
    if mode != "NOTSET":
        attributes["auto_pad"] = mode
    sized = draw(maybe) and mode != "VALID"
    if sized:
        attributes["output_shape"] = [draw(st.integers(max(1, f - 4), f)) for f in full]
    elif mode == "NOTSET":
        begin = [draw(st.integers(0, min(2, f - 1))) for f in full]
        attributes["pads"] = begin + [draw(st.integers(0, min(2, f - 1 - b))) for f, b in zip(full, begin, strict=True)]
    batch, group, ins, outs = draw(ints(1, 3, 4))
    attributes["group"] = group
    inputs = [whole(rng, batch, group * ins, *size), whole(rng, group * ins, outs, *kernel)]
    inputs += [whole(rng, group * outs)] * draw(maybe)
    fixed = draw(st.sampled_from([[], list(range(1, len(inputs)))]))
    return Case("ConvTranspose", inputs, attributes, dynamic=not sized, fixed=fixed)


@st.composite
def pools(draw: Draw, op: str) -> Case:
    (size, attributes), rng = draw(windows(pool=True)), draw(generators)
    shape = [*draw(ints(1, 2, 2)), *size]
    attributes["ceil_mode"] = draw(st.integers(0, 1))
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    if op == "LpPool":
        attributes["p"] = draw(st.integers(1, 3))
        if attributes.get("auto_pad", "")[:4] == "SAME":  # onnxruntime pads as if there were no dilations
            attributes.pop("dilations", None)
    outputs = 1
    if op == "MaxPool":
        attributes["storage_order"], outputs = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    x = spaced(rng, shape)[0] if op == "MaxPool" else whole(rng, *shape)
    dynamic = op == "MaxPool" or not static(attributes)
    forward = Pool(op, **attributes) if op == "LpPool" else None
    return Case(op, [x], attributes, outputs=outputs, opset=22, dynamic=dynamic, forward=forward)


@EXAMPLES
@given(convolutions(), maybe)
def test_conv(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(transposed(), maybe)
def test_conv_transpose(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(pools("MaxPool"), maybe)
def test_max_pool(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic)


@EXAMPLES
@given(pools("AveragePool"), maybe)
def test_average_pool(case: Case, symbolic: bool) -> None:
    adjoint(case, symbolic, rtol=1e-5)


@EXAMPLES
@given(pools("LpPool"), maybe)
def test_lp_pool(case: Case, symbolic: bool) -> None:
    quotient(case, symbolic)
