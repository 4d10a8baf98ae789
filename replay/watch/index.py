"""Keeps the index of one run: a database beside the topics, filled as they grow, that the page is drawn from.

Records enter in the order of their partitions; what they hold and the next offsets are kept in one transaction, so a killed
process reads on where it was, and nothing counts twice. One thread writes, any number read.
"""

import contextlib
import hashlib
import itertools
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from replay.watch.rows import rows_of
from stream.broker import Offsets, Record, TopicPartition
from stream.errors import UserError
from stream.snapshot import decode_or_none
from stream.topics import UPDATES, topic_of

log = logging.getLogger(__name__)

SCHEMA_VERSION = "3"
_CACHE_KB = 16_000
_MAPPED_BYTES = 4 << 30
"""Most of the file that is read as memory: all threads share it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One record by which the topics are known again."""

    offset: int
    digest: str

    @classmethod
    def of(cls, record: Record) -> Self:
        """The mark that a record is."""
        return cls(record.offset, hashlib.sha256(record.value).hexdigest())


class Index:
    """The index of one run, in one file. Reading methods may be called from any thread."""

    def __init__(self, file: Path, run: str) -> None:
        """Open the file, or begin it anew where it holds another schema or another run.

        Raises:
            UserError: it cannot be written, or is no database.

        """
        self.file = file
        self.run = run
        self._updates = UPDATES.of(run)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            if self._meta() != {"schema": SCHEMA_VERSION, "run": run}:
                self.clear()
        except (OSError, sqlite3.DatabaseError) as error:
            raise UserError(
                f"the index {file} cannot be used ({error}); want a file that this user may write: remove it, it is made "
                "again from the topics, or give another folder with --dir"
            ) from None

    @property
    def changes(self) -> int:
        """Grows with everything that is kept: what was worked out at the same number is still true."""
        return self._writer.total_changes

    # -- writing: one thread ------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything: the run behind the name is another one."""
        names = self._writer.execute("SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL AND type != 'index'")
        with self._transaction():
            for kind, name in sorted(names.fetchall(), reverse=True):  # triggers first
                self._writer.execute(f"DROP {kind} {name}")
            for statement in _statements(files("replay.watch").joinpath("schema.sql").read_text()):
                self._writer.execute(statement)
            meta = [("schema", SCHEMA_VERSION), ("run", self.run)]
            self._writer.executemany("INSERT INTO meta VALUES (?, ?)", meta)

    def take(self, records: Iterable[Record]) -> None:
        """Keep what these records hold, and that they were read."""
        following: dict[TopicPartition, int] = {}
        with self._transaction():
            for record in records:
                following[record.topic, record.partition] = record.offset + 1
                message = decode_or_none(record, topic_of(record.topic))
                try:
                    for statement, values in rows_of(message):
                        self._writer.execute(statement, values)
                except OverflowError:  # a number that no honest role writes
                    log.warning("record left out topic=%s offset=%d", record.topic, record.offset)
                if record.topic == self._updates:
                    self._note_mark(Mark.of(record))
            self._note(following)

    def _note(self, offsets: Offsets) -> None:
        rows = [(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        self._writer.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", rows)

    def _note_mark(self, mark: Mark) -> None:
        rows = [("mark_offset", str(mark.offset)), ("mark_digest", mark.digest)]
        self._writer.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")

    # -- reading: any thread ------------------------------------------------------------------------------------------

    def offsets(self) -> dict[TopicPartition, int]:
        """The next offset to read of each partition that was read."""
        return {(topic, partition): offset for topic, partition, offset in self.rows("SELECT * FROM offsets")}

    def newest_update(self) -> Mark | None:
        """The newest record of the topic `updates` that was read."""
        found = dict(self.rows("SELECT key, value FROM meta WHERE key IN ('mark_offset', 'mark_digest')"))
        return Mark(int(found["mark_offset"]), found["mark_digest"]) if found else None

    def rows(self, query: str, values: Iterable[object] | Mapping[str, object] = ()) -> list[Any]:
        """All rows of a query, as tuples."""
        return self._reader().execute(query, values if isinstance(values, Mapping) else tuple(values)).fetchall()

    def columns(self, query: str, num: int) -> NDArray[np.float64]:
        """All rows of a query for `num` numbers, NULL left out by the query itself. [num, rows]"""
        flat = itertools.chain.from_iterable(self._reader().execute(query))
        return np.fromiter(flat, np.float64).reshape(-1, num).T

    def dicts(self, query: str, values: Iterable[object] | Mapping[str, object] = ()) -> list[dict[str, Any]]:
        """All rows of a query, as column name to value."""
        cursor = self._reader().execute(query, values if isinstance(values, Mapping) else tuple(values))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def close(self) -> None:
        """Close every connection; nothing may be reading any more."""
        for connection in self._connections:
            connection.close()

    def _reader(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
            self._local.connection.execute("PRAGMA query_only = 1")
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False, timeout=30)
        self._connections.append(connection)
        mapped = f"mmap_size = {_MAPPED_BYTES}"
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"cache_size = -{_CACHE_KB}", mapped):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _meta(self) -> dict[str, str]:
        try:
            return dict(self._writer.execute("SELECT key, value FROM meta WHERE key IN ('schema', 'run')").fetchall())
        except sqlite3.OperationalError:  # a new file
            return {}


def _statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, whole triggers among them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
