"""Progress bars on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress:
    """Progress bars on stderr: progress("occlusion", total) gives a function that counts."""

    def __init__(self, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def __call__(self, name: str, total: int) -> Callable[[int], None]:
        """A bar for so many steps; gives the function that counts them."""
        if not self._shown:
            return lambda n: None
        bar = self._bar = self._bar or _new()
        task = bar.add_task(name, total=total)
        return _Counter(bar, task)

    def hide(self) -> None:
        """Erase the bars, for something to be printed; those that are not full come back with the next step."""
        if self._bar is not None:
            for task in self._bar.tasks:
                self._bar.update(task.id, visible=not task.finished)
            self._bar.stop()


class _Counter:
    """Counts the steps of a bar."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def __call__(self, n: int) -> None:
        self._bar.start()
        self._bar.advance(self._task, n)

    def say(self, text: str) -> None:
        """Call the steps something else from now on."""
        self._bar.update(self._task, description=text)


def _new() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g}/s" if speed else "", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    # A descriptor of its own: the usual one leads nowhere while photos are decoded, whose libraries chatter.
    stderr = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)
    # rich would send what is printed meanwhile, on stdout too, to its own console
    console = Console(file=stderr)
    return Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
