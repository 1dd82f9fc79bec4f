"""Write docs/parity.md: how far each method is from its references, on every network and export.

python scripts/parity_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import tables

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.parity.rows import ROWS  # noqa: E402
from tests.test_parity import EXPORTERS, compared  # noqa: E402

HEAD = """# Against the references

Golden tensors of captum, pytorch-grad-cam and zennit (`scripts/make_golden.py`), computed in float64, on eight
networks: resnet, vgg, mobilenet, densenet, vit, a 1-D CNN, an LSTM and an MLP with two inputs, each exported by both
exporters of torch. The largest difference over all of them, as a share of the map's maximum; `tests/test_parity.py`
allows 1e-4.
"""


def main() -> None:
    rows, count = [], 0
    for row in sorted(ROWS, key=lambda r: (r.method, r.name)):
        off = {(n, e): compared(row, n, e) for n in row.networks for e in EXPORTERS}
        count += len(off)
        (worst, _), most = max(off.items(), key=lambda item: item[1])
        rows.append((f"{row.method}: {row.name}", row.reference, len(row.networks), f"{most:.1e}", worst))
        print(rows[-1], flush=True)
    table = tables.markdown(("row", "reference", "networks", "largest difference", "on"), rows)
    note = f"{count} comparisons in {len(rows)} rows."
    path = ROOT / "docs" / "parity.md"
    path.write_text(HEAD, encoding="utf-8")
    tables.write(path, "parity", "\n\n".join([tables.conditions(), note, table]))


if __name__ == "__main__":
    main()
