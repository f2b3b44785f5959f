"""Detectors on embeddings: whether a picture is of a known kind. In NumPy, without torch.

`fitting` makes a `Detector` from known pictures, `detector` judges others, `measures` says how well. The scores
are in `mixture` (prototypes), `gaussian` (Mahalanobis), `neighbours`, `centres` (energy and maximum softmax) and
`concepts` (zero-shot, by names alone).
"""
