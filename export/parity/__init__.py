"""Whether an engine gives what the model gives: samples, comparison, verdict."""
