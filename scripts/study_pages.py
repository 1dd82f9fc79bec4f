"""Make docs/studies: a page per study with its docstring, a command that was run, what it said and its picture.

python scripts/study_pages.py [NAME ...]        needs ../shared/assets; checkpoints are made by train_checkpoints.py
"""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from method_pages import markdown

from onnx_inspect import image, layout
from onnx_inspect.studies.registry import STUDIES, every

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WIDEST = 1100  # pixels
SQUEEZENET = "../shared/assets/models/squeezenet1.1_fp32_caffe2.onnx --preset caffe"
MOBILENET = "../shared/assets/models/mobilenetv2_fp32_pytorch_opset12.onnx --preset imagenet"
IMAGENET = "../shared/assets/images/imagenet"
EXAMPLES: dict[str, list[str]] = {}
INDEX = """# Studies

Made by `python scripts/study_pages.py`: the docstring of each study, a command that was run, what it printed, and its
picture. Models and photos are those of the measurements.

| study | |
| --- | --- |
"""


def main() -> None:
    every()
    rows = []
    for name, function in sorted(STUDIES.items()):
        if not sys.argv[1:] or name in sys.argv[1:]:
            parts = [example(name, k, command) for k, command in enumerate(EXAMPLES[name])]
            page = markdown(name, function, "\n\n".join(parts))
            (DOCS / "studies" / f"{name}.md").write_text(page, encoding="utf-8")
            print(name, flush=True)
        text = inspect.getdoc(function) or ""
        rows.append(f"| [{name}]({name}.md) | {text.partition(chr(10))[0]} |")
    (DOCS / "studies" / "README.md").write_text(INDEX + "\n".join(rows) + "\n", encoding="utf-8")


def example(name: str, k: int, command: str) -> str:
    """A command as it was run, what it printed, and its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words = [sys.executable, "-m", "onnx_inspect", name, *shlex.split(command), "-o", str(out)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} {command}\n{done.stderr}")
        lines = [line for line in done.stdout.splitlines() if folder not in line]
        notes = [line.removeprefix("note: ") for line in done.stderr.splitlines() if line.startswith("note: ")]
        pictures = sorted(p for p in Path(folder).rglob("*.png"))
        shown = [picture(p, f"{name}-{k}-{i}" if k or i else name) for i, p in enumerate(pictures[:3])]
    parts = [f"```sh\nonnx-inspect {name} {command}\n```", *shown]
    if lines:
        parts.append("```\n" + "\n".join(lines) + "\n```")
    if notes:
        parts.append("**Assumed**\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def picture(source: Path, name: str) -> str:
    """A picture of the documentation: as JPEG, and not too wide."""
    pixels = image.read(source)
    if pixels.shape[1] > WIDEST:
        pixels = layout.fit(pixels, 10**6, WIDEST)
    image.write(DOCS / "images" / "studies" / f"{name}.jpg", pixels)
    return f"![{name}](../images/studies/{name}.jpg)"


if __name__ == "__main__":
    main()
