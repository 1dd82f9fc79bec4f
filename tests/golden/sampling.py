"""Resizing, and sampling at coordinates."""

import numpy as np

from .spec import Spec, normal, spec

line, image, volume = normal(1, 2, 5), normal(1, 2, 5, 4), normal(1, 1, 3, 4, 3)
# Where torch's modes look: without align_corners at half pixels, but for its first "nearest".
HALF, CORNERS = "half_pixel", "align_corners"


def resize(name: str, sizes: list[int], torch: str, mode: str, more: str = "", where: str = HALF) -> Spec:
    """A map of 1, 2 or 3 axes to new sizes, as `F.interpolate(a, sizes, ...)`."""
    a = {1: line, 2: image, 3: volume}[len(sizes)]
    attributes = f'mode = "{mode}", coordinate_transformation_mode = "{where}"{more}'
    full = [*a.shape[:2], *sizes]
    return spec(
        name,
        f'sizes = Constant<value_ints = {full}>() y = Resize<{attributes}>(a, "", "", sizes)',
        f"F.interpolate(a, {sizes}, {torch})",
        a=a,
    )


NEAREST = ', nearest_mode = "floor"'
EXACT = ', nearest_mode = "round_prefer_ceil"'
# With antialias, torch leaves out what lies outside, and its cubic is another one.
INSIDE, KEYS = ", exclude_outside = 1", ", cubic_coeff_a = -0.5"

RESIZES = [
    *(
        resize(f"nearest {s}", s, 'mode="nearest"', "nearest", NEAREST, "asymmetric")
        for s in ([8], [10, 3], [9, 8], [2, 7, 6])
    ),
    *(resize(f"nearest-exact {s}", s, 'mode="nearest-exact"', "nearest", EXACT) for s in ([8], [7, 3], [9, 8])),
    *(resize(f"linear {s}", s, 'mode="linear"', "linear") for s in ([9], [3])),
    *(resize(f"bilinear {s}", s, 'mode="bilinear"', "linear") for s in ([10, 8], [3, 7], [1, 2])),
    *(resize(f"trilinear {s}", s, 'mode="trilinear"', "linear") for s in ([5, 3, 6],)),
    resize("linear corners", [8], 'mode="linear", align_corners=True', "linear", where=CORNERS),
    *(
        resize(f"bilinear corners {s}", s, 'mode="bilinear", align_corners=True', "linear", where=CORNERS)
        for s in ([9, 7], [3, 2])
    ),
    resize("trilinear corners", [4, 6, 2], 'mode="trilinear", align_corners=True', "linear", where=CORNERS),
    *(resize(f"bicubic {s}", s, 'mode="bicubic"', "cubic", ", cubic_coeff_a = -0.75") for s in ([9, 7], [3, 6])),
    *(
        resize(
            f"bicubic corners {s}", s, 'mode="bicubic", align_corners=True', "cubic", ", cubic_coeff_a = -0.75", CORNERS
        )
        for s in ([9, 7], [3, 6])
    ),
    *(
        resize(f"antialias bilinear {s}", s, 'mode="bilinear", antialias=True', "linear", f", antialias = 1{INSIDE}")
        for s in ([2, 3], [3, 6])
    ),
    *(
        resize(f"antialias bicubic {s}", s, 'mode="bicubic", antialias=True', "cubic", f", antialias = 1{INSIDE}{KEYS}")
        for s in ([2, 3], [3, 6])
    ),
    spec(
        "scales",
        'scales = Constant<value_floats = [1.0, 1.0, 2.0, 3.0]>()y = Resize<mode = "linear">(a, "", scales)',
        'F.interpolate(a, scale_factor=(2, 3), mode="bilinear")',
        a=image,
    ),
]

PADDINGS = ["zeros", "border", "reflection"]
# Four pixels without align_corners, or five with, are two to a unit of the grid, so that these are hit exactly.
steps = np.arange(-3, 8, 0.5)
exact = [np.stack([c, np.roll(c, 3)], -1)[None, None] for c in ((steps + 0.5) / 2 - 1, steps / 2 - 1)]

GRIDS = [
    *(
        spec(
            f"{mode} {padding} {align}",
            f'y = GridSample<mode = "{onnx}", padding_mode = "{padding}", align_corners = {align}>(a, b)',
            f'F.grid_sample(a, b, "{mode}", "{padding}", bool({align}))',
            a=normal(2, 2, 4, 5),
            b=normal(2, 3, 4, 2) * 0.9,  # some point outside
            opset=20,
        )
        for mode, onnx in (("bilinear", "linear"), ("nearest", "nearest"), ("bicubic", "cubic"))
        for padding in PADDINGS
        for align in (0, 1)
    ),
    # Coordinates on whole pixels, on the border, and where reflection turns.
    *(
        spec(
            f"{mode} {padding} {align} exact",
            f'y = GridSample<mode = "{onnx}", padding_mode = "{padding}", align_corners = {align}>(a, b)',
            f'F.grid_sample(a, b, "{mode}", "{padding}", bool({align}))',
            a=normal(1, 1, 4 + align, 4 + align),
            b=exact[align],
            opset=20,
        )
        for mode, onnx in (("bilinear", "linear"), ("bicubic", "cubic"))
        for padding in PADDINGS
        for align in (0, 1)
    ),
    *(
        spec(
            f"3d {mode} {padding}",
            f'y = GridSample<mode = "{onnx}", padding_mode = "{padding}", align_corners = {align}>(a, b)',
            f'F.grid_sample(a, b, "{mode}", "{padding}", bool({align}))',
            a=normal(1, 2, 3, 4, 3),
            b=normal(1, 2, 2, 3, 3) * 0.9,
            opset=20,
        )
        for mode, onnx, padding, align in (
            ("bilinear", "linear", "zeros", 0),
            ("bilinear", "linear", "border", 1),
            ("nearest", "nearest", "reflection", 0),
        )
    ),
    *(
        spec(
            f"affine {size} {align}",
            f"size = Constant<value_ints = {size}>() y = AffineGrid<align_corners = {align}>(a, size)",
            f"F.affine_grid(a, {size}, bool({align}))",
            a=normal(2, len(size) - 2, len(size) - 1),
            opset=20,
        )
        for size in ([2, 3, 4, 5], [2, 1, 3, 2, 4])
        for align in (0, 1)
    ),
]
