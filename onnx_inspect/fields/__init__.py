"""Receptive fields: which numbers of an input a unit can depend on, read off the graph."""

from . import moves as moves
from . import resize as resize
from . import rules as rules
from . import windows as windows  # these fill RULES, whichever module of this package is imported first
from .field import Fields as Fields
