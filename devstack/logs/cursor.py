"""Where a reader stands in the output of one producer: turns records into lines, through rotations.

`peek` tells when the next record was read, `take` turns it into lines; a cursor that has come to the
end goes on when more is there. Memory is one block of bytes and the line that has not ended yet.
Which cursors a query needs, and where they start, is `reader`'s.
"""

from __future__ import annotations

from contextlib import closing, suppress

from devstack.logs.format import CLOSED, CONTINUED, ROTATED, TRUNCATED, stream_name
from devstack.logs.query import Gap, Line
from devstack.logs.segments import Record, Segment, segment_numbers

MAX_LINE = 1 << 20
"""Longer lines come in pieces."""
BLOCK = 128 << 10
RECORDS = 256

Item = Line | Gap


class _Begun:
    """A line whose newline has not been seen."""

    __slots__ = ("continued", "mono_ns", "text", "wall_ns")

    def __init__(self, continued: bool) -> None:
        self.text = bytearray()
        self.continued = continued
        self.wall_ns = 0
        self.mono_ns = 0


class Cursor:
    """A place in one producer's output; starts at the oldest byte there is."""

    def __init__(self, folder: str, service: str, run: str, producer: str) -> None:
        self.folder = folder
        self.service = service
        self.run = run
        self.producer = producer
        self.max_behind: int | None = None
        """More unread bytes than this are skipped, and told as a Gap."""
        self.is_closed = False
        """The last record seen says that the producer has ended."""
        self._segment: Segment | None = None
        self._number = -1
        self._next = 0  # number of the record that `_records` starts with
        self._inner = 0  # bytes of that record that were consumed
        self._records: list[Record] = []
        self._position = 0  # in `_records`
        self._block = b""
        self._block_offset = 0
        self._begun: dict[int, _Begun] = {}
        self._seen: set[int] = set()
        self._headless: set[int] = set()
        self._skip_heads = False

    # -- going forward

    def peek(self) -> int | None:
        """Monotonic time of the next record; None where there is no more now."""
        record = self.next_record()
        return None if record is None else record.mono_ns

    def next_record(self) -> Record | None:
        """The record that `take` would consume."""
        while self._position >= len(self._records):
            if not self._load():
                return None
        return self._records[self._position]

    def take(self) -> list[Item]:
        """Consume the next record (of a huge one the next block) and return the lines it ended."""
        if self._segment is None and not self._open_from(max(self._number, 0)):
            return []
        record = self.next_record()
        if record is None:
            return []
        if self.max_behind is not None and self._behind_here(record) > self.max_behind:
            return [self._skip_to(self.max_behind // 4)]
        self.is_closed = bool(record.flags & CLOSED)
        if record.flags & (CLOSED | TRUNCATED | ROTATED):
            self._advance()
            if record.flags & ROTATED:
                return []
            items: list[Item] = list(self.flush())
            self._seen.clear()
            if record.flags & TRUNCATED:
                items.append(self._gap(record, record.length, None, lost=True))
            return items
        data = self._take_data(record)
        lines: list[Item] = []
        self._feed(record, data, lines)
        return lines

    def leave_removed(self) -> None:
        """Where somebody removed the files under their writer, it goes on in new ones: so do we."""
        if (
            self._segment is None
            or not self._segment.is_removed()
            or self.next_record() is not None
        ):
            return
        self.close()
        self._forget_lines()
        self._stand(-1, 0)

    def flush(self, hold_split_characters: bool = False) -> list[Line]:
        """The lines that have begun, as partial ones; what follows them comes as continued."""
        lines = []
        for stream, begun in sorted(self._begun.items(), key=lambda item: item[1].mono_ns):
            text = bytes(begun.text)
            cut = _character_boundary(text, len(text)) if hold_split_characters else len(text)
            if cut:
                lines.append(self._line(stream, begun, text[:cut], partial=True))
                del begun.text[:cut]
                begun.continued = True
        if not hold_split_characters:
            self._begun.clear()
        return lines

    def oldest_begun(self) -> int | None:
        """Monotonic time of the last byte of the line that waits longest for its newline."""
        return min((begun.mono_ns for begun in self._begun.values() if begun.text), default=None)

    def behind(self) -> int:
        """Bytes that exist and were not consumed."""
        record = self.next_record()
        if record is None:
            return 0
        total = self._behind_here(record)
        here = self.folder, self.producer
        for number in segment_numbers(self.folder, self.producer):
            if number > self._number:
                with suppress(FileNotFoundError), closing(Segment(*here, number)) as segment:
                    total += segment.size()
        return total

    def place(self) -> tuple[int, int]:
        """Segment and number of the record that it stands before."""
        return self._number, self._next + self._position

    def copy(self) -> Cursor:
        """Another cursor that stands where this one was placed."""
        other = Cursor(self.folder, self.service, self.run, self.producer)
        if self._number >= 0:
            other._go(*self.place())
        return other

    def close(self) -> None:
        """Let go of the files; the cursor can go on later."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    # -- starting elsewhere

    def first(self) -> Record | None:
        """The oldest record there is."""
        for number in segment_numbers(self.folder, self.producer):
            self._go(number, 0)
            record = self.next_record()
            if record is not None:
                return record
        return None

    def last(self) -> Record | None:
        """The newest record there is; the cursor then stands behind it."""
        for number in reversed(segment_numbers(self.folder, self.producer)):
            if self._go(number, 0) and self._segment is not None:
                count = self._segment.count()
                if count:
                    self._go(number, count)
                    return self._segment.record(count - 1)
        return None

    def seek_tail(self, size: int) -> bool:
        """Go to a record at least `size` bytes before the end; False when that is the very start."""
        for number in reversed(segment_numbers(self.folder, self.producer)):
            if not self._go(number, 0) or self._segment is None:
                continue
            here = self._segment.size()
            if here > size:
                self._go(number, self._segment.first_at(here - size - 1))
                return True
            size -= here
        return False

    def seek_since(self, wall_ns: int) -> None:
        """Go to the start of the first line that ends at `wall_ns` or later."""
        for number in segment_numbers(self.folder, self.producer):
            if not self._go(number, 0) or self._segment is None:
                continue
            first = self._segment.first_since(wall_ns)
            if first < self._segment.count():
                self._go(number, self._line_start(self._segment, first))
                return
            self._go(number, first)

    def _line_start(self, segment: Segment, first: int) -> int:
        """The record in which every line begins (or a line before it ends) that `first` goes on with."""
        start = first
        seen: set[int] = set()
        for record in segment.records(first, RECORDS):
            if record.size == 0 or record.stream in seen:
                continue
            seen.add(record.stream)
            if record.flags & CONTINUED:
                start = min(start, self._newline_before(segment, first, record.stream))
        return start

    def _newline_before(self, segment: Segment, first: int, stream: int) -> int:
        for number in range(first - 1, -1, -1):
            record = segment.record(number)
            if record is None:
                return number + 1
            if record.size == 0 or record.stream != stream:
                continue
            if not record.flags & CONTINUED or _has_newline(segment, record):
                return number
        return 0  # it began in an earlier segment: what is here comes as continued

    # -- records and bytes

    def _go(self, number: int, record: int) -> bool:
        """Stand before a record; False when the segment is gone."""
        if self._segment is None or self._number != number:
            self.close()
            try:
                self._segment = Segment(self.folder, self.producer, number)
            except FileNotFoundError:
                return False
        self._stand(number, record)
        self._forget_lines()
        self._skip_heads = record > 0
        return True

    def _load(self) -> bool:
        """Read more records, in the next segment where this one is complete."""
        if self._segment is None and not self._open_from(max(self._number, 0)):
            return False
        assert self._segment is not None
        records = self._segment.records(self._next + len(self._records), RECORDS)
        if records:
            self._next += len(self._records)
            self._records = records
            self._position = 0
            return True
        is_complete = bool(self._records) and bool(self._records[-1].flags & ROTATED)
        return is_complete and self._open_from(self._number + 1)

    def _open_from(self, least: int) -> bool:
        """Open the oldest segment from `least` on; where it is another one, stand at its start."""
        for number in segment_numbers(self.folder, self.producer):
            if number < least:
                continue
            try:
                segment = Segment(self.folder, self.producer, number)
            except FileNotFoundError:  # the quota was faster
                continue
            self.close()
            self._segment = segment
            if number != self._number:
                if self._number >= 0 and number != self._number + 1:
                    self._forget_lines()
                self._stand(number, 0)
            return True
        return False

    def _stand(self, number: int, record: int) -> None:
        self._number = number
        self._next = record
        self._inner = 0
        self._records = []
        self._position = 0
        self._block = b""

    def _forget_lines(self) -> None:
        """What comes next does not follow what came last: leave out the rest of any line."""
        self._begun.clear()
        self._seen.clear()
        self._headless.clear()
        self._skip_heads = True

    def _advance(self) -> None:
        self._position += 1
        self._inner = 0

    def _take_data(self, record: Record) -> bytes:
        """The rest of the record's bytes, or a block of them."""
        assert self._segment is not None
        offset = record.offset + self._inner
        rest = record.length - self._inner
        start = offset - self._block_offset
        if not 0 <= start < len(self._block):
            self._block = self._segment.data(offset, BLOCK)
            self._block_offset = offset
            start = 0
        data = self._block[start : start + rest]
        if len(data) == rest or not data:  # no data: somebody cut the file
            self._advance()
        else:
            self._inner += len(data)
        return data

    # -- lines

    def _feed(self, record: Record, data: bytes, lines: list[Item]) -> None:
        stream = record.stream
        if stream not in self._seen:
            self._seen.add(stream)
            if record.flags & CONTINUED and stream not in self._begun:
                if self._skip_heads:
                    self._headless.add(stream)
                else:  # its start was removed
                    self._begun[stream] = _Begun(continued=True)
        if stream in self._headless:
            newline = data.find(b"\n")
            if newline < 0:
                return
            self._headless.discard(stream)
            data = data[newline + 1 :]
        parts = data.split(b"\n")
        last = parts.pop()
        begun = self._begun.get(stream)
        if begun is not None:
            begun.text += parts[0] if parts else last
            begun.wall_ns, begun.mono_ns = record.wall_ns, record.mono_ns
            while len(begun.text) > MAX_LINE:
                cut = _character_boundary(begun.text, MAX_LINE)
                lines.append(self._line(stream, begun, bytes(begun.text[:cut]), partial=True))
                del begun.text[:cut]
                begun.continued = True
            if not parts:
                return
            lines.append(self._line(stream, begun, bytes(begun.text), partial=False))
            del parts[0], self._begun[stream]
        service, run, producer, name = self.service, self.run, self.producer, stream_name(stream)
        _, wall, mono, *_ = record
        lines += [
            Line(service, run, producer, name, wall, mono, text, False, False) for text in parts
        ]
        if last:
            begun = self._begun[stream] = _Begun(continued=False)
            begun.text += last
            begun.wall_ns, begun.mono_ns = wall, mono

    def _line(self, stream: int, begun: _Begun, text: bytes, partial: bool) -> Line:
        return Line(
            self.service, self.run, self.producer, stream_name(stream),
            begun.wall_ns, begun.mono_ns, text, partial, begun.continued,
        )  # fmt: skip

    # -- falling behind

    def _behind_here(self, record: Record) -> int:
        # later segments count as soon as the cursor is in them: they are larger than what is allowed
        size = 0 if self._segment is None else self._segment.size()
        return size - record.offset - self._inner

    def _skip_to(self, keep: int) -> Gap:
        """Skip to the first start of a line that is at most about `keep` bytes before the end."""
        excess = self.behind() - keep
        told = self.next_record()
        assert told is not None
        size = sum(len(begun.text) for begun in self._begun.values())
        lines = 0
        self._forget_lines()
        while (record := self.next_record()) is not None:
            if excess <= 0 and record.size and not self._inner and not record.flags & CONTINUED:
                break
            told = record
            self.is_closed = bool(record.flags & CLOSED)
            if not record.size:
                size += record.length if record.flags & TRUNCATED else 0
                self._advance()
                continue
            skipped, newlines = self._skip_record(record, only_line=excess <= 0)
            size += skipped
            lines += newlines
            excess -= skipped
            if self._inner:
                self._seen.add(record.stream)
                break
        return self._gap(told, size, lines, lost=False)

    def _skip_record(self, record: Record, only_line: bool) -> tuple[int, int]:
        """Skip the rest of a record, or to behind its first newline; (bytes, newlines) skipped."""
        assert self._segment is not None
        begin, lines = self._inner, 0
        while self._inner < record.length:
            wanted = min(BLOCK, record.length - self._inner)
            data = self._segment.data(record.offset + self._inner, wanted)
            if not data:
                break
            if only_line and (newline := data.find(b"\n")) >= 0:
                self._inner += newline + 1
                lines = 1
                break
            self._inner += len(data)
            lines += data.count(b"\n")
        size = self._inner - begin
        if not (only_line and lines) or self._inner == record.length:
            self._advance()
        return size, lines

    def _gap(self, record: Record, size: int, lines: int | None, lost: bool) -> Gap:
        return Gap(
            self.service, self.run, self.producer, record.wall_ns, record.mono_ns,
            size, lines, "lost" if lost else "skipped",
        )  # fmt: skip


def _character_boundary(text: bytes | bytearray, cut: int) -> int:
    """The largest position up to `cut` that does not split a UTF-8 character."""
    for back in range(1, min(4, cut + 1)):
        byte = text[cut - back]
        if byte < 0x80:
            return cut
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return cut - back if back < wanted else cut
    return cut


def _has_newline(segment: Segment, record: Record) -> bool:
    for offset in range(record.offset, record.offset + record.length, BLOCK):
        size = min(BLOCK, record.offset + record.length - offset)
        if b"\n" in segment.data(offset, size):
            return True
    return False
