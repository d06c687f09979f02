"""`matpac pack`: a corpus of any files to shards of 16 kHz mono clips, and verifying shards."""
