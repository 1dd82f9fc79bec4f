"""Make docs/studies: a page per study with its docstring, a command that was run, what it said and its picture.

    python scripts/train_checkpoints.py --out build/checkpoints    # once, see scripts/README.md
    python scripts/study_pages.py [NAME ...]

It needs ../shared/assets, and writes lists of its photos, and digits as files, into build/.
"""

from __future__ import annotations

import gzip
import inspect
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from method_pages import markdown

from onnx_inspect import image, layout
from onnx_inspect.studies.registry import STUDIES, every

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WIDEST = 1100  # pixels
ASSETS = "../shared/assets"
SQUEEZENET = f"{ASSETS}/models/squeezenet1.1_fp32_caffe2.onnx --preset caffe"
MOBILENET = f"{ASSETS}/models/mobilenetv2_fp32_pytorch_opset12.onnx"
IMAGENET = f"{ASSETS}/images/imagenet"
SIGNS = "models/signs/clean.onnx models/signs/photos"
EXAMPLES = {
    "ablate": [f"{MOBILENET} build/imagenet.csv --preset imagenet"],
    "correspondence": [f"{SIGNS} --boxes models/signs/photos/boxes.json"],
    "dream": [f"{SQUEEZENET} {IMAGENET}/n02317335_starfish.jpg --layer concat_6"],
    "embed": [f"{MOBILENET} {IMAGENET} --preset imagenet"],
    "evolve": ["build/checkpoints/*.onnx --photos models/signs/photos"],
    "filters": [SQUEEZENET, f"{MOBILENET} --preset imagenet"],
    "fool": [f"{MOBILENET} {IMAGENET}/n02129165_lion.jpg --to tabby --preset imagenet"],
    "invariance": [f"{MOBILENET} '{IMAGENET}/n015*.jpg' --preset imagenet"],
    "invert": [f"{SQUEEZENET} {IMAGENET}/n01833805_hummingbird.jpg"],
    "neighbours": [f"{MOBILENET} {IMAGENET} --preset imagenet --top 5"],
    "patches": [
        f"{SQUEEZENET} {IMAGENET} --layer concat_4 --channel 150 --channel 203 --channel 205 --channel 222",
        f"{SIGNS} --channel 10 --channel 45",
    ],
    "probe": [f"{ASSETS}/models/resnet8_cifar10_keras_nhwc.onnx build/cifar.csv --preset raw"],
    "project": [f"{ASSETS}/models/mnist-7_cntk.onnx build/mnist"],
    "units": [f"{SQUEEZENET} {IMAGENET}"],
    "visualize": [
        f"{MOBILENET} --preset imagenet -t goldfish -t 'golden retriever' -t zebra -t balloon",
        f"{SQUEEZENET} --layer concat_6",
    ],
}
INDEX = """# Studies

Made by `python scripts/study_pages.py`: the docstring of each study, a command that was run, what it printed, and its
picture. Models and photos are those of the measurements.

| study | |
| --- | --- |
"""


def main() -> None:
    every()
    prepare()
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
        out = Path(folder) / "out.png" if name != "embed" else Path(folder) / "out"
        line = f"{sys.executable} -m onnx_inspect {name} {command} -o {shlex.quote(str(out))}"
        done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} {command}\n{done.stderr}")
        lines = [line for line in done.stdout.splitlines() if folder not in line]
        notes = [line.removeprefix("note: ") for line in done.stderr.splitlines() if line.startswith("note: ")]
        pictures = sorted(Path(folder).rglob("*.png"), key=lambda p: (len(p.name), p.name))
        shown = [picture(p, f"{name}-{k}-{i}" if k or i else name) for i, p in enumerate(pictures[:3])]
    parts = [f"```sh\nonnx-inspect {name} {command}\n```", *shown]
    if lines:
        parts.append("```\n" + "\n".join(lines) + "\n```")
    if notes:
        parts.append("**Assumed**\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def prepare() -> None:
    """Lists with the classes of photos, which have them in their names; digits as files, a folder per class."""
    build, images = ROOT / "build", (ROOT / ASSETS).resolve() / "images"
    build.mkdir(exist_ok=True)
    (DOCS / "studies").mkdir(exist_ok=True)
    for name, folder in (("imagenet", "imagenet"), ("cifar", "cifar10_public")):
        found = sorted((images / folder).glob("*.jpg"))
        # n02099601_golden_retriever.jpg is of the synset n02099601, 3_cat_0002.jpg of class 3
        rows = [f"{p},{re.match('n?[0-9]+', p.name)[0]}" for p in found]  # type: ignore[index]
        (build / f"{name}.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    pixels, labels = (
        np.frombuffer(gzip.decompress((images / "mnist" / f"t10k-{kind}-ubyte.gz").read_bytes()), np.uint8)
        for kind in ("images-idx3", "labels-idx1")
    )
    for i, (digit, label) in enumerate(zip(pixels[16:].reshape(-1, 28, 28)[:1000], labels[8:], strict=False)):
        image.write(build / "mnist" / str(label) / f"{i:05}.png", np.repeat(digit[..., None], 3, axis=2))


def picture(source: Path, name: str) -> str:
    """A picture of the documentation: as JPEG, and not too wide."""
    pixels = image.read(source)
    if pixels.shape[1] > WIDEST:
        pixels = layout.fit(pixels, 10**6, WIDEST)
    image.write(DOCS / "images" / "studies" / f"{name}.jpg", pixels)
    return f"![{name}](../images/studies/{name}.jpg)"


if __name__ == "__main__":
    main()
