"""Write docs/matrix.md: what each model file at hand can be asked, and whether the answers hold.

python scripts/matrix.py            # every model; some minutes on two cores
python scripts/matrix.py vit qdq    # models whose path contains one of these: printed, not written

Each file is tried in a process of its own (`matrix_row.py`), each cell under a time limit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tables
from matrix_row import AGREES, CELLS, DIRECTIONS, HALF, ROOT, SHARED

FOLDERS = {"zoo": SHARED / "zoo", "assets": SHARED / "assets" / "models", "fixtures": ROOT / "tests" / "zoo"}
INAPT = ("No tensor on the path", "cam needs a model")  # of networks that lack a map, or a pooling
LIMIT = 600  # seconds per file
FACTS = ("loads", "layers", "grid", "input", "layer", "doctor")
PLAIN = re.compile(r"ok|blank|-|\d+|\de[-+]\d+|(map|tokens|signal) [\w?× +]+|vector")
HEAD = f"""# The matrix

Every model file at hand, and what it can be asked: those of nine exporters and their variants (zoo), trained models
(assets), and the fixtures of the tests. `scripts/matrix.py` writes this page.

- **input, layer**: the gradient at the input, and at the automatic layer or one half way, against central differences
  along {DIRECTIONS} random directions: how far off, as a share; at most {AGREES:g}, or {HALF:g} in half precision.
  Differences are taken in float64, on onnx's own implementation; those of quantised models with the rounding of the
  sample frozen, which is what the straight-through estimator differentiates (`scripts/straight.py`).
- **methods**, one per family. *ok*: a map that is finite, not zero and not the same everywhere. *blank*: it is zero or
  the same everywhere, and the result says so in a note. N: the network lacks what the method needs, as a multilayer
  perceptron has no map. R: refused, with the sentence below.
- **doctor**: what `onnx-inspect doctor` says on a made-up picture: fine, or with what reservations.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="only files whose path contains one of these")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    files = {
        f"{kind}/{path.relative_to(folder)}": path
        for kind, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.onnx"))
    }
    files = {name: path for name, path in files.items() if not asked.parts or any(p in name for p in asked.parts)}
    with ThreadPoolExecutor(asked.workers) as pool:
        rows = dict(zip(files, pool.map(tried, files, files.values()), strict=True))
    text = page(rows)
    if asked.parts:
        print(text)
    else:
        path = ROOT / "docs" / "matrix.md"
        path.write_text(HEAD, encoding="utf-8")
        tables.write(path, "matrix", f"{tables.conditions()}\n\n{text}")
    wrong = [f"{name}: {k}: {v}" for name, row in rows.items() for k, v in row.items() if bad(str(v))]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))


def tried(name: str, path: Path) -> dict[str, Any]:
    """The row of one file."""
    command = [sys.executable, str(Path(__file__).with_name("matrix_row.py")), str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    except subprocess.TimeoutExpired:
        return {"loads": f"SLOW: more than {LIMIT} s."}
    print(f"{name} {done.returncode}", file=sys.stderr, flush=True)
    if done.returncode:
        return {"loads": f"TRACEBACK: the process ended with {done.returncode}: {done.stderr.strip()[-300:]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bad(text: str) -> bool:
    """What may stand in no cell."""
    return text.startswith(("TRACEBACK", "NONSENSE", "WRONG", "SLOW"))


def page(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Summary, both tables, and the sentences behind their letters."""
    sentences: dict[str, str] = {}

    def code(text: str) -> str:
        if PLAIN.fullmatch(text):
            return text
        general = re.sub(r"'[^']*'", "'…'", text).replace("|", "¦")
        letter = "N" if text.startswith(INAPT) else "R"
        return sentences.setdefault(general, f"{letter}{sum(v[0] == letter for v in sentences.values()) + 1}")

    facts = [
        (f"`{n}`", *(code(str(r.get(k, "-"))) if k != "doctor" else verdict(r) for k in FACTS)) for n, r in rows.items()
    ]
    cells = [(f"`{n}`", *(code(str(r.get(k, "-"))) for k in CELLS)) for n, r in rows.items()]
    named = {"ok": "ok", "blank": "blank", "-": "not asked", "N": "do not apply", "R": "refused"}
    counts = Counter(named.get(c) or named[c[0]] for row in cells for c in row[1:])
    parts = [
        f"{len(rows)} files, {sum(r['loads'] == 'ok' for r in rows.values())} load; of {sum(counts.values())} cells of "
        f"methods {', '.join(f'{n} {k}' for k, n in counts.most_common())}.",
        tables.markdown(("file", *FACTS), facts),
        tables.markdown(("file", *(c.replace("_", " ") for c in CELLS)), cells),
        "\n".join(f"- **{letters}**: {sentence}" for sentence, letters in sentences.items()),
    ]
    return "\n\n".join(parts)


def verdict(row: Mapping[str, Any]) -> str:
    """What doctor says, in a word or two."""
    text = str(row.get("doctor", "-"))
    if text.startswith("fine"):
        return "fine"
    told = re.search(r"mind the (.*)$", text)
    return told[1] if told else "no" if text.startswith("cannot") else text


if __name__ == "__main__":
    main()
