"""`matpac app`: a page on this machine to listen, look, compare and search with an encoder.

`listening` (a sound through the encoder) and `collection` (the sounds of a database) → `pictures` → `page` (what
is where, by Gradio) → `command`.
"""
