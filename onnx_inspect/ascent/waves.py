"""Pictures as waves that reach every pixel exactly: for features to be met, rather than for what pleases a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .canvas import Fourier
from .easel import GREY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CONTRAST = GREY / 2


class Waves(Fourier):
    """As `Fourier`, but linear: pixels = 127.5 + 63.75 C irfft2(s z). Whoever climbs keeps them `bounded`.

    There is no sigmoid, in whose ends black and white would be out of reach, and gradients lost.
    """

    def pixels(self, parameters: Array) -> Array:
        """The picture of a spectrum."""
        return np.asarray(GREY + CONTRAST * self._waves(parameters))

    def adjoint(self, parameters: Array, slope: Array) -> Array:
        """A gradient by pixels as one by the spectrum."""
        return self._by_spectrum(CONTRAST * slope)

    def bounded(self, step: int, parameters: Array, gradient: Array) -> Array:
        """The spectrum of the same picture, clipped to 0 to 255: an `after` of `climb`."""
        pixels = self.pixels(parameters)
        waves = (pixels.clip(0, 255) - pixels) / CONTRAST @ np.linalg.pinv(self.colours.T)
        spectrum = np.fft.rfft2(waves, axes=(0, 1)) / self.scale[..., None]
        return np.asarray(parameters + np.stack([spectrum.real, spectrum.imag]))
