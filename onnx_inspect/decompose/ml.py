"""ai.onnx.ml: preparing features, linear models, support vector machines; as onnxruntime computes them, in float32.

Trees stay as they are: they are step functions, which no gradient passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..emit import Op, inputs
from .common import FLOAT
from .table import decomposition

INT64 = ir.DataType.INT64


# Features, (N, F).


@decomposition("ai.onnx.ml::Scaler")
def scaler(op: Op, node: ir.Node) -> Any:
    """Y = (X - offset) scale, with one number per feature or one for all."""
    (x,), offset, scale = inputs(node, 1), _floats(node, "offset"), _floats(node, "scale")
    if scale.size > 1 and x.shape is not None and len(x.shape) > 2:
        raise op.unsupported("onnxruntime takes the second axis for that of features, and counts on beyond it")
    return op.Mul(op.Sub(_float(op, x), _each(offset)), _each(scale))


@decomposition("ai.onnx.ml::Normalizer")
def normalizer(op: Op, node: ir.Node) -> Any:
    """Y = X / its norm; X where that is 0. "MAX" is the largest number, not the largest size."""
    reduce = {"MAX": op.ReduceMax, "L1": op.ReduceL1, "L2": op.ReduceL2}[node.attributes.get_string("norm", "MAX")]
    x = _float(op, inputs(node, 1)[0])
    norm = reduce(x, [-1], keepdims=1)
    return x / op.Where(op.Equal(norm, 0), 1, norm)


@decomposition("ai.onnx.ml::Imputer")
def imputer(op: Op, node: ir.Node) -> Any:
    """Y = X with one value, or NaN, replaced by another one, per feature or for all."""
    (x,), get = inputs(node, 1), node.attributes
    if x.dtype == INT64:
        values = np.array(get.get_ints("imputed_value_int64s"), np.int64)
        missing = op.Equal(x, get.get_int("replaced_value_int64", 0))
    else:
        values, value = _floats(node, "imputed_value_floats"), get.get_float("replaced_value_float", 0.0)
        missing = op.IsNaN(x) if np.isnan(value) else op.Equal(x, value)
    features = x.shape[min(len(x.shape) - 1, 1)] if x.shape is not None else None
    per_feature = not isinstance(features, int) or len(values) == features
    return op.Where(missing, values if per_feature and len(values) > 1 else values[0], x)


@decomposition("ai.onnx.ml::Binarizer")
def binarizer(op: Op, node: ir.Node) -> Any:
    """Y = 1 where X is above a threshold, else 0."""
    (x,) = inputs(node, 1)
    return op.Cast(op.Greater(x, node.attributes.get_float("threshold", 0.0)), to=x.dtype)


@decomposition("ai.onnx.ml::FeatureVectorizer")
def feature_vectorizer(op: Op, node: ir.Node) -> Any:
    """Y = inputs one after another, each cropped or filled with zeros to its number of features."""
    return op.Concat(
        *(
            _resized(op, x, size)
            for x, size in zip(
                inputs(node, len(node.inputs)), node.attributes.get_ints("inputdimensions", ()), strict=True
            )
        ),
        axis=1,
    )


def _resized(op: Op, x: ir.Value, features: int) -> Any:
    rank, wide = None if x.shape is None else len(x.shape), _float(op, x)
    if rank == 2 and op.dim(x, 1) == features:
        return wide
    rows = op.Reshape(wide, [1, -1]) if rank == 1 else op.Flatten(wide)
    filled = op.Pad(rows, [0, 0, 0, features])
    return op.Slice(filled, [0], [features], [1])


@decomposition("ai.onnx.ml::ArrayFeatureExtractor")
def array_feature_extractor(op: Op, node: ir.Node) -> Any:
    """Z = X at indices along its last axis; a vector is a row."""
    x, indices = inputs(node, 2)
    if x.shape is None:
        raise op.unsupported(f"the rank of '{x.name}' is not known")
    z = op.Gather(x, op.Reshape(indices, [-1]), axis=-1)
    return op.Unsqueeze(z, [0]) if len(x.shape) == 1 else z


# Linear models.


@decomposition("ai.onnx.ml::LinearRegressor")
def linear_regressor(op: Op, node: ir.Node) -> Any:
    """Y = X Wᵀ + b, transformed."""
    count, intercepts = node.attributes.get_int("targets", 1), _floats(node, "intercepts")
    weights = _floats(node, "coefficients").reshape(count, -1)
    bias = [intercepts] if intercepts.size == count else []
    return _transformed(op, node, op.Gemm(_rows(op, node, weights), weights, *bias, transB=1), count)


@decomposition("ai.onnx.ml::LinearClassifier")
def linear_classifier(op: Op, node: ir.Node) -> Any:
    """Scores Z = X Wᵀ + b, transformed, and the label of the best; a single score is the second of two."""
    intercepts, labels = _floats(node, "intercepts"), _labels(node)
    count = intercepts.size
    if not count or len(labels) != max(count, 2):
        raise op.unsupported(f"it has {count} intercepts for {len(labels)} labels")
    weights = _floats(node, "coefficients").reshape(count, -1)
    scores = op.Gemm(_rows(op, node, weights), weights, intercepts, transB=1)
    if count > 1:
        return _labelled(op, op.ArgMax(scores, axis=1, keepdims=0), labels), _transformed(op, node, scores, count)
    second = op.Cast(op.Squeeze(op.Greater(scores, 0), [1]), to=INT64)
    return _labelled(op, second, labels), _two(op, node, scores)


# Support vector machines.


@decomposition("ai.onnx.ml::SVMRegressor")
def svm_regressor(op: Op, node: ir.Node) -> Any:
    """Y = K(X, S) c + ρ, or X c + ρ without support vectors S; of one class, whether that is positive: 1 or -1."""
    c, rho, count = _floats(node, "coefficients"), _floats(node, "rho")[:1], node.attributes.get_int("n_supports", 0)
    if count:
        y = op.Gemm(_kernel(op, node, _floats(node, "support_vectors").reshape(count, -1)), c[None], rho, transB=1)
    else:
        y = op.Gemm(_rows(op, node, c[None]), c[None], rho, transB=1)
    return op.Where(op.Greater(y, 0), 1.0, -1.0) if node.attributes.get_int("one_class", 0) else y


@decomposition("ai.onnx.ml::SVMClassifier")
def svm_classifier(op: Op, node: ir.Node) -> Any:
    """Scores of each class without support vectors S, else of each pair of classes; and the label of the best.

    A pair (i, j) is scored by K(X, S) c + ρ over the support vectors of both, a vote for i if that is positive.
    """
    labels, sizes = _labels(node), node.attributes.get_ints("vectors_per_class", ())
    c, rho, count = _floats(node, "coefficients"), _floats(node, "rho"), len(_labels(node))
    probabilities = bool(_floats(node, "prob_a").size)
    if not sum(sizes):
        weights = c.reshape(count, -1)
        scores = op.Gemm(_rows(op, node, weights), weights, rho[:1], transB=1)
        best = op.ArgMax(scores, axis=1, keepdims=0)
        if count == 2 and not probabilities:
            top = op.ReduceMax(scores, [1], keepdims=0)
            second = op.GreaterOrEqual(top, 0.5) if (c >= 0).all() else op.Greater(top, 0)
            best = op.Where(second, op.const(1, INT64), best)
        return _labelled(op, best, labels), _transformed(op, node, scores, count)
    if probabilities:
        raise op.unsupported("its probabilities are found by iteration; export it without them")
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    of, c = np.repeat(np.arange(count), sizes), c.reshape(count - 1, -1)
    weights = np.stack([c[j - 1] * (of == i) + c[i] * (of == j) for i, j in pairs])
    vectors = _floats(node, "support_vectors").reshape(len(of), -1)
    scores = op.Gemm(_kernel(op, node, vectors), weights, rho[: len(pairs)], transB=1)
    won, lost = (np.eye(count, dtype=np.float32)[[pair[side] for pair in pairs]] for side in (0, 1))
    votes = op.Add(op.MatMul(op.Cast(op.Greater(scores, 0), to=FLOAT), won - lost), lost.sum(0))
    label = _labelled(op, op.ArgMax(votes, axis=1, keepdims=0), labels)
    if count > 2:
        return label, _transformed(op, node, scores, len(pairs))
    if node.attributes.get_string("post_transform", "NONE") == "NONE":
        return label, op.Concat(-scores, scores, axis=1)
    return label, _two(op, node, scores)


def _kernel(op: Op, node: ir.Node, vectors: Any) -> ir.Value:
    """How similar each row of X is to each of some vectors."""
    x, kind = _rows(op, node, vectors), node.attributes.get_string("kernel_type", "LINEAR")
    gamma, coef, degree = (*(float(p) for p in _floats(node, "kernel_params")), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        return op.Exp(op.ReduceSumSquare(op.Sub(op.Unsqueeze(x, [1]), vectors), [2], keepdims=0) * -gamma)  # type: ignore[no-any-return]
    products = op.MatMul(x, np.ascontiguousarray(vectors.T))
    if kind == "LINEAR":
        return products  # type: ignore[no-any-return]
    affine = products * gamma + coef
    return op.Pow(affine, degree) if kind == "POLY" else op.Tanh(affine)  # type: ignore[no-any-return]


# What they share.


def _floats(node: ir.Node, name: str) -> Any:
    return np.array(node.attributes.get_floats(name, ()), np.float32)


def _float(op: Op, x: ir.Value) -> Any:
    return x if x.dtype == FLOAT else op.Cast(x, to=FLOAT)


def _each(values: Any) -> Any:
    """One number for all as a scalar."""
    return values[0] if len(values) == 1 else values


def _rows(op: Op, node: ir.Node, weights: Any) -> Any:
    """X as rows of as many features as some weights have."""
    (x,) = inputs(node, 1)
    wide = _float(op, x)
    return wide if x.shape is not None and len(x.shape) == 2 else op.Reshape(wide, [-1, weights.shape[1]])


def _labels(node: ir.Node) -> list[Any]:
    return [*node.attributes.get_strings("classlabels_strings", ()), *node.attributes.get_ints("classlabels_ints", ())]


def _labelled(op: Op, index: ir.Value, labels: list[Any]) -> Any:
    if not isinstance(labels[0], str):
        return op.Gather(op.const(labels), index)
    return op.Gather(op.Constant(value_strings=labels, dtype=ir.DataType.STRING), index)


def _transformed(op: Op, node: ir.Node, scores: Any, count: int) -> Any:
    """Scores behind the post transform; of a single one only the probit."""
    transform = node.attributes.get_string("post_transform", "NONE")
    if transform == "PROBIT":  # by Winitzki's approximation
        x = scores * 2 - 1
        log = op.Log((1 - x) * (1 + x))
        half = log * 0.5 + 2 / (3.14159 * 0.147)
        return op.Sign(x) * op.Sqrt(log * (-2 / 0.147) / (op.Sqrt(half * half - log / 0.147) + half))
    if transform == "NONE" or count == 1:
        return scores
    if transform == "LOGISTIC":
        return op.Sigmoid(scores)
    if transform == "SOFTMAX_ZERO":  # scores of 0 stay 0
        zero = op.LessOrEqual(op.Abs(scores), 1e-7)
        scores = op.Where(zero, -np.inf, scores)
    return op.Softmax(scores, axis=1)


def _two(op: Op, node: ir.Node, scores: ir.Value) -> Any:
    """The scores of two classes, given that of the second one."""
    second = op.Sigmoid(scores) if node.attributes.get_string("post_transform", "NONE") == "LOGISTIC" else scores
    return op.Concat(1 - second, second, axis=1)
