"""Convolutions and pools."""

from .spec import few, normal, positive, spec

x1, x2, x3 = normal(2, 4, 9), normal(2, 4, 7, 8), normal(1, 4, 5, 4, 6)
ties1, ties2, ties3 = few(2, 3, 9), few(2, 3, 7, 8), few(1, 2, 5, 4, 6)

CONVOLUTIONS = [
    spec("conv1d", "y = Conv(a, b, c)", "F.conv1d(a, b, c)", a=x1, b=normal(3, 4, 3), c=normal(3)),
    spec(
        "conv1d dilated",
        "y = Conv<dilations = [2], strides = [2], pads = [2, 2]>(a, b)",
        "F.conv1d(a, b, stride=2, padding=2, dilation=2)",
        a=x1,
        b=normal(3, 4, 3),
    ),
    spec(
        "conv2d",
        "y = Conv<pads = [1, 1, 1, 1]>(a, b, c)",
        "F.conv2d(a, b, c, padding=1)",
        a=x2,
        b=normal(3, 4, 3, 3),
        c=normal(3),
    ),
    spec(
        "conv2d strides",
        "y = Conv<strides = [2, 3], pads = [1, 0, 1, 0]>(a, b)",
        "F.conv2d(a, b, stride=(2, 3), padding=(1, 0))",
        a=x2,
        b=normal(3, 4, 3, 2),
    ),
    spec(
        "conv2d groups",
        "y = Conv<group = 2, dilations = [1, 2], pads = [1, 2, 1, 2]>(a, b, c)",
        "F.conv2d(a, b, c, padding=(1, 2), dilation=(1, 2), groups=2)",
        a=x2,
        b=normal(6, 2, 3, 3),
        c=normal(6),
    ),
    spec(
        "conv2d depthwise",
        "y = Conv<group = 4, strides = [2, 2], pads = [2, 2, 2, 2]>(a, b)",
        "F.conv2d(a, b, stride=2, padding=2, groups=4)",
        a=x2,
        b=normal(8, 1, 5, 5),
    ),
    spec(
        "conv2d asymmetric",
        "y = Conv<strides = [2, 2], pads = [0, 0, 1, 1]>(a, b)",
        "F.conv2d(F.pad(a, (0, 1, 0, 1)), b, stride=2)",
        a=x2,
        b=normal(3, 4, 3, 3),
    ),
    spec(
        "conv2d same",
        'y = Conv<kernel_shape = [2, 4], auto_pad = "SAME_UPPER">(a, b)',
        'F.conv2d(a, b, padding="same")',
        a=x2,
        b=normal(3, 4, 2, 4),
    ),
    spec(
        "conv3d",
        "y = Conv<strides = [2, 1, 2], pads = [1, 0, 1, 1, 0, 1], group = 2>(a, b, c)",
        "F.conv3d(a, b, c, stride=(2, 1, 2), padding=(1, 0, 1), groups=2)",
        a=x3,
        b=normal(4, 2, 3, 2, 3),
        c=normal(4),
    ),
    spec(
        "transposed 1d",
        "y = ConvTranspose<strides = [3], pads = [1, 1], output_padding = [2]>(a, b, c)",
        "F.conv_transpose1d(a, b, c, stride=3, padding=1, output_padding=2)",
        a=x1,
        b=normal(4, 3, 4),
        c=normal(3),
    ),
    spec(
        "transposed 2d",
        "y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 0]>(a, b)",
        "F.conv_transpose2d(a, b, stride=2, padding=1, output_padding=(1, 0))",
        a=x2,
        b=normal(4, 3, 3, 3),
    ),
    spec(
        "transposed 2d groups",
        "y = ConvTranspose<group = 2, dilations = [2, 1], strides = [1, 2]>(a, b, c)",
        "F.conv_transpose2d(a, b, c, stride=(1, 2), dilation=(2, 1), groups=2)",
        a=x2,
        b=normal(4, 3, 3, 2),
        c=normal(6),
    ),
    spec(
        "transposed 3d",
        "y = ConvTranspose<strides = [2, 2, 1], pads = [1, 0, 1, 1, 0, 1]>(a, b)",
        "F.conv_transpose3d(a, b, stride=(2, 2, 1), padding=(1, 0, 1))",
        a=x3,
        b=normal(4, 2, 3, 2, 3),
    ),
]

