"""How output lies on disk: names of files, the index record, streams and flags.

    logs/<service>/<run>/<producer>.log      exactly the bytes that were written, segment 0
    logs/<service>/<run>/<producer>.idx      one fixed-size record for each read of them
    logs/<service>/<run>/<producer>.log.1    segment 1, after a rotation; files are never renamed

The newest segment is the one with the highest number. A record is written after its bytes, so bytes
without a record are a write that was cut short (the next writer indexes them), and readers trust
records alone. What writes and what reads belongs to `writer` and `reader`.

Runs inside the keeper (`python3 -I -S`): standard library only, and nothing that is slow to import.
"""

from __future__ import annotations

import struct

DATA = "log"
INDEX = "idx"

OUTPUT = 0
"""Standard output and error of a replica on one pipe."""
STDOUT = 1
STDERR = 2
BUILD = 3
"""What prepare steps say."""

STREAM_NAMES = ("output", "stdout", "stderr", "build")

PARTIAL = 1
"""The bytes of this record do not end in a newline; on a CLOSED record: some stream ended so."""
CONTINUED = 2
"""The bytes go on with a line that an earlier record of the same stream began."""
ROTATED = 4
"""No bytes: the segment is complete and the next one exists."""
TRUNCATED = 8
"""No bytes: `length` bytes (at most MAX_LENGTH) were lost here, because they could not be written."""
CLOSED = 16
"""No bytes: the producer ended here; a line without a newline is as complete as it will be."""
RECOVERED = 32
"""The bytes were found without a record after a kill: time and stream are a guess."""

NO_BYTES = ROTATED | TRUNCATED | CLOSED

# offset, wall ns, monotonic ns, length, stream, flags, magic (a zeroed tail after a power loss fails it)
RECORD = struct.Struct("<QQQIBBH")
RECORD_SIZE = RECORD.size
MAGIC = 0x1D5A
MAX_LENGTH = 0xFFFFFFFF

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-#+@")


def stream_number(name: str) -> int:
    """The number a record carries for a stream's name; raises ValueError for a name there is not."""
    return STREAM_NAMES.index(name)


def stream_name(number: int) -> str:
    """The name of a stream; a number of a later version is shown as it is."""
    return STREAM_NAMES[number] if number < len(STREAM_NAMES) else str(number)


def encode_name(producer: str) -> str:
    """A producer's name as a file name: bytes that are not plain are percent-encoded."""
    if not producer:
        raise ValueError("a producer needs a name")
    raw = producer.encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if byte in _PLAIN and not (position == 0 and byte == 0x2E) else f"%{byte:02X}"
        for position, byte in enumerate(raw)
    )


def decode_name(encoded: str) -> str:
    """The producer's name that a file name stands for."""
    head, *rest = encoded.encode("utf-8", "surrogateescape").split(b"%")
    out = bytearray(head)
    for part in rest:
        try:
            out.append(int(part[:2], 16))
            out += part[2:]
        except ValueError:  # not written by us: shown as it is
            out += b"%" + part
    return out.decode("utf-8", "surrogateescape")


def file_name(producer: str, kind: str, segment: int) -> str:
    """The file of a producer's segment; `kind` is DATA or INDEX."""
    name = f"{encode_name(producer)}.{kind}"
    return f"{name}.{segment}" if segment else name


def parse_file_name(name: str) -> tuple[str, str, int] | None:
    """Producer, kind and segment of a file's name, or None for a file that is not of this format."""
    stem, _, last = name.rpartition(".")
    segment = 0
    if last.isascii() and last.isdigit():
        segment = int(last)
        stem, _, last = stem.rpartition(".")
        if segment == 0:
            return None
    if last not in (DATA, INDEX) or not stem:
        return None
    return decode_name(stem), last, segment
