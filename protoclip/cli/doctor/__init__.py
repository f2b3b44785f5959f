"""`protoclip doctor`."""
