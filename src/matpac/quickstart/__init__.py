"""Everything once, on synthetic sounds: corpus, pre-training, evaluation, report, vectors."""
