"""The command line as a user meets it: through click, and through the shell where the process itself matters."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

import onnx_inspect as oi
from onnx_inspect import cli as cli_module
from onnx_inspect import image
from onnx_inspect.__main__ import main
from onnx_inspect.cli import cli, commands, methods
from onnx_inspect.commands import progress

from . import detectors, nets, vits


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="onnx-inspect")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.save(tmp_path, "mödel.onnx", final="Softmax", metadata=nets.NAMES)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return nets.photo(tmp_path, "phötö 1.png")


def refused(result: Result, said: str, folder: Path | None = None) -> None:
    """One line on stderr, exit code 2, nothing written."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert "Traceback" not in result.output
    if folder is not None:
        assert not list(folder.rglob("*.gradcam*"))
        assert not [f for f in folder.rglob("*") if f.name.startswith(".")]


# Help.


def test_every_method_and_command_is_listed_and_helps() -> None:
    listed = call("--help").output
    for name in {**methods(), **commands()}:
        assert f"  {name} " in listed
        helped = call(name, "--help")
        assert helped.exit_code == 0
        assert "Usage: onnx-inspect" in helped.output
        assert len(helped.output.splitlines()) > 8


def test_methods_are_listed_by_family() -> None:
    listed = call("--help").output
    assert len(listed.splitlines()) < 110
    assert "Other methods" not in listed, "a module of methods is in no family"
    sections = {part.partition(":\n")[0]: part.partition(":\n")[2] for part in listed.split("\n\n")}
    assert list(sections)[3:5] == ["Class activation maps", "Gradients"]
    assert sections["Gradients"].startswith("  saliency ")
    assert "  lrp " in sections["Relevance"]
    assert "  pgd " in sections["Attacks"]
    own = {"adversarial", "sanity", "localize", "cam"}
    for module, summary in methods().values():
        assert module.rpartition(".")[2] not in own or len(summary) <= 81, summary


def test_every_option_has_help() -> None:
    context = cli.make_context("onnx-inspect", ["--help"], resilient_parsing=True)
    for name in {**methods(), **commands()}:
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.params:
            assert isinstance(option, click.Argument) or getattr(option, "help", None), f"{name} {option.name}"


def test_methods_are_functions_of_the_package() -> None:
    assert set(methods()) <= set(oi.__all__)
    for name in methods():
        assert (getattr(oi, name).__doc__ or "").startswith(methods()[name][1])


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "onnx_inspect", "--version"], capture_output=True, text=True, check=True
    )
    assert "onnx-inspect" in done.stdout


# The main job.


