"""Doors to other people's programs: ONNX files, HEAR, X-ARES, the Hugging Face hub."""
