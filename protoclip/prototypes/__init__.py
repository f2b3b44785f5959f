"""The method: heads, clusters, back translation, targets and losses."""