def test_without_a_command_a_model_and_a_photo_are_explained(
    model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = call(model, photo)
    assert result.exit_code == 0, result.output
    assert [f.name for f in Path().iterdir()] == ["phötö 1.gradcam.png"]
    assert "%" in result.stdout
    assert "dog (1)" in result.stdout
    assert "preprocessing: " in result.stderr
    assert "layer: 'body.relu2'" in result.stderr


def test_notes_name_the_flags(model: Path, photo: Path, tmp_path: Path) -> None:
    result = call("gradcam", model, photo, "-o", tmp_path / "out")
    guesses = [line for line in result.stderr.splitlines() if "guess" in line or "taken" in line or "assumed" in line]
    assert guesses
    assert all("(--" in line or "--" in line.rpartition("(")[2] for line in guesses), guesses
    assert call("gradcam", model, photo, "-o", tmp_path / "out", "-q").stderr == ""


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_writes_what_it_says(method: str, model: Path, photo: Path, tmp_path: Path) -> None:
    second = nets.photo(tmp_path, "b.jpg", (9, 50))
    out = tmp_path / "out"
    if ".attention" in methods()[method][0]:
        model = tmp_path / "vit.onnx"
        onnx.save(vits.vit(), model)
    if method == "drise":
        model = tmp_path / "detector.onnx"
        onnx.save(detectors.yolox(), model)
    result = call(method, model, photo, second, "-o", out, "--panel", "--npz", "--manifest", "--device", "cpu")
    assert result.exit_code == 0, result.output
    expected = {f"{stem}.{method}{suffix}" for stem in ("phötö 1", "b") for suffix in (".png", ".panel.png", ".npz")}
    assert {f.name for f in out.iterdir()} == expected | {"manifest.json"}
    for name in expected:
        if name.endswith(".png"):
            assert image.read(out / name).std() > 0
    record = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert record["method"] == method
    assert [Path(r["photo"]).name for r in record["results"]] == ["phötö 1.png", "b.jpg"]
    assert all(Path(f).exists() for r in record["results"] for f in r["files"].values())
    assert all("values" in np.load(out / f"{stem}.{method}.npz") for stem in ("phötö 1", "b"))


def test_json_is_for_machines(model: Path, photo: Path, tmp_path: Path) -> None:
    result = call("gradcam", model, photo, "-o", tmp_path, "--json", "--target", "Löwe")
    record = json.loads(result.stdout)
    assert record["results"][0]["explained"]["label"] == "Löwe"
    assert record["schema"] == 1
    assert "Löwe" in result.stdout, "Unicode is written as it is"


def test_a_picture_can_be_named(model: Path, photo: Path, tmp_path: Path) -> None:
    assert call("gradcam", model, photo, "-o", tmp_path / "map.jpg").exit_code == 0
    assert image.read(tmp_path / "map.jpg").ndim == 3
    second = nets.photo(tmp_path, "b.png")
    refused(call("gradcam", model, photo, second, "-o", tmp_path / "two.png"), "name a folder", tmp_path)


def test_folders_and_globs_and_many_photos(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        nets.photo(folder, f"{i:02}.png", (8 + i, 9))
    assert call("gradcam", model, folder, "-o", tmp_path / "a").exit_code == 0
    assert call("gradcam", model, folder / "0*.png", "-o", tmp_path / "b").exit_code == 0
    assert len(list((tmp_path / "a").iterdir())) == 20
    assert len(list((tmp_path / "b").iterdir())) == 10
    for name in ("00.gradcam.png", "07.gradcam.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("methods", ["", " , "])
def test_explain_by_no_method_is_refused(methods: str, model: Path, photo: Path, tmp_path: Path) -> None:
    refused(call("explain", model, photo, "--methods", methods, "-o", tmp_path), "No method is named")


def test_one_bad_photo_does_not_stop_the_rest(model: Path, photo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photo.read_bytes()[:200])
    result = call("gradcam", model, bad, photo, "-o", tmp_path / "out", "--manifest")
    assert result.exit_code == 2
    assert "bad.png" in result.stderr
    assert (tmp_path / "out" / "phötö 1.gradcam.png").exists()
    record = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert [Path(f).name for f in record["failed"]] == ["bad.png"]
    assert len(record["results"]) == 1


def test_explain_goes_on_after_a_bad_photo(model: Path, photo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photo.read_bytes()[:200])
    other = nets.photo(tmp_path, "other.png")
    result = call("explain", model, photo, bad, other, "-o", tmp_path / "out", "--methods", "gradcam", "--json")
    assert result.exit_code == 2
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["other.explain.png", "phötö 1.explain.png"]
    record = json.loads(result.stdout)
    assert ["error" in entry for entry in record] == [False, True, False]
    lines = [line for line in result.stderr.splitlines() if line.startswith("note: layer")]
    assert len(lines) == 1, "a note is said once, however many photos there are"


def test_flags_reach_the_preprocessing(model: Path, photo: Path, tmp_path: Path) -> None:
    flags = ["--preset", "tf", "--color", "BGR", "--resize", "letterbox", "--pad-value", "7"]
    record = json.loads(call("gradcam", model, photo, "-o", tmp_path, "--json", *flags).stdout)["preprocessing"]
    assert (record["color"], record["resize"], record["pad_value"]) == ("BGR", "letterbox", 7)
    assert record["scale"] == pytest.approx(1 / 127.5)


def test_flags_reach_the_method(model: Path, photo: Path, tmp_path: Path) -> None:
    flags = ["--window", "5", "--stride", "4", "--baseline", "mean", "--layer", "body.relu1"]
    record = json.loads(call("occlusion", model, photo, "-o", tmp_path, "--json", *flags).stdout)
    assert {k: record["params"][k] for k in ("window", "stride", "baseline")} == {
        "window": 5,
        "stride": 4,
        "baseline": "mean",
    }
    assert record["layer"] == "body.relu1"
    files = call("activations", model, photo, "-o", tmp_path, "--tensors", "c1", "--tensors", "body.conv2")
    assert files.exit_code == 0, files.output  # tensors that are asked for are written
    assert {"c1", "c2"} <= set(np.load(tmp_path / "phötö 1.activations.npz").files)


# What goes wrong.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "99"], "no class 99"),
        (["--target", "lion"], "No class is called 'lion'"),
        (["--layer", "nope"], "no layer or tensor 'nope'"),
        (["--layer", "head"], "not a map"),
        (["--layer", "body.*"], "name one"),
        (["--device", "gpu"], "no device 'gpu'"),
        (["--preset", "nope"], "preset"),
        (["--labels", "missing.txt"], "cannot be read"),
        (["--mean", "1,2"], "mean"),
        (["--target", "p[0]", "--layer", "logits"], "not a map"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_options(options: list[str], said: str, model: Path, photo: Path, tmp_path: Path) -> None:
    refused(call("gradcam", model, photo, "-o", tmp_path / "out", *options), said, tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"hello", "not an ONNX model"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS")],
    ids=["empty", "text", "lfs"],
)
def test_wrong_models(content: bytes, said: str, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_bytes(content)
    refused(call("gradcam", path, photo, "-o", tmp_path / "out"), said, tmp_path)
    refused(call("info", path), said)
    refused(call("layers", path), said)
    refused(call("info", tmp_path / "missing.onnx"), "no file")


def test_no_photos(model: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refused(call("gradcam", model, tmp_path / "none"), "none", tmp_path)
    refused(call("gradcam", model, tmp_path / "missing.jpg"), "missing.jpg", tmp_path)
    refused(call("gradcam", model, tmp_path / "*.tiff"), "tiff", tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(model: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(call("gradcam", model, photo, "-o", tmp_path / "locked"), "locked", tmp_path)


def test_a_file_where_the_folder_should_be(model: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    refused(call("gradcam", model, photo, "-o", tmp_path / "taken"), "taken", tmp_path)


def test_a_full_disk_leaves_nothing(model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    refused(call("gradcam", model, photo, "-o", tmp_path / "out", "--npz", "--manifest"), "No space left", tmp_path)


def test_nan_weights(photo: Path, tmp_path: Path) -> None:
    path = nets.save(tmp_path, "nan.onnx", broken="nan")
    refused(call("gradcam", path, photo, "-o", tmp_path / "out"), "weight 'w2'", tmp_path)


def test_several_inputs(photo: Path, tmp_path: Path) -> None:
    path = nets.save(tmp_path, "two.onnx", extra_input=True)
    words = ("gradcam", path, photo, "-o", tmp_path / "out")
    assert "'offset' is not given and taken as zeros (--input offset=FILE)" in call(*words).stderr
    assert "is not given" not in call(*words, "--input", "offset=[9, 0, 0, 0]").stderr
    refused(call(*words, "--input", "ofset=0"), "There is no input 'ofset': the model has 'image', 'offset'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gradcma", "x"], "No such command 'gradcma'. Did you mean 'gradcam'? (onnx-inspect --help)"),
        ([""], "No such command ''. (onnx-inspect --help)"),
        (["--nope"], "No such option '--nope'"),
        (["gradcam", "m.onnx"], "Missing argument 'PHOTO...'. (onnx-inspect gradcam --help)"),
        (["m.onnx"], "There is no photo to explain: name one, or try `onnx-inspect info m.onnx`."),
        (["gradcam", "m.onnx", "x.jpg", "--batch", "0"], "'--batch': 0 is not in the range"),
        (["activations", "m.onnx", "x.jpg", "--limit", "0"], "'--limit': 0 is not in the range"),
        (["occlusion", "m.onnx", "x.jpg", "--window", "-1"], "'--window': -1 is not in the range x>=0"),
        (["gradcam", "m.onnx", "x.jpg", "--nope"], "No such option '--nope'"),
        (["gradcam", "m.onnx", ""], "A photo has an empty name"),
    ],
    ids=" ".join,
)
def test_wrong_words(words: list[str], said: str) -> None:
    refused(call(*words), said)


def test_no_words_ask_for_help() -> None:
    assert call().exit_code == 0
    assert call().output == call("--help").output


def test_what_is_read_is_never_written(
    model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (model, photo)}
    (tmp_path / "link.png").symlink_to(photo)
    panel, names = tmp_path / "x.panel.png", tmp_path / "x.json"
    panel.write_bytes(photo.read_bytes())
    names.write_text('["a", "b", "c", "d"]')
    refused(call("gradcam", model, photo, "-o", photo.name), f"'{photo.name}' is the photo itself: name another")
    refused(call("gradcam", model, photo, "-o", "link.png"), "'link.png' is the photo itself")
    refused(call("gradcam", model, panel, "-o", "x.png", "--panel"), "'x.panel.png' is the photo itself")
    refused(
        call("gradcam", model, photo, "-o", "x.png", "--labels", names, "--manifest"),
        "'x.json' is the labels file itself",
    )
    model.rename("x.npz")
    refused(call("gradcam", "x.npz", photo, "-o", "x.png", "--npz"), "'x.npz' is the model itself")
    assert call("gradcam", "x.npz", panel, "-o", "x.png", "--labels", names).exit_code == 0
    assert [Path("x.npz").read_bytes(), photo.read_bytes()] == [*before.values()]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "-o is empty"),
        ("file", "'file' is a file, not a folder"),
        ("file/x.png", "'file' is a file, not a folder"),
        ("x.gif", "'x.gif' cannot be written: a picture's name ends in .png or .jpg"),
        ("x.WEBP", "a picture's name ends in .png or .jpg"),
        ("a.npz", "'a.npz' cannot be written: a picture's name ends in .png or .jpg"),
        ("a.txt", "a picture's name ends in .png or .jpg"),
        ("n" * 300, "cannot be written: File name too long"),
        ("n" * 300 + ".png", "cannot be written: File name too long"),
    ],
)
def test_wrong_places(
    out: str, said: str, model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    for command in ("gradcam", "explain"):
        refused(call(command, model, photo, "-o", out), said, tmp_path)


def test_a_folder_may_have_any_name(model: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "y.gif").mkdir()
    (tmp_path / "z.npz").mkdir()
    for name in ("v1.5", "y.gif", "z.npz", "w.txt/"):
        assert call("gradcam", model, photo, "-o", f"{tmp_path}/{name}", "--manifest").exit_code == 0
        assert {f.name for f in (tmp_path / name).iterdir()} == {f"{photo.stem}.gradcam.png", "manifest.json"}


# Where the process ends.


def shell(*words: object, **streams: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnx_inspect", *map(str, words)]
    return subprocess.run(command, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams)  # type: ignore[call-overload,no-any-return]


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_a_full_stdout_is_one_line(model: Path) -> None:
    for words in (["--help"], ["info", model], ["info", model, "--json"], ["info", "--help"]):
        with FULL.open("w") as full:
            done = shell(*words, stdout=full)
        assert (done.returncode, done.stderr) == (2, "error: stdout cannot be written: No space left on device\n")
    with FULL.open("w") as full:
        assert shell("info", "missing.onnx", stderr=full).returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_streams_are_no_error(model: Path, photo: Path, tmp_path: Path) -> None:
    for closed in ("2>&-", ">&-"):
        line = [sys.executable, "-m", "onnx_inspect", str(model), str(photo), "-o", str(tmp_path / "x.png")]
        done = subprocess.run(f"{shlex.join(line)} {closed}", shell=True, capture_output=True)
        assert (done.returncode, (tmp_path / "x.png").exists()) == (0, True), closed
        (tmp_path / "x.png").unlink()


def test_interrupted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onnx_inspect.commands.info.describe", stopped)
    result = call("info", model)
    assert result.exit_code == cli_module.INTERRUPTED
    assert result.stderr == "interrupted; the files named above are complete\n"
    monkeypatch.setattr(cli_module.Inspector, "main", stopped)
    with pytest.raises(SystemExit, match="130"):
        main()


def test_a_progress_bar_takes_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo may be called as rich marks up text."""
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with progress.Progress(False) as bars:
        bars("a[/b].png", 2)(1)  # which would raise


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal to pretend")
@pytest.mark.parametrize("count", [1, 17])
def test_the_progress_bar_is_gone_before_anything_is_printed(count: int, model: Path, tmp_path: Path) -> None:
    import pty

    photos = [nets.photo(tmp_path, f"{i}.png", (9, 9)) for i in range(count)]
    ours, theirs = pty.openpty()
    words = ["occlusion", model, *photos, "--window", 4, "--stride", 2, "-o", tmp_path / "out"]
    command = [sys.executable, "-m", "onnx_inspect", *map(str, words)]
    env = os.environ | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # Linux says so when the other side is closed
            while part := os.read(ours, 65536):
                seen += part
        os.close(ours)
        assert process.wait() == 0
    assert "━" in seen.decode()
    printed = [line for line in seen.decode().splitlines() if "->" in line or "note: " in line]
    assert len(printed) > count
    for line in printed:
        assert "━" not in line.rpartition("\x1b[2K")[2], repr(line)


def test_what_takes_less_memory_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onnx_inspect.commands.info.describe", full)
    result = call("info", model)
    refused(result, "Out of memory")
    for flag in ("--batch", "--size", "--max-memory", "--steps", "--samples", "--cells"):
        assert flag in result.stderr


def test_bugs_are_told_from_bad_input(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("onnx_inspect.commands.info.describe", broken)
    result = call("info", model)
    assert result.exit_code == cli_module.BUG
    assert result.stderr.strip() == "error: Internal error: ZeroDivisionError: oops (--debug shows where)"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "onnx_inspect", "info", str(tmp_path / "missing.onnx")]
    assert "Traceback" not in subprocess.run(words, capture_output=True, text=True).stderr
    assert "Traceback" in subprocess.run([*words, "--debug"], capture_output=True, text=True).stderr


# Info and layers.


def test_info(model: Path) -> None:
    result = call("info", model)
    assert result.exit_code == 0, result.output
    for word in (
        "tests",
        "ai.onnx 17",
        "'image' N×3×12×12 float32 NCHW",
        "'scores' N×4",
        "class_names",
        "Conv 2",
        "body.conv2",
    ):
        assert word in result.stdout, word
    facts = json.loads(call("info", model, "--json").stdout)
    assert facts["parameters"] == sum(v.size for v in nets.weights().values())
    assert facts["multiply_adds_per_layer"] == {"body.conv1": 5 * 27 * 144, "body.conv2": 6 * 45 * 36, "head": 24}
    assert facts["multiply_adds"] == 5 * 27 * 144 + 6 * 45 * 36 + 24
    assert facts["activation_bytes"] == 4 * (2 * 5 * 144 + 2 * 6 * 36 + 6 + 6 + 4 + 4)
    assert facts["canonical_opset"] == 21


def test_info_counts_one_sample(tmp_path: Path) -> None:
    net = nets.classifier()
    axes, where = (helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("axes", 0), ("rest", -1)))
    net.graph.initializer.extend([axes, where, helper.make_tensor("first", TensorProto.INT64, [], [0])])
    n = helper.make_node
    nodes = [n("Shape", ["p"], ["s"]), n("Gather", ["s", "first"], ["g"]), n("Unsqueeze", ["g", "axes"], ["u"])]
    nodes += [n("Concat", ["u", "rest"], ["c"], axis=0), n("Reshape", ["p", "c"], ["f"])]
    flatten = next(i for i, node in enumerate(net.graph.node) if node.op_type == "Flatten")
    body = [*net.graph.node[:flatten], *nodes, *net.graph.node[flatten + 1 :]]
    del net.graph.node[:]
    net.graph.node.extend(body)
    onnx.save(net, tmp_path / "m.onnx")
    facts = json.loads(call("info", tmp_path / "m.onnx", "--json").stdout)
    assert facts["multiply_adds_per_layer"]["head"] == 24
    assert facts["activation_bytes"] == 4 * (2 * 5 * 144 + 2 * 6 * 36 + 6 + 6 + 4) + 8 * (4 + 1 + 1 + 2)
    assert "(sizes are open)" in call("info", nets.save(tmp_path, "open.onnx", size="open")).stdout


@pytest.mark.parametrize(
    ("shape", "result", "batch"),
    [
        (["N", 4], ["N", 4], "any"),
        ([3, 4], [3, 4], "fixed at 3"),
        ([3, 32, 32], [3072], "none: one sample at a time"),
        ([3, 32, 32], [1, 3072], "none: one sample at a time"),
        ([], [1, 1], "any"),
    ],
)
def test_info_on_batches(shape: list[object], result: list[object], batch: str, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", result)))
    op, sizes = ("Reshape", [d if isinstance(d, int) else -1 for d in result]) if shape != result else ("CumSum", [0])
    target = helper.make_tensor("target", TensorProto.INT64, [len(sizes)], sizes)
    graph = helper.make_graph([helper.make_node(op, ["x", "target"], ["y"])], "g", [x], [y], [target])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert json.loads(call("info", path, "--json").stdout)["batch"] == batch


def test_layers(model: Path) -> None:
    found = {c["name"]: c for c in json.loads(call("layers", model, "--json").stdout)}
    assert list(found)[:4] == ["body.conv1", "body.relu1", "body.conv2", "body.relu2"]
    assert found["body.relu2"]["tensor"] == "a:2/x;0"
    assert found["body.relu2"]["receptive_field"] == {"size": [5, 5], "stride": [2, 2], "offset": [0, 0]}
    assert found["head"]["role"] == "vector"
    text = call("layers", model, "body.conv*").stdout
    assert "body.conv2" in text
    assert "relu" not in text
    spatial = json.loads(call("layers", model, "--spatial", "--json").stdout)
    assert all(c["role"] == "spatial" for c in spatial)
    refused(call("layers", model, "bdy.conv1"), "Did you mean 'body.conv1'")


# The demo.


def test_the_demo_tells_a_true_story(tmp_path: Path) -> None:
    result = call("demo", "-o", tmp_path / "demo", "--json", "-q", "--device", "cpu")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    clean, biased = facts["clean"], facts["biased"]
    assert clean["right"] == 12
    assert biased["right"] < 12
    assert clean["stamped"]["stamp_share"] < 0.05 < 0.25 < biased["stamped"]["stamp_share"]
    assert clean["stamped"]["sign_share"] > 0.5 > 0.1 > biased["stamped"]["sign_share"]
    stamped = next(r for r in biased["results"] if r["photo"] == "10_warning_stamp.jpg")
    assert (stamped["label"], stamped["predicted"]) == ("warning", "stop")
    assert image.read(tmp_path / "demo" / "contact_sheet.png").shape[0] > 1000
    assert len(list((tmp_path / "demo" / "biased").iterdir())) == 48


@pytest.mark.parametrize("command", ["info", "layers", "doctor"])
def test_names_cannot_steer_the_terminal(command: str, tmp_path: Path) -> None:
    proto = nets.classifier()
    proto.producer_name = proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "\x1b[31mred\x07"
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    result = call(command, path)
    assert "\\x1b[31mred\\x07" in result.stdout
    assert "\x1b[31m" not in result.output and "\x07" not in result.output


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed")
@pytest.mark.parametrize("command", ["gradcam", "explain"])
def test_names_of_photos_cannot_steer_the_terminal(command: str, model: Path, tmp_path: Path) -> None:
    photo = nets.photo(tmp_path, "a\n\x1b[31mred.png")
    result = call(command, model, photo, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "a\\n\\x1b[31mred.png -> " in result.stdout
    assert "\x1b[31m" not in result.output


def test_errors_cannot_steer_the_terminal(model: Path, photo: Path) -> None:
    refused(call("gradcam", model, photo, "--layer", "\x1b[31mred"), "\\x1b[31mred")
