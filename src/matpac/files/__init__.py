"""Weights in and out: checkpoints, published files, the hub, ONNX."""
