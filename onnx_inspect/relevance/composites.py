"""Composites: which rule each layer with weights gets, under the names of zennit."""

from __future__ import annotations

from typing import Any

# For convolutions, for dense layers, and for whichever comes first.
COMPOSITES: dict[str, dict[str, Any]] = {
    "epsilon_plus_flat": {"conv": "zplus", "dense": "epsilon", "first": "flat"},
    "epsilon_plus": {"conv": "zplus", "dense": "epsilon"},
    "epsilon_gamma_box": {"conv": "gamma", "dense": "epsilon", "first": "box"},
    "epsilon_alpha2_beta1": {"conv": "alpha_beta", "dense": "epsilon"},
    "epsilon_alpha2_beta1_flat": {"conv": "alpha_beta", "dense": "epsilon", "first": "flat"},
    "epsilon_plus_wsquare": {"conv": "zplus", "dense": "epsilon", "first": "wsquare"},
    "epsilon": {"conv": "epsilon", "dense": "epsilon"},
    "zplus": {"conv": "zplus", "dense": "zplus"},
    "gamma": {"conv": "gamma", "dense": "gamma"},
    "alpha_beta": {"conv": "alpha_beta", "dense": "alpha_beta"},
}
