"""What is no picture, drawn with what it is worth: signals as lines, features as bars, tokens as coloured words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import charts, image, layout
from .charts import Draw
from .image import Picture

WIDTH = 860
FEATURES = 64  # numbers without a name; more are a signal
_SHOWN, _LINES, _WORDS = 24, 4, 400  # bars, channels as lines, and words, at most
_FOR, _AGAINST = "#b40426", "#3b4cc0"  # the ends of coolwarm


@dataclass(frozen=True)
class Part:
    """One input of one sample.

    Attributes:
        name: of the input.
        worth: what was attributed to it.
        value: what it holds, shaped alike; None where nobody knows.
        words: names along the last axis; texts of tokens.
        layout: a letter per axis, "CW", None where nobody knows.
    """

    name: str
    worth: NDArray[Any]
    value: NDArray[Any] | None = None
    words: Sequence[str] = ()
    layout: str | None = None

    @property
    def tokens(self) -> bool:
        """True for whole numbers in a row."""
        return self.worth.ndim == 1 and self.value is not None and self.value.dtype.kind in "iu"

    @property
    def features(self) -> bool:
        """True for numbers with names, or for a few."""
        return not self.tokens and (self.worth.size == 1 or (self.worth.ndim == 1 and self._few))

    @property
    def _few(self) -> bool:
        return bool(self.words) or self.worth.size <= FEATURES

    def called(self, i: int) -> str:
        """A number's name, and the number itself."""
        name = self.words[i] if self.words else self.name if self.worth.size == 1 else f"{self.name}[{i}]"
        value = None if self.value is None else self.value.ravel()[i]
        return (
            name
            if value is None
            else f"{name} = {value:.4g}"
            if isinstance(value, np.floating)
            else f"{name} = {value}"
        )


def drawing(parts: Sequence[Part], signed: bool) -> Picture:
    """One sample, its inputs one below the other: each drawn as what it looks like by its shape.

    Whole numbers in a row are tokens; names, or up to 64 numbers, are bars, those of all inputs in one chart; longer
    rows are signals; what has two axes is up to four signals, or a map, and what has more the sum over channels.
    """
    blocks = []
    features = [part for part in parts if part.features]
    if features:
        blocks.append(_bars(features, signed))
    for part in parts:
        if part.tokens:
            blocks.append(_strip(part, signed))
        elif not part.features:
            blocks.append(_lines(part, signed))
    return layout.column(blocks, 12)


# Features.


def _bars(parts: Sequence[Part], signed: bool) -> Picture:
    entries = [(part.called(i), float(w)) for part in parts for i, w in enumerate(part.worth.ravel())]
    entries.sort(key=lambda entry: -abs(entry[1]))
    shown = entries[:_SHOWN]
    title = f"the {len(shown)} largest of {len(entries)}" if len(entries) > len(shown) else ""

    def draw(ax: Any) -> None:
        worth = [w for _, w in shown]
        ax.barh(range(len(shown)), worth, color=[_FOR if w > 0 else _AGAINST for w in worth])
        ax.set_yticks(range(len(shown)), [charts.shortened(name, 40) for name, _ in shown], fontsize=9)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.axvline(0, color="#444444", linewidth=0.8)
        _dress(ax, title, signed)
        ax.grid(visible=True, axis="x", alpha=0.25)

    return charts.figure([draw], (WIDTH, 90 + 26 * len(shown)))


# Signals and maps.


def _lines(part: Part, signed: bool) -> Picture:
    worth, value = _channels(part, part.worth), None if part.value is None else _channels(part, part.value)
    if len(worth) > _LINES:
        return charts.figure([_map(part, worth, signed)], (WIDTH, 340))
    drawn = [
        _line(part, c, worth[c], None if value is None else value[c], signed, len(worth)) for c in range(len(worth))
    ]
    return charts.figure([*(drawn if value is not None else []), _curve(part, worth, signed)], (WIDTH, 170), columns=1)


def _channels(part: Part, values: NDArray[Any]) -> NDArray[Any]:
    """(channels, positions): without a layout, positions come before features."""
    if values.ndim == 1:
        return values[None]
    first = values
    if part.layout is not None and "C" in part.layout and len(part.layout) == values.ndim:
        first = np.moveaxis(values, part.layout.index("C"), 0)
    elif values.ndim == 2:
        first = values.T
    return first if first.ndim == 2 else np.asarray(first.sum(axis=0)).reshape(-1, first.shape[-1])


