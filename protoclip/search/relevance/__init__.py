"""How probable it is that a hit is what was asked for, learned from an index's own entries.

`Q` queries, `R` references, `n` hits, `D` embedding.
"""
