"""onnx's own backend tests, differentiated."""
