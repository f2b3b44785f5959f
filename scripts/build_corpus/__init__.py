"""Builds the bundled emoji corpus from pinned npm packages; see README.md."""
