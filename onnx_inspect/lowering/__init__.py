"""From what gradients say to what a provider computes fast: a second table of rewrites, one per execution provider.

Gradient code never names a provider. What it emits is rewritten, once the graph is whole, before the engine compiles
it; nodes of the model itself stay as they are, so that its outputs do not move.
"""

from .cpu import CPU
from .cuda import CUDA
from .table import Lowering, lower

__all__ = ["CPU", "CUDA", "TABLES", "Lowering", "lower"]

TABLES: dict[str, dict[str, Lowering]] = {"CPUExecutionProvider": CPU, "CUDAExecutionProvider": CUDA}
"""The tables, by provider; a provider without one runs graphs as they were built."""
