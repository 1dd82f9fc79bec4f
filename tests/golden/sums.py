"""Reductions, products of matrices, transforms."""

import numpy as np

from .spec import few, normal, positive, spec

x, ties = normal(3, 4, 5), few(3, 4, 5)
AXES = "d = Constant<value_ints = [0, 2]>()"
ALONG = "d = Constant<value_ints = [1]>()"

REDUCTIONS = [
    spec("sum", f"{AXES} y = ReduceSum<keepdims = 0>(a, d)", "a.sum((0, 2))", a=x),
    spec("sum of all", "y = ReduceSum<keepdims = 0>(a)", "a.sum()", a=x),
    spec("mean", f"{AXES} y = ReduceMean(a, d)", "a.mean((0, 2), keepdim=True)", a=x),
    spec("amax", f"{AXES} y = ReduceMax<keepdims = 0>(a, d)", "a.amax((0, 2))", a=ties),
    spec("amin", f"{ALONG} y = ReduceMin(a, d)", "a.amin(1, keepdim=True)", a=ties),
    spec("prod", f"{ALONG} y = ReduceProd<keepdims = 0>(a, d)", "a.prod(1)", a=x),
    spec("prod zeros", f"{ALONG} y = ReduceProd<keepdims = 0>(a, d)", "a.prod(1)", a=ties),
    spec("prod of all", "y = ReduceProd<keepdims = 0>(a)", "a.prod()", a=[[1.5, 0.0], [-2.0, 3.0]]),
    spec("logsumexp", f"{AXES} y = ReduceLogSumExp<keepdims = 0>(a, d)", "a.logsumexp((0, 2))", a=x * 30),
    spec("log sum", f"{ALONG} y = ReduceLogSum<keepdims = 0>(a, d)", "a.sum(1).log()", a=positive(3, 4)),
    spec("l1", f"{ALONG} y = ReduceL1<keepdims = 0>(a, d)", "torch.linalg.vector_norm(a, 1, 1)", a=ties),
    spec(
        "l2", f"{ALONG} y = ReduceL2<keepdims = 0>(a, d)", "torch.linalg.vector_norm(a, 2, 1)", a=ties * [0, 1, 1, 2, 3]
    ),
    spec("square sum", f"{AXES} y = ReduceSumSquare<keepdims = 0>(a, d)", "a.square().sum((0, 2))", a=x),
    spec(
        "variance",
        "m = ReduceMean(a, d) c = Sub(a, m) s = Mul(c, c) y = ReduceMean<keepdims = 0>(s, d)",
        "a.var(1, correction=0)",
        a=x,
        d=[1],
    ),
]

# The derivative of a determinant is 0 for rank n - 2, and not for rank n - 1. There torch gives 0 if the determinant is
# exactly 0, which is wrong, so here it is 0 but for rounding.
singular, almost = few(4, 2) @ few(2, 4, seed=1), normal(4, 3) @ normal(3, 4)

