"""Heavy packages, imported when something of theirs is asked for first: warm runs need none of them."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from threading import RLock
from typing import Any

_lock = RLock()
PENDING: set[str] = set()
"""What has a stand-in still."""


def postpone(*packages: str) -> None:
    """Let `import package` find a stand-in that becomes the package when it is used.

    What is imported already, or not installed, is left alone.
    """
    for name in packages:
        if name not in sys.modules and (spec := find_spec(name)) is not None and spec.loader is not None:
            _stand_in(name, module_from_spec(spec))


def _stand_in(name: str, module: Any) -> None:
    # Without a path, so that `import package.part` asks for it, and with that for the package, before the part.
    path = module.__dict__.pop("__path__")

    def load(attribute: str) -> Any:
        with _lock:
            if name in PENDING:
                PENDING.discard(name)
                del module.__getattr__
                module.__path__ = path
                module.__spec__.loader.exec_module(module)
        return getattr(module, attribute)

    module.__getattr__ = load
    sys.modules[name] = module
    PENDING.add(name)
