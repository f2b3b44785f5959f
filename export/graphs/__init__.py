"""ONNX graphs of both encoders, in every precision, and running them on the CPU."""