# Ties: in max_pool and adaptive_max_pool the first of equal elements takes all, in amax they share.
POOLS = [
    spec(
        "max 1d",
        "y = MaxPool<kernel_shape = [3], strides = [2], pads = [1, 1]>(a)",
        "F.max_pool1d(a, 3, 2, 1)",
        a=ties1,
    ),
    spec("max 2d", "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)", "F.max_pool2d(a, 2)", a=ties2),
    spec(
        "max 2d overlapping",
        "y = MaxPool<kernel_shape = [3, 2], strides = [1, 1], pads = [1, 0, 1, 0], dilations = [1, 2]>(a)",
        "F.max_pool2d(a, (3, 2), 1, (1, 0), (1, 2))",
        a=ties2,
    ),
    spec(
        "max 2d ceil",
        "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(a)",
        "F.max_pool2d(a, 3, 2, 1, ceil_mode=True)",
        a=ties2,
    ),
    spec(
        "max 3d",
        "y = MaxPool<kernel_shape = [3, 2, 2], strides = [2, 2, 2]>(a)",
        "F.max_pool3d(a, (3, 2, 2), 2)",
        a=ties3,
    ),
    spec("max global", "y = GlobalMaxPool(a)", "F.adaptive_max_pool2d(a, 1)", a=ties2),
    spec("max global 1d", "y = GlobalMaxPool(a)", "F.adaptive_max_pool1d(a, 1)", a=ties1),
    spec(
        "max adaptive",
        "y = MaxPool<kernel_shape = [7, 2], strides = [1, 2]>(a)",
        "F.adaptive_max_pool2d(a, (1, 4))",
        a=ties2,
    ),
    spec("average 1d", "y = AveragePool<kernel_shape = [4], strides = [3]>(a)", "F.avg_pool1d(a, 4, 3)", a=x1),
    spec(
        "average 2d",
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(a)",
        "F.avg_pool2d(a, 3, 2, 1, count_include_pad=False)",
        a=x2,
    ),
    spec(
        "average 2d pads count",
        "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(a)",
        "F.avg_pool2d(a, 3, 2, 1)",
        a=x2,
    ),
    *(
        spec(
            f"average 2d ceil {include}",
            "y = AveragePool<kernel_shape = [3, 2], strides = [2, 3], pads = [1, 1, 1, 1], ceil_mode = 1,"
            f" count_include_pad = {include}>(a)",
            f"F.avg_pool2d(a, (3, 2), (2, 3), 1, ceil_mode=True, count_include_pad={bool(include)})",
            a=x2,
        )
        for include in (0, 1)
    ),
    spec(
        "average 3d",
        "y = AveragePool<kernel_shape = [2, 2, 3], strides = [2, 1, 2]>(a)",
        "F.avg_pool3d(a, (2, 2, 3), (2, 1, 2))",
        a=x3,
    ),
    spec("average global", "y = GlobalAveragePool(a)", "F.adaptive_avg_pool2d(a, 1)", a=x2),
    spec("average global 3d", "y = GlobalAveragePool(a)", "F.adaptive_avg_pool3d(a, 1)", a=x3),
    spec("lp 2", "y = LpPool<kernel_shape = [2, 3], strides = [2, 2], p = 2>(a)", "F.lp_pool2d(a, 2, (2, 3), 2)", a=x2),
    spec(
        "lp 3",
        "y = LpPool<kernel_shape = [3], strides = [1], p = 3>(a)",
        "F.lp_pool1d(a, 3, 3, 1)",
        a=positive(2, 3, 8),
    ),
    spec("lp global 1", "y = GlobalLpPool<p = 1>(a)", "torch.linalg.vector_norm(a, 1, (2, 3), keepdim=True)", a=ties2),
    spec("lp global 3", "y = GlobalLpPool<p = 3>(a)", "torch.linalg.vector_norm(a, 3, (2, 3), keepdim=True)", a=x2),
    spec(
        "max unpool",
        "y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(a, i)",
        "F.max_unpool2d(a, i % 16, 2)",  # torch counts within each map
        a=normal(1, 2, 2, 2),
        i=[[[[0, 3], [8, 15]], [[17, 22], [25, 26]]]],
    ),
    spec(
        "fold",
        "size = Constant<value_ints = [5, 6]>() block = Constant<value_ints = [2, 3]>()"
        "y = Col2Im<strides = [1, 2], pads = [1, 0, 1, 0]>(a, size, block)",
        "F.fold(a, (5, 6), (2, 3), padding=(1, 0), stride=(1, 2))",
        a=normal(2, 12, 12),
    ),
    spec(
        "fold dilated",
        "size = Constant<value_ints = [6, 5]>() block = Constant<value_ints = [3, 2]>()"
        "y = Col2Im<dilations = [2, 1]>(a, size, block)",
        "F.fold(a, (6, 5), (3, 2), dilation=(2, 1))",
        a=normal(1, 12, 8),
    ),
    spec(
        "unfold",  # as a convolution with one kernel per place of the block
        "y4 = Conv<strides = [2, 1]>(a, b) shape = Constant<value_ints = [1, 4, -1]>() y = Reshape(y4, shape)",
        "F.unfold(a, 2, stride=(2, 1))",
        a=normal(1, 1, 5, 4),
        b=[[[[1.0, 0], [0, 0]]], [[[0, 1.0], [0, 0]]], [[[0, 0], [1.0, 0]]], [[[0, 0], [0, 1.0]]]],
        fixed="b",
    ),
]
