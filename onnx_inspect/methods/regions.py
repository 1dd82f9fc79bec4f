"""XRAI's regions: overlapping segments of a photo, and the order in which they are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import image

GRID = 224  # the side of the pictures that the numbers below were found for
SCALES = (50, 100, 150, 250, 500, 1200)
SIGMA, SMALLEST, DILATION, FEWEST = 0.8, 150, 5, 50


def regions(photo: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The overlapping regions of a photo (H, W, 3), (M, H, W)."""
    from scipy.ndimage import distance_transform_edt, find_objects
    from skimage.segmentation import felzenszwalb

    height, width = photo.shape[:2]
    pixels = image.resize(photo.astype(np.float32), (GRID, GRID), "cubic").astype(np.float64)
    low, high = pixels.min(), pixels.max()
    pixels = 2 * (pixels - low) / (high - low or 1) - 1
    grown: list[NDArray[np.bool_]] = []
    for scale in SCALES:
        segments = felzenszwalb(pixels, scale=scale, sigma=SIGMA, min_size=SMALLEST, channel_axis=-1)
        segments = image.resize((segments + 1).astype(np.float32), (height, width), "nearest").astype(int)
        for label, box in enumerate(find_objects(segments), start=1):
            if box is None:
                continue
            near = tuple(slice(max(s.start - DILATION, 0), s.stop + DILATION) for s in box)
            mask = np.zeros((height, width), bool)
            mask[near] = distance_transform_edt(segments[near] != label) <= DILATION
            grown.append(mask)
    return np.stack(grown)


def by_regions(gains: NDArray[Any], masks: NDArray[np.bool_], fast: bool = False) -> NDArray[np.float64]:
    """XRAI's map from the gain per pixel (H, W) and the regions (M, H, W)."""
    from scipy.sparse import csr_array

    gain, fewest = gains.ravel().astype(np.float64), max(1.0, FEWEST * gains.size / GRID**2)
    rows = csr_array(masks.reshape(len(masks), -1).astype(np.float64))
    free, out = np.ones(gain.size, bool), np.empty(gain.size)

    def density(of: Any) -> NDArray[np.float64]:
        """The mean gain over the pixels that regions would add; nothing for too few of them."""
        count, total = (of @ np.stack([free, free * gain], axis=1)).T
        return np.where(count >= fewest, total / np.maximum(count, 1), -np.inf)

    order = np.argsort(-density(rows), kind="stable")
    for step in range(len(masks)):
        best = int(order[step] if fast else density(rows).argmax())
        mean = density(rows[[best]])[0]
        if mean > -np.inf:
            new = masks[best].ravel() & free
            out[new], free[new] = mean, False
    if free.any():
        out[free] = gain[free].mean()
    return out.reshape(gains.shape)
