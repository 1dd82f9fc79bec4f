"""Options that commands share, and what becomes of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..engine import Engine
    from ..finding import Finding
    from ..model import Model
    from ..preprocess import Preprocessing

F = TypeVar("F", bound=Callable[..., Any])
PREPROCESSING = ("preset", "size", "resize", "crop_ratio", "color", "scale", "mean", "std", "pad_value", "layout")


def _apply(options: list[Callable[[Any], Any]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_TARGET = (
    "What to explain: top, top:K, a class index or name, OUTPUT[3,5:8], layer:NAME[7], cat - dog, box:3, "
    "segmentation:class=15, embedding:similarity=PHOTO; docs/targets.md has all"
)
TARGETS = click.option(
    "-t",
    "--target",
    multiple=True,
    default=["top"],
    show_default=True,
    metavar="TARGET",
    help=f"{_TARGET}. Several, or with ; between, are explained one by one.",
)
EXPLAINED: list[Callable[[Any], Any]] = [
    click.option("-t", "--target", default="top", show_default=True, metavar="TARGET", help=f"{_TARGET}."),
    click.option("--labels", metavar="FILE", help="Class names: one per line, or JSON."),
    click.option(
        "--score",
        type=click.Choice(["logits", "output"]),
        default="logits",
        show_default=True,
        help="Explain the score before a final softmax or sigmoid, or the output itself.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "model"]),
        default="float32",
        show_default=True,
        help="Compute gradients of half precision in float32, or in the model's own precision.",
    ),
]
explained = _apply(EXPLAINED)

INPUTS: list[Callable[[Any], Any]] = [
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=VALUE",
        help="The value of another input: a .npy, .npz (also file.npz:key) or .json file, a number or a JSON list; "
        "where a table is given also COLUMN,COLUMN.",
    ),
    click.option(
        "--tokens",
        metavar="FILE",
        default="",
        help="What tokens are called: one per line, a JSON list or dictionary, or a tokenizer.json.",
    ),
    click.option("--drop", multiple=True, metavar="COLUMN", help="A column of a table that is no feature."),
]

output = _apply(
    [
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="No notes, no progress bar."),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]
)

workers = click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    help="Photos that are read and run at the same time [default: one per core].",
)


def _cached(ctx: click.Context, option: click.Parameter, no: bool) -> None:
    if no:
        os.environ["ONNX_INSPECT_CACHE"] = "off"
    else:
        os.environ.setdefault("ONNX_INSPECT_CACHE", "on")


engine = _apply(
    [
        click.option(
            "--device",
            default="auto",
            metavar="auto|cpu|cuda[:N]",
            help="Where to run; cuda:0,cuda:1 are two cards, among which a study shares out its photos.",
            show_default=True,
        ),
        click.option("--threads", type=click.IntRange(1), help="Threads of the CPU provider [default: one per core]."),
        click.option(
            "--batch",
            type=click.IntRange(1),
            help="The most samples in one run [default: 8; on the CPU one per thread, or as many as its cache holds].",
        ),
        click.option(
            "--max-memory",
            metavar="SIZE",
            help="What a run may take, as 4GB or 500MB: fewer samples go into it [default: half of what is free].",
        ),
        click.option(
            "--no-lowering",
            is_flag=True,
            help="Run gradients as they were built, and whole pictures where a window would do, for debugging.",
        ),
        click.option(
            "--no-cache",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_cached,
            help="Neither keep what was found out about the model for the next run, nor use it.",
        ),
        click.option("--tf32", is_flag=True, help="Let a card round what it multiplies to 10 bits: numbers move."),
        click.option(
            "--fp16",
            is_flag=True,
            help="Let a card run the model's layers in half precision: numbers move. Gradients stay float32.",
        ),
        click.option("--cuda-graphs", is_flag=True, help="Let a card record runs whose sizes come again."),
        click.option("-v", "--verbose", is_flag=True, help="Let onnxruntime speak on stderr."),
    ]
)

preprocessing = _apply(
    [
        click.option("--preset", metavar="NAME", help="How pixels become numbers: imagenet, caffe, tf, unit or raw."),
        click.option("--size", metavar="HxW", help="Size of the input, where the graph leaves it open."),
        click.option("--resize", metavar="RULE", help="crop, squash or letterbox."),
        click.option("--crop-ratio", metavar="SHARE", help="Share of the shorter side that the crop keeps."),
        click.option("--color", metavar="ORDER", help="RGB, BGR or GREY."),
        click.option("--scale", metavar="NUMBER", help="(pixel * scale - mean) / std; fractions as 1/255."),
        click.option("--mean", metavar="NUMBERS", help="One, or one per channel: 0.485,0.456,0.406."),
        click.option("--std", metavar="NUMBERS", help="One, or one per channel."),
        click.option("--pad-value", metavar="PIXEL", help="What fills a letterbox, 0 to 255."),
        click.option("--layout", metavar="AXES", help="NCHW or NHWC."),
    ]
)


def make_engine(values: dict[str, Any]) -> Engine:
    """The engine that the options ask for; takes them out of `values`."""
    from ..engine import Engine

    device, threads = values.pop("device"), values.pop("threads")
    more = {name: values.pop(name) for name in ("batch", "max_memory", "verbose")}
    return Engine(device, threads, **more, **manners(values))


def manners(values: dict[str, Any]) -> dict[str, Any]:
    """How the engine computes, as the options ask; takes them out of `values`."""
    card = {"tf32": "tf32", "half": "fp16", "graphs": "cuda_graphs"}
    return {"lowering": not values.pop("no_lowering")} | {k: values.pop(name) for k, name in card.items()}


def make_preprocessing(model: Model, values: dict[str, Any]) -> tuple[Preprocessing, list[str]]:
    """The preprocessing that the options ask for; takes them out of `values`."""
    from ..guess import parse
    from ..methods.inputs import guess_preprocessing

    flags = {k: values.pop(k) for k in PREPROCESSING}
    preset = flags.pop("preset")
    return guess_preprocessing(model, preset, **{k: parse(k, v) for k, v in flags.items() if v is not None})


def printable(text: str) -> str:
    """Text without what would steer a terminal: names come from somebody else's file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(notes: list[str], quiet: bool) -> None:
    """Notes on stderr, each once."""
    for note in dict.fromkeys(notes) if not quiet else ():
        click.echo(click.style("note: ", dim=True) + printable(note), err=True)


def print_json(value: Any) -> None:
    """A result for machines, on stdout."""
    from ..files import plain

    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=2))


def tell(result: Finding, written: Sequence[Path], as_json: bool, quiet: bool) -> None:
    """Say what came out of a study: notes on stderr; files and lines, or all of it as JSON, on stdout."""
    say(result.notes, quiet)
    if as_json:
        print_json(result.to_json() | {"files": written})
        return
    click.echo(printable(f"{result.study} -> {', '.join(map(str, written))}"))
    for line in result.lines:
        click.echo(f"   {printable(line)}")
