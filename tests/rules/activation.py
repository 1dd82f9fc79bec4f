from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from .harness import Case, distinct, normal


def swish(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return x / (1 + np.exp(-alpha * x))


def hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.clip(alpha * x + beta, 0, 1)


def thresholded(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > alpha, x, 0)


def shrink(x: np.ndarray, lambd: float = 0.5, bias: float = 0.0) -> np.ndarray:
    return np.where(np.abs(x) > lambd, x - np.sign(x) * bias, 0)


CASES = [
    *(
        Case(op, [distinct(3, 5)])
        for op in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "Tanh")
    ),
    *(Case(op, [distinct(3, 5)]) for op in ("Softsign", "Softplus")),
    *(Case(op, [distinct()]) for op in ("Relu", "Elu", "Sigmoid")),
    Case("LeakyRelu", [distinct(3, 5)], {"alpha": -0.5}),
    Case("Elu", [distinct(3, 5)], {"alpha": 2.5}),
    Case("Selu", [distinct(3, 5)], {"alpha": 0.5, "gamma": 3.0}),
    Case("Celu", [distinct(3, 5)], {"alpha": 2.5}),
    Case(
        "HardSigmoid",
        [distinct(3, 6)],
        {"alpha": 0.7, "beta": 0.3},
        forward=lambda x: hard_sigmoid(x, 0.7, 0.3),
    ),
    Case("HardSwish", [distinct(3, 6) * 3], forward=lambda x: x * hard_sigmoid(x, 1 / 6, 0.5)),
    Case("ThresholdedRelu", [distinct(3, 6)], forward=thresholded),
    Case("ThresholdedRelu", [distinct(3, 6)], {"alpha": -0.6}, forward=lambda x: thresholded(x, -0.6)),
    Case("Shrink", [distinct(3, 5)], forward=shrink),
    Case("Shrink", [distinct(3, 5)], {"lambd": 0.9, "bias": 0.4}, forward=lambda x: shrink(x, 0.9, 0.4)),
    Case("PRelu", [distinct(2, 3, 4), normal(3, 1)]),
    Case("PRelu", [distinct(2, 3), normal()]),
    Case("PRelu", [distinct(2, 3), normal(2, 3)]),
    Case("PRelu", [distinct(3, 4), normal(1)], fixed=[1]),
    Case("Gelu", [distinct(3, 5)], forward=lambda x: x * ndtr(x)),
    Case("Gelu", [distinct(3, 5)], {"approximate": "tanh"}),
    Case("Mish", [distinct(3, 5) * 4], step=1e-4),
    Case("Swish", [distinct(3, 5)], opset=24, forward=swish),
    Case("Swish", [distinct(3, 5)], {"alpha": 1.7}, opset=24, forward=lambda x: swish(x, 1.7)),
    # At kinks the forward function is the branch whose slope counts.
    Case("PRelu", [np.zeros(3), normal(3)], forward=lambda x, slope: x * slope, label="kink"),
    Case("Selu", [np.zeros(3)], {"alpha": 0.5, "gamma": 3.0}, forward=lambda x: 1.5 * x),
]
