"""Shards: tar files of many clips, as WebDataset has them, read in place and never unpacked to disk.

tar.py        the members of a tar that a stranger may have made
members.py    one member as a sound that can be decoded, and the tables that hold millions of them
index.py      index.json and clips.parquet, which `matpac pack` puts beside the shards
addresses.py  patterns, folders and URLs to shards; opening them
listing.py    the clips of shards, with or without an index
streams.py    shards that are read from their beginning: the order, and reading in that order
"""