PRODUCTS = [
    *(
        spec(f"matmul {a} {b}".replace(",", ""), "y = MatMul(a, b)", "a @ b", a=normal(*a), b=normal(*b, seed=1))
        for a, b in (
            ((3, 4), (4, 2)),
            ((4,), (4,)),
            ((4,), (2, 4, 3)),
            ((2, 3, 4), (4,)),
            ((2, 1, 3, 4), (5, 4, 2)),
            ((3, 4), (2, 4, 5)),
        )
    ),
    spec(
        "addmm",
        "y = Gemm<alpha = 0.5, beta = 2.0>(a, b, c)",
        "torch.addmm(c, a, b, alpha=0.5, beta=2.0)",
        a=normal(3, 4),
        b=normal(4, 2),
        c=normal(3, 2),
    ),
    spec("linear", "y = Gemm<transB = 1>(a, b, c)", "F.linear(a, b, c)", a=normal(3, 4), b=normal(2, 4), c=normal(2)),
    spec(
        "addmm transposed",
        "y = Gemm<transA = 1>(a, b, c)",
        "torch.addmm(c, a.mT, b)",
        a=normal(4, 3),
        b=normal(4, 2),
        c=normal(3, 1),
    ),
    *(
        spec(
            f"einsum {letters}",
            f'y = Einsum<equation = "{letters}">({", ".join("abc"[: len(shapes)])})',
            f'torch.einsum("{letters}", {", ".join("abc"[: len(shapes)])})',
            **{name: normal(*shape, seed=i) for i, (name, shape) in enumerate(zip("abc", shapes, strict=False))},
        )
        for letters, *shapes in (
            ("ij,jk->ik", (3, 4), (4, 2)),
            ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
            ("i,j->ij", (3,), (4,)),
            ("ij->j", (3, 4)),
            ("ii->i", (4, 4)),
            ("ii", (4, 4)),
            ("...ij,...jk->...ik", (2, 3, 4), (1, 4, 2)),
            ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)),
            ("ij,kj->", (3, 4), (2, 4)),
        )
    ),
    *(
        spec(f"det {name}", "y = Det(a)", "torch.linalg.det(a)", a=a)
        for name, a in (
            ("1", normal(3, 1, 1)),
            ("2", normal(2, 3, 2, 2)),
            ("3", normal(3, 3)),
            ("5", normal(2, 5, 5)),
            ("rank 2 of 4", singular),
            ("rank 3 of 4", almost),
        )
    ),
    spec(
        "cross",
        "i = Constant<value_ints = [1, 2, 0]>() j = Constant<value_ints = [2, 0, 1]>()"
        "a1 = Gather<axis = 1>(a, i) b2 = Gather<axis = 1>(b, j) a2 = Gather<axis = 1>(a, j) b1 = Gather<axis = 1>(b, i)"
        "u = Mul(a1, b2) v = Mul(a2, b1) y = Sub(u, v)",
        "torch.linalg.cross(a, b)",
        a=normal(4, 3),
        b=normal(4, 3, seed=1),
    ),
]

signal, spectrum = normal(2, 6, 1), normal(2, 4, 2)
EVEN, ODD, LAST = "n = Constant<value_int = 6>()", "n = Constant<value_int = 7>()", "d = Constant<value_int = 1>()"
window = np.hanning(6)[1:5]

FOURIER = [
    spec("fft", f'{LAST} y = DFT(a, "", d)', "pairs(torch.fft.fft(a[..., 0]))", a=signal),
    spec("fft odd", f'{LAST} y = DFT(a, "", d)', "pairs(torch.fft.fft(a[..., 0]))", a=normal(2, 5, 1)),
    spec("fft complex", f'{LAST} y = DFT(a, "", d)', "pairs(torch.fft.fft(complex_(a)))", a=normal(2, 5, 2)),
    spec("fft filled", f"{LAST} {ODD} y = DFT(a, n, d)", "pairs(torch.fft.fft(complex_(a), 7))", a=normal(2, 5, 2)),
    spec("fft cropped", f"{LAST} {EVEN} y = DFT(a, n, d)", "pairs(torch.fft.fft(complex_(a), 6))", a=normal(2, 8, 2)),
    spec(
        "fft axis",
        'd = Constant<value_int = -3>() y = DFT(a, "", d)',
        "pairs(torch.fft.fft(complex_(a), dim=1))",
        a=normal(2, 3, 4, 2),
    ),
    spec("ifft", f'{LAST} y = DFT<inverse = 1>(a, "", d)', "pairs(torch.fft.ifft(complex_(a)))", a=normal(2, 5, 2)),
    spec("rfft", f'{LAST} y = DFT<onesided = 1>(a, "", d)', "pairs(torch.fft.rfft(a[..., 0]))", a=signal),
    spec("rfft odd", f'{LAST} y = DFT<onesided = 1>(a, "", d)', "pairs(torch.fft.rfft(a[..., 0]))", a=normal(2, 5, 1)),
    spec(
        "irfft",
        f"{LAST} {EVEN} y = DFT<inverse = 1, onesided = 1>(a, n, d)",
        "torch.fft.irfft(complex_(a), 6)[..., None]",
        a=spectrum,
    ),
    spec(
        "irfft odd",
        f"{LAST} {ODD} y = DFT<inverse = 1, onesided = 1>(a, n, d)",
        "torch.fft.irfft(complex_(a), 7)[..., None]",
        a=spectrum,
    ),
    *(
        spec(
            f"stft {onesided}",
            f"step = Constant<value_int = 3>() y = STFT<onesided = {onesided}>(a, step, w)",
            f"pairs(torch.stft(a[..., 0], 4, 3, window=w, center=False, onesided=bool({onesided}), return_complex=True).mT)",
            a=normal(2, 11, 1),
            w=window,
        )
        for onesided in (0, 1)
    ),
]
