"""ONNX graphs of both encoders, in every precision, and what runs them on the CPU."""
