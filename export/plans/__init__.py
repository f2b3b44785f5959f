"""TensorRT plans: building them from ONNX graphs, describing and running them."""
