"""The complete workflow on the bundled corpus, and its report."""
