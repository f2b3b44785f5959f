"""TensorRT plans: built from ONNX graphs, described, run."""
