"""open_clip models with all that feeds them: pictures, tokenizers, weights, token embeddings."""
