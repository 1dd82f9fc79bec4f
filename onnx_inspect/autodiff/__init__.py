"""Reverse-mode differentiation of ONNX graphs, written as ONNX graphs."""
