"""docs/lrp.md: the relevance rule of every operator, from the table itself.

python scripts/lrp_rules.py
"""

from __future__ import annotations

from pathlib import Path

import onnx_inspect.autodiff.rules
import onnx_inspect.relevance.rules  # noqa: F401  (both fill their tables)
from onnx_inspect.autodiff.table import RULES
from onnx_inspect.relevance.composites import COMPOSITES
from onnx_inspect.relevance.table import KINDS, kind

FILE = Path(__file__).parents[1] / "docs" / "lrp.md"
HEAD = """# Relevance rules

`lrp` and `excitation_backprop` walk back from the score with these rules; what arrives at a tensor is its relevance R.
Written by `scripts/lrp_rules.py` from the table in `onnx_inspect/relevance`. An operator that is registered with
`@onnx_inspect.rule` and stands in no table gets the *epsilon* rule, by its gradient.

Constants that are added take their share of R, as biases of layers do: so R stays proportional to what it belongs to,
and no later division by a small number blows it up. The exception is a constant that shifts the model's input before
any layer, a mean that is subtracted, say: it only changes the unit, and takes nothing.

A factor is a gate if it comes out of Sigmoid, HardSigmoid, Softmax, Exp, Erf or Reciprocal, however it is scaled,
shifted or reshaped after that; Tanh and Clip are gates only beside what is none. So R goes past the gates of LSTMs, of
attention and of squeeze-and-excitation, and past the parts that GELU, SiLU or a normalisation are written in.
"""


def text() -> str:
    """The whole file."""
    lines = [
        HEAD,
        "## Composites",
        "",
        "| composite | convolutions | dense | first layer |",
        "| --- | --- | --- | --- |",
    ]
    for name, rules in COMPOSITES.items():
        lines.append(f"| {name} | {rules['conv']} | {rules['dense']} | {rules.get('first', '')} |")
    lines += ["", "## Operators", "", "| rule | what it does | operators |", "| --- " * 3 + "|"]
    for name, meaning in KINDS.items():
        lines.append(f"| {name} | {meaning} | {', '.join(sorted(op for op in RULES if kind(op) == name))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
