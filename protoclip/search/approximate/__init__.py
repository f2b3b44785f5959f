"""Approximate search of an index on this disk: an accelerator beside it, and how well it finds.

All of it is derived from the vectors. It needs faiss, which nothing here loads before it is used.
"""
