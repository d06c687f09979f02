"""Names for sound files: tags of whole sounds, or what sounds when."""
