"""`protoclip detect`: whether pictures are of known kinds."""
