"""`matpac probe`: encoders on tasks by one protocol, to records, a table and a page."""
