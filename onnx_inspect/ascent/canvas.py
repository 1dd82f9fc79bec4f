"""Pictures as parameters: how numbers become pixels, and how gradients go the same way back.

A picture is float64 (h, w, 3), RGB, 0 to 255. `adjoint` multiplies with the Jacobian of `pixels`, transposed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
"""A root of the covariance of red, green and blue over ImageNet's pixels, as lucid publishes it: brightness, blue
against red, green against both."""


class Canvas(Protocol):
    """A picture that is made of parameters."""

    start: Array
    """The parameters to begin with."""

    def pixels(self, parameters: Array) -> Array:
        """The picture, (h, w, 3), 0 to 255."""

    def adjoint(self, parameters: Array, slope: Array) -> Array:
        """A gradient by pixels, (h, w, 3), as one by parameters."""


class Pixels:
    """A picture that is its own parameters; whoever climbs keeps them between 0 and 255 (`climb.bounded`).

    Args:
        start: the picture to begin with, (h, w, 3).
        grey: the same in all colours; parameters are (h, w, 1) then.
    """

    def __init__(self, start: NDArray[np.generic], *, grey: bool = False) -> None:
        pixels = np.array(start, np.float64)
        self.start = pixels.mean(axis=-1, keepdims=True) if grey else pixels

    def pixels(self, parameters: Array) -> Array:
        """The parameters themselves."""
        return np.broadcast_to(parameters, (*parameters.shape[:2], 3))

    def adjoint(self, parameters: Array, slope: Array) -> Array:
        """The gradient itself, summed over the colours where they are one."""
        return slope if parameters.shape[-1] == 3 else slope.sum(axis=-1, keepdims=True)


class Fourier:
    """A picture as waves, whose size falls as those of photos do, in colours that vary independently.

    pixels = 255 sigmoid(C irfft2(s z) / 4), z the spectrum, s = sqrt(hw) / max(f, 1 / max(h, w)) for the frequency f,
    C the root of the covariance of colours, its longest column of length 1. A step then changes all frequencies and
    colours by what is usual for them, so no fine pattern runs ahead.

    Olah et al., Feature Visualization, Distill 2017; lucid, lucent.

    Args:
        size: (height, width).
        seed: of the spectrum.
        deviation: of the spectrum: nearly grey at first.
        grey: the same in all colours.
    """

    def __init__(self, size: tuple[int, int], seed: int = 0, *, deviation: float = 0.01, grey: bool = False) -> None:
        height, width = self.size = size
        across = np.fft.rfftfreq(width)
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], across)
        self.scale = np.sqrt(height * width) / np.maximum(frequency, 1 / max(height, width)) / 4
        # Waves along the width come in pairs, of which the spectrum holds one; the first has none, nor has the finest.
        self.pairs = np.where((across > 0) & (across < 0.5), 2, 1)
        root = np.ones((3, 1)) if grey else COLOURS
        self.colours = root / np.linalg.norm(root, axis=0).max()
        channels = root.shape[1]
        self.start = np.random.default_rng(seed).normal(0, deviation, (2, *frequency.shape, channels))

    def pixels(self, parameters: Array) -> Array:
        """The picture of a spectrum, (real and imaginary part, h, w // 2 + 1, colours)."""
        return np.asarray(255 * _sigmoid(self._waves(parameters)))

    def _waves(self, parameters: Array) -> Array:
        spectrum = (parameters[0] + 1j * parameters[1]) * self.scale[..., None]
        return np.asarray(np.fft.irfft2(spectrum, self.size, axes=(0, 1)) @ self.colours.T)

    def adjoint(self, parameters: Array, slope: Array) -> Array:
        """A gradient by pixels as one by the spectrum."""
        shares = _sigmoid(self._waves(parameters))
        return self._by_spectrum(255 * slope * shares * (1 - shares))

    def _by_spectrum(self, slope: Array) -> Array:
        """What `_waves` does, transposed."""
        spectrum = np.fft.rfft2(slope @ self.colours, axes=(0, 1)) / (self.size[0] * self.size[1])
        spectrum *= (self.pairs * self.scale)[..., None]
        return np.stack([spectrum.real, spectrum.imag])


def _sigmoid(values: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
