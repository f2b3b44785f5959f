"""The page that people search with."""
