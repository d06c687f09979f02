"""Corpora to pre-train on: clips, tables, random crops, statistics, shards and packing."""
