"""Picking, writing at places, running sums, and moving elements about."""

import numpy as np

from .spec import Spec, few, normal, spec, whole

x, matrix = normal(3, 4, 5), normal(4, 5)
twice = whole(4, 3, 5)  # some place is written to more than once

PICKS = [
    spec("select", "y = Gather<axis = 1>(a, i)", "a[:, i]", a=x, i=[[0, 2], [2, -1]]),
    spec("row", "y = Gather(a, i)", "a[i]", a=x, i=-2),
    spec("embedding", "y = Gather(a, i)", "F.embedding(i, a)", a=matrix, i=whole(4, 2, 3)),
    spec("gather", "y = GatherElements<axis = 1>(a, i)", "torch.gather(a, 1, i)", a=x, i=whole(4, 2, 6, 3)),
    spec("index", "y = GatherND(a, i)", "a[i[:, 0], i[:, 1]]", a=x, i=[[0, 1], [2, -1], [0, 1]]),
    spec(
        "index batches",
        "y = GatherND<batch_dims = 1>(a, i)",
        "a[torch.arange(3), i[:, 0]]",
        a=x,
        i=[[1], [3], [0]],
    ),
    spec("topk", "k = Constant<value_ints = [2]>() y, i = TopK<axis = 1>(a, k)", "torch.topk(a, 2, 1).values", a=x),
    spec(
        "topk smallest",
        "k = Constant<value_ints = [3]>() y, i = TopK<largest = 0>(a, k)",
        "torch.topk(a, 3, largest=False).values",
        a=x,
    ),
    spec("sort", "k = Constant<value_ints = [5]>() y, i = TopK<largest = 0>(a, k)", "torch.sort(a).values", a=x),
    spec("mask", "y = Compress<axis = 1>(a, i)", "a[:, i]", a=x, i=np.array([True, False, True, True])),
    spec("masked select", "y = Compress(a, i)", "a.masked_select(i.view(4, 5))", a=matrix, i=normal(20) > 0),
    spec(
        "flip",
        "s = Constant<value_ints = [-1]>() e = Constant<value_ints = [-1000]>() x = Constant<value_ints = [1]>()"
        "y = Slice(a, s, e, x, s)",
        "a.flip(1)",
        a=x,
    ),
    spec(
        "slice",
        "s = Constant<value_ints = [1, 4]>() e = Constant<value_ints = [3, 0]>() x = Constant<value_ints = [1, 2]>()"
        "t = Constant<value_ints = [1, -2]>() y = Slice(a, s, e, x, t)",
        "a[:, 1:3, [4, 2]]",
        a=x,
    ),
    spec(
        "roll",
        "n = Constant<value_ints = [3, 2]>() b, c = Split<axis = 2>(a, n) y = Concat<axis = 2>(c, b)",
        "torch.roll(a, 2, 2)",
        a=x,
    ),
]


def reduced(name: str, reduce: str, a: np.ndarray, b: np.ndarray) -> Spec:
    """A scatter with a reduction, along axis 0."""
    onnx = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce]
    return spec(
        name,
        f'y = ScatterElements<reduction = "{onnx}">(a, i, b)',
        f'a.scatter_reduce(0, i, b, "{reduce}")',
        a=a,
        b=b,
        i=twice,
    )


