"""All rows, by family."""

from . import convolutions, elementwise, indexing, norms, sampling, sequences, sums
from .spec import Spec

FAMILIES: dict[str, list[Spec]] = {
    "activation": elementwise.ACTIVATIONS,
    "attention": sequences.ATTENTION,
    "convolution": convolutions.CONVOLUTIONS,
    "elementwise": elementwise.ELEMENTWISE,
    "fourier": sums.FOURIER,
    "grid": sampling.GRIDS,
    "loss": norms.LOSSES,
    "move": indexing.MOVES,
    "norm": norms.NORMS,
    "pick": indexing.PICKS,
    "pool": convolutions.POOLS,
    "product": sums.PRODUCTS,
    "recurrent": sequences.RECURRENT,
    "reduction": sums.REDUCTIONS,
    "resize": sampling.RESIZES,
    "running": indexing.RUNNING,
    "write": indexing.WRITES,
}
