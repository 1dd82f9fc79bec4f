"""Rows of decompose/ml.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.harness import Array, Case, normal

ML = "ai.onnx.ml"
X, ROW = normal(5, 4), normal(4)
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
NAMES = ["a", "b", "c"]
HOLES = np.array([[1.0, np.nan, 3], [np.nan, 2, 0]])


def numbers(*shape: int) -> list[float]:
    """Attributes, other ones than the inputs of their shape."""
    return [round(float(v), 1) for v in np.random.default_rng(7).normal(size=shape).reshape(-1)]


def linear(count: int, transform: str, *labels: Any, x: Array = X, scale: float = 1.0) -> Case:
    kind = "classlabels_strings" if isinstance((*labels, 0)[0], str) else "classlabels_ints"
    rtol = 2e-3 if transform == "PROBIT" else 2e-4  # onnxruntime loses digits
    attributes: dict[str, Any] = {
        "coefficients": [v * scale for v in numbers(count, 4)],
        "intercepts": [0.5 + v * scale for v in numbers(count)],
        "post_transform": transform,
    }
    if labels:
        return Case(f"{ML}::LinearClassifier", [x], attributes | {kind: list(labels)}, outputs=2, rtol=rtol)
    return Case(f"{ML}::LinearRegressor", [x], attributes | {"targets": count}, rtol=rtol)


def svm(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"kernel_type": kind, "kernel_params": [0.4, 0.3, 3.0], **attributes}


def regressor(kind: str, **attributes: Any) -> Case:
    given = {"n_supports": 6, "support_vectors": numbers(6, 4), "coefficients": numbers(6), "rho": [0.2]}
    return Case(f"{ML}::SVMRegressor", [X], svm(kind, **given | attributes))


def classifier(kind: str, sizes: list[int], transform: str = "NONE", label: str = "") -> Case:
    count, vectors = len(sizes), sum(sizes)
    given = {
        "vectors_per_class": sizes,
        "support_vectors": numbers(vectors, 4),
        "coefficients": numbers(count - 1, vectors),
        "rho": numbers(count * (count - 1) // 2),
        "classlabels_ints": list(range(10, 10 + count)),
        "post_transform": transform,
    }
    return Case(f"{ML}::SVMClassifier", [normal(9, 4)], svm(kind, **given), outputs=2, label=label)


def flat(coefficients: list[float], *labels: str) -> Case:
    """Without support vectors."""
    given = {"coefficients": coefficients, "rho": [0.1], "classlabels_strings": list(labels)}
    return Case(f"{ML}::SVMClassifier", [normal(9, 4)], svm("LINEAR", **given), outputs=2)


CASES = [
    *(
        Case(f"{ML}::Scaler", [x], {"offset": numbers(4), "scale": numbers(4)})
        for x in (X, ROW, np.arange(8).reshape(2, 4))
    ),
    Case(f"{ML}::Scaler", [normal(2, 3, 4)], {"offset": [0.3], "scale": [2.0]}),
    *(
        Case(f"{ML}::Normalizer", [x], {"norm": norm})
        for norm in ("MAX", "L1", "L2")
        for x in (X, ROW, np.array([[0.0, 0, 0], [-1, -2, -3]]), np.arange(6).reshape(2, 3))
    ),
    Case(f"{ML}::Imputer", [HOLES], {"imputed_value_floats": [7.0], "replaced_value_float": float("nan")}),
    Case(f"{ML}::Imputer", [HOLES], {"imputed_value_floats": [7.0, 8, 9], "replaced_value_float": float("nan")}),
    Case(f"{ML}::Imputer", [X * (X > 0)], {"imputed_value_floats": numbers(4), "replaced_value_float": 0.0}),
    Case(
        f"{ML}::Imputer",
        [np.arange(6).reshape(2, 3) % 2],
        {"imputed_value_int64s": [5, 6, 7], "replaced_value_int64": 1},
    ),
    Case(f"{ML}::Binarizer", [X], {"threshold": 0.2}),
    Case(f"{ML}::FeatureVectorizer", [X, normal(5, 2), normal(5, 1)], {"inputdimensions": [4, 2, 1]}),
    Case(
        f"{ML}::FeatureVectorizer", [X, normal(5, 2), normal(5, 2, 3)], {"inputdimensions": [3, 4, 6]}, label="resized"
    ),
    Case(
        f"{ML}::FeatureVectorizer",
        [np.arange(6).reshape(2, 3), np.arange(2).reshape(2, 1)],
        {"inputdimensions": [3, 1]},
    ),
    Case(f"{ML}::FeatureVectorizer", [ROW, normal(3)], {"inputdimensions": [4, 2]}, label="row"),
    Case(f"{ML}::ArrayFeatureExtractor", [X, np.array([[2, 0, 2]])]),
    Case(f"{ML}::ArrayFeatureExtractor", [normal(2, 3, 4), np.array([3])]),
    Case(f"{ML}::ArrayFeatureExtractor", [ROW, np.array([1, 3])]),
    *(linear(3, transform, scale=0.02 if transform == "PROBIT" else 1.0) for transform in TRANSFORMS),
    *(linear(1, transform, scale=0.02 if transform == "PROBIT" else 1.0) for transform in TRANSFORMS),
    linear(2, "NONE", x=ROW),
    *(linear(3, transform, 4, 7, 9, scale=0.02 if transform == "PROBIT" else 1.0) for transform in TRANSFORMS),
    linear(3, "SOFTMAX", *NAMES),
    Case(
        f"{ML}::LinearRegressor",
        [X],
        {"coefficients": [0.0] * 4 + numbers(8), "targets": 3, "post_transform": "SOFTMAX_ZERO"},
        label="a score of zero",
    ),
    *(linear(1, transform, 4, 7) for transform in TRANSFORMS[:-1]),
    linear(1, "LOGISTIC", "no", "yes"),
    linear(2, "LOGISTIC", "no", "yes", x=np.arange(8).reshape(2, 4)),
    linear(3, "NONE", *NAMES, x=ROW),
    *(regressor(kind) for kind in ("LINEAR", "POLY", "RBF", "SIGMOID")),
    regressor("RBF", one_class=1),
    regressor("LINEAR", n_supports=0, coefficients=numbers(4)),
    *(classifier(kind, [2, 3, 2, 1]) for kind in ("LINEAR", "POLY", "RBF", "SIGMOID")),
    *(classifier("RBF", [2, 1, 3], transform) for transform in ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")),
    *(classifier("RBF", [4, 3], transform) for transform in TRANSFORMS[:-1]),
    flat(numbers(3, 4), *NAMES),
    flat(numbers(2, 4), "no", "yes"),
    flat([abs(v) for v in numbers(2, 4)], "no", "yes"),
]
