"""Which operators are differentiated, and how exactly: onnx's backend tests, into docs/operators.md.

python scripts/conformance.py [--write docs/operators.md] [--only PATTERN]
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import onnx
import onnxruntime
from tables import markdown

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests import rules  # noqa: E402
from tests.conformance.cases import named  # noqa: E402
from tests.conformance.check import HALF_TOLERANCE, TOLERANCE, Outcome, check, read  # noqa: E402

INTRODUCTION = """# Operators

Every test case that onnx {onnx} ships for backends, differentiated: the vector-Jacobian product with respect to each
float input, for random cotangents of all float outputs, run on onnxruntime {onnxruntime}, against central differences
in float64 that onnxruntime or onnx's reference implementation computes from the file as it was. A case passes if the
relative l2 error of each gradient is at most {tolerance:g}, in half precision {half:g}. Written by
`python scripts/conformance.py --write docs/operators.md`; `tests/conformance` holds the same as tests.

{totals}

Where zeros would pass, the gradient is zero: `tests/conformance/zeros.txt` says why, operator by operator.

*Rows* counts this project's own test rows for the operator, which cover more attributes and shapes than onnx's cases.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, help="the file to write; else it is printed")
    parser.add_argument("--only", default="", help="only cases whose name matches this pattern")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    text = page(options.only)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)


def page(only: str) -> str:
    cases = {n: c for n, c in named().items() if re.search(only, n)}
    floats = {n: c for n, c in cases.items() if c.wrt and c.outputs}
    excluded = {n: reason for n, reason in read("excluded.txt").items() if n in floats}
    passed: dict[str, list[Outcome]] = defaultdict(list)
    failed: dict[str, list[str]] = defaultdict(list)
    left_out: dict[str, list[str]] = defaultdict(list)
    for i, (name, case) in enumerate(floats.items()):
        if i % 100 == 0:
            print(f"{i} of {len(floats)}", file=sys.stderr)
        if name in excluded:
            left_out[case.operator].append(excluded[name])
            continue
        try:
            outcome = check(case)
        except Exception as error:
            failed[case.operator].append(f"{name}: {type(error).__name__}")
            continue
        if outcome.passed:
            passed[case.operator].append(outcome)
        else:
            failed[case.operator].append(f"{name}: relative error {outcome.worst:.1g}")
    own = rows()
    table = [
        (
            operator,
            len(passed[operator]) + len(failed[operator]),
            len(passed[operator]),
            _worst([o for o in passed[operator] if not o.case.half]),
            _worst([o for o in passed[operator] if o.case.half]),
            own[operator] or "",
            "; ".join(f"{n} × {reason}" for reason, n in sorted(Counter(left_out[operator]).items())),
        )
        for operator in sorted({c.operator for c in floats.values()}, key=lambda o: (":" in o or "(" in o, o))
    ]
    totals = [
        ("cases", len(cases)),
        ("no float input or no float output", len(cases) - len(floats)),
        *((f"excluded: {kind}", n) for kind, n in sorted(Counter(r.split(" (")[0] for r in excluded.values()).items())),
        ("differentiated", len(floats) - len(excluded)),
        ("passed", sum(map(len, passed.values()))),
        (
            "of these, where zeros in place of the gradient would fail",
            sum(o.telling for p in passed.values() for o in p),
        ),
        ("not yet", sum(map(len, failed.values()))),
    ]
    text = INTRODUCTION.format(
        onnx=onnx.__version__,
        onnxruntime=onnxruntime.__version__,
        tolerance=TOLERANCE,
        half=HALF_TOLERANCE,
        totals=markdown(["Total", ""], totals),
        table=markdown(["Operator", "cases", "passed", "worst error", "in half precision", "rows", "excluded"], table),
    )
    if any(failed.values()):
        text += "\n## Not yet\n\n" + "\n".join(f"- {line}" for o in sorted(failed) for line in failed[o]) + "\n"
    return text


def _worst(outcomes: list[Outcome]) -> str:
    return f"{max(o.worst for o in outcomes):.1e}" if outcomes else ""


def rows() -> Counter[str]:
    """Test rows in tests/rules, per operator."""
    modules = [m.name for m in pkgutil.iter_modules(rules.__path__) if m.name != "harness"]
    return Counter(case.op for m in modules for case in importlib.import_module(f"{rules.__name__}.{m}").CASES)


if __name__ == "__main__":
    main()
