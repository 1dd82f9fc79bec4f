"""What the weights of a layer look like, and what is wrong with them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Unpack

from ..attribution import identity
from ..errors import InspectError
from ..finding import Finding
from ..kernels.checks import ALIKE, DEAD, DOMINATING, OUTLIER, diagnose
from ..kernels.weights import Kernels, Weighted, first, named, sizes
from ..methods.inputs import ModelLike, guess_preprocessing
from ..methods.setting import How, Setting
from ..structure import label
from .registry import study


@study
def filters(model: ModelLike, *, layer: str = "first", **how: Unpack[How]) -> Finding:
    """Filters: the weights of a layer as pictures, and those that are dead, dominating, doubled or aliased.

    Filters next to the input are shown in the colours that they respond to, also where the graph quantises them or
    cuts the picture into patches first; grey is zero, and each filter is scaled on its own. Those of deeper layers are
    tables: a row per unit, a column per input channel. The numbers are those by which Zeiler & Fergus (2014, section
    4.1) found what was wrong with AlexNet: some filters dominate, others are dead, a large stride causes aliasing.

    For filter w of a unit, times the factor g of a batch normalisation behind the layer:

    norm: |g| ‖w‖; RMS: norm / sqrt(number of weights), of which the paper allowed 0.1. Dominating: norm above 3 times
    the median of those that live. Dead: norm below 1 % of the mean. Outlier: the logarithm of the norm is more than 3.5
    robust standard deviations from the median.

    near-duplicates: two filters on the same channels with |cosine| above 0.95; with a minus they are negatives.

    high frequencies: share of the energy of the spectrum of w above half of Nyquist, 0.25 cycles a pixel along either
    axis; white noise has 75 %. Aliased: the same above 0.5 / stride, which the stride folds onto low frequencies,
    where windows overlap; above half of the energy a warning.

    Args:
        model: a model, or what `load` takes.
        layer: "first" for the first layer with weights behind the input, or a layer by name, tensor or glob: its
            filters, or those of the layer with weights that it is computed by.
        how: see `How`.

    Returns:
        A Finding. `values`: "layer"; "filters", a record for each: index, norm, rms, z (robust score of the
        logarithm), high_frequency, aliased; "dominating", "dead", "outliers": indices; "duplicates": pairs with their
        cosine, the closest first; "norm", "high_frequency" and "aliasing": of the layer. `arrays["kernels"]`: the
        kernels that are drawn, (units, channels, height, width), colours as RGB.

    Raises:
        LayerError: there is no such layer, or none with weights.
        UnsupportedError: the weights are of a form that is not covered.
        ResultError: some are not finite.

    Example:
        oi.filters("squeezenet.onnx").save("filters")
    """
    from ..kernels.picture import draw
    from ..kernels.pixels import kernels

    setting = Setting(model, **how)
    guessed = setting.preprocessing is None
    if guessed:
        with suppress(InspectError):  # the input takes no photos
            setting.preprocessing, _ = guess_preprocessing(setting.model)
    chosen = first(setting) if layer == "first" else named(setting.model, layer)
    name = _name(setting, chosen)
    if layer == "first":
        setting.notes.append(f"layer: '{name}' ({chosen.node.op_type}), the first with weights (--layer NAME)")
    found = kernels(setting, chosen)
    setting.notes += found.notes
    if guessed and found.colours and setting.preprocessing is not None:
        order = setting.preprocessing.color
        setting.notes.append(f"colours: the input's channels are taken to be {order} (--color ORDER)")
    values = diagnose(found)
    values = {"layer": _described(chosen, found, name)} | values
    picture, shown = draw(found, values, setting.model.source.name)
    return Finding(
        "filters",
        values,
        models=[identity(setting.model)],
        provider=setting.engine.provider,
        pictures={"": picture},
        arrays={"kernels": shown},
        lines=lines(values),
        layer=name,
        preprocessing=setting.preprocessing if found.pixels else None,
        params={"layer": name, "dominating": DOMINATING, "dead": DEAD, "alike": ALIKE, "outlier": OUTLIER},
        notes=list(dict.fromkeys(setting.notes)),
    )


def _name(setting: Setting, layer: Weighted) -> str:
    tensor = layer.node.outputs[0].name
    return next((c.name for c in setting.model.layers if c.tensor == tensor), label(layer.node))


def _described(layer: Weighted, found: Kernels, name: str) -> dict[str, Any]:
    units, channels, height, width = found.values.shape
    return {
        "name": name,
        "op_type": layer.node.op_type,
        "units": units,
        "channels": channels,
        "size": [height, width],
        "groups": found.groups,
        "stride": list(found.stride),
        "dilation": list(found.dilation),
        "pixels": found.pixels,
        "colours": found.colours,
        "batch_normalised": bool((found.gain != 1).any()),
    }


def lines(values: dict[str, Any]) -> list[str]:
    """What a person wants to know first."""
    layer, norm, pairs = values["layer"], values["norm"], values["duplicates"]
    folded = ", batch normalisation included" if layer["batch_normalised"] else ""
    told = [
        ("layer", f"{layer['name']} ({layer['op_type']}): {sizes(layer)}"),
        ("norm", f"median {norm['median']:.3g}, from {norm['min']:.3g} to {norm['max']:.3g}{folded}"),
        ("dominating", f"{_some(values['dominating'])} (norm above {DOMINATING:g} times the median)"),
        ("dead", f"{_some(values['dead'])} (norm below {100 * DEAD:g} % of the mean)"),
        ("outliers", f"{_some(values['outliers'])} (log norm, robust z above {OUTLIER:g})"),
        ("duplicates", _some([f"{p['a']}~{p['b']} ({p['cosine']:+.2f})" for p in pairs], values["duplicates_found"])),
    ]
    if (high := values["high_frequency"]) is not None:
        noise = f"white noise {100 * high['white_noise']:.0f} %"
        told.append(("high freq.", f"{100 * high['share']:.0f} % of the energy above half of Nyquist ({noise})"))
    if (aliasing := values["aliasing"]) is not None:
        noise = f"white noise {100 * aliasing['white_noise']:.0f} %"
        warning = ": expect aliasing" if aliasing["warning"] else ""
        share = f"{100 * aliasing['share']:.0f} % of the energy above what the stride keeps"
        told.append(("aliased", f"{share} ({noise}){warning}"))
    return [f"{name:<11} {text}" for name, text in told]


def _some(found: list[Any], count: int | None = None, most: int = 8) -> str:
    count = len(found) if count is None else count
    if not count:
        return "none"
    return f"{count}: {', '.join(map(str, found[:most]))}{', ...' if count > most else ''}"
