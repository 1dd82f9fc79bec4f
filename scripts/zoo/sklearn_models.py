"""Tables: scikit-learn by skl2onnx, LightGBM and XGBoost by onnxmltools.

What the classes hang on is known: height, weight and pulse decide, age and the two noises say nothing. skl2onnx gives a
label first and then the probabilities, as a sequence of dictionaries (ZipMap) if nobody says otherwise. Trees have no
gradient: only methods that perturb the input explain them.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import blobs
import lightgbm
import numpy as np
import onnxmltools
import onnxruntime as ort
import skl2onnx
import sklearn
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as Floats
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from zoo import Zoo

OPSET = {"": 18, "ai.onnx.ml": 3}
DECIDE = ["height", "weight", "pulse"]
ONE = {"X": list(blobs.COLUMNS)}
TWO = {"body": ["height", "weight"], "other": ["age", "pulse", "noise_a", "noise_b"]}
MIXED = {"numbers": ["age", "height", "weight", "noise_a", "noise_b"], "effort": ["pulse"]}
TREES = "trees: no gradient"

Arrays = dict[str, Any]


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def mixed(model: Any) -> Any:
    """For numbers and, as the last column, words."""
    parts = [("numbers", StandardScaler(), [0, 1, 2, 3, 4]), ("effort", OneHotEncoder(handle_unknown="ignore"), [5])]
    return make_pipeline(ColumnTransformer(parts), model)


def split(x: np.ndarray, inputs: dict[str, list[str]]) -> Arrays:
    """The inputs of a model, by name; what is called effort is a word for the pulse."""
    parts = {name: x[:, [blobs.COLUMNS.index(c) for c in columns]] for name, columns in inputs.items()}
    if "effort" in parts:
        parts["effort"] = np.array(["calm", "busy"])[(parts["effort"] > 75).astype(int)]
    return parts


def join(parts: Arrays) -> Any:
    """The inputs side by side, as scikit-learn fits them."""
    words = any(p.dtype.kind == "U" for p in parts.values())
    return np.concatenate([p.astype(object) if words else p for p in parts.values()], 1)


def convert(model: Any, parts: Arrays, **options: Any) -> Any:
    if isinstance(model, lightgbm.LGBMModel | xgboost.XGBModel):
        way = onnxmltools.convert_lightgbm if isinstance(model, lightgbm.LGBMModel) else onnxmltools.convert_xgboost
        more = {"zipmap": False} if isinstance(model, lightgbm.LGBMModel) else {}
        return way(model, initial_types=[("X", Floats([None, len(blobs.COLUMNS)]))], target_opset=15, **more)
    types = [
        (n, (StringTensorType if p.dtype.kind == "U" else FloatTensorType)([None, p.shape[1]]))
        for n, p in parts.items()
    ]
    return skl2onnx.to_onnx(model, initial_types=types, options={id(model): options}, target_opset=OPSET)


def said(path: Path, feeds: Arrays) -> Any:
    """What onnxruntime makes of a file: the last output, a table also where it is a sequence of dictionaries."""
    value = ort.InferenceSession(path).run(None, feeds)[-1]
    return np.array([[row[k] for k in sorted(row)] for row in value]) if isinstance(value, list) else value


def main() -> None:
    warnings.filterwarnings("ignore")  # that training is cut short, and what scikit-learn renames next
    zoo = Zoo("sklearn", Path(sys.argv[1]))
    x, y = blobs.rows(seed=0, count=2000)
    probabilities: Arrays = {"zipmap": False}
    logistic = LogisticRegression(max_iter=500)
    network = MLPClassifier((16,), max_iter=150, random_state=0)
    forest = RandomForestClassifier(12, max_depth=6, random_state=0)
    boosting = GradientBoostingClassifier(n_estimators=15, max_depth=3, random_state=0)
    light = lightgbm.LGBMClassifier(n_estimators=12, num_leaves=8, random_state=0, verbose=-1, n_jobs=1)
    extreme = xgboost.XGBClassifier(n_estimators=12, max_depth=3, random_state=0, n_jobs=1)
    zipped = "the probabilities are a sequence of dictionaries (ZipMap)"

    models: list[tuple[str, str, Any, dict[str, list[str]], Arrays, str]] = [
        ("sklearn", "logistic", scaled(logistic), ONE, probabilities, ""),
        ("sklearn", "logistic_zipmap", scaled(logistic), ONE, {}, zipped),
        ("sklearn", "mlp", scaled(network), ONE, probabilities, ""),
        ("sklearn", "mlp_zipmap", scaled(network), ONE, {}, zipped),
        ("sklearn", "forest", forest, ONE, probabilities, TREES),
        ("sklearn", "forest_zipmap", forest, ONE, {}, f"{TREES}; {zipped}"),
        ("sklearn", "boosting", boosting, ONE, probabilities, TREES),
        ("sklearn", "svm", scaled(SVC(C=10)), ONE, {"raw_scores": True}, "SVMClassifier: no gradient"),
        ("sklearn", "pipeline", scaled(network), TWO, probabilities, "two inputs with names, scaled together"),
        ("sklearn", "mixed", mixed(logistic), MIXED, probabilities, "one input holds words: calm or busy"),
        ("lightgbm", "boosting", light, ONE, {}, TREES),
        ("xgboost", "boosting", extreme, ONE, {}, TREES),
    ]
    for exporter, net, model, inputs, options, note in models:
        parts = split(x, inputs)
        few = 400 if net == "svm" else len(x)
        model.fit(join(parts)[:few], y[:few])
        zoo.path(exporter, net).write_bytes(convert(model, parts, **options).SerializeToString())
        feeds = {n: p[:200] for n, p in parts.items()}
        truth = model.decision_function if net == "svm" else model.predict_proba
        np.testing.assert_allclose(said(zoo.path(exporter, net), feeds), truth(join(feeds)), atol=2e-4, err_msg=net)
        libraries = (sklearn, skl2onnx) if exporter == "sklearn" else (sys.modules[exporter], onnxmltools)
        zoo.add(
            exporter,
            net,
            "table",
            {n: p[:1] for n, p in parts.items()},
            note=note,
            truth={"columns": inputs, "decide": DECIDE, "accuracy": round(model.score(join(parts), y), 3)},
            **{m.__name__: m.__version__ for m in libraries},
        )

    index = x[:, 2] / (x[:, 1] / 100) ** 2
    line = scaled(LinearRegression()).fit(x, index)
    zoo.path("sklearn", "regression").write_bytes(convert(line, {"X": x}).SerializeToString())
    np.testing.assert_allclose(said(zoo.path("sklearn", "regression"), {"X": x})[:, 0], line.predict(x), atol=1e-3)
    truth = {"columns": ONE, "decide": ["height", "weight"], "target": "weight / (height / 100)²"}
    facts = {"sklearn": sklearn.__version__, "skl2onnx": skl2onnx.__version__}
    zoo.add("sklearn", "regression", "regression", {"X": x[:1]}, truth=truth, **facts)
    zoo.save()


if __name__ == "__main__":
    main()
