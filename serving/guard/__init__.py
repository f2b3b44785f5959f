"""Stands between the network and Triton, in a process of its own: known requests of limited size, or an error."""
