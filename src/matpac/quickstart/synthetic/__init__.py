"""A small labelled corpus of synthetic sounds, to try the whole method on without any data set.

`signals` (noises, envelopes, wavetables) → `voices` (instruments) and `textures` (the rest) →
`scenes` (phrases, mixtures, melodies, rhythms) → `recording` (room, equaliser, noise) → `corpus`.
"""

from matpac.quickstart.synthetic.corpus import Corpus, CorpusConfig, CorpusError, CorpusTask, make_corpus

__all__ = ["make_corpus", "CorpusConfig", "Corpus", "CorpusTask", "CorpusError"]
