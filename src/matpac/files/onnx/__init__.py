"""Encoders as ONNX files: exported, made smaller with 8-bit numbers, and run by ONNX Runtime (docs/onnx.md)."""
