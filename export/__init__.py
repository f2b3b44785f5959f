"""From a model to an artifact: ONNX graphs, their verdict, TensorRT plans, benchmarks."""
