"""The whole way on made-up sounds: corpus, pre-training, evaluation, report, vectors."""
