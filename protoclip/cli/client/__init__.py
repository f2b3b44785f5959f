"""`protoclip embed`, `classify`, `search` and `index`."""
