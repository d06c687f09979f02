"""Evaluation of frozen encoders by one protocol."""
