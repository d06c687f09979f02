"""Labelled sound rendered by fluidsynth, espeak-ng, sox and numpy; `benchmarks/corpus.py` is the command."""
