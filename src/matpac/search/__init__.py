"""Sounds that are like a sound: vectors of a collection in a LanceDB database, kept up to date and searched.

    from matpac.search.index import IndexOptions, index_sounds
    from matpac.search.query import Searcher

    index_sounds(["recordings"], "sounds.lance", "matpac++", IndexOptions(window=6.0))
    for match in Searcher("sounds.lance").similar("query.wav", top=5, where="duration > 60"):
        print(match.similarity, match.path, match.start)

From the bottom up: `files` (what is there), `database` and `writer` (the table), `windows` and `sounds` (files to
vectors), `rows`, `approximate` (the index of vectors), `encoder`, `tags`; `index` and `query`; `command`.
"""
