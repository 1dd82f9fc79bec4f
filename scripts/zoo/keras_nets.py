"""The networks of keras_models.py, for any backend; layers are named as authors name them."""

from __future__ import annotations

from typing import Any

import blobs
import keras
import numpy as np
from keras import layers as L  # noqa: N812
from samples import CLASSES, GRID, HEIGHT, PATCH, WIDTH


class Positions(L.Layer):
    """A learnt vector added to each token."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal", name="table")

    def call(self, x: Any) -> Any:
        return x + self.table


class ClassToken(L.Layer):
    """A learnt token put before the others."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="token")

    def call(self, x: Any) -> Any:
        return keras.ops.concatenate([keras.ops.zeros_like(x[:, :1]) + self.token, x], axis=1)


def gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def photo() -> Any:
    return keras.Input((HEIGHT, WIDTH, 3), name="photo")


def conv(x: Any, channels: int, name: str, stride: int = 1, size: int = 3) -> Any:
    x = L.Conv2D(channels, size, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return L.ReLU(name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_bn")(x))


def cnn() -> keras.Model:
    x = conv(start := photo(), 8, "block1", stride=2)
    x = L.MaxPooling2D(name="block1_pool")(x)
    x = conv(conv(x, 16, "block2"), 24, "block3")
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(start, L.Dense(CLASSES, activation="softmax", name="predictions")(x), name="cnn")


def mbv3() -> keras.Model:
    """As Keras builds MobileNetV3: pixels of 0 to 255 come in, and the last convolution gives the scores."""
    x = L.Rescaling(1 / 127.5, offset=-1, name="rescaling")(start := photo())
    x = L.Conv2D(8, 3, 2, padding="same", use_bias=False, name="conv")(x)
    x = L.Activation("hard_swish", name="conv_swish")(L.BatchNormalization(name="conv_bn")(x))
    for i, (wide, out, stride) in enumerate([(16, 8, 1), (24, 16, 2), (48, 16, 1)]):
        name, y = f"expanded_conv_{i}", x
        y = L.Conv2D(wide, 1, use_bias=False, name=f"{name}_expand")(y)
        y = L.Activation("hard_swish", name=f"{name}_swish")(L.BatchNormalization(name=f"{name}_expand_bn")(y))
        y = L.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(y)
        y = L.Activation("hard_swish", name=f"{name}_depthwise_swish")(L.BatchNormalization(name=f"{name}_bn")(y))
        gate = L.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(y)
        gate = L.Conv2D(8, 1, activation="relu", name=f"{name}_reduce")(gate)
        gate = L.Conv2D(wide, 1, activation="hard_sigmoid", name=f"{name}_excite")(gate)
        y = L.Multiply(name=f"{name}_scale")([y, gate])
        y = L.BatchNormalization(name=f"{name}_project_bn")(L.Conv2D(out, 1, use_bias=False, name=f"{name}_project")(y))
        x = L.Add(name=f"{name}_add")([x, y]) if stride == 1 and x.shape[-1] == out else y
    x = L.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = L.Conv2D(32, 1, activation="hard_swish", name="head")(x)
    return keras.Model(start, L.Flatten(name="flatten")(L.Conv2D(CLASSES, 1, name="logits")(x)), name="mbv3")


def encoder(x: Any, name: str, heads: int = 2) -> Any:
    width = x.shape[-1]
    y = L.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = L.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
    x = L.Add(name=f"{name}_add1")([x, y])
    y = L.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = L.Dense(width, name=f"{name}_mlp2")(L.Dense(2 * width, activation=gelu, name=f"{name}_mlp1")(y))
    return L.Add(name=f"{name}_add2")([x, y])


def patches(x: Any, width: int) -> Any:
    x = L.Conv2D(width, PATCH, PATCH, name="patch_embedding")(x)
    return L.Reshape((-1, width), name="tokens")(x)


def vit() -> keras.Model:
    x = Positions(name="positions")(ClassToken(name="class_token")(patches(start := photo(), 32)))
    for i in range(2):
        x = encoder(x, f"encoder{i}")
    x = L.LayerNormalization(epsilon=1e-6, name="norm")(x)[:, 0]
    return keras.Model(start, L.Dense(CLASSES, name="head")(x), name="vit")


def mixer() -> keras.Model:
    x = patches(start := photo(), 24)
    count = x.shape[1]
    for i in range(2):
        y = L.LayerNormalization(epsilon=1e-6, name=f"mixer{i}_norm1")(x)
        y = L.Permute((2, 1), name=f"mixer{i}_turn")(y)
        y = L.Dense(count, name=f"mixer{i}_tokens2")(L.Dense(32, activation=gelu, name=f"mixer{i}_tokens1")(y))
        x = L.Add(name=f"mixer{i}_add1")([x, L.Permute((2, 1), name=f"mixer{i}_turn_back")(y)])
        y = L.LayerNormalization(epsilon=1e-6, name=f"mixer{i}_norm2")(x)
        y = L.Dense(24, name=f"mixer{i}_channels2")(L.Dense(48, activation=gelu, name=f"mixer{i}_channels1")(y))
        x = L.Add(name=f"mixer{i}_add2")([x, y])
    x = L.GlobalAveragePooling1D(name="pool")(L.LayerNormalization(epsilon=1e-6, name="norm")(x))
    return keras.Model(start, L.Dense(CLASSES, name="head")(x), name="mixer")


def unet() -> keras.Model:
    one = conv(start := photo(), 8, "down1")
    two = conv(L.MaxPooling2D(name="pool1")(one), 16, "down2")
    x = conv(L.AveragePooling2D(2, name="pool2")(two), 24, "middle")
    x = L.Concatenate(name="skip2")([L.UpSampling2D(interpolation="bilinear", name="up2")(x), two])
    x = L.Conv2DTranspose(8, 2, 2, name="up1")(conv(x, 16, "up2"))
    x = conv(L.Concatenate(name="skip1")([x, one]), 8, "up1")
    return keras.Model(start, L.Conv2D(CLASSES + 1, 1, name="logits")(x), name="unet")


def detector() -> keras.Model:
    """One cell of 8 x 8 pixels, one box: top, left, bottom, right, in parts of the picture, as in TensorFlow."""
    x = conv(conv(start := photo(), 12, "stage1", stride=2), 24, "stage2", stride=2)
    x = conv(conv(x, 32, "stage3", stride=2), 32, "neck")
    scores = L.Conv2D(CLASSES, 1, activation="sigmoid", bias_initializer=keras.initializers.Constant(-3), name="score")
    sides = L.Conv2D(4, 1, activation="softplus", name="side")(conv(x, 32, "box"))
    scores = L.Reshape((-1, CLASSES), name="scores")(scores(conv(x, 32, "class")))
    return keras.Model(start, [scores, Corners(name="boxes")(L.Reshape((-1, 4), name="sides")(sides))], name="detector")


class Corners(L.Layer):
    """Distances from the middle of a cell, in cells, to corners in parts of the picture."""

    def call(self, sides: Any) -> Any:
        y, x = np.mgrid[: GRID[0], : GRID[1]].reshape(2, -1, 1) + 0.5
        middle = np.concatenate([y, x], 1).astype(np.float32)
        middle, size = keras.ops.convert_to_tensor(middle), keras.ops.convert_to_tensor(np.float32([*GRID, *GRID]))
        return keras.ops.concatenate([middle - sides[..., :2], middle + sides[..., 2:]], -1) / size


def mlp() -> keras.Model:
    start = keras.Input((len(blobs.COLUMNS),), name="row")
    x = L.Dense(24, activation="relu", name="hidden1")(start)
    x = L.Dense(16, activation="tanh", name="hidden2")(x)
    return keras.Model(start, L.Dense(3, name="logits")(x), name="mlp")


def lstm() -> keras.Model:
    return recurrent(L.LSTM(16, name="lstm"))


def gru() -> keras.Model:
    return recurrent(L.GRU(16, name="gru"))


def recurrent(cell: L.Layer) -> keras.Model:
    start = keras.Input((128, 1), name="signal")
    x = L.Conv1D(12, 8, 8, activation="relu", name="frames")(start)
    return keras.Model(start, L.Dense(len(blobs.SIGNALS), name="logits")(cell(x)), name=cell.name)


def text() -> keras.Model:
    start = keras.Input((12,), dtype="int32", name="tokens")
    x = L.Embedding(len(blobs.WORDS), 16, name="embedding")(start)
    x = encoder(Positions(name="positions")(x), "encoder0")
    x = L.GlobalAveragePooling1D(name="pool")(L.LayerNormalization(epsilon=1e-6, name="norm")(x))
    return keras.Model(start, L.Dense(2, name="logits")(x), name="text")
