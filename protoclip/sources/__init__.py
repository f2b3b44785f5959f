"""The one reader: pairs, pictures and captions from tables, folders, archives and object stores. No torch.

`read_pairs` takes `ReadOptions` and gives `Pairs`; every command that reads data goes through it.
"""

from .options import ReadOptions
from .pairs import Pairs
from .read import read_pairs

__all__ = ["Pairs", "ReadOptions", "read_pairs"]
