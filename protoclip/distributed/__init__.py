"""Distributed training: collectives, BatchNorm over all ranks, launching, devices, signals."""
