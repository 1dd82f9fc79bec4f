"""Where on the picture the numbers of a tensor lie, followed through the graph: how tokens are found to be a map."""

from . import moves as moves
from . import products as products
from . import windows as windows  # these fill RULES, whichever module of this package is imported first
from .walk import Places as Places
