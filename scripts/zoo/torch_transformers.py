"""Transformers and their kin, as their papers draw them, with a few thousand weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention of heads side by side; ``causal`` lets a token see those before it only."""

    def __init__(self, dim: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


def mlp(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads, causal)
        self.norm2, self.mlp = nn.LayerNorm(dim), mlp(dim, 2 * dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Vision transformer: class token and registers, or a distillation token (DeiT), or the mean over the patches.

    Tokens are [class, distillation, registers, patches]; registers have no position, as in DINOv2.
    """

    def __init__(
        self, size: tuple[int, int] = (48, 80), patch: int = 8, pool: str = "class", registers: int = 0, dim: int = 24
    ) -> None:
        super().__init__()
        self.pool = pool
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.pos = nn.Parameter(0.02 * torch.randn(1, size[0] // patch * (size[1] // patch), dim))
        self.extra = nn.Parameter(0.02 * torch.randn(1, {"class": 1, "distilled": 2, "mean": 0}[pool] + registers, dim))
        self.blocks = nn.ModuleList(Block(dim, 4) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 4)
        self.head_dist = nn.Linear(dim, 4) if pool == "distilled" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.pos
        if self.extra.shape[1]:
            x = torch.cat([self.extra.expand(x.shape[0], -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.head_dist is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return self.head(x.mean(1) if self.pool == "mean" else x[:, 0])


class WindowAttention(nn.Module):
    """Attention within windows of a grid, by turns shifted by half a window, with relative positions (Swin)."""

    def __init__(self, dim: int, heads: int, grid: tuple[int, int], window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.grid, self.window, self.shift = heads, grid, window, shift
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(0.02 * torch.randn((2 * window - 1) ** 2, heads))
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = place[:, None] - place[None] + window - 1
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        cuts = torch.tensor([-window, -shift]) if shift else torch.tensor([0])
        ids = [sum((torch.arange(n) >= n + c).long() for c in cuts) for n in grid]
        area = self.windows((ids[0][:, None] * 3 + ids[1]).float()[None, ..., None]).squeeze(-1)
        self.register_buffer("mask", torch.where(area[:, None] == area[:, :, None], 0.0, -100.0) if shift else None)

    def windows(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to [B * windows, tokens of one, C]."""
        (h, w), s = self.grid, self.window
        return x.reshape(-1, h // s, s, w // s, s, x.shape[-1]).transpose(2, 3).reshape(-1, s * s, x.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        (h, w), s, c = self.grid, self.window, x.shape[-1]
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        n, d = s * s, c // self.heads
        q, k, v = self.qkv(self.windows(x)).reshape(-1, n, 3, self.heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * d**-0.5 + self.table[self.index.flatten()].reshape(n, n, -1).permute(2, 0, 1)
        if self.mask is not None:
            count = self.mask.shape[0]
            scores = scores.reshape(-1, count, self.heads, n, n) + self.mask[None, :, None]
            scores = scores.reshape(-1, self.heads, n, n)
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, n, c))
        y = y.reshape(-1, h // s, w // s, s, s, c).transpose(2, 3).reshape(-1, h, w, c)
        return torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y


class SwinBlock(nn.Module):
    def __init__(self, dim: int, grid: tuple[int, int], window: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), WindowAttention(dim, 2, grid, window, shift)
        self.norm2, self.mlp = nn.LayerNorm(dim), mlp(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Merge(nn.Module):
    """Patch merging: each 2 by 2 tokens become one of twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    """Two stages of a window and a shifted-window block each; grids of H / 4 by W / 4 and half, windows of 4 and 2."""

    def __init__(self, size: tuple[int, int] = (48, 80), dim: int = 16) -> None:
        super().__init__()
        fine, coarse = (size[0] // 4, size[1] // 4), (size[0] // 8, size[1] // 8)
        self.patch, self.norm0 = nn.Conv2d(3, dim, 4, 4), nn.LayerNorm(dim)
        self.stage1 = nn.Sequential(SwinBlock(dim, fine, 4, 0), SwinBlock(dim, fine, 4, 2))
        self.merge = Merge(dim)
        self.stage2 = nn.Sequential(SwinBlock(2 * dim, coarse, 2, 0), SwinBlock(2 * dim, coarse, 2, 1))
        self.norm, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.patch(x).permute(0, 2, 3, 1))
        x = self.norm(self.stage2(self.merge(self.stage1(x))))
        return self.head(x.flatten(1, 2).mean(1))


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.tokens = nn.LayerNorm(dim), mlp(tokens, 24)
        self.norm2, self.channels = nn.LayerNorm(dim), mlp(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer: no attention, tokens mixed by a network across them."""

    def __init__(self, size: tuple[int, int] = (48, 80), patch: int = 8, dim: int = 24) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.blocks = nn.Sequential(*(MixerBlock(size[0] // patch * (size[1] // patch), dim) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.patch(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


class MobileVit(nn.Module):
    """Convolutions, then attention over a map unfolded to 2 by 2 patches and folded back (MobileViT)."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        act = nn.SiLU
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), act())
        self.down = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), act())
        self.local = nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), act(), nn.Conv2d(16, dim, 1)
        )
        self.blocks = nn.ModuleList(Block(dim, 2) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Sequential(nn.Conv2d(dim, 16, 1, bias=False), nn.BatchNorm2d(16), act())
        self.fuse = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), act())
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.stem(x))
        y = self.local(x)
        b, c, h, w = y.shape
        y = y.reshape(b * c * (h // 2), 2, w // 2, 2).transpose(1, 2).reshape(b, c, h * w // 4, 4)
        y = y.transpose(1, 3).reshape(b * 4, h * w // 4, c)
        for block in self.blocks:
            y = block(y)
        y = self.norm(y).reshape(b, 4, h * w // 4, c).transpose(1, 3)
        y = y.reshape(b * c * (h // 2), w // 2, 2, 2).transpose(1, 2).reshape(b, c, h, w)
        return self.head(self.fuse(torch.cat([x, self.proj(y)], 1)).mean((2, 3)))


class Text(nn.Module):
    """A text encoder: tokens and their mask in, class scores from the first token out."""

    def __init__(self, words: int, length: int, dim: int = 24) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(words, dim), nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(Block(dim, 2) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.word(input_ids) + self.position(torch.arange(input_ids.shape[1], device=input_ids.device))
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        for block in self.blocks:
            x = block(x, mask)
        return self.head(torch.tanh(self.norm(x)[:, 0]))


class RmsNorm(nn.Module):
    """nn.RMSNorm in operators that the older exporter knows."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.weight = norm.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1.2e-7)


class Causal(nn.Module):
    """A language model: scores of the next token at each place, from those before."""

    def __init__(self, words: int, length: int, dim: int = 24) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(words, dim), nn.Parameter(0.02 * torch.randn(length, dim))
        self.blocks = nn.Sequential(*(Block(dim, 2, causal=True) for _ in range(2)))
        self.norm, self.head = nn.RMSNorm(dim), nn.Linear(dim, words)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.word(input_ids) + self.position[: input_ids.shape[1]]
        return self.head(self.norm(self.blocks(x)))
