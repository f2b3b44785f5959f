"""`protoclip train`."""
