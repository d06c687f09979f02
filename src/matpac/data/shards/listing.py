"""The clips of shards: by the index that lies beside them, or by reading every member's header once."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from matpac import audio
from matpac.atomic import written_whole
from matpac.console import track
from matpac.data.files import SHORTEST_SECONDS, Corpus, DataError
from matpac.data.shards.addresses import beside, find_shards, is_url, open_address, read_address
from matpac.data.shards.index import INDEX, MOST_INDEX_BYTES, TABLE, Shard, parse_index, read_table
from matpac.data.shards.members import HeldSound, ShardClip, TarredSound
from matpac.data.shards.tar import ShardError, TarReader
from matpac.errors import Skipped, describe_skipped, reason_of

KEEP_SECONDS = 60.0
"""Between two writings of what is known of shards without index, while they are gone through; ours."""

COLUMNS = ("shard", "bytes", "modified", "name", "offset", "size", "seconds", "reason")


@dataclass(frozen=True)
class _Row:
    """A sound in a shard without index; `reason` is empty for one that can be used."""

    name: str
    offset: int
    size: int
    seconds: float
    reason: str


_State = tuple[int, int]  # bytes and ns of the last change; −1 for a URL
_Known = dict[str, tuple[_State, list[_Row]]]


def list_shards(
    data: str, cache: Path | None = None, min_seconds: float = SHORTEST_SECONDS, workers: int = 8
) -> Corpus:
    """The clips of the shards that `data` means (`addresses.find_shards`).

    Where an index.json lies beside a shard and has it, its table is taken. Other shards are gone through once, by
    `workers` threads, and what was found is kept in the Parquet file `cache`, also where an error or an interrupt
    ends it. Members whose name doesn't end as a sound's are no clips; sounds that can't be read, or are shorter
    than `min_seconds`, are left out.

    Raises:
        ShardError: a shard or an index can't be used.
        DataError: no clip in them.
    """
    addresses = find_shards(data)
    places = dict.fromkeys(beside(address, INDEX) for address in addresses)
    indexed = {address: clips for place in places for address, clips in _indexed_clips(place, addresses).items()}
    plain = [address for address in addresses if address not in indexed]
    scanned = _scan(plain, cache, workers) if plain else {}
    files = Corpus()
    least = max(min_seconds, SHORTEST_SECONDS)
    for address in addresses:
        clips = indexed[address] if address in indexed else _usable(files, address, scanned[address][1])
        for clip in clips:
            if clip.duration >= least:
                files.clips.append(clip)
            else:
                reason = f"too short: {clip.duration:.3f} s, at least {least:.3f} s are needed"
                files.skipped.append(Skipped(clip.path, reason))
    if not files.clips:
        why = describe_skipped(files.skipped) if files.skipped else "no member of them is a sound"
        raise DataError(f"{data}: no clip can be used: {why}")
    return files


# --- with an index -----------------------------------------------------------------------------------------


def _indexed_clips(place: str, wanted: list[str]) -> dict[str, list[ShardClip]]:
    """Those of the wanted shards that an index.json has, each with its clips; none where there is no index."""
    if not is_url(place) and not Path(place).is_file():
        return {}
    try:
        content = read_address(place, MOST_INDEX_BYTES)
    except ShardError:
        if is_url(place):  # shards of others have no index, and every server says so differently
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
    found = {address: sorted(clips[address], key=_offset) for address in wanted if address in clips}
    for address in found:
        _check_size(address, shards[address])
    return found


def _offset(clip: ShardClip) -> int:
    return clip.offset


def _check_size(address: str, shard: Shard) -> None:
    """A local shard's; that of a URL shows when it is read."""
    again = "copy it again, or call the matpac pack that made it: it writes what is missing"
    try:
        size = shard.bytes if is_url(address) else Path(address).stat().st_size
    except OSError as error:
        raise ShardError(f"{address}: in its {INDEX}, and can't be read ({error.strerror}); {again}") from error
    if size != shard.bytes:
        raise ShardError(
            f"{address}: has {size} bytes, and its {INDEX} says {shard.bytes}: cut short, or another's; {again} "
            "(matpac pack --verify looks at all of them)"
        )


