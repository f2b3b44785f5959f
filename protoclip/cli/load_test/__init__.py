"""`protoclip load-test`."""
