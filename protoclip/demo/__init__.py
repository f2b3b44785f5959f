"""The whole way on the bundled corpus, and its report."""
