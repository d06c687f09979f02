"""`matpac tag`: names for sound files, of whole sounds or over time."""
