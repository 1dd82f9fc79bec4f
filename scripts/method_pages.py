"""Make docs/methods: a page per method with its docstring and its picture of the same photo, and an index.

python scripts/method_pages.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import onnx_inspect as oi
from onnx_inspect import image
from onnx_inspect.methods.registry import METHODS, NEEDS, every
from onnx_inspect.resources import bundled

DOCS = Path(__file__).parents[1] / "docs"
PHOTO = bundled("signs/photos") / "08_stop_stamp.jpg"
MODEL = bundled("signs/clean.onnx")
OPTIONS: dict[str, dict[str, Any]] = {
    "permutation": {},
    "sanity": {"of": "guided_backprop"},
    "localize": {"share": 0.5},
}
INDEX = """# Methods

Made by `python scripts/method_pages.py`: the docstring of each method, and its picture: of one photo by one
model, or of coloured shapes where that model will not do.

What a model must offer: *gradient*, a differentiable way from input to score; *map*, a layer with positions; *head*,
global average pooling and a linear layer at the end; *picture*, an input with height and width; *attention*, weights
that a softmax makes; *detector*, candidates of boxes at the end.

| method | | needs |
| --- | --- | --- |
"""
# What a classifier of convolutions has none of is shown on small networks, trained on coloured shapes.
ZOO = Path(__file__).parents[1] / "tests" / "zoo"
SHAPES = {
    "attention": (ZOO / "torch_dynamo_vit.onnx", DOCS / "images" / "shape.png", (48, 80)),
    "detector": (ZOO / "torch_dynamo_yolo.onnx", DOCS / "images" / "shapes.png", (64, 96)),
}
ALONE = {"permutation"}  # values are swapped between photos, so it takes several


def main() -> None:
    every()
    model = oi.load(MODEL)
    others = sorted(bundled("signs/photos").glob("*.jpg"))
    rows = []
    for name, function in sorted(METHODS.items()):
        photos: Any = [PHOTO, *(p for p in others if p != PHOTO)] if name in ALONE else PHOTO
        if shapes := of_shapes(name):
            network, photo, size = shapes
            result = function(network, photo, preprocessing=oi.Preprocessing(size=size, scale=1 / 255))
        else:
            result = function(model, photos, **OPTIONS.get(name, {}))
        image.write(DOCS / "images" / "methods" / f"{name}.jpg", result.panel(0))
        (DOCS / "methods" / f"{name}.md").write_text(page(name, function, result), encoding="utf-8")
        text = inspect.getdoc(function) or ""
        rows.append(f"| [{name}]({name}.md) | {text.partition(chr(10))[0]} | {', '.join(NEEDS[name]) or 'nothing'} |")
        print(name, flush=True)
    (DOCS / "methods" / "README.md").write_text(INDEX + "\n".join(rows) + "\n", encoding="utf-8")


def of_shapes(name: str) -> tuple[Path, Path, tuple[int, int]] | None:
    """The network, the photo and its size that show a method which needs more than a classifier; None for others."""
    return next((SHAPES[need] for need in NEEDS[name] if need in SHAPES), None)


def page(name: str, function: Any, result: oi.Attribution) -> str:
    """The page of a method, with its call, its picture and what was assumed."""
    command = f"onnx-inspect {name} models/signs/{MODEL.name} models/signs/photos/{PHOTO.name}"
    if shapes := of_shapes(name):
        network, photo, _ = shapes
        command = f"onnx-inspect {name} tests/zoo/{network.name} docs/images/{photo.name} --scale 1/255"
    text = markdown(name, function, f"![{name}](../images/methods/{name}.jpg)\n\n```sh\n{command}\n```")
    if result.notes:
        text += "\n**Assumed for the picture**\n\n" + "\n".join(f"- {note}" for note in result.notes) + "\n"
    return text


def markdown(name: str, function: Any, shown: str) -> str:
    """A docstring as Markdown; what is shown stands behind what is said, before the arguments."""
    text = inspect.getdoc(function) or ""
    head, *sections = re.split(r"\n(Args|Raises|Returns|Example):\n", text)
    title, _, body = head.partition("\n")
    body = re.sub(r"\n{3,}", "\n\n", body.strip())
    table = re.compile(r"^\w+: .*(?:\n\w+: .*)+$", re.M)  # lines that would run together
    body = table.sub(lambda m: f"```\n{m[0]}\n```", body)
    parts = [f"# {name}", title, body, shown, f"```python\n{name}{signature(function)}\n```"]
    for kind, content in zip(sections[::2], sections[1::2], strict=True):
        block = inspect.cleandoc(content)
        if kind == "Example":
            parts.append(f"```python\n{block}\n```")
        else:
            entries = re.findall(r"^([\w, ]+): (.*(?:\n +.*)*)", block, re.M)
            lines = [f"- **{k}**: {re.sub(chr(92) + 's+', ' ', v).strip()}" for k, v in entries]
            parts.append(f"**{kind}**\n\n" + "\n".join(lines))
    return "\n\n".join(p for p in parts if p) + "\n"


def signature(function: Any) -> str:
    """As it is called, without types."""
    shown = [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(function).parameters.values()]
    return str(inspect.Signature(shown))


if __name__ == "__main__":
    main()
