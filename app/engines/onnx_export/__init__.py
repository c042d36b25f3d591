"""MXNet graphs written as ONNX, without MXNet."""
