"""Corpora to pre-train on: which clips there are, random crops of them, their statistics, made-up ones."""
