"""A small labelled corpus of synthetic sounds, to try the whole method without any data set.

`signals` (noises, envelopes, wavetables, the recording) → `voices` (instruments) and `textures` (the rest) →
`scenes` (phrases, mixtures, melodies, rhythms) → `corpus`.
"""
