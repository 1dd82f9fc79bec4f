"""What is no picture, drawn with what it is worth: signals as lines, features as bars, tokens as coloured words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        tokens: these are whole numbers that stand for words.
    """

    name: str
    worth: NDArray[Any]
    value: NDArray[Any] | None = None
    words: Sequence[str] = ()
    layout: str | None = None
    tokens: bool = False

    def squeezed(self) -> Part:
        """Without axes of size 1."""
        if self.value is not None and self.value.shape != self.worth.shape:  # a map of positions, and its signal
            return self
        kept = [i for i, n in enumerate(self.worth.shape) if n > 1]
        known = self.layout if len(self.layout or "") == self.worth.ndim else None
        letters = "".join(known[i] for i in kept) if known else None
        value = None if self.value is None else self.value.squeeze()
        return replace(self, worth=self.worth.squeeze(), value=value, layout=letters)

    @property
    def features(self) -> bool:
        """True for numbers with names, or for a few."""
        few = self.worth.ndim == 1 and (bool(self.words) or self.worth.size <= FEATURES)
        # A map of positions is shorter than its signal.
        alike = self.value is None or self.value.size == self.worth.size
        return self.worth.ndim == 0 or (few and alike and not self.tokens)

    def called(self, i: int) -> str:
        """A number's name, and the number itself."""
        name = self.words[i] if self.words else f"{self.name}[{i}]" if self.worth.ndim else self.name
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

    Tokens are coloured words; names, or up to 64 numbers, are bars, those of all inputs in one chart; longer
    rows are signals; what has two axes is up to four signals, or a map, and what has more the sum over channels.
    """
    blocks, parts = [], [part.squeezed() for part in parts]
    features = [part for part in parts if part.features]
    if features:
        blocks.append(_bars(features, signed))
    for part in parts:
        if not part.features:
            blocks.append(_strip(part, signed) if part.tokens else _lines(part, signed))
    return layout.column(blocks, 12)


# Features.


def entries(parts: Sequence[Part]) -> list[tuple[str, float]]:
    """What each number is called, and what it is worth, the most important first."""
    found = [(part.called(i), float(w)) for part in parts for i, w in enumerate(part.worth.ravel())]
    return sorted(found, key=lambda entry: -abs(entry[1]))


def _bars(parts: Sequence[Part], signed: bool) -> Picture:
    every = entries(parts)
    shown = every[:_SHOWN]
    title = f"the {len(shown)} largest of {len(every)}" if len(every) > len(shown) else ""

    def draw(ax: Any) -> None:
        worth = [w for _, w in shown]
        ax.barh(range(len(shown)), worth, color=[_FOR if w > 0 else _AGAINST for w in worth])
        ax.set_yticks(range(len(shown)), [charts.shortened(name, 40) for name, _ in shown], fontsize=9)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.axvline(0, color="#444444", linewidth=0.8)
        _dress(ax, title, _meaning(signed))
        ax.grid(visible=True, axis="x", alpha=0.25)

    return charts.figure([draw], (WIDTH, 90 + 26 * len(shown)))


# Signals and maps.


def _lines(part: Part, signed: bool) -> Picture:
    value = None if part.value is None else _channels(part, part.value)
    worth = _channels(part, part.worth) if value is None or part.worth.ndim > 1 else _stretched(part.worth, value)
    given = [] if value is None else list(value)
    total: Draw = _curve(part, worth, signed)
    if max(len(given), len(worth)) > _LINES:
        drawn = [] if value is None else [_map(part, value, part.name, None)]
        total = _map(part, worth, f"attribution to {part.name}", signed) if len(worth) > 1 else total
    else:
        end = float(np.abs(worth).max()) or 1
        drawn = [_line(_channel(part, c, len(given)), worth[c % len(worth)], v, end) for c, v in enumerate(given)]
    return charts.figure([*drawn, total], (WIDTH, 290 if max(len(given), len(worth)) > _LINES else 170), columns=1)


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


def _stretched(worth: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    """A map of positions at the length of the signal, one row for all channels; ends stay on ends."""
    length = value.shape[1]
    at = (np.arange(length) + 0.5) * len(worth) / length - 0.5
    return np.asarray(np.interp(at, np.arange(len(worth)), worth))[None]


def _line(title: str, worth: NDArray[Any], value: NDArray[Any], end: float) -> Draw:
    """A channel as a line, on the colours of what it is worth, from -end to end."""

    def draw(ax: Any) -> None:
        low, high = float(value.min()), float(value.max())
        margin = 0.08 * (high - low) or 1
        place = (-0.5, len(value) - 0.5, low - margin, high + margin)
        ax.imshow(worth[None], cmap="RdBu_r", vmin=-end, vmax=end, aspect="auto", extent=place, alpha=0.7)
        ax.plot(np.arange(len(value)), value, color="#222222", linewidth=1)
        _dress(ax, title, "")

    return draw


def _channel(part: Part, c: int, count: int) -> str:
    return part.name if count == 1 else f"{part.name}: {part.words[c]}" if part.words else f"{part.name}, channel {c}"


def _curve(part: Part, worth: NDArray[Any], signed: bool) -> Draw:
    """What each position is worth, all channels together."""

    def draw(ax: Any) -> None:
        total = np.pad(worth.sum(axis=0), 1, mode="edge")  # the steps at the ends are whole
        at = np.arange(len(total)) - 1
        ax.fill_between(at, total.clip(min=0), step="mid", color=_FOR, linewidth=0)
        ax.fill_between(at, total.clip(max=0), step="mid", color=_AGAINST, linewidth=0)
        ax.axhline(0, color="#444444", linewidth=0.8)
        ax.set_xlim(-0.5, worth.shape[1] - 0.5)
        channels = f", sum over {len(worth)} channels" if len(worth) > 1 else ""
        _dress(ax, f"attribution to {part.name}{channels}", f"position; {_meaning(signed)}" if signed else "position")

    return draw


def _map(part: Part, values: NDArray[Any], title: str, signed: bool | None) -> Draw:
    """Channels by positions; attributions with a sign around white, values (None) from least to largest."""

    def draw(ax: Any) -> None:
        end = float(np.abs(values).max()) or 1
        low, high = (None, None) if signed is None else (-end if signed else 0, end)
        shown = ax.imshow(values, cmap="RdBu_r" if signed else "viridis", vmin=low, vmax=high, aspect="auto")
        ax.figure.colorbar(shown, ax=ax)
        _dress(ax, title, "position" if signed is None else f"position; {_meaning(signed)}")
        count = len(values)
        named = len(part.words) == count <= 30
        ticks = range(0, count, 1 if named else max(1, count // 8))
        ax.set_yticks(ticks, [charts.shortened(part.words[i]) if named else str(i) for i in ticks], fontsize=8)

    return draw


def _meaning(signed: bool) -> str:
    return "attribution: for the target (red), against it (blue)" if signed else "attribution"


def _dress(ax: Any, title: str, xlabel: str) -> None:
    ax.set_xlabel(charts.plain(xlabel), fontsize=9)
    ax.set_title(charts.shortened(title, 90), fontsize=10)
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
        rest = "more" if len(set(texts[count:])) > 1 else f"times {texts[count]}"
        total = float(part.worth[count:].sum())
        lines.append(layout.line(f"and {len(texts) - count} {rest}, together {total:.2g}", WIDTH, 13))
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
