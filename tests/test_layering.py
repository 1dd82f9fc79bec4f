"""The house as docs/design.md draws it: imports run strictly downward, and each heavy package has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import onnx_inspect

PACKAGE = Path(onnx_inspect.__file__).parent
# From the ground up. A module imports only from lower storeys; those of one line do not import each other.
STOREYS = [
    {"errors", "versions", "collector", "lazily"},
    {"amounts", "resources", "files", "obstacles", "dtypes", "globs", "facts"},
    {"header", "maps", "arrays", "rows", "vocabulary"},
    {"image"},
    {"geometry", "photos", "charts", "film"},
    {"shape_rules"},
    {"source", "pads", "wire", "shapes", "mends", "widen", "batch_rules", "structure"},
    {"layouts", "stores", "pruning"},
    {"mapped"},
    {"bodies", "sizes", "parameters", "fingerprints"},
    {"scopes"},
    {"names"},
    {"opsets", "downgrade", "batch", "branches", "naming", "emit"},
    {"decompose.table"},
    {"decompose"},
    {"canonical", "serial"},
    {"model"},
    {"rewrite", "batching", "memory", "fields", "tree", "matching", "expand"},
    {"places", "recompute"},
    {"budget"},
    {"reach"},
    {"layer", "attentions"},
    {"depth", "gates"},
    {"autodiff.table", "autodiff.sequences"},
    {"autodiff.walk"},
    {"autodiff.gradient", "autodiff.subgraph"},
    {"autodiff.rules"},
    {"autodiff"},
    {"relevance.table", "contrast.twin"},
    {"relevance.upstream", "contrast.pair"},
    {"relevance", "contrast"},
    {"lowering.table", "lowering.seeds", "lowering.sizes"},
    {"lowering.strided"},
    {"lowering.gates", "lowering.masks"},
    {"lowering.pooling"},
    {"lowering.cpu", "lowering.cuda", "lowering.half"},
    {"lowering"},
    {"providers"},
    {"binding"},
    {"sessions"},
    {"engine", "scores"},
    {"incremental"},
    {"preprocess"},
    {"guess", "labels"},
    {"asks"},
    {"detection"},
    {"target"},
    {"layout"},
    {"render", "signals", "saving"},
    {"attribution", "finding"},
    {"trust.boxes"},
    {"methods"},
    {"trust"},
    {"pairs"},
    {"comparison", "conversion", "evidence", "ascent", "surveys", "kernels"},
    {"responses", "features", "changes"},
    {"studies"},
    {"doctor"},
    {"commands.options", "commands.progress"},
    {"commands"},
    {"cli"},
    {"__main__", ""},
]
HEIGHT = {name: i for i, names in enumerate(STOREYS) for name in names}
DOORS = {
    "onnxruntime": {"providers", "binding", "sessions"},
    "cv2": {"image"},
    "pyarrow": {"photos", "responses", "features", "studies"},
    "matplotlib": {"charts"},
    "PIL": {"film"},
    "click": {"cli", "commands"},
    "rich": {"commands"},
}
HEAVY = "numpy onnx onnx_ir cv2 sklearn skimage scipy onnxruntime pyarrow matplotlib rich google.protobuf".split()
LOADED = f"[m for m in {HEAVY!r} if m in sys.modules.keys() - sys.modules['onnx_inspect.lazily'].PENDING]"


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def storey(name: str) -> str:
    """The room that a module belongs to: itself if it is listed, else the package around it."""
    while name not in HEIGHT and "." in name:
        name = name.rpartition(".")[0]
    return name


def imports(path: Path) -> list[tuple[str, bool]]:
    """What a file imports: own modules by their dotted name (True), others by their first word (False)."""
    own = module(path).split(".") if module(path) else []
    package = own if path.stem == "__init__" else own[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(a.name.split(".")[0], False) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                inner = [*base, alias.name]
                is_module = PACKAGE.joinpath(*inner).with_suffix(".py").exists() or PACKAGE.joinpath(*inner).is_dir()
                found.append((".".join(inner if is_module else base), True))
        elif isinstance(node, ast.ImportFrom):
            first, _, rest = (node.module or "").partition(".")
            found.append((rest, True) if first == "onnx_inspect" else (first, False))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_run_downward(path: Path) -> None:
    if path.parent == PACKAGE and path.stem == "__init__":
        return  # the roof: names only, imported when they are asked for
    here = storey(module(path))
    assert here in HEIGHT, f"{module(path)} has no storey: add it to STOREYS and to docs/design.md"
    for target, ours in imports(path):
        if ours and storey(target) != here:
            assert HEIGHT[storey(target)] < HEIGHT[here], f"{module(path)} imports {target}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_heavy_packages_have_one_door(path: Path) -> None:
    for target, ours in imports(path):
        if not ours and target in DOORS:
            assert module(path).split(".")[0] in DOORS[target], f"{module(path)} imports {target}"


def loaded(*words: str) -> set[str]:
    """Which heavy packages a command line loads."""
    code = (
        "import sys\nfrom onnx_inspect.cli import cli\n"
        f"try:\n    cli({list(words)!r}, prog_name='onnx-inspect')\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', {LOADED})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout.rpartition("LOADED ")[2]))


def test_help_loads_nothing_heavy() -> None:
    assert loaded("--help") == set()


def test_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, onnx_inspect; print({LOADED})"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_info_loads_no_runtime_and_no_opencv() -> None:
    assert loaded("layers", "--help").isdisjoint({"onnxruntime", "cv2", "sklearn", "scipy"})
