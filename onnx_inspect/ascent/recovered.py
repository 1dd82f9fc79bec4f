"""What inversions recovered of photos, layer by layer: told, drawn, filmed."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import charts, layout
from ..image import Picture
from .climb import Climb

ROWS = 8  # photos in an overview


def means(records: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Per layer over the photos: distance, PSNR, and how many are seen as the photo is."""
    found = []
    for k, name in enumerate(names):
        entries = [r["layers"][k] for r in records]
        same = [
            e["predictions"][0]["index"] == r["predictions"][0]["index"]
            for e, r in zip(entries, records, strict=True)
            if e["predictions"]
        ]
        found.append(
            {
                "layer": name,
                "distance": float(np.mean([e["distance"] for e in entries])),
                "psnr": float(np.mean([e["psnr"] for e in entries])),
                "seen_alike": sum(same) if same else None,
            }
        )
    return found


def lines(records: list[dict[str, Any]], names: list[str]) -> list[str]:
    """What the terminal says."""
    width = min(40, max(map(len, names)))
    return [
        f"{layout_name:<{width}}  PSNR {m['psnr']:5.1f} dB   distance {m['distance']:.2g}"
        + ("" if m["seen_alike"] is None else f"   seen as the photo is: {m['seen_alike']} of {len(records)}")
        for m in means(records, names)
        for layout_name in [m["layer"] if len(m["layer"]) <= width else "…" + m["layer"][1 - width :]]
    ]


def overview(rows: list[list[Picture]], records: list[dict[str, Any]], names: list[str]) -> Picture:
    """A row per photo: as the model sees it, and what each layer knows of it."""
    table = []
    for row, record in zip(rows, records, strict=False):
        tiles = [layout.stretch(p, *_size(p)) for p in row]
        seen = record["predictions"]
        heads = [["photo as the model sees it", seen[0]["label"] if seen else ""]]
        for entry in record["layers"]:
            label = entry["predictions"][0]["label"] if entry["predictions"] else ""
            heads.append([entry["layer"], f"{entry['psnr']:.1f} dB, distance {entry['distance']:.2g}", label])
        heads[0] += [""] * (3 - len(heads[0]))
        table.append(layout.row([layout.titled(t, h, 14) for t, h in zip(tiles, heads, strict=True)], 10))
    return layout.frame(layout.column(table, 16), 10)


def _size(picture: Picture) -> tuple[int, int]:
    """At least 180 pixels wide, so that captions can be read, and 240 at the most."""
    height, width = picture.shape[:2]
    share = min(max(1.0, 200 / width), 240 / max(height, width)) if max(height, width) > 240 else max(1.0, 200 / width)
    return max(1, round(height * share)), max(1, round(width * share))


def chart(records: list[dict[str, Any]], names: list[str]) -> Picture:
    """PSNR along depth, a line per photo."""
    series = {r["photo"].rpartition("/")[2]: [e["psnr"] for e in r["layers"]] for r in records[:ROWS]}
    return charts.figure(
        [charts.curves(range(len(names)), series, title="what a layer knows", ylabel="PSNR in dB", ticks=names)]
    )


def frames(photo: Picture, climbs: list[Climb]) -> list[Picture]:
    """The photo and the pictures side by side, frame by frame; one that was ready earlier waits."""
    longest = max(len(c.frames) for c in climbs)
    return [
        layout.row([layout.enlarge(p, 128) for p in (photo, *(c.frames[min(k, len(c.frames) - 1)] for c in climbs))])
        for k in range(longest)
    ]