# --- without -----------------------------------------------------------------------------------------------


def _usable(files: Corpus, address: str, rows: list[_Row]) -> Iterator[ShardClip]:
    """The clips of a shard that was gone through; its bad sounds are added to those left out."""
    for row in rows:
        path = f"{address}/{row.name}"
        if row.reason:
            files.skipped.append(Skipped(path, row.reason))
        else:
            yield ShardClip(path, row.seconds, address, row.offset, row.size)


def _scan(addresses: list[str], cache: Path | None, workers: int) -> _Known:
    """What is in each shard: known from before where neither size nor time of change differ, else gone through.

    What is known is kept now and then, and when an error or an interrupt ends it.
    """
    known = _read_cache(cache) if cache is not None and cache.exists() else {}
    states = {address: _state(address) for address in addresses}
    fresh = [address for address in addresses if address not in known or known[address][0] != states[address]]
    stop, threads, kept = Event(), ThreadPoolExecutor(max(1, workers)), time.monotonic()
    shards = {threads.submit(_rows, address, stop): address for address in fresh}
    try:
        for future in track(as_completed(shards), "Reading shards without index", len(fresh)):
            known[shards[future]] = states[shards[future]], future.result()
            if time.monotonic() - kept > KEEP_SECONDS:
                _keep(cache, addresses, known)
                kept = time.monotonic()
    finally:
        stop.set()
        threads.shutdown(cancel_futures=True)
        done = (future for future in shards if not future.cancelled() and future.exception() is None)
        known |= {shards[future]: (states[shards[future]], future.result()) for future in done}
        if fresh:
            _keep(cache, addresses, known)
    return known


def _keep(cache: Path | None, addresses: list[str], known: _Known) -> None:
    """Writes what is known of these shards, where there is a cache for it."""
    found = {address: known[address] for address in addresses if address in known}
    if cache is not None and found:
        _write_cache(cache, found)


def _rows(address: str, stop: Event) -> list[_Row]:
    """The sounds of a shard. Raises CancelledError where nobody wants them any more."""
    rows = []
    for row in _sounds(address):
        if stop.is_set():
            raise CancelledError
        rows.append(row)
    return rows


def _state(address: str) -> _State:
    if is_url(address):
        return -1, -1
    state = Path(address).stat()
    return state.st_size, state.st_mtime_ns


def _sounds(address: str) -> Iterator[_Row]:
    """The sounds of a shard."""
    with open_address(address) as stream:
        reader = TarReader(stream, address)
        for member in reader:
            if Path(member.name).suffix.lower() not in audio.AUDIO_SUFFIXES:
                continue
            if is_url(address):
                sound = HeldSound(f"{address}/{member.name}", reader.read())
            else:
                sound = TarredSound(address, member.name, member.offset, member.size)
            seconds, reason = 0.0, ""
            try:
                seconds = audio.info(sound).duration
            except audio.AudioError as error:
                reason = reason_of(error, str(sound))
            yield _Row(member.name, member.offset, member.size, seconds, reason)


def _read_cache(cache: Path) -> _Known:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(cache)
        rows = zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)
    except (pa.ArrowException, KeyError) as error:
        raise DataError(f"{cache}: not a list of shards' clips written by matpac ({error}); remove it") from error
    known: _Known = {}
    for address, size, modified, name, *rest in rows:
        _, found = known.setdefault(os.fsdecode(address), ((size, modified), []))
        if name is not None:
            found.append(_Row(os.fsdecode(name), *rest))
    return known


def _write_cache(cache: Path, known: _Known) -> None:
    """A row a sound, and one without name for a shard that has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple] = []
    for address, (state, found) in known.items():
        shard = os.fsencode(address), *state
        rows += [(*shard, os.fsencode(row.name), row.offset, row.size, row.seconds, row.reason) for row in found]
        rows += [] if found else [(*shard, None, None, None, None, None)]
    kinds = (pa.binary(), pa.int64(), pa.int64(), pa.binary(), pa.int64(), pa.int64(), pa.float64(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    cache.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(cache) as draft:
        pq.write_table(pa.table(arrays, schema=schema), draft)
