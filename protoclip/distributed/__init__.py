"""Several processes as one: collectives, BatchNorm over all ranks, launching, devices, signals."""
