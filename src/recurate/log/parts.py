"""A log that grows while something runs: a folder of Parquet files, each of which is whole or not there.

A few thousand rows share a file, which is written anew with every addition until it is full; other columns or
metadata begin a new one. Hence a process
that is killed loses no addition that had returned, there are few files, and the folder is a log at any time.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import InputError
from recurate.core.files import full_disk_explained
from recurate.core.tables import read_table, write_table
from recurate.log.schema import METADATA_KEY

ROWS = 4096  # rows after which a file is full
BYTES = 1 << 22  # or bytes in memory


class Parts:
    """A growing log.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "log"
    >>> parts = Parts(folder)
    >>> parts.append(pa.table({"round": [0, 0]}))
    >>> parts.append(pa.table({"round": [1]}))
    >>> Parts(folder).last("round")
    1
    >>> Parts(folder).drop_from("round", 1)
    >>> [path.name for path in Parts(folder).files()], Parts(folder).last("round")
    (['part-00000.parquet'], 0)

    Args:
        folder: Folder of the files; it is made with the first addition.

    Raises:
        InputError: If the path is a file or has the ending of one, or the folder holds something else.
    """

    def __init__(self, folder: Path) -> None:
        if folder.suffix.lower() in (".jsonl", ".ndjson", ".json", ".csv", ".tsv"):
            raise InputError(
                "a log that grows is a folder of Parquet files", got=folder, remedy=f"name it {folder.stem}"
            )
        self.folder = folder
        others = [] if not folder.is_dir() else [p for p in folder.iterdir() if not _is_ours(p)]
        if others or (folder.exists() and not folder.is_dir()):
            raise InputError(
                "a log that grows is a folder of its own, and something else is there",
                got=others[0] if others else folder,
                remedy="name a new folder",
            )
        files = self.files()
        self._number = _number(files[-1]) if files else 0
        self._open: pa.Table | None = read_table(files[-1]) if files else None

    def files(self) -> list[Path]:
        """Return the files, in order."""
        return sorted(self.folder.glob("part-*.parquet"), key=_number)

    def last(self, column: str) -> int | None:
        """Return the largest whole number of a column in the last file; None without one."""
        if self._open is None or column not in self._open.column_names:
            return None
        largest = pc.max(self._open.column(column)).as_py()
        return None if largest is None else int(largest)

    def append(self, table: pa.Table) -> None:
        """Add rows; they are on disk when this returns.

        Raises:
            InputError: If the rewards have other names than those before, or the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self._open is not None and (
            self._open.num_rows >= ROWS or self._open.nbytes >= BYTES or self._differs(table)
        )
        number = self._number + fresh
        grown = table if self._open is None or fresh else pa.concat_tables([self._open, table])
        grown = grown.replace_schema_metadata(table.schema.metadata)
        with full_disk_explained(self.folder, "free space; then resume from a checkpoint"):
            write_table(grown, self.folder / f"part-{number:05d}.parquet")
        self._number, self._open = number, grown

    def drop_from(self, column: str, value: int) -> None:
        """Remove the rows in which a column, which never decreases, has a value or more."""
        for path in reversed(self.files()):
            table = read_table(path)
            if column not in table.column_names:
                raise self._foreign(column)
            kept = table.filter(pc.less(table.column(column), value))
            if kept.num_rows == table.num_rows:
                break
            if kept.num_rows:
                write_table(kept, path)
            else:
                path.unlink()
        files = self.files()
        self._number = _number(files[-1]) if files else 0
        self._open = read_table(files[-1]) if files else None

    def _differs(self, table: pa.Table) -> bool:
        """Return whether columns or metadata differ from those of the last file, which rewards may not."""
        assert self._open is not None
        before, now = [(t.schema.metadata or {}).get(METADATA_KEY, b"") for t in (self._open, table)]
        if before != now:
            raise self._foreign(f"rewards: {before.decode()} and {now.decode()}")
        return not self._open.schema.equals(table.schema, check_metadata=True)

    def _foreign(self, column: str) -> InputError:
        return InputError(
            f"the log in {self.folder} has other columns than what is to be added",
            got=f"they differ in {column}",
            remedy="name another folder, or remove this one",
        )


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("part-"))


def _is_ours(path: Path) -> bool:
    digits = path.stem.removeprefix("part-")
    return path.name.startswith(".") or (path.suffix == ".parquet" and digits.isdigit())
