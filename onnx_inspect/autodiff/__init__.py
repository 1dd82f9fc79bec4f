"""Reverse-mode differentiation of ONNX graphs, written as ONNX graphs."""

from . import rules as _rules  # fills RULES
from .gradient import RULES, Rule, Rules, backward, constant, gradient, rule, vjp

__all__ = ["RULES", "Rule", "Rules", "backward", "constant", "gradient", "rule", "vjp"]
