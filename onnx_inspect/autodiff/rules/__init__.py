"""One rule per operator, one file per family. Importing this package fills `RULES`."""

from . import elementwise, linear  # noqa: F401
