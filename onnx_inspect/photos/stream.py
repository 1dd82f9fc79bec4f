"""Work on many things at once, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import InputError
from ..image import single_threaded

T = TypeVar("T")
R = TypeVar("R")


def ordered(items: int | Iterable[T], work: Callable[[T], R], workers: int) -> Generator[R, None, None]:
    """``map(work, items)`` on ``workers`` threads, in order.

    At most ``2 * workers + 2`` items are under way, waiting or with the caller at any time. An exception of
    ``work`` comes up in the place of its result. Whatever ends the sequence (the end, an exception, Ctrl-C,
    ``close``), work that has not begun is dropped, and all threads are gone. OpenCV's own threads are off meanwhile.

    Args:
        items: what to work on, taken as late as possible; a number stands for all numbers below it.
        work: what gives a result for an item; it may run on several threads at once.
        workers: the number of threads; 1 works on the caller's own.

    Raises:
        InputError: there is no worker.

    Example:
        >>> for picture in ordered(len(photos), photos.read, workers=4):
        ...     ...
    """
    if workers < 1:
        raise InputError(f"There have to be workers, not {workers}: use --workers 1.")
    todo: Iterable[Any] = range(items) if isinstance(items, int) else items
    if workers == 1:
        yield from map(work, todo)
        return
    pool, pending = ThreadPoolExecutor(workers, "photos"), deque[Future[R]]()
    with single_threaded():
        try:
            for item in todo:
                pending.append(pool.submit(work, item))
                if len(pending) == 2 * workers + 2:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
