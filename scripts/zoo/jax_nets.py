"""The networks of jax_models.py, in Flax NNX: pictures are [N, H, W, 3], as everywhere in JAX."""

from __future__ import annotations

import blobs
import jax
from flax import nnx
from jax import numpy as jnp
from samples import CLASSES, GRID, PATCH


class Conv(nnx.Module):
    """Convolution, batch normalisation, and what comes after."""

    def __init__(
        self, channels: int, out: int, rngs: nnx.Rngs, stride: int = 1, size: int = 3, groups: int = 1
    ) -> None:
        kernel = (size, size)
        self.conv = nnx.Conv(channels, out, kernel, stride, feature_group_count=groups, use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(out, momentum=0.9, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.bn(self.conv(x))


class Cnn(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.block1, self.block2, self.block3 = Conv(3, 8, rngs, 2), Conv(8, 16, rngs), Conv(16, 24, rngs)
        self.head = nnx.Linear(24, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.block1(x)), window_shape=(2, 2), strides=(2, 2))
        x = nnx.relu(self.block3(nnx.relu(self.block2(x))))
        return self.head(x.mean((1, 2)))


class Inverted(nnx.Module):
    """The block of MobileNetV3: widen, depthwise, squeeze and excite, narrow."""

    def __init__(self, channels: int, wide: int, out: int, stride: int, rngs: nnx.Rngs) -> None:
        self.expand, self.depthwise = Conv(channels, wide, rngs, size=1), Conv(wide, wide, rngs, stride, groups=wide)
        self.reduce, self.excite = nnx.Conv(wide, 8, (1, 1), rngs=rngs), nnx.Conv(8, wide, (1, 1), rngs=rngs)
        self.project = Conv(wide, out, rngs, size=1)
        self.skip = stride == 1 and channels == out

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.hard_swish(self.depthwise(nnx.hard_swish(self.expand(x))))
        gate = nnx.hard_sigmoid(self.excite(nnx.relu(self.reduce(y.mean((1, 2), keepdims=True)))))
        y = self.project(y * gate)
        return x + y if self.skip else y


class Mbv3(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = Conv(3, 8, rngs, 2)
        shapes = [(8, 16, 8, 1), (8, 24, 16, 2), (16, 48, 16, 1)]
        self.blocks = nnx.List([Inverted(*shape, rngs) for shape in shapes])
        self.last, self.head = Conv(16, 32, rngs, size=1), nnx.Linear(32, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.hard_swish(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(nnx.hard_swish(self.last(x)).mean((1, 2)))


class Mlp(nnx.Module):
    """Two layers; a network for tables by itself."""

    def __init__(self, width: int, hidden: int, out: int, rngs: nnx.Rngs) -> None:
        self.up, self.down = nnx.Linear(width, hidden, rngs=rngs), nnx.Linear(hidden, out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(nnx.gelu(self.up(x)))


class Encoder(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs, heads: int = 2) -> None:
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.mlp = Mlp(width, 2 * width, width, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nnx.Module):
    """No class token: the mean over the patches is classified."""

    def __init__(self, rngs: nnx.Rngs, width: int = 32) -> None:
        self.patch = nnx.Conv(3, width, (PATCH, PATCH), PATCH, padding="VALID", rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, GRID[0] * GRID[1], width)))
        self.blocks = nnx.List([Encoder(width, rngs) for _ in range(2)])
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class MixerBlock(nnx.Module):
    def __init__(self, count: int, width: int, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.tokens, self.channels = Mlp(count, 32, count, rngs), Mlp(width, 2 * width, width, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.tokens(self.norm1(x).transpose(0, 2, 1)).transpose(0, 2, 1)
        return x + self.channels(self.norm2(x))


class Mixer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 24) -> None:
        self.patch = nnx.Conv(3, width, (PATCH, PATCH), PATCH, padding="VALID", rngs=rngs)
        self.blocks = nnx.List([MixerBlock(GRID[0] * GRID[1], width, rngs) for _ in range(2)])
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Unet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.down1, self.down2, self.middle = Conv(3, 8, rngs), Conv(8, 16, rngs), Conv(16, 24, rngs)
        self.up2, self.up1 = Conv(24 + 16, 16, rngs), Conv(16 + 8, 8, rngs)
        self.head = nnx.Conv(8, CLASSES + 1, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        one = nnx.relu(self.down1(x))
        two = nnx.relu(self.down2(nnx.max_pool(one, window_shape=(2, 2), strides=(2, 2))))
        x = nnx.relu(self.middle(nnx.avg_pool(two, window_shape=(2, 2), strides=(2, 2))))
        for skip, up in ((two, self.up2), (one, self.up1)):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = nnx.relu(up(jnp.concatenate([x, skip], -1)))
        return self.head(x)


class Recurrent(nnx.Module):
    """A gated recurrent unit over frames of eight samples, written as a scan: a graph within the graph."""

    def __init__(self, rngs: nnx.Rngs, width: int = 16) -> None:
        self.width, self.frames = width, nnx.Linear(8, 12, rngs=rngs)
        self.gates, self.new = nnx.Linear(12 + width, 2 * width, rngs=rngs), nnx.Linear(12 + width, width, rngs=rngs)
        self.head = nnx.Linear(width, len(blobs.SIGNALS), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        frames = nnx.relu(self.frames(x.reshape(x.shape[0], 16, 8))).transpose(1, 0, 2)

        def step(state: jax.Array, frame: jax.Array) -> tuple[jax.Array, None]:
            gates = nnx.sigmoid(self.gates(jnp.concatenate([frame, state], -1)))
            keep, reset = gates[:, : self.width], gates[:, self.width :]
            new = jnp.tanh(self.new(jnp.concatenate([frame, reset * state], -1)))
            return keep * state + (1 - keep) * new, None

        state, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], self.width)), frames)
        return self.head(state)


class Text(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, width: int = 16) -> None:
        self.embedding = nnx.Embed(len(blobs.WORDS), width, rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 12, width)))
        self.block = Encoder(width, rngs)
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.block(self.embedding(tokens) + self.positions[...])
        return self.head(self.norm(x).mean(1))
