"""Attention of all layers as one: how much each token counts for the class token, through the whole transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

import numpy as np

from ..attentions import Attention
from ..attribution import Attribution
from ..dtypes import is_float
from ..errors import InputError
from ..relevance import rules as _  # noqa: F401  (fills the table)
from ..relevance.table import How as Rules
from ..relevance.table import Relevance
from ..target import TargetLike
from .attention_common import Array, rolled, weights
from .inputs import Input, ModelLike
from .job import How, Job
from .registry import method

Fusion = Literal["mean", "max", "min"]
# Chefer's rules: what excites, in every layer; half each for the two sides of a product.
_RULES = Rules(conv="zplus", dense="zplus", attention="attnlrp", bias=False)


@method("attention")
def attention_rollout(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    fusion: Fusion = "mean",
    discard: float = 0.0,
    start: int = 0,
    query: str = "",
    **how: Unpack[How],
) -> Attribution:
    """Attention rollout: where the class token looks through all layers, residual connections counted in.

    A_l = (E_h A_lh + I) / 2, its rows scaled to 1, and R = A_L ... A_1: the class token's row on the grid of the
    tokens, (N, h, w). Without a class token it is the mean over the rows that the score is read from. The same for
    every class: the target only says which tokens are read. Needs self-attention over the same tokens in all layers.

    Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.

    Args:
        fusion: how heads become one: "mean", "max" or "min".
        discard: the share of the smallest weights of each layer that is set to 0, as 0.9.
        start: the first layer that counts.
        query: whose row: "ROW,COLUMN" of the grid, a token's number, or "all"; by default that of the class token, or
            of the tokens that the score is read from.

    Raises:
        LayerError: no attention, windows, or cross attention.
        InputError: there is no such token, or a share that is none.

    Example:
        >>> attention_rollout("vit.onnx", "cat.jpg", discard=0.9).save("cat")
    """
    if not 0 <= discard < 1:
        raise InputError(f"discard={discard} is no share of the weights: give one from 0 to below 1 (--discard).")
    job = Job(model, x, target, **how)

    def relevance(layers: list[Attention], job: Job, i: int) -> Array:
        found = job.forward([at.tensor for at in layers], feeds=job.copies(i, 1))
        return rollout([weights(at, found[at.tensor]) for at in layers], fusion, discard)

    return rolled("attention_rollout", job, start, query, relevance, {"fusion": fusion, "discard": discard})


def rollout(layers: Sequence[Array], fusion: Fusion = "mean", discard: float = 0.0) -> Array:
    """R = A_L ... A_1 of weights (heads, T, T) by layer."""
    total = np.eye(layers[0].shape[-1])
    for heads in layers:
        fused = getattr(heads, fusion)(axis=0)
        if discard:
            fused = np.where(fused < np.quantile(fused, discard), 0, fused)
        kept = fused + np.eye(len(fused))
        total = kept / kept.sum(axis=1, keepdims=True) @ total
    return total


@method("attention", "gradient")
def generic_attention(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    start: int = 0,
    query: str = "",
    **how: Unpack[How],
) -> Attribution:
    """Generic attention explainability: attention that speaks for the target, through all layers.

    From R = I, layer by layer: R <- R + E_h (dS/dA * A)+ R; the class token's row on the grid of the tokens,
    (N, h, w). Without a class token it is the mean over the rows that the score is read from. Needs self-attention over
    the same tokens in all layers.

    Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers, ICCV 2021.

    Args:
        start: the first layer that counts.
        query: whose row: "ROW,COLUMN" of the grid, a token's number, or "all"; by default that of the class token, or
            of the tokens that the score is read from.

    Raises:
        LayerError: no attention, windows, or cross attention.
        InputError: there is no such token.
        TargetError: no such target, or it does not depend on the attention.

    Example:
        >>> generic_attention("vit.onnx", "cat.jpg", target=281).save("cat")
    """
    job = Job(model, x, target, **how)

    def relevance(layers: list[Attention], job: Job, i: int) -> Array:
        found = job.gradients([at.tensor for at in layers], feeds=job.copies(i, 1), target=job.fixed[i])
        total = np.eye(layers[0].size[0])
        for at in layers:
            A, g = weights(at, found[at.tensor]), weights(at, found[f"gradient.{at.tensor}"])
            total = total + np.maximum(g * A, 0).mean(axis=0) @ total
        return total

    return rolled("generic_attention", job, start, query, relevance, {})


@method("attention", "gradient")
def transformer_attribution(
    model: ModelLike,
    x: Input,
    target: TargetLike = "top",
    *,
    start: int = 0,
    query: str = "",
    **how: Unpack[How],
) -> Attribution:
    """Transformer attribution: the relevance of attention times its gradient, through all layers.

    With R_A the relevance of a layer's weights A, from 1 for the target, C = prod_l (I + E_h (dS/dA * R_A)+); the class
    token's row on the grid of the tokens, (N, h, w). Without a class token it is the mean over the rows that the score
    is read from. Relevance is that of LRP: zplus in layers with weights, half each for the two sides of a product, and
    AttnLRP's rule for softmax. Needs self-attention over the same tokens in all layers.

    Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization, CVPR 2021.

    Args:
        start: the first layer that counts.
        query: whose row: "ROW,COLUMN" of the grid, a token's number, or "all"; by default that of the class token, or
            of the tokens that the score is read from.

    Raises:
        LayerError: no attention, windows, or cross attention.
        InputError: there is no such token.
        TargetError: no such target, or it does not depend on the attention.
        MissingRule: an operator in between has no rule.

    Example:
        >>> transformer_attribution("vit.onnx", "cat.jpg", target=281).save("cat")
    """
    job = Job(model, x, target, **how)

    def relevance(layers: list[Attention], job: Job, i: int) -> Array:
        tensors, feeds, one = [at.tensor for at in layers], job.copies(i, 1), job.fixed[i]
        slopes = job.gradients(tensors, feeds=feeds, target=one)
        shares = job.gradients([*tensors, *_origins(job)], Relevance(_RULES), feeds=feeds, target=one)
        total = np.eye(layers[0].size[0])
        for at in layers:
            g, R = (weights(at, found[f"gradient.{at.tensor}"]) for found in (slopes, shares))
            total = total + np.maximum(g * R, 0).mean(axis=0) @ total
        return total

    return rolled("transformer_attribution", job, start, query, relevance, {})


def _origins(job: Job) -> list[str]:
    """Where all begins: the walk takes for constant what follows from none of its tensors, and values are not."""
    floats = [v.name or "" for v in job.model.ir.graph.inputs if is_float(v) and v.name in job.reached]
    return floats + [v.name or "" for one in job.stands.values() for v in one.tensors]
