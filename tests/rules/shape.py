from __future__ import annotations

import numpy as np

from .harness import Case, normal


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def pad(x: np.ndarray, pads: list[int], mode: str) -> np.ndarray:
    return np.pad(x, list(zip(pads[: x.ndim], pads[x.ndim :], strict=True)), mode=mode)


def padded(mode: str, shape: tuple[int, ...], *pads: int) -> list[Case]:
    return [
        Case(
            "Pad",
            [normal(*shape), ints(*pads)],
            {"mode": mode},
            fixed=fixed,
            forward=lambda x, p: pad(x, list(p), mode),
        )
        for fixed in ([1], [])
    ]


BIG = 2**31 - 1

CASES = [
    # onnxruntime takes the largest integer for the beginning, where onnx infers that nothing is left.
    Case("Slice", [normal(5), *map(np.array, ([2], [2**31 - 1], [0], [-1]))], fixed=[1, 2, 3, 4]),
    Case("Slice", [normal(2, 5), *map(np.array, ([-2], [2**63 - 1], [1], [-2]))], fixed=[1, 2, 3, 4]),
    Case("Reshape", [normal(2, 3, 4), ints(0, -1)], fixed=[1]),
    Case("Reshape", [normal(2, 3, 4), ints(4, 6)]),
    Case("Reshape", [normal(2, 6), ints(-1, 3)], {"allowzero": 1}, fixed=[1]),
    Case("Reshape", [normal(0, 3), ints(3, 0)], {"allowzero": 1}, fixed=[1]),
    Case("Reshape", [normal(1), ints()], fixed=[1]),
    Case("Flatten", [normal(2, 3, 4)]),
    Case("Flatten", [normal(2, 3, 4)], {"axis": -1}),
    Case("Flatten", [normal(2, 3)], {"axis": 0}),
    Case("Squeeze", [normal(2, 1, 3, 1), ints(-1, 1)], fixed=[1]),
    Case("Squeeze", [normal(2, 1, 3, 1)], dynamic=False),
    Case("Squeeze", [normal(2, 1, 3), ints(1)]),
    Case("Unsqueeze", [normal(2, 3), ints(0, -1)], fixed=[1]),
    Case("Unsqueeze", [normal(), ints(0)]),
    Case("Transpose", [normal(2, 3, 4)]),
    Case("Transpose", [normal(2, 3, 4)], {"perm": [1, 2, 0]}),
    Case("Transpose", [normal()]),
    Case("Concat", [normal(2, 3), normal(2, 1), normal(2, 4)], {"axis": -1}),
    Case("Concat", [normal(2, 3), normal(5, 3)], {"axis": 0}),
    Case("Concat", [normal(2, 3), normal(5, 3)], {"axis": 0}, fixed=[1]),
    Case("Concat", [normal(2, 3)], {"axis": 1}),
    Case("Split", [normal(7, 2)], {"num_outputs": 3}, outputs=3),
    Case("Split", [normal(2, 6), ints(1, 3, 2)], {"axis": -1}, outputs=3, fixed=[1]),
    Case("Split", [normal(2, 6), ints(0, 6)], {"axis": 1}, outputs=2),
    # starts, ends, axes, steps
    Case("Slice", [normal(5, 6), ints(1, 2), ints(4, 5)], fixed=[1, 2]),
    Case("Slice", [normal(5, 6), ints(-4), ints(-1), ints(-1)], fixed=[1, 2, 3]),
    Case("Slice", [normal(5, 6), ints(-4), ints(-1), ints(-1)]),
    Case("Slice", [normal(5, 6), ints(-99, 2), ints(BIG, 99), ints(1, 0), ints(1, 1)], fixed=[1, 2, 3, 4]),
    Case("Slice", [normal(5, 6), ints(0), ints(3), ints(1)]),
    Case("Slice", [normal(5, 6), ints(0, 0), ints(3, -1)], fixed=[1, 2]),
    Case("Slice", [normal(5, 6), ints(4), ints(2), ints(0)], fixed=[1, 2, 3], label="empty"),
    Case("Slice", [normal(5, 6), ints(9), ints(12), ints(0)], label="empty"),
    Case("Slice", [normal(5, 6), ints(0, 1), ints(5, 6), ints(0, 1), ints(2, 3)], fixed=[1, 2, 3, 4]),
    Case("Slice", [normal(5, 6), ints(-1), ints(-BIG), ints(1), ints(-1)], fixed=[1, 2, 3, 4]),
    Case("Slice", [normal(5, 6), ints(4, 1), ints(0, 9), ints(0, -1), ints(-2, 2)]),
    Case("Slice", [normal(5, 6), *(i.astype(np.int32) for i in (ints(1), ints(4), ints(0)))], label="int32"),
    Case("Pad", [normal(3, 4), ints(1, 2, 0, 3)], fixed=[1]),
    Case("Pad", [normal(3, 4), ints(1, 2, 0, 3)]),
    Case("Pad", [normal(3, 4), ints(1, 0, 2, 1), normal()], fixed=[1]),
    Case("Pad", [normal(3, 4), ints(-1, 2, 0, -1), normal()], fixed=[1]),
    Case("Pad", [normal(3, 4), ints(2, 1), normal(), ints(-1)], fixed=[1, 3]),
    Case("Pad", [normal(3, 4), ints(2, 1), None, ints(-1)]),
    Case("Pad", [normal(4), ints(2, 1), normal()]),
    *(c for mode in ("reflect", "edge", "wrap") for c in padded(mode, (3, 4), 1, 2, 0, 3)),
    *(c for mode in ("reflect", "edge", "wrap") for c in padded(mode, (1, 2, 5, 4), 0, 0, 2, 1, 0, 0, 4, 2)),
    Case("Pad", [normal(3, 4), ints(2, 1), None, ints(1)], {"mode": "edge"}, fixed=[1, 3]),
    Case("Pad", [normal(3, 4), ints(2, 1), None, ints(1)], {"mode": "reflect"}),
    Case("Pad", [normal(3, 5), ints(1, -2, 0, 1)], {"mode": "edge"}, fixed=[1]),
    Case("Expand", [normal(3, 1), ints(2, 1, 4)], fixed=[1]),
    Case("Expand", [normal(3, 4), ints(1)], fixed=[1]),
    Case("Expand", [normal(), ints(2, 3)], fixed=[1]),
    Case("Expand", [normal(3, 1), ints(2, 3, 4)]),
    Case("Tile", [normal(2, 3), ints(3, 2)], fixed=[1]),
    Case("Tile", [normal(2, 3, 1), ints(1, 2, 3)]),
    Case("Tile", [normal(2, 3), ints(0, 2)], fixed=[1]),
    Case("SpaceToDepth", [normal(2, 3, 4, 6)], {"blocksize": 2}),
    Case("DepthToSpace", [normal(2, 12, 2, 3)], {"blocksize": 2}),
    Case("DepthToSpace", [normal(2, 12, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    Case("DepthToSpace", [normal(1, 9, 3, 1)], {"blocksize": 3, "mode": "CRD"}),
    Case("Trilu", [normal(2, 4, 5)]),
    Case("Trilu", [normal(4, 5), np.array(1)], {"upper": 0}),
    Case("Range", [np.array(0.3), np.array(2.1), np.array(0.5)]),
    Case("Range", [np.array(2.0), np.array(-1.1), np.array(-0.7)]),
]
