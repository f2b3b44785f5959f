"""`protoclip export` and `verify`."""
