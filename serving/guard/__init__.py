"""Stands between the network and Triton, in a process of its own: requests within bounds, or an error."""
