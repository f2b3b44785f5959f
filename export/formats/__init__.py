"""Folders that other programs load: transformers' CLIPModel and SiglipModel, and Immich's service."""

from protoclip.encoders.torchvision_workaround import make_torchvision_importable

# Before any module in here imports open_clip or timm.
make_torchvision_importable()
