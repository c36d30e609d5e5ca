"""Many images in one file: tar shards, as WebDataset has them, and Parquet, as Hugging Face's datasets have it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from detector.images.read import SUFFIXES as PICTURE_SUFFIXES
from proposals.errors import UserError

TAR, PARQUET = ".tar", ".parquet"
SUFFIXES = frozenset((TAR, PARQUET))
ROWS = 16  # of a Parquet file in memory at a time


def encoded_images(path: str) -> Iterator[tuple[str, bytes]]:
    """Names and encoded bytes of the images in a file, in its order; one is in memory at a time, or a few.

    Of a tar file the members that end as images do, named without that ending; other members, such as labels, and
    hidden ones (``._a.jpg`` of macOS) are passed over. Of a Parquet file the column ``image``, bytes or a struct with
    ``bytes``, named by the column ``image_id`` if there is one, and otherwise by number from ``000000`` on.

    Raises:
        UserError: cannot be read, is cut short or damaged, or has no such column; what comes before is given first.
    """
    reading = _of_parquet(path) if Path(path).suffix.lower() == PARQUET else _of_tar(path)
    try:
        yield from reading
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}") from None


def _of_tar(path: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:") as file:
            while (member := file.next()) is not None:
                file.members.clear()  # type: ignore[attr-defined] # tarfile would remember all of them
                name = PurePosixPath(member.name)
                wanted = name.suffix.lower() in PICTURE_SUFFIXES and not name.name.startswith(".")
                if wanted and member.isreg() and not member.issparse():
                    content = file.extractfile(member)
                    assert content is not None
                    yield str(name.with_suffix("")), content.read()
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path}: not a tar file, or damaged ({error}); copy it again") from None


def _of_parquet(path: str) -> Iterator[tuple[str, bytes]]:
    arrow = import_arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "image" not in names:
                raise UserError(f"{path}: has no column image (of bytes), but {', '.join(names[:5])}")
            number = 0
            for batch in file.iter_batches(ROWS, columns=[name for name in ("image", "image_id") if name in names]):
                for row in batch.to_pylist():
                    image = row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"]
                    yield str(row.get("image_id", f"{number:06d}")), image if isinstance(image, bytes) else b""
                    number += 1
    except (arrow.ArrowException, KeyError) as error:
        raise UserError(f"{path}: not a Parquet file of images, or damaged ({error}); copy it again") from None


def import_arrow() -> Any:
    """The module ``pyarrow``; UserError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet needs pyarrow: pip install 'googlenet-detector[parquet]'") from None
    return pyarrow
