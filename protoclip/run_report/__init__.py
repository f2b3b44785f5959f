"""A run's page: curves, evaluation, clusters, the joint space, mistakes, and how it was made."""
