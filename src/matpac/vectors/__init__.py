"""The road from sound files to rows of vectors, and the store they lie in."""