WRITES = [
    spec(
        "scatter",
        "y = ScatterElements<axis = 1>(a, i, b)",
        "a.scatter(1, i % 5, b)",
        a=matrix,
        b=normal(4, 2),
        i=[[0, 3], [4, 1], [2, -2], [1, 0]],
    ),
    spec(
        "scatter add",
        'y = ScatterElements<reduction = "add">(a, i, b)',
        "a.scatter_add(0, i, b)",
        a=matrix,
        b=normal(3, 5),
        i=twice,
    ),
    reduced("scatter sum", "sum", matrix, normal(3, 5)),
    reduced("scatter prod", "prod", matrix, normal(3, 5)),
    reduced("scatter prod zeros", "prod", few(4, 5), few(3, 5)),
    reduced("scatter amax", "amax", matrix, normal(3, 5)),
    reduced("scatter amax ties", "amax", few(4, 5), few(3, 5)),
    reduced("scatter amin ties", "amin", few(4, 5), few(3, 5)),
    spec(
        "index put",
        "y = ScatterND(a, i, b)",
        "a.index_put((i[:, 0], i[:, 1]), b)",
        a=x,
        b=normal(3, 5),
        i=[[0, 1], [2, -1], [1, 1]],
    ),
    spec(
        "index add",
        'y = ScatterND<reduction = "add">(a, i, b)',
        "a.index_add(0, i[:, 0], b)",
        a=matrix,
        b=normal(3, 5),
        i=[[1], [3], [1]],
    ),
    spec(
        "masked fill",
        "v = Constant<value_float = 2.0>() y = Where(i, v, a)",
        "a.masked_fill(i, 2.0)",
        a=matrix,
        i=normal(4, 5, seed=1) > 0,
    ),
]

RUNNING = [
    spec("cumsum", "d = Constant<value_int = 1>() y = CumSum(a, d)", "a.cumsum(1)", a=x),
    spec(
        "cumsum reverse",
        "d = Constant<value_int = -1>() y = CumSum<reverse = 1>(a, d)",
        "a.flip(-1).cumsum(-1).flip(-1)",
        a=x,
    ),
    *(
        spec(f"cumprod {name}", "d = Constant<value_int = 1>() y = CumProd(a, d)", "a.cumprod(1)", a=a, opset=26)
        for name, a in (("", matrix), ("zeros", few(5, 6)))
    ),
]

MOVES = [
    *(
        spec(
            f"pad {mode}",
            f'p = Constant<value_ints = [0, 1, 2, 0, 2, 1]>() y = Pad<mode = "{onnx}">(a, p)',
            f'F.pad(a, (2, 1, 1, 2), "{mode}")',
            a=x,
        )
        for mode, onnx in (
            ("constant", "constant"),
            ("reflect", "reflect"),
            ("replicate", "edge"),
            ("circular", "wrap"),
        )
    ),
    spec(
        "pad negative",
        "p = Constant<value_ints = [-1, 2, 1, -2]>() y = Pad(a, p)",
        "F.pad(a, (2, -2, -1, 1))",
        a=matrix,
    ),
    spec("repeat", "n = Constant<value_ints = [2, 1, 3]>() y = Tile(a, n)", "a.repeat(2, 1, 3)", a=x),
    spec("expand", "n = Constant<value_ints = [2, 3, 4]>() y = Expand(a, n)", "a.expand(2, 3, 4)", a=normal(3, 1)),
    spec("cat", "y = Concat<axis = -1>(a, b, a)", "torch.cat([a, b, a], -1)", a=matrix, b=normal(4, 2)),
    spec(
        "split",
        "n = Constant<value_ints = [3, 2]>() y, z = Split<axis = 1>(a, n)",
        "a.split([3, 2], 1)",
        a=matrix,
        outputs="y z",
    ),
    spec("permute", "y = Transpose<perm = [2, 0, 1]>(a)", "a.permute(2, 0, 1)", a=x),
    spec("flatten", "y = Flatten<axis = 2>(a)", "a.reshape(12, 5)", a=x),
    spec("tril", "k = Constant<value_int = -1>() y = Trilu<upper = 0>(a, k)", "a.tril(-1)", a=x),
    spec("triu", "k = Constant<value_int = 1>() y = Trilu(a, k)", "a.triu(1)", a=matrix),
    spec(
        "pixel shuffle",
        'y = DepthToSpace<blocksize = 2, mode = "CRD">(a)',
        "F.pixel_shuffle(a, 2)",
        a=normal(1, 8, 2, 3),
    ),
]
