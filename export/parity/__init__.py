"""Whether an engine gives the model's embeddings: samples, comparison, verdict."""