def _line(part: Part, c: int, worth: NDArray[Any], value: NDArray[Any], signed: bool, of: int) -> Draw:
    """A channel as a line, on the colours of what it is worth."""

    def draw(ax: Any) -> None:
        low, high = float(value.min()), float(value.max())
        margin = 0.08 * (high - low) or 1
        end = float(np.abs(worth).max()) or 1
        place = (-0.5, len(value) - 0.5, low - margin, high + margin)
        ax.imshow(worth[None], cmap="coolwarm", vmin=-end, vmax=end, aspect="auto", extent=place, alpha=0.6)
        ax.plot(np.arange(len(value)), value, color="#222222", linewidth=1)
        _dress(ax, part.name if of == 1 else _channel(part, c), signed, xlabel="")

    return draw


def _channel(part: Part, c: int) -> str:
    return f"{part.name}: {part.words[c]}" if part.words else f"{part.name}, channel {c}"


def _curve(part: Part, worth: NDArray[Any], signed: bool) -> Draw:
    """What each position is worth, all channels together."""

    def draw(ax: Any) -> None:
        total = worth.sum(axis=0)
        at = np.arange(len(total))
        ax.fill_between(at, total.clip(min=0), step="mid", color=_FOR, linewidth=0)
        ax.fill_between(at, total.clip(max=0), step="mid", color=_AGAINST, linewidth=0)
        ax.axhline(0, color="#444444", linewidth=0.8)
        ax.set_xlim(-0.5, len(total) - 0.5)
        channels = f", sum over {len(worth)} channels" if len(worth) > 1 else ""
        _dress(ax, f"attribution to {part.name}{channels}", signed, xlabel="position")

    return draw


def _map(part: Part, worth: NDArray[Any], signed: bool) -> Draw:
    def draw(ax: Any) -> None:
        end = float(np.abs(worth).max()) or 1
        shown = ax.imshow(
            worth, cmap="coolwarm" if signed else "viridis", vmin=-end if signed else 0, vmax=end, aspect="auto"
        )
        ax.figure.colorbar(shown, ax=ax)
        ax.set_title(charts.plain(f"attribution to {part.name}"), fontsize=10)
        ax.set_xlabel("position", fontsize=9)
        if part.words and len(part.words) == len(worth) <= 30:
            ax.set_yticks(range(len(worth)), [charts.shortened(w) for w in part.words], fontsize=8)

    return draw


def _dress(ax: Any, title: str, signed: bool, xlabel: str | None = None) -> None:
    meaning = "attribution: for the target (red), against it (blue)" if signed else "attribution"
    ax.set_xlabel(charts.plain(meaning if xlabel is None else xlabel), fontsize=9)
    ax.set_title(charts.plain(title), fontsize=10)
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


# Tokens.


def _strip(part: Part, signed: bool) -> Picture:
    """Words in their order on the colours of what they are worth, with the number below; wrapped."""
    texts = list(part.words) or [str(v) for v in np.asarray(part.value)]
    count = _without_tail(texts, part.worth)
    end = float(np.abs(part.worth).max()) or 1
    rows: list[list[Picture]] = [[]]
    room = WIDTH
    for text, worth in zip(texts[:count], part.worth[:count].tolist(), strict=True):
        cell = _word(text, worth, end)
        if cell.shape[1] > room:
            rows.append([])
            room = WIDTH
        rows[-1].append(cell)
        room -= cell.shape[1] + 4
    lines = [layout.pad(layout.row(row, 4), row[0].shape[0], WIDTH) for row in rows if row]
    if count < len(texts):
        lines.append(layout.line(f"and {len(texts) - count} more, from {texts[count]!r} on", WIDTH, 13))
    meaning = "red speaks for the target, blue against it" if signed else "the redder, the more it counts"
    return layout.column([layout.line(f"{part.name}: {meaning}", WIDTH, 13), *lines], 8)


def _without_tail(texts: Sequence[str], worth: NDArray[Any]) -> int:
    """How many words to draw: padding at the end, which is all alike, and what comes after many is left out."""
    count = len(texts)
    while count > 1 and texts[count - 1] == texts[count - 2] == texts[-1]:
        count -= 1
    return min(count, _WORDS)


def _word(text: str, worth: float, end: float) -> Picture:
    shown = layout.shorten(text.replace("Ġ", "").replace("▁", "") or text, 300, 18)
    number = f"{worth:.2g}".replace("-", "\u2212")
    width = max(image.text_size(shown, 18)[0], image.text_size(number, 11)[0]) + 12
    ground = image.colormap(np.array(worth / end), "coolwarm")
    cell = np.empty((28, width, 3), np.uint8)
    cell[:] = ground
    ink = (255, 255, 255) if abs(worth) > 0.6 * end else layout.INK
    image.text(cell, shown, ((width - image.text_size(shown, 18)[0]) // 2, 1), 18, ink)
    return layout.column([cell, layout.line(number, width, 11, "centre")], 1)
