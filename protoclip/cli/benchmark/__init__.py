"""`protoclip benchmark`."""
