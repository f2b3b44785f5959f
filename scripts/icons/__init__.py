"""A large real corpus: free icons with their names, out of one npm package; see docs/large-corpus.md."""
