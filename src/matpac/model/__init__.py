"""The network and what it computes: log-mel, ViT, chunks, vectors."""
