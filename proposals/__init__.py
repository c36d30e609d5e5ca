"""Where could objects be? Selective search, learned proposals, and how to measure them; no classifier needed.

>>> from proposals import selective_search
>>> boxes = selective_search(image).boxes
"""

from proposals.errors import UserError
from proposals.selective_search import SelectiveSearch, SelectiveSearchConfig, selective_search
from proposals.types import Proposals, ProposalSource, Source

__all__ = [
    "ProposalSource",
    "Proposals",
    "SelectiveSearch",
    "SelectiveSearchConfig",
    "Source",
    "UserError",
    "selective_search",
]
