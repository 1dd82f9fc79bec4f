"""Elementwise operators, at their kinks and beside them.

Where the two sides of a kink differ, the value that torch takes there is a convention. Ours is torch's, with one choice
between two of its own: Clip passes the cotangent at its bounds, as torch.clamp, while hardtanh and relu6 stop it there.
"""

import numpy as np

from .spec import few, normal, positive, spec

near = 1e-3
kinks = np.array([k + d for k in (-3.0, -1, -0.5, 0, 0.5, 1, 2, 3, 6) for d in (-near, 0, near)])
between = np.array([-0.9, -0.3, 0.2, 0.7])
above = np.array([1.1, 1.7, 3.0])

ACTIVATIONS = [
    spec("relu", "y = Relu(a)", "F.relu(a)", a=kinks),
    spec("leaky relu", "y = LeakyRelu<alpha = 0.25>(a)", "F.leaky_relu(a, 0.25)", a=kinks),
    spec("prelu", "y = PRelu(a, b)", "F.prelu(a, b)", a=kinks.reshape(1, 1, -1), b=[0.25]),
    spec(
        "prelu channels",
        "shape = Constant<value_ints = [3, 1]>() slope = Reshape(b, shape) y = PRelu(a, slope)",
        "F.prelu(a, b)",
        a=few(2, 3, 4),
        b=[0.25, -0.5, 0.0],
    ),
    spec("threshold", "y = ThresholdedRelu<alpha = 0.5>(a)", "F.threshold(a, 0.5, 0.0)", a=kinks),
    spec("softshrink", "y = Shrink<lambd = 0.5, bias = 0.5>(a)", "F.softshrink(a, 0.5)", a=kinks),
    spec("hardshrink", "y = Shrink<lambd = 0.5>(a)", "F.hardshrink(a, 0.5)", a=kinks),
    spec("hard sigmoid", f"y = HardSigmoid<alpha = {1 / 6!r}>(a)", "F.hardsigmoid(a)", a=kinks),
    spec("hard swish", "y = HardSwish(a)", "F.hardswish(a)", a=kinks),
    spec("elu", "y = Elu<alpha = 0.5>(a)", "F.elu(a, 0.5)", a=kinks),
    spec("selu", "y = Selu(a)", "F.selu(a)", a=kinks),
    spec("celu", "y = Celu<alpha = 0.5>(a)", "F.celu(a, 0.5)", a=kinks),
    spec("sigmoid", "y = Sigmoid(a)", "F.sigmoid(a)", a=kinks),
    spec("tanh", "y = Tanh(a)", "F.tanh(a)", a=kinks),
    spec("softsign", "y = Softsign(a)", "F.softsign(a)", a=kinks),
    spec("softplus", "y = Softplus(a)", "F.softplus(a)", a=kinks),
    spec("log sigmoid", "z = Neg(a) u = Softplus(z) y = Neg(u)", "F.logsigmoid(a)", a=kinks),
    spec("gelu", "y = Gelu(a)", "F.gelu(a)", a=kinks),
    spec("gelu tanh", 'y = Gelu<approximate = "tanh">(a)', 'F.gelu(a, approximate="tanh")', a=kinks),
    spec("silu", "y = Swish(a)", "F.silu(a)", a=kinks, opset=24),
    spec("mish", "y = Mish(a)", "F.mish(a)", a=kinks),
    spec(
        "glu", "z, g = Split<axis = 1, num_outputs = 2>(a) s = Sigmoid(g) y = Mul(z, s)", "F.glu(a, 1)", a=normal(3, 4)
    ),
]

ELEMENTWISE = [
    spec("abs", "y = Abs(a)", "a.abs()", a=kinks),
    *(
        spec(name, f"y = {name}(a)", f"torch.{name.lower()}(a)", a=a)
        for names, a in (
            ("Exp Erf Sin Cos Tan Sinh Cosh Atan Asinh", kinks[:-9]),
            ("Asin Acos Atanh", between),
            ("Log Sqrt Reciprocal Acosh", above),
        )
        for name in names.split()
    ),
    *(
        spec(name.lower(), f"y = {name}(a, b)", f"torch.{name.lower()}(a, b)", a=normal(2, 3, 4), b=positive(3, 1))
        for name in ("Add", "Sub", "Mul", "Div")
    ),
    spec("pow", "y = Pow(a, b)", "torch.pow(a, b)", a=positive(2, 3), b=normal(3)),
    spec("pow of zero", "y = Pow(a, b)", "torch.pow(a, b)", a=[0.0, 0, 0, 0], b=[0.0, 1, 2, 3]),
    # By the exponent of a negative number, torch gives NaN where ours is 0.
    spec("pow of negative", "y = Pow(a, b)", "torch.pow(a, b)", a=[-1.5, -2, -1, -3], b=[0.0, 1, 2, 3], fixed="b"),
    spec("square", "b = Constant<value_float = 2.0>() y = Pow(a, b)", "a ** 2", a=kinks),
    spec("fmod", "y = Mod<fmod = 1>(a, b)", "torch.fmod(a, b)", a=normal(3, 4) * 4, b=positive(4)),
    # Ties of two share; torch has no maximum of three.
    spec("maximum", "y = Max(a, b)", "torch.maximum(a, b)", a=few(4, 6), b=few(6)),
    spec("minimum", "y = Min(a, b)", "torch.minimum(a, b)", a=few(4, 6), b=few(4, 1)),
    spec("clamp", "y = Clip(a, b, c)", "torch.clamp(a, b, c)", a=kinks, b=-1.0, c=2.0, fixed="b c"),
    spec("clamp low", "y = Clip(a, b)", "torch.clamp(a, min=b)", a=kinks, b=-0.5, fixed="b"),
    spec("clamp high", 'y = Clip(a, "", c)', "torch.clamp(a, max=c)", a=kinks, c=2.0, fixed="c"),
    spec("clamp crossed", "y = Clip(a, b, c)", "torch.clamp(a, b, c)", a=kinks, b=2.0, c=-1.0),
    # Between equal bounds, torch gives the lower one nothing, ours what lies below it.
    spec("clamp equal", "y = Clip(a, b, c)", "torch.clamp(a, b, c)", a=kinks, b=0.5, c=0.5, fixed="b"),
    spec("clamp bounds", "y = Clip(a, b, c)", "torch.clamp(a, b, c)", a=kinks, b=-1.0, c=2.0),
    spec("where", "y = Where(i, a, b)", "torch.where(i, a, b)", a=normal(3, 1), b=normal(4), i=few(3, 4) > 0),
    spec(
        "hypot",
        "u = Mul(a, a) v = Mul(b, b) s = Add(u, v) y = Sqrt(s)",
        "torch.hypot(a, b)",
        a=normal(5),
        b=normal(5, seed=1),
    ),
    spec(
        "fake quantise",  # the straight-through estimator: 1 within the range and at its ends, 0 beyond
        "q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z)",
        "torch.fake_quantize_per_tensor_affine(a, float(s), int(z), -128, 127)",
        a=np.linspace(-70, 70, 29),
        s=0.5,
        z=np.array(5, np.int8),
        fixed="s",
    ),
    spec(
        "fake quantise channels",
        "q = QuantizeLinear<axis = 1>(a, s, z) y = DequantizeLinear<axis = 1>(q, s, z)",
        "torch.fake_quantize_per_channel_affine(a, s.float(), z.int(), 1, -128, 127)",
        a=normal(4, 3, 5) * 60,
        s=[0.25, 0.5, 1.0],
        z=np.array([-3, 0, 7], np.int8),
        fixed="s",
    ),
]
