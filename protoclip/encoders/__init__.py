"""open_clip models, with preprocessing, tokenizers, weights and token embeddings."""
