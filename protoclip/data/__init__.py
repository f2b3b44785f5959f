"""Pairs of pictures and texts: read, planned into episodes, augmented, loaded in batches."""
