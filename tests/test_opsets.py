"""Raising the opset changes nothing: every operator in its old forms, before and after loading, judged by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_inspect.errors import UnsupportedError
from onnx_inspect.model import Model

from .graphs import Array, Row, f, i, r, run, s


def versions(old: tuple[int, ...], body: str, **arrays: Array) -> list[Row]:
    return [Row(v, body, arrays) for v in old]


BN = {"x": f(2, 3, 4, 4), "S": f(3), "B": f(3), "M": f(3), "V": f(3, low=0.5)}
X = f(2, 3, 5, 6)
X3 = f(2, 3, 4)
GN = {"x": f(2, 4, 3, 3), "S": f(2), "B": f(2)}
RNN_X = {"x": f(5, 2, 3)}

# fmt: off
ROWS = [
    # Normalisation
    *versions((7, 9, 13, 14), "y = BatchNormalization<epsilon=0.01>(x, S, B, M, V)", **BN),
    *versions((7, 8), "y = BatchNormalization<spatial=1>(x, S, B, M, V)", **BN),
    r(14, "y = BatchNormalization<training_mode=0>(x, S, B, M, V)", **BN),
    *versions((7, 13), "y = InstanceNormalization<epsilon=0.1>(x, S, B)", x=X, S=f(3), B=f(3)),
    *versions((7, 12), "y = LRN<size=3, alpha=0.5, beta=0.7, bias=2.0>(x)", x=X),
    r(17, "y, m, d = LayerNormalization<axis=-1>(x, S, B)", x=X3, S=f(4), B=f(4)),
    r(17, "y = LayerNormalization<axis=1, epsilon=0.1>(x, S)", x=X3, S=f(3, 4)),
    r(18, "y = GroupNormalization<num_groups=2, epsilon=0.01>(x, S, B)", **GN),
    r(20, "y = GroupNormalization<num_groups=2>(x, S, B)", x=f(2, 4, 5), S=f(2), B=f(2)),
    *versions((9, 12), "y = MeanVarianceNormalization(x)", x=X),
    *versions((7, 12), "y = LpNormalization<axis=1, p=1>(x)", x=X),
    # Dropout
    *versions((7, 10, 11), "y = Dropout<ratio=0.5>(x)", x=X),
    r(7, "y, m = Dropout(x)", x=X),
    r(12, "y = Dropout(x, R)", x=X, R=s(0.5)),
    r(12, "y = Dropout(x)", x=X),
    # Elementwise
    *versions((7, 10), "y = Clip<min=-0.5, max=1.0>(x)", x=X),
    *versions((7, 10), "y = Clip<min=0.0>(x)", x=X),
    *versions((7, 10), "y = Clip<max=0.0>(x)", x=X),
    *versions((7, 10), "y = Clip(x)", x=X),
    *versions((11, 12), "y = Clip(x, L, H)", x=X, L=s(-0.5), H=s(1.0)),
    r(11, "y = Clip(x, , H)", x=X, H=s(1.0)),
    r(12, "y = Clip(x, low)", x=X, low=s(-1.0)),
    *[row for op in ("Abs", "Ceil", "Exp", "Floor", "Neg", "Relu", "Sigmoid", "Tanh", "Identity", "Reciprocal", "Elu",
                     "Selu", "Softplus", "Softsign", "HardSigmoid", "LeakyRelu", "Sin", "Cos", "Atan")
      for row in versions((7, 12), f"y = {op}(x)", x=X)],
    *[r(v, f"y = {op}(x)", x=X) for op, v in (("Erf", 9), ("Erf", 12), ("Sign", 9), ("Sinh", 9), ("Cosh", 9),
                                             ("Asinh", 9), ("Round", 11), ("HardSwish", 14), ("Gelu", 20),
                                             ("Mish", 18), ("Celu", 12), ("ThresholdedRelu", 10), ("Shrink", 9))],
    *[row for op in ("Log", "Sqrt") for row in versions((7, 12), f"y = {op}(x)", x=f(2, 3, low=0.1))],
    r(7, "y = LeakyRelu<alpha=0.3>(x)", x=X),
    r(15, "y = LeakyRelu<alpha=0.3>(x)", x=X),
    r(7, "y = Elu<alpha=0.3>(x)", x=X),
    r(7, "y = HardSigmoid<alpha=0.3, beta=0.4>(x)", x=X),
    *versions((7, 8, 9, 15), "y = PRelu(x, S)", x=X, S=f(3, 1, 1)),
    *[row for op in ("Add", "Sub", "Mul", "Div") for row in versions((7, 13), f"y = {op}(x, z)", x=X, z=f(6))],
    r(13, "y = Add(x, z)", x=i(1, 2), z=i(3, 4)),
    *versions((7, 11, 12, 14), "y = Pow(x, z)", x=f(2, 3, low=0.1), z=f(3)),
    r(12, "y = Pow(x, E)", x=X, E=i(2)),
    *[row for op in ("Sum", "Max", "Min", "Mean") for row in versions((7,), f"y = {op}(x, z)", x=X, z=X[::-1].copy())],
    *[row for op in ("Sum", "Max", "Min", "Mean") for row in versions((8, 12), f"y = {op}(x, z, W)", x=X, z=f(6), W=f(5, 1))],
    r(12, "y = Max(x, z)", x=i(1, -2), z=i(0, 4)),
    *[row for op in ("Greater", "Less") for row in versions((7, 9, 12), f"y = {op}(x, z)", x=X, z=f(6))],
    *[r(12, f"y = {op}(x, z)", x=X, z=f(6)) for op in ("GreaterOrEqual", "LessOrEqual")],
    r(9, "y = Atanh(x)", x=f(2, 3, low=-0.9, high=0.9)),
    r(9, "y = Acosh(x)", x=f(2, 3, low=1)),
    *versions((7, 11, 18), "y = Equal(x, z)", x=i(1, 2), z=i(1, 3)),
    *versions((9, 15), "c = Greater(x, z) y = Where(c, x, z)", x=X, z=f(6)),
    *versions((7, 12), "c = Greater(x, Z) d = Not(c) e = Or(c, d) a = And(c, e) g = Xor(a, d) y = Cast<to=1>(g)", x=X, Z=f(6)),
    *versions((9, 13, 19), "n = IsNaN(x) y = Where(n, Z, x)", x=np.array([1, np.nan], np.float32), Z=s(0.0)),
    r(10, "y = IsInf(x)", x=np.array([1, np.inf], np.float32)),
    r(10, "y = Mod<fmod=1>(x, z)", x=X, z=f(6, low=0.5)),
    # Windows
    *versions((7, 10, 11), "y = Conv<pads=[1,0,1,2], strides=[2,1], dilations=[1,2]>(x, W, B)", x=X, W=f(4, 3, 3, 2), B=f(4)),
    *[row for pad in ("SAME_UPPER", "SAME_LOWER", "VALID")
      for row in versions((7, 11), f'y = Conv<auto_pad="{pad}", strides=[2,2]>(x, W)', x=X, W=f(4, 3, 3, 2))],
    *versions((7, 11), "y = Conv<group=3, kernel_shape=[3,3]>(x, W)", x=X, W=f(3, 1, 3, 3)),
    *versions((7, 11), "y = ConvTranspose<strides=[2,3], pads=[1,0,1,2], output_padding=[1,0]>(x, W)", x=X, W=f(3, 2, 3, 3)),
    *versions((7, 11), "y = ConvTranspose<strides=[2,2], output_shape=[11,13]>(x, W)", x=X, W=f(3, 2, 3, 3)),
    *versions((7, 8, 10, 11, 12), "y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)", x=X),
    *versions((8, 10), "y, y_where = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", x=X),
    *versions((10, 11), "y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1, dilations=[2,1]>(x)", x=X),
    *versions((7, 10, 11, 18), "y = AveragePool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1], count_include_pad=1>(x)", x=X),
    *versions((7, 10, 11, 18), "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", x=X),
    *versions((10, 18), "y = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", x=X),
    *versions((7, 11), 'y = AveragePool<kernel_shape=[3,3], auto_pad="SAME_UPPER", strides=[2,2]>(x)', x=X),
    *versions((7, 11, 17), "y = LpPool<kernel_shape=[2,2], p=2>(x)", x=X),
    *[r(7, f"y = {op}(x)", x=X) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")],
    *versions((9, 10), "v, w = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(v, w)", x=f(1, 1, 4, 4)),
    r(10, "y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(x, R, I)", x=X, R=f(2, 4, low=0, high=4), I=i(0, 1)),
    # Dense
    *versions((7, 9, 11), "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, W, B)", x=f(2, 3), W=f(4, 3), B=f(4)),
    r(7, "y = Gemm<transA=1>(x, W, B)", x=f(3, 2), W=f(3, 4), B=f(1)),
    r(11, "y = Gemm(x, W)", x=f(2, 3), W=f(3, 4)),
    *versions((7, 9, 12), "y = MatMul(x, W)", x=X3, W=f(4, 5)),
    r(12, 'y = Einsum<equation="bij,jk->bik">(x, W)', x=X3, W=f(4, 5)),
    # Softmax: up to 12 it flattens to two dimensions first
    *[row for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in ("", "<axis=0>", "<axis=1>", "<axis=2>")
      for row in versions((7, 11, 12), f"y = {op}{axis}(x)", x=X3)],
    *[row for op in ("Softmax", "LogSoftmax", "Hardmax") for row in versions((11, 12), f"y = {op}<axis=-1>(x)", x=X3)],
    *[row for op in ("Softmax", "Hardmax") for row in versions((11, 12), f"y = {op}<axis=-2>(x)", x=X3)],
    *versions((7, 11, 13), "y = Softmax(x)", x=f(2, 5)),
    *versions((7, 11), "y = Softmax<axis=1>(x)", x=X),
    *versions((7, 11), "y = Softmax<axis=3>(x)", x=X),
    r(7, "y = Softmax<axis=1>(x)", x=f(2, 5, 1, 1)),
    # Shape
    *versions((7, 11), "y = Squeeze<axes=[0,2]>(x)", x=f(1, 3, 1, 2)),
    *versions((7, 11), "y = Squeeze(x)", x=f(1, 3, 1, 2)),
    r(11, "y = Squeeze<axes=[-2]>(x)", x=f(1, 3, 1, 2)),
    *versions((7, 11), "y = Unsqueeze<axes=[0,2]>(x)", x=f(3, 2)),
    r(11, "y = Unsqueeze<axes=[-1]>(x)", x=f(3, 2)),
    r(13, "y = Unsqueeze(x, A)", x=f(3, 2), A=i(0, 2)),
    *versions((7, 11), "y, y2 = Split<axis=1>(x)", x=f(2, 4)),
    *versions((7, 11), "y, y2 = Split<axis=1, split=[1,3]>(x)", x=f(2, 4)),
    r(13, "y, y2 = Split<axis=1>(x, S)", x=f(2, 4), S=i(1, 3)),
    *versions((13, 17), "y, y2 = Split<axis=-1>(x)", x=f(2, 4)),
    r(13, "y, y2, y3 = Split<axis=-1>(x)", x=f(2, 6)),
    *versions((7, 9, 11), "y = Flatten<axis=2>(x)", x=X),
    *versions((7, 11, 13), "y = Flatten(x)", x=X),
    r(11, "y = Flatten<axis=-2>(x)", x=X),
    *versions((7, 12, 13, 18), "y = Reshape(x, S)", x=X, S=i(0, -1, 6)),
    *versions((7, 12), "y = Transpose<perm=[0,2,3,1]>(x)", x=X),
    *versions((7, 10), "y = Concat<axis=1>(x, z)", x=X, z=X),
    *versions((7, 12, 14, 18), "y = Shape(x)", x=X),
    r(15, "y = Shape<start=1, end=-1>(x)", x=X),
    *versions((7, 12, 18), "y = Size(x)", x=X),
    *versions((8, 12), "y = Expand(x, S)", x=f(3, 1), S=i(2, 3, 4)),
    *versions((7, 12), "y = Tile(x, S)", x=f(3, 1), S=i(2, 3)),
    *versions((7, 10, 12), "y = DepthToSpace<blocksize=2>(x)", x=f(1, 8, 2, 3)),
    *versions((11, 12), 'y = DepthToSpace<blocksize=2, mode="CRD">(x)', x=f(1, 8, 2, 3)),
    *versions((7, 12), "y = SpaceToDepth<blocksize=2>(x)", x=f(1, 2, 4, 6)),
    *versions((9, 19), "z = Shape(x) y = ConstantOfShape<value = float[1] {2.5}>(z)", x=f(3, 2)),
    r(9, "z = EyeLike(x) y = Add(z, x)", x=f(3, 3)),
    r(14, "y = Trilu<upper=0>(x)", x=f(3, 3)),
    *versions((7, 12), "c = Constant<value = float[2] {1.5, -2.0}>() y = Add(x, c)", x=f(3, 2)),
    r(12, "c = Constant<value_floats=[1.5, -2.0]>() y = Add(x, c)", x=f(3, 2)),
    r(12, "c = Constant<value_ints=[3, 2]>() y = Reshape(x, c)", x=f(2, 3)),
    r(12, "c = Constant<value_float=2.0>() y = Mul(x, c)", x=f(2, 3)),
    # Index
    *versions((7, 9), "y = Slice<axes=[1,3], starts=[1,-4], ends=[3,9999]>(x)", x=X),
    *versions((7, 9), "y = Slice<starts=[1], ends=[-1]>(x)", x=f(5, 2)),
    *versions((10, 11, 12), "y = Slice(x, A, B, C, D)", x=X, A=i(1, -1), B=i(3, -9999), C=i(1, 3), D=i(1, -2)),
    *versions((7, 11, 12), "y = Gather<axis=1>(x, I)", x=X, I=i(2, 0)),
    r(11, "y = Gather<axis=-1>(x, I)", x=X, I=i(-1, 0)),
    *versions((11, 12), "y = GatherElements<axis=1>(x, I)", x=f(2, 3), I=np.array([[0, 2], [1, -1]])),
    *versions((11, 12), "y = GatherND(x, I)", x=f(2, 3), I=np.array([[0, 2], [1, 1]])),
    *versions((9, 10), "y = Scatter<axis=1>(x, I, U)", x=f(2, 3), I=np.array([[0, 2], [1, 0]]), U=f(2, 2)),
    *versions((11, 13, 16), "y = ScatterElements<axis=1>(x, I, U)", x=f(2, 3), I=np.array([[0, 2], [1, 0]]), U=f(2, 2)),
    *versions((16,), 'y = ScatterElements<axis=1, reduction="add">(x, I, U)', x=f(2, 3), I=np.array([[0, 2], [1, 1]]), U=f(2, 2)),
    *versions((11, 13, 16), "y = ScatterND(x, I, U)", x=f(2, 3), I=np.array([[0, 2], [1, 0]]), U=f(2)),
    *versions((7, 11, 12), "y = ArgMax<axis=1, keepdims=0>(x)", x=X),
    *versions((12,), "y = ArgMax<axis=1, select_last_index=1>(x)", x=np.ones((2, 3), np.float32)),
    *versions((7, 11, 12), "y = ArgMin<axis=1>(x)", x=X),
    *versions((9, 10), "y = OneHot<axis=-1>(x, D, V)", x=i(1, 0, 2), D=i(4), V=np.float32([0.5, 2])),
    r(11, "y = OneHot<axis=0>(x, D, V)", x=i(1, 0, -2), D=s(4, np.int64), V=np.float32([0.5, 2])),
    *versions((7, 9), "y, y2 = TopK<k=2, axis=1>(x)", x=X),
    r(10, "y, y2 = TopK<axis=1>(x, K)", x=X, K=i(2)),
    r(11, "y, y2 = TopK<axis=1, largest=0>(x, K)", x=X, K=i(2)),
    *versions((11, 13), "y = CumSum<reverse=1>(x, A)", x=X, A=s(1, np.int64)),
    *versions((9, 12), "y = NonZero(x)", x=np.float32([[0, 1], [2, 0]])),
    r(9, "y = Compress<axis=1>(x, C)", x=f(2, 3), C=np.array([True, False, True])),
    r(11, "y = Range(A, B, C)", A=s(1.0), B=s(4.0), C=s(0.5)),
    *versions((10, 11), "y = NonMaxSuppression(x, z, K, T)", x=f(1, 4, 4), z=f(1, 1, 4), K=i(3), T=np.float32([0.5])),
    # Reductions
    *[row for op in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")
      for row in [*versions((7, 11, 12, 17), f"y = Reduce{op}<axes=[1,2]>(x)", x=X3),
                  r(7, f"y = Reduce{op}<axes=[2], keepdims=0>(x)", x=X3), r(11, f"y = Reduce{op}(x)", x=X3),
                  r(11, f"y = Reduce{op}<axes=[-1]>(x)", x=X3)] if not (op == "Sum" and row.version == 17)],
    *versions((7, 11, 17), "y = ReduceLogSum<axes=[1]>(x)", x=f(2, 3, low=0.1)),
    r(13, "y = ReduceSum(x, A)", x=X3, A=i(1)),
    r(13, "y = ReduceSum<noop_with_empty_axes=1>(x)", x=X3),
    r(18, "y = ReduceMax(x, A)", x=X3, A=i(1)),
    # Pad
    *versions((7, 10), "y = Pad<pads=[0,0,1,2,0,0,3,0], value=1.5>(x)", x=X),
    *[row for mode in ("reflect", "edge") for row in versions((7, 10), f'y = Pad<pads=[0,0,1,2,0,0,3,0], mode="{mode}">(x)', x=X)],
    r(7, "y = Pad<pads=[0,0,-1,2,0,0,1,-1]>(x)", x=X),
    *versions((11, 13, 18, 19), "y = Pad(x, P, V)", x=X, P=i(0, 0, 1, 2, 0, 0, 3, 0), V=s(1.5)),
    r(18, "y = Pad(x, P, , A)", x=X, P=i(1, 2), A=i(2)),
    # Resize
    *versions((7, 8), 'y = Upsample<scales=[1.0,1.0,2.0,3.0], mode="nearest">(x)', x=X),
    *versions((7, 8), 'y = Upsample<scales=[1.0,1.0,2.0,3.0], mode="linear">(x)', x=X),
    *versions((9,), 'y = Upsample<mode="nearest">(x, S)', x=X, S=np.float32([1, 1, 2, 3])),
    *versions((9,), 'y = Upsample<mode="linear">(x, S)', x=X, S=np.float32([1, 1, 2, 3])),
    *versions((7,), "y = Upsample<scales=[1.0,1.0,1.6,1.3]>(x)", x=X),
    *[r(10, f'y = Resize<mode="{mode}">(x, S)', x=X, S=np.float32([1, 1, *scale]))
      for mode in ("nearest", "linear") for scale in ((2, 3), (0.6, 0.5), (1.6, 1.3), (1.7, 0.4))],
    *[r(10, 'd = Mul(S, t) y = Resize(x, d)', x=X, S=np.float32(scale), t=s(1.0)) for scale in ((1, 1, 2, 3), (1, 1, 0.6, 1.7))],
    r(10, 'd = Mul(S, T) y = Resize<mode="linear">(x, d)', x=X, S=np.float32([1, 1, 2, 3]), T=s(1.0)),
    *[row for mode in ("nearest", "linear", "cubic")
      for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
      for row in versions((13, 18), f'y = Resize<mode="{mode}", coordinate_transformation_mode="{where}">(x, , S)', x=X, S=np.float32([1, 1, 2, 1.5]))],
    *[row for how in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor")
      for row in versions((13, 18), f'y = Resize<nearest_mode="{how}">(x, , S)', x=X, S=np.float32([1, 1, 1.7, 0.5]))],
    *[r(11, f'y = Resize<mode="{mode}", coordinate_transformation_mode="{where}">(x, R, S)', x=X, R=np.zeros(0, np.float32), S=np.float32([1, 1, 2, 1.5]))
      for mode in ("nearest", "linear", "cubic") for where in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")],
    *[r(11, f'y = Resize<nearest_mode="{how}">(x, R, S)', x=X, R=np.zeros(0, np.float32), S=np.float32([1, 1, 1.7, 0.5]))
      for how in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor")],
    r(11, 'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=0.5>(x, R, E, Z)',
      x=X, R=np.float32([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.2]), E=np.zeros(0, np.float32), Z=i(2, 3, 7, 4)),
    r(11, 'y = Resize<mode="linear">(x, R, E, Z)', x=X, R=np.zeros(0, np.float32), E=np.zeros(0, np.float32), Z=i(2, 3, 7, 4)),
    r(11, 'y = Resize<mode="linear">(x, R, S)', x=X, R=np.zeros(0, np.float32), S=np.float32([1, 1, 2, 3])),
    r(11, 'y = Resize<mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn">(x, R, S)', x=X, R=np.zeros(0, np.float32), S=np.float32([1, 1, 2, 3])),
    *versions((13, 18), 'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=0.5>(x, R, , Z)',
              x=X, R=np.float32([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.2]), Z=i(2, 3, 7, 4)),
    *versions((13, 18), 'y = Resize<mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1>(x, , S)', x=X, S=np.float32([1, 1, 2, 2])),
    r(13, "y = Resize(x, , , Z)", x=X, Z=i(2, 3, 7, 4)),
    r(18, "y = Resize<axes=[2,3], antialias=1, mode=\"linear\">(x, , , Z)", x=X, Z=i(3, 4)),
    *[r(16, f'y = GridSample<mode="{mode}", padding_mode="{pad}", align_corners={align}>(x, G)', x=X, G=f(2, 3, 3, 2, low=-1.2, high=1.2))
      for mode in ("bilinear", "nearest", "bicubic") for pad in ("zeros", "border") for align in (0, 1)],
    # Types and quantisation
    *versions((7, 9, 13, 18), "y = Cast<to=7>(x)", x=X),
    *versions((7, 9, 13, 18), "h = Cast<to=10>(x) y = Cast<to=1>(h)", x=X),
    r(15, "h = CastLike(x, I) y = Cast<to=1>(h)", x=X, I=i(1)),
    *versions((10, 13, 19), "q = QuantizeLinear(x, S, Z) y = DequantizeLinear(q, S, Z)", x=X, S=s(0.02), Z=s(3, np.uint8)),
    *versions((13, 19), "q = QuantizeLinear<axis=1>(x, S, Z) y = DequantizeLinear<axis=1>(q, S, Z)", x=X, S=f(3, low=0.01, high=0.05), Z=np.int8([0, 3, -3])),
    r(10, "y = DequantizeLinear(x, S)", x=np.int32([3, -400]), S=s(0.02)),
    r(11, "q, S, Z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, S, Z)", x=X),
    r(10, "y = ConvInteger(x, W)", x=np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3), W=np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)),
    r(10, "y = QLinearConv(x, A, B, W, A, B, A, B)", x=np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3), A=s(0.5), B=s(3, np.uint8), W=np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)),
    r(10, "y = QLinearMatMul(x, A, B, W, A, B, A, B)", x=np.arange(6, dtype=np.uint8).reshape(2, 3), A=s(0.5), B=s(3, np.uint8), W=np.arange(12, dtype=np.uint8).reshape(3, 4)),
    r(10, "y = MatMulInteger(x, W)", x=np.arange(6, dtype=np.uint8).reshape(2, 3), W=np.arange(12, dtype=np.uint8).reshape(3, 4)),
    # Recurrent
    *versions((7, 13), "y, y_h = RNN<hidden_size=4>(x, W, R)", **RNN_X, W=f(1, 4, 3), R=f(1, 4, 4)),
    *versions((7, 13), "y, y_h = GRU<hidden_size=4, linear_before_reset=1>(x, W, R, B)", **RNN_X, W=f(1, 12, 3), R=f(1, 12, 4), B=f(1, 24)),
    *versions((7, 13), 'y, y_h, y_c = LSTM<hidden_size=4, direction="bidirectional">(x, W, R)', **RNN_X, W=f(2, 16, 3), R=f(2, 16, 4)),
    # Subgraphs
    *versions((7, 10, 12, 18), "c = ReduceMax<keepdims=0>(x) b = Cast<to=9>(c) "
              "y = If <then_branch = t () => (float[2,3] a) { a = Softmax(x) }, else_branch = e () => (float[2,3] a2) { a2 = Relu(x) }>(b)", x=f(2, 3)),
    *versions((10, 11, 12), "y, y_all = Loop <body = b (int64 n, bool k, float[2,3] h) => (bool k2, float[2,3] h2, float[1,2,3] o) "
              "{ k2 = Identity(k) h2 = Relu(h) o = Unsqueeze<axes=[0]>(h) }>(N, C, x)", x=f(2, 3), N=s(3, np.int64), C=s(1, np.bool_)),
    *versions((9, 11, 15), "y, y_all = Scan <num_scan_inputs=1, body = b (float[3] h, float[3] v) => (float[3] h2, float[3] o) "
              "{ h2 = Add(h, v) o = Relu(h2) }>(z, x)", x=f(4, 3), z=f(3)),
    *[r(8, f"y, y2 = Scan<num_scan_inputs=2{d}, body = b (float[3] h, float[3] v, float[1] w) => (float[3] h2, float[3] o) "
           "{ a = Add(h, v) h2 = Mul(a, w) o = Relu(h2) }>(, z, x, X)", x=f(2, 4, 3), z=f(2, 3), X=f(2, 4, 1))
      for d in ("", ", directions=[0, 1]")],
    # Half and double precision: what moves from an attribute to an input must take on the type
    *[row for t in (np.float16, np.float64) for row in [
        *[row for row in versions((7, 10), "y = Clip<min=-0.5, max=1.0>(x)", x=X.astype(t)) if t == np.float16],
        *versions((7, 10), "y = Pad<pads=[0,0,1,2,0,0,3,0], value=1.5>(x)", x=X.astype(t)),
        r(7, "y = Dropout(x)", x=X.astype(t)), r(7, "y = Softmax<axis=1>(x)", x=X.astype(t)),
        r(7, "y = ReduceMean<axes=[1]>(x)", x=X.astype(t))]],
]
# fmt: on


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_same_before_and_after(row: Row) -> None:
    proto = row.proto()
    expected = run(proto.SerializeToString(), row.feeds())
    model = Model.load(proto)
    actual = run(model.to_bytes(), row.feeds())
    assert 21 <= model.opset <= 26
    assert [o.name for o in proto.graph.output] == [o.name for o in model.outputs]
    for before, after in zip(expected, actual, strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)


# Changed between opset 7 and 21, but without a row: sequences, training losses and what no classifier holds.
UNCOVERED = {
    "DFT",
    "NegativeLogLikelihoodLoss",
    "OptionalGetElement",
    "OptionalHasElement",
    "SoftmaxCrossEntropyLoss",
}


def test_every_change_has_a_row() -> None:
    oldest: dict[str, int] = {}
    for row in [*ROWS, *REFUSED]:
        for node in row.proto().graph.node:
            oldest[node.op_type] = min(row.version, oldest.get(node.op_type, 99))
    history: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and not schema.deprecated:
            history[schema.name] = sorted([*history.get(schema.name, []), schema.since_version])
    missing = {
        op: changes
        for op, (_, *later) in history.items()
        if (changes := [v for v in later if 7 < v <= 21 and oldest.get(op, 99) >= v])
    }
    assert missing.keys() == UNCOVERED


# Forms that would be lost, or become something else, without a word.
# fmt: off
REFUSED = [
    r(7, "y = BatchNormalization<spatial=0>(x, S, S, S, S)", x=f(2, 3), S=f(3)),
    r(9, "y, m, v, m2, v2 = BatchNormalization(x, S, S, S, S)", x=f(2, 3, 4, 4), S=f(3)),
    r(10, "z, m = Dropout(x) y = Cast<to=1>(m)", x=f(2, 3)),
    r(8, "y, y2 = Scan<num_scan_inputs=1, body = b (float[3] h, float[3] v) => (float[3] h2, float[3] o) "
         "{ h2 = Add(h, v) o = Relu(h2) }>(N, z, x)", x=f(2, 4, 3), z=f(2, 3), N=i(3, 4)),
]
# fmt: on


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_refusal_names_node_and_operator(row: Row) -> None:
    proto = row.proto()
    proto.graph.node[0].name = "the/node"
    with pytest.raises(UnsupportedError, match=rf"'the/node' \({proto.graph.node[0].op_type}\).*[Ee]xport.*opset 21"):
        Model.load(proto)


def test_refusal_by_the_converter_names_the_node() -> None:
    proto = r(8, "h = Relu(x) y = Identity(h)", x=f(2)).proto()
    proto.graph.node[1].name, proto.graph.node[1].op_type = "the/node", "ConstantOfShape"  # not before opset 9
    with pytest.raises(UnsupportedError, match=r"'the/node' \(ConstantOfShape\).*opset 8 to 21"):
        Model.load(proto)


@pytest.mark.parametrize("version", [21, 22, 23, 24, 25, 26])
def test_new_opsets_stay(version: int) -> None:
    assert Model.load(r(version, "y = Relu(x)", x=f(2)).proto()).opset == version


def test_slopes_per_channel() -> None:
    x, slope = f(2, 3, 4, 5), f(3)
    model = Model.load(r(6, "y = PRelu(x, S)", x=x, S=slope).proto())  # onnxruntime has no kernel for opset 6
    np.testing.assert_allclose(run(model.to_bytes(), {"x": x})[0], np.where(x < 0, x * slope[:, None, None], x))


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def same(proto: onnx.ModelProto, **feeds: Array) -> Model:
    model = Model.load(proto)
    onnx.checker.check_model(model.to_bytes(), full_check=True)
    for before, after in zip(run(proto.SerializeToString(), feeds), run(model.to_bytes(), feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)
    return model


def test_file_without_the_standard_domain() -> None:
    model = same(
        parse(
            '<ir_version: 8, opset_import: ["ai.onnx.ml": 1]> g (float[N,3] x) => (float[N,3] y) '
            '{ y = ai.onnx.ml.Normalizer<norm="L1">(x) }'
        ),
        x=f(2, 3),
    )
    assert 21 <= model.opset <= 26


def test_standard_domain_by_its_long_name() -> None:
    proto = parse(
        '<ir_version: 8, opset_import: ["ai.onnx": 11]> g (float[1,3] x) => (float[3] y) { y = Squeeze<axes=[0]>(x) }'
    )
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    assert same(proto, x=f(1, 3)).opset == 21


def test_functions() -> None:
    model = same(
        parse(
            '<ir_version: 8, opset_import: ["": 12, "local": 1]> g (float[2,3] x) => (float[2,1,3] y) '
            "{ h = local.twice(x) y = Unsqueeze<axes=[1]>(h) } "
            '<domain: "local", opset_import: ["": 12]> twice (a) => (b) { c = Softmax(a) b = Add(c, c) }'
        ),
        x=f(2, 3),
    )
    assert not model.ir.functions
    assert model.source.functions == ("twice",)


def test_foreign_operators_pass_through() -> None:
    graph = "{ g = com.microsoft.Gelu(x) h = Clip<min=0.0>(g) y = Squeeze<axes=[0]>(h) }"
    for kind in ("float", "float16"):  # nobody knows the type of h here
        proto = parse(
            f'<ir_version: 8, opset_import: ["": 10, "com.microsoft": 1]> g ({kind}[1,3] x) => ({kind}[3] y) {graph}'
        )
        model = Model.load(proto)
        x = f(1, 3)
        if kind == "float":
            np.testing.assert_allclose(*(run(m, {"x": x})[0] for m in (proto.SerializeToString(), model.to_bytes())))
        else:
            assert any(n.op_type == "CastLike" for n in model.ir.graph)


WHOLE = """
<ir_version: 7, opset_import: ["": 11]> g (float[1,3,4] x, bool b) => (float[1,3,4] y) <float[4] W = {1, 2, 3, 4}> {
  u = Softmax<axis=1>(x)
  y = If(b) <
    then_branch = t () => (float[1,3,4] o) <float[4] W2 = {0.5, 1, 2, 4}> {
      c = Constant<value = float[4] {1, 2, 3, 4}>() k = Softmax<axis=1>(x) d = Add(k, c) m = Mul(d, W2) n = Mul(m, W)
      e = Unsqueeze<axes=[0]>(n) h = Hardmax<axis=1>(e) q = Squeeze<axes=[0]>(h) o = Add(q, u) },
    else_branch = f () => (float[1,3,4] o) {
      d = Softmax<axis=1>(x)
      o = If(b) <then_branch = t2 () => (float[1,3,4] p) { p = Constant<value = float[1] {2}>() },
                 else_branch = f2 () => (float[1,3,4] p) { s = Unsqueeze<axes=[0]>(d) p = Squeeze<axes=[0]>(s) }> }
  > }"""


def test_whole_network_in_a_branch() -> None:
    proto = parse(WHOLE)
    for choice in (True, False):
        model = same(proto, x=f(1, 3, 4), b=np.array(choice))
    assert all(n.op_type != "Constant" for n in model.ir.graph.all_nodes())
    assert all(not g.initializers for g in model.ir.graphs() if g is not model.ir.graph)


def test_metadata_survives() -> None:
    proto = r(12, "h = Relu(x) y = Hardmax<axis=1>(h)", x=X3).proto()
    onnx.helper.set_model_props(proto, {"classes": "cat dog"})
    for node, scope in zip(proto.graph.node, ("act", "head"), strict=True):
        node.name = f"node_{scope}"
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(["", scope, node.op_type]))
    model = Model.load(proto)
    assert model.metadata == {"classes": "cat dog"}
    assert model.layer("act").tensor == "h"
    assert {"head.hardmax", "head.flatten", "head.reshape"} <= {layer.name for layer in model.layers}
    assert model.value("y").producer().name == "node_head"  # type: ignore[union-attr]


def test_softmax_of_a_classifier_stays_one_node() -> None:
    for op, shape in (("Softmax", (2, 5)), ("LogSoftmax", (2, 5, 1, 1)), ("Hardmax", (2, 5))):
        model = Model.load(r(9, f"h = Relu(x) y = {op}(h)", x=f(*shape)).proto())
        assert [n.op_type for n in model.ir.graph] == ["Relu", op]


def test_small_weights_keep_their_type() -> None:
    proto = r(9, "h = Cast<to=11>(x) k = Mul(h, W) y = Cast<to=1>(k)", x=f(2, 3), W=f(3).astype(np.float64)).proto()
    assert same(proto, x=f(2, 3)).value("W").const_value.dtype.name == "DOUBLE"  # type: ignore[union-attr]


def test_shapes_in_the_file_are_not_believed() -> None:
    proto = r(9, "h = Relu(x) y = Softmax<axis=1>(h)", x=X).proto()
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("h", 1, [2, 90, 1, 1]))
    x = {"x": X}
    np.testing.assert_allclose(
        run(Model.load(proto).to_bytes(), x)[0],
        run(r(9, "h = Relu(x) y = Softmax<axis=1>(h)", **x).proto().SerializeToString(), x)[0],
        rtol=1e-6,
    )
