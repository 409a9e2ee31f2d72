"""How a file that NGINX may be reading is put in place: whole, and only where it is another one."""

from pathlib import Path


def put_file(place: Path, content: bytes) -> None:
    """Make `content` that of a file; raises OSError with the file's name.

    One that is as it should be is left alone: that needs no room on the disk.
    """
    if place.is_file() and place.read_bytes() == content:
        return
    made = place.with_name(place.name + ".new")
    try:
        made.write_bytes(content)
        made.replace(place)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(place)) from exc  # a full disk names no file
