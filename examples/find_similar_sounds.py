"""What in a collection is like a sound, and where in its long recordings.

    python examples/find_similar_sounds.py ENCODER FOLDER QUERY [DATABASE]

ENCODER is tiny (comes with matpac), a published name (matpac++), a file, a run folder or hub:owner/name. Run it
again: only what is new or changed in FOLDER is embedded. Needs LanceDB: pip install 'matpac[search]'.
"""

import sys

import matpac


def main(encoder: str, folder: str, query: str, database: str) -> None:
    """Bring the database up to date, and search it twice."""
    done = matpac.index_sounds(
        [folder], database, encoder, matpac.IndexOptions(window=2.0, hop=1.0, tags="folder")
    )
    print(f"{done.added} files added, {done.changed} changed, {done.removed} vanished, {done.unchanged} unchanged")
    print(f"{done.files} files as {done.rows} {done.settings.rows}")
    for item in done.skipped:
        print(f"skipped: {item.path}: {item.reason}")

    searcher = matpac.Searcher(database)  # opens the encoder once, for any number of queries
    print(f"like {query}:")
    for match in searcher.similar(query, top=3):
        print(f"  {match.similarity:.3f}  {match.path} from {match.start:.1f} s to {match.end:.1f} s")

    print("of sounds shorter than 2.5 s:")
    for match in searcher.similar(query, top=3, where="duration < 2.5"):
        print(f"  {match.similarity:.3f}  {match.path} ({', '.join(match.tags) or 'no tags'})")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: find_similar_sounds.py ENCODER FOLDER QUERY [DATABASE]")
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "sounds.lance")
