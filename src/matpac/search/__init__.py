"""Similar sounds: vectors of a collection in a LanceDB database, kept up to date and searched.

import matpac

matpac.index_sounds(["recordings"], "sounds.lance", "matpac++", matpac.IndexOptions(window=6.0))
for match in matpac.Searcher("sounds.lance").similar("query.wav", top=5, where="duration > 60"):
    print(match.similarity, match.path, match.start)
"""
