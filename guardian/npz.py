"""Arrays out of an .npz that anyone may have made: sizes are checked before memory is asked for."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterable

import numpy as np

from guardian.tables import Array

FAULTS = (ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError, OverflowError,
          SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error)  # fmt: skip
"""What damaged bytes raise here."""
HEADER_BYTES = 4_096
"""An array's header and the room before it."""


def arrays(content: bytes, names: Iterable[str], most: int) -> dict[str, Array]:
    """Return the arrays of numbers with these names, none longer than `most` bytes.

    Raises one of FAULTS.
    """
    out = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in names:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > most + HEADER_BYTES:
                raise ValueError(f"{name} is too long")
            with archive.open(info) as file:
                out[name] = array(file.read(most + HEADER_BYTES))
    return out


def array(raw: bytes) -> Array:
    """Return the array of a .npy: numbers alone, as many as there are bytes for."""
    stream = io.BytesIO(raw)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array has another version than 1.0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ValueError("an array is not of numbers")
    rest = raw[stream.tell() :]
    count = 1
    for side in shape:
        if side < 0:
            raise ValueError("an array has a side below 0")
        count *= side
    if len(rest) != count * dtype.itemsize:
        raise ValueError("an array is cut off")
    return np.frombuffer(rest, dtype=dtype).reshape(shape, order="F" if by_column else "C")
