"""The command line: a group whose commands are found by reading the source, so that help needs no imports.

A method's command is made from its signature and docstring (`commands.of_method`), and so is a study's
(`commands.of_study`); anything else is a module in `commands` with a click command named `command`.
`onnx-inspect MODEL PHOTO` without a command is `gradcam`.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import textwrap
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import click

from .errors import InspectError

_HERE = Path(__file__).parent
DEFAULT = "gradcam"
BAD_INPUT, BUG, INTERRUPTED = 2, 70, 130
FAMILIES = {  # the modules of methods and studies, as --help shows them
    "Class activation maps": "cam cam_plusplus cam_gradients cam_eigen cam_masks cam_guided",
    "Gradients": "gradients backprop noise paths paths_image",
    "Relevance": "relevance deeplift",
    "Attention": "attention attention_rollout",
    "Changed and covered inputs": "perturbation features surrogates drise",
    "Attacks": "adversarial",
    "Features, boxes and checks": "activations localize sanity",
    "What a network has learnt": "filters units patches embed neighbours project probe evolve ablate correspondence "
    "invariance",
    "Images by ascent": "visualize dream invert fool",
}


@cache
def methods() -> dict[str, tuple[str, str]]:
    """Name to (module, first line of help) of every function marked with @method, read without importing it."""
    return _marked("methods", "method")


@cache
def studies() -> dict[str, tuple[str, str]]:
    """As `methods`, of every function marked with @study."""
    return _marked("studies", "study")


def _marked(package: str, mark: str) -> dict[str, tuple[str, str]]:
    found = {}
    for path in sorted((_HERE / package).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(n, ast.Name) and n.id == mark for d in node.decorator_list for n in ast.walk(d)
            ):
                found[node.name] = (f"onnx_inspect.{package}.{path.stem}", _summary(ast.get_docstring(node)))
    return found


@cache
def commands() -> dict[str, tuple[str, str]]:
    """Name to (module, first line of help) of every command that is no method."""
    found = {}
    for path in sorted((_HERE / "commands").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(n, ast.FunctionDef) and n.name == "command" for n in tree.body):
            found[path.stem] = (f"onnx_inspect.commands.{path.stem}", _summary(ast.get_docstring(tree)))
    return found


def _summary(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


class Inspector(click.Group):
    """Finds commands by name, turns errors into one line, and takes a model without a command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands."""
        return sorted({**methods(), **studies(), **commands()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and build one command."""
        if name in methods():
            from .commands.of_method import build

            return build(getattr(importlib.import_module(methods()[name][0]), name))
        if name in studies():
            from .commands.of_study import build as build_study

            return build_study(getattr(importlib.import_module(studies()[name][0]), name))
        if name in commands():
            command: click.Command = importlib.import_module(commands()[name][0]).command
            return command
        return None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """No words at all ask for help."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A first word that is no command but a file is a model to explain."""
        first, known = args[0], self.list_commands(ctx)
        if first in known or first.startswith("-"):
            return super().resolve_command(ctx, args)
        if first.lower().endswith(".onnx") or os.path.isfile(first):  # noqa: PTH113  (a word may be any text)
            if len(args) == 1:
                raise click.UsageError(
                    f"There is no photo to explain: name one, or try `onnx-inspect info {first}`.", ctx
                )
            return super().resolve_command(ctx, [DEFAULT, *args])
        from difflib import get_close_matches

        near = "".join(f" Did you mean '{name}'?" for name in get_close_matches(first, known, n=1))
        raise click.UsageError(f"No such command '{first}'.{near}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for each family of methods and studies, and one for the commands."""
        marked = {**methods(), **studies()}
        homes = {name: module.rpartition(".")[2] for name, (module, _) in marked.items()}
        sections = {
            title: [name for word in words.split() for name in homes if homes[name] == word]
            for title, words in FAMILIES.items()
        }
        placed = {name for names in sections.values() for name in names}
        sections |= {"Other methods": [name for name in homes if name not in placed], "Commands": list(commands())}
        every = {**marked, **commands()}
        longest = max(map(len, every))
        width = formatter.width - longest - 6
        for title, names in sections.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl(
                        [(n.ljust(longest), textwrap.shorten(every[n][1], width, placeholder="...")) for n in names]
                    )

    def invoke(self, ctx: click.Context) -> Any:
        """Ctrl-C without the empty line that click prints for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None

    def main(self, *args: Any, **extra: Any) -> Any:
        """Errors are one line and an exit code, here and nowhere else."""
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})
        except click.Abort:
            code = _say("interrupted; the files named above are complete", INTERRUPTED)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            where = f" ({context.command_path} --help)" if context is not None else ""
            code = _fail(" ".join(error.format_message().split()) + where, BAD_INPUT, error)
        except InspectError as error:
            code = _fail(str(error), BAD_INPUT, error)
        except MemoryError as error:
            less = "a smaller --batch, --size or --max-memory, or fewer --steps, --samples or --cells"
            code = _fail(f"Out of memory: use {less}.", BAD_INPUT, error)
        except Exception as error:
            if isinstance(error, OSError) and error.filename is None and error.strerror:
                _mute(sys.stdout)
                code = _fail(f"stdout cannot be written: {error.strerror}", BAD_INPUT, error)
            else:
                code = _fail(f"Internal error: {type(error).__name__}: {error} (--debug shows where)", BUG, error)
        sys.exit(code or 0)


def _fail(message: str, code: int, error: BaseException) -> int:
    if "--debug" in sys.argv[1:]:
        raise error
    return _say(f"error: {message}", code)


def _say(line: str, code: int) -> int:
    from .commands.options import printable

    with suppress(OSError):
        click.echo(printable(line), err=True)
    return code


def _mute(stream: Any) -> None:
    """What is left in the buffer goes nowhere; Python would try to write it at the end, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@click.command(
    cls=Inspector,
    epilog="onnx-inspect MODEL PHOTO, without a command, predicts and draws a Grad-CAM.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="onnx-inspect")
def cli() -> None:
    """Why did this ONNX model say that? Explanations for any exported model, on plain onnxruntime."""
