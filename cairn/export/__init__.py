"""From the trained network to what a server runs: ONNX, its parity, the TensorRT plan, the Triton repository."""
