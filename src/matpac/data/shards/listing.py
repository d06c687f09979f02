"""The clips of shards: by the index that lies beside them, or by reading every member's header once."""

from concurrent.futures import CancelledError
from operator import attrgetter
from pathlib import Path
from threading import Event

from matpac import audio
from matpac.data.files import SHORTEST_SECONDS, Corpus
from matpac.data.headers import DataError, Header, header_of, read_headers
from matpac.data.shards.addresses import beside, find_shards, is_url, open_address, read_address
from matpac.data.shards.index import INDEX, MOST_INDEX_BYTES, TABLE, Shard, parse_index, read_table
from matpac.data.shards.members import HeldSound, ShardClip
from matpac.data.shards.tar import ShardError, TarReader
from matpac.errors import describe_skipped


def list_shards(
    data: str, cache: Path | None = None, min_seconds: float = SHORTEST_SECONDS, workers: int = 8
) -> Corpus:
    """The clips of the shards that `data` means (`addresses.find_shards`).

    Shards that an index.json beside them lists are taken from its table. Other shards are read through once, by
    `workers` threads, and what was found is kept in the Parquet file `cache` (see `read_headers`). Members whose
    name doesn't end as a sound's are no clips; sounds that can't be read, or are shorter than `min_seconds`, are
    skipped.

    Raises:
        ShardError: a shard or an index can't be used.
        DataError: no clip in them.
    """
    addresses = find_shards(data)
    places = dict.fromkeys(beside(address, INDEX) for address in addresses)
    indexed = {address: clips for place in places for address, clips in _indexed_clips(place, addresses).items()}
    plain = [address for address in addresses if address not in indexed]
    scanned = read_headers(plain, _sounds, cache, workers, "Reading shards without index") if plain else {}
    corpus = Corpus()
    for address in addresses:
        for clip in indexed.get(address, ()):
            corpus.add(clip, "", min_seconds)
        for name, offset, size, seconds, reason in scanned.get(address, ()):
            corpus.add(ShardClip(f"{address}/{name}", seconds, address, offset, size), reason, min_seconds)
    if not corpus.clips:
        why = describe_skipped(corpus.skipped) if corpus.skipped else "no member of them is a sound"
        raise DataError(f"{data}: no clip can be used: {why}")
    return corpus


def _indexed_clips(place: str, wanted: list[str]) -> dict[str, list[ShardClip]]:
    """Those of the wanted shards that an index.json has, each with its clips; none where there is no index."""
    if not is_url(place) and not Path(place).is_file():
        return {}
    try:
        content = read_address(place, MOST_INDEX_BYTES)
    except ShardError:
        if is_url(place):  # others' shards have no index, which every server reports differently
            return {}
        raise
    index = parse_index(content, place)
    table = beside(place, TABLE)
    rows = read_table(read_address(table, MOST_INDEX_BYTES), table, index, [])
    addresses = [beside(place, shard.name) for shard in index.shards]
    clips: dict[str, list[ShardClip]] = {address: [] for address in addresses}
    columns = [rows[name].to_pylist() for name in ("shard", "name", "offset", "size", "samples")]
    for number, name, offset, size, samples in zip(*columns, strict=True):
        address, digest = addresses[number], index.shards[number].sha256
        seconds = samples / index.sample_rate
        clips[address].append(ShardClip(f"{address}/{name}", seconds, address, offset, size, digest))
    shards = dict(zip(addresses, index.shards, strict=True))
    found = {address: sorted(clips[address], key=attrgetter("offset")) for address in wanted if address in clips}
    for address in found:
        _check_size(address, shards[address])
    return found


def _check_size(address: str, shard: Shard) -> None:
    """Checks a local shard; the size of a remote one shows when it is read."""
    again = "copy it again, or run the matpac pack that made it: it writes what is missing"
    try:
        size = shard.bytes if is_url(address) else Path(address).stat().st_size
    except OSError as error:
        raise ShardError(f"{address}: in its {INDEX}, and can't be read ({error.strerror}); {again}") from error
    if size != shard.bytes:
        raise ShardError(
            f"{address}: has {size} bytes, and its {INDEX} says {shard.bytes}: cut short, or another's; {again} "
            "(matpac pack --verify checks all of them)"
        )


def _sounds(address: str, stop: Event) -> list[Header]:
    """The sounds of a shard without index. Raises CancelledError where `stop` is set."""
    headers = []
    with open_address(address) as stream:
        reader = TarReader(stream, address)
        for name, offset, size in reader:
            if stop.is_set():
                raise CancelledError
            if Path(name).suffix.lower() in audio.AUDIO_SUFFIXES:
                sound = ShardClip(f"{address}/{name}", 0.0, address, offset, size)
                held = HeldSound(sound.path, reader.read()) if is_url(address) else sound
                headers.append(header_of(held, name, offset, size))
    return headers
