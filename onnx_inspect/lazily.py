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
        with _lock:  # other threads wait until all of it is there; the one that imports it gets through
            if name in PENDING:
                PENDING.discard(name)
                module.__path__ = path
                try:
                    module.__spec__.loader.exec_module(module)
                except BaseException:
                    del module.__path__
                    PENDING.add(name)
                    raise
                if module.__dict__.get("__getattr__") is load:
                    del module.__getattr__
        if attribute not in module.__dict__:
            if (own := module.__dict__.get("__getattr__", load)) is not load:
                return own(attribute)
            raise AttributeError(f"module '{name}' has no attribute '{attribute}'", name=attribute, obj=module)
        return module.__dict__[attribute]

    module.__getattr__ = load
    sys.modules[name] = module
    PENDING.add(name)
