"""The database and the files: SQLite for the records, a directory for the contents.

`python -m depot.store` creates both, or brings them up to date.
"""

import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'packing', 'packed', 'failed')),
    worker TEXT,
    error TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON files (id) WHERE state = 'waiting';
"""


@dataclass(frozen=True)
class File:
    """One upload, as the database describes it."""

    id: int
    name: str
    state: str
    worker: str | None
    error: str | None


class Store:
    """The depot's records and contents. Each call is one short transaction, so it doesn't need a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._db = sqlite3.connect(directory / "depot.db", timeout=5, isolation_level=None)

    def content(self, number: int) -> Path:
        return self.directory / "files" / str(number)

    def packed(self, number: int) -> Path:
        return self.directory / "files" / f"{number}.gz"

    def add(self, name: str, content: bytes) -> File:
        """Store an upload: it is visible to workers once its content is complete."""
        with self._transaction():
            (file,) = self._all("INSERT INTO files (name) VALUES (?) RETURNING *", name)
            self.content(file.id).write_bytes(content)
        return file

    def get(self, number: int) -> File | None:
        return next(iter(self._all("SELECT * FROM files WHERE id = ?", number)), None)

    def files(self) -> list[File]:
        return self._all("SELECT * FROM files ORDER BY id")

    def take(self, worker: str) -> File | None:
        """Give the oldest waiting file to a worker; no other worker gets the same one."""
        oldest = "SELECT min(id) FROM files WHERE state = 'waiting'"
        update = f"UPDATE files SET state = 'packing', worker = ? WHERE id = ({oldest}) RETURNING *"
        return next(iter(self._all(update, worker)), None)

    def finish(self, number: int, error: str | None = None) -> None:
        state = "packed" if error is None else "failed"
        self._all("UPDATE files SET state = ?, error = ? WHERE id = ?", state, error, number)

    def put_back(self, worker: str) -> None:
        """Mark the unfinished files of a worker as waiting again."""
        update = "UPDATE files SET state = 'waiting', worker = NULL WHERE state = 'packing' AND worker = ?"
        self._all(update, worker)

    async def check(self) -> None:
        """Raise if the database can't be read: the health check of the web front."""
        self._db.execute("SELECT 1 FROM files LIMIT 1")

    def close(self) -> None:
        self._db.close()

    def _transaction(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def _all(self, statement: str, *values: object) -> list[File]:
        return [File(*row) for row in self._db.execute(statement, values).fetchall()]


def data_directory() -> Path:
    return Path(os.environ.get("DEPOT_DATA", "data"))


def migrate(directory: Path) -> None:
    """Create the depot, or bring it up to date."""
    (directory / "files").mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(directory / "depot.db")
    db.execute("PRAGMA journal_mode = WAL")  # readers don't wait for a writer
    db.executescript(SCHEMA)
    db.close()


def open_store() -> Store:
    """Open the depot; without one, end the program with a message."""
    directory = data_directory()
    if not (directory / "depot.db").exists():
        sys.exit(f"there is no depot in {directory.absolute()}: run `python -m depot.store` first, or set DEPOT_DATA")
    return Store(directory)


if __name__ == "__main__":
    try:
        migrate(data_directory())
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"can't create a depot in {data_directory().absolute()}: {error}; set DEPOT_DATA to another directory")
    print("the depot is ready:", data_directory())
