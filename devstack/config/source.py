"""Reads YAML into a tree in which everything knows its place and every scalar is still text.

What a scalar means (a port, a version, yes or no) is the schema's to say, so none of YAML 1.1's
guesses happen here: `22:22`, `no`, `010` and `1.10` stay what was typed. The tree is built from the
parser's events, not by PyYAML's composer, because limits must hold while reading: the composer of
the C parser recurses without a bound and keeps duplicate keys.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from devstack.config.problems import Place, Report
from devstack.config.syntax import report_character, report_syntax
from devstack.core.template import Template

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 50
MAX_NODES: Final = 20_000
"""After aliases are expanded: an alias counts as much as what it stands for."""

_NO_BREAKS: Final = "\x85\u2028\u2029"
"""End a line to YAML 1.1 alone, not to editors: to the parsers they are shown as something else."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TAG: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = frozenset({"str", "int", "float", "bool", "null"})
_FAST_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it was typed."""

    text: str
    place: Place
    is_plain: bool = True
    """Written without quotes."""
    is_null: bool = False
    is_broken: bool = False
    """What is wrong with it was told already; there is no text to speak of."""
    template: Template | None = None
    """The text with its references, once variables are filled in."""
    bare_variable: str = ""
    """The first `$NAME` that was typed without braces, without its `$`: only a shell reads it."""


class Section(dict[str, "Node"]):
    """A map; knows where it starts and where each of its keys stands."""

    __slots__ = ("key_places", "place")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.key_places: dict[str, Place] = {}

    def put(self, key: str, place: Place, node: "Node") -> None:
        self[key] = node
        self.key_places[key] = place

    def key_place(self, key: str) -> Place:
        return self.key_places.get(key, self.place)


class Items(list["Node"]):
    """A list; knows where it starts."""

    __slots__ = ("place",)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


Node = Scalar | Section | Items


class Unreadable(Exception):
    """The file is no tree at all; told already, nothing else can be said about it."""


def read_text(path: Path, name: str, report: Report, *, named_at: Place | None = None) -> str:
    """The text of a file a person wrote; reports and raises `Unreadable` where it has none.

    `named_at` is where another file names it.
    """
    whole = named_at or Place(name)
    try:
        data = _read_regular_file(path)
    except OSError as exc:
        report.error(whole, f"cannot read {name}: {(exc.strerror or str(exc)).lower()}")
        raise Unreadable from exc
    if len(data) > MAX_BYTES:
        report.error(whole, f"cannot read {name}: it is larger than 1 MiB")
        raise Unreadable
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("utf-8")
        line = len(re.findall(r"\r\n|\r|\n", before)) + 1
        column = len(re.split(r"[\r\n]", before)[-1]) + 1
        report.error(
            Place(name, line, column),
            f"cannot read {name}: byte 0x{data[exc.start]:02x} is not UTF-8",
            "save the file as UTF-8",
        )
        raise Unreadable from exc
    return text.removeprefix("\ufeff")


def _read_regular_file(path: Path) -> bytes:
    """The first bytes of a file, one more than are allowed."""
    # Not blocking: a FIFO in a hostile checkout must not hang who only asks for `validate`.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def read_tree(text: str, name: str, report: Report) -> Section:
    """The tree of one YAML document; reports and raises `Unreadable` where there is none."""
    report.add_text(name, text)
    text, written = _without_breaks(text)
    try:
        return _Composer(name, report, written).compose(yaml.parse(text, Loader=_FAST_LOADER))
    except yaml.MarkedYAMLError as exc:
        report_syntax(exc, text, name, report)
        raise Unreadable from exc
    except yaml.reader.ReaderError as exc:
        position = exc.position if isinstance(exc.position, int) else 0
        report_character(text, position, name, report)
        raise Unreadable from exc


def _without_breaks(text: str) -> tuple[str, Mapping[int, str]]:
    """A text of the same length in which only editors' line ends end a line, and the way back."""
    if not any(character in text for character in _NO_BREAKS):
        return text, {}
    unused = (chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text)
    pairs = list(zip(_NO_BREAKS, unused, strict=False))
    shown = text.translate({ord(character): spare for character, spare in pairs})
    return shown, {ord(spare): character for character, spare in pairs}


def compose(events: Iterator[Event], name: str, report: Report) -> Section:
    """The tree of a stream of parser events; takes no more of them than the limits allow."""
    return _Composer(name, report).compose(events)


@dataclass(slots=True)
class _Measured:
    """A node with what it counts towards the limits wherever an alias repeats it."""

    node: Node
    nodes: int
    height: int


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read."""

    node: Section | Items
    anchor: str | None
    first_node: int
    """How many nodes were counted before it."""
    height: int = 1
    key: Scalar | None = None
    merges: list[tuple[Place, Node]] = field(default_factory=list)


class _Composer:
    """Builds one tree from events, without recursion, counting as it goes."""

    def __init__(self, name: str, report: Report, written: Mapping[int, str] | None = None) -> None:
        self._name = name
        self._report = report
        self._written = written
        """What characters of the events stand for, where they are not those of the file."""
        self._count = 0
        self._anchors: dict[str, _Measured] = {}
        self._open: list[_Open] = []
        self._root: Node | None = None

    def compose(self, events: Iterator[Event]) -> Section:
        documents = 0
        for event in events:
            match event:
                case DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        self._fail(
                            event, "a second document starts here", "a stack is one document"
                        )
                case AliasEvent():
                    self._alias(event)
                case ScalarEvent():
                    self._counted(event, 1)
                    self._finished(event.anchor, self._scalar(event), 1, 1)
                case MappingStartEvent():
                    self._start(event, Section(self._place(event)), "map")
                case SequenceStartEvent():
                    self._start(event, Items(self._place(event)), "seq")
                case MappingEndEvent() | SequenceEndEvent():
                    self._end()
                case _:
                    pass  # the stream's and the document's frame carry nothing
        root = self._root
        if root is None or (isinstance(root, Scalar) and root.is_null):
            self._report.error(Place(self._name), f"{self._name} is empty")
            raise Unreadable
        if not isinstance(root, Section):
            self._report.error(root.place, "a stack file is a map of keys such as 'services:'")
            raise Unreadable
        return root

    def _start(
        self, event: MappingStartEvent | SequenceStartEvent, node: Section | Items, tag: str
    ) -> None:
        self._counted(event, 1)
        if event.tag is not None and event.tag not in (_TAG + tag, "!"):
            self._bad_tag(event, event.tag)
        if len(self._open) >= MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
        if self._awaits_key():
            self._fail(event, "a key must be a text, not a map or a list")
        self._open.append(_Open(node, event.anchor, self._count - 1))

    def _end(self) -> None:
        done = self._open.pop()
        if isinstance(done.node, Section):
            self._apply_merges(done)
        self._finished(done.anchor, done.node, self._count - done.first_node, done.height)

    def _alias(self, event: AliasEvent) -> None:
        target = self._anchors.get(event.anchor or "")
        if target is None:
            inside = any(o.anchor == event.anchor for o in self._open)
            reason = "stands inside itself" if inside else "is not defined above this line"
            self._fail(event, f"the anchor '{event.anchor}' {reason}")
            return
        if self._awaits_key():
            self._fail(event, "a key must be a text, not an alias")
        self._counted(event, target.nodes)
        if len(self._open) + target.height > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
        self._finished(None, target.node, target.nodes, target.height)

    def _finished(self, anchor: str | None, node: Node, nodes: int, height: int) -> None:
        """Hang a whole node where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = _Measured(node, nodes, height)
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        parent.height = max(parent.height, height + 1)
        if isinstance(parent.node, Items):
            parent.node.append(node)
        elif parent.key is None:
            assert isinstance(node, Scalar)  # collections and aliases were refused before
            parent.key = self._check_key(parent.node, node)
        else:
            key, parent.key = parent.key, None
            if key.text == "<<" and key.is_plain:
                parent.merges.append((key.place, node))
            elif key.text not in parent.node and not key.is_null and not key.is_broken:
                parent.node.put(key.text, key.place, node)

    def _check_key(self, section: Section, key: Scalar) -> Scalar:
        if key.is_null:
            self._report.error(key.place, "a key is missing before ':'")
        elif key.text in section and not key.is_broken:
            first = section.key_places[key.text]
            self._report.error(
                key.place,
                f"duplicate key '{key.text}'",
                f"the first is on line {first.line}; keep one of them",
            )
        return key

    def _apply_merges(self, done: _Open) -> None:
        """`<<`: keys of the map itself win, then those of the map named first."""
        section = done.node
        assert isinstance(section, Section)
        for place, node in done.merges:
            for source in node if isinstance(node, Items) else [node]:
                if not isinstance(source, Section):
                    self._report.error(place, "'<<' takes a map or a list of maps, such as *base")
                    continue
                for key, value in source.items():
                    if key not in section:
                        section.put(key, source.key_places[key], value)

    def _scalar(self, event: ScalarEvent) -> Scalar:
        place = self._place(event)
        tag = event.tag
        if tag is not None and tag != "!" and tag.removeprefix(_TAG) not in _SCALAR_TAGS:
            self._bad_tag(event, tag)
        if "\0" in event.value:
            self._report.error(place, "a key or a value cannot contain a NUL character")
            return Scalar("", place, is_plain=False, is_broken=True)
        is_plain = not event.style and tag in (None, _TAG + "null")
        is_null = is_plain and event.value in _NULLS
        text = event.value.translate(self._written) if self._written else event.value
        return Scalar(text, place, is_plain, is_null)

    def _bad_tag(self, event: Event, tag: str) -> None:
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self._fail(event, f"the tag '{shown}' is not allowed", "write the value without a tag")

    def _awaits_key(self) -> bool:
        return (
            bool(self._open)
            and isinstance(self._open[-1].node, Section)
            and self._open[-1].key is None
        )

    def _counted(self, event: Event, nodes: int) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            self._fail(
                event,
                f"more than {MAX_NODES} values",
                "an alias counts as much as what it stands for",
            )

    def _place(self, event: Event) -> Place:
        mark = event.start_mark
        assert mark is not None  # both parsers mark every event
        return Place(self._name, mark.line + 1, mark.column + 1)

    def _fail(self, event: Event, message: str, hint: str = "") -> None:
        self._report.error(self._place(event), message, hint)
        raise Unreadable
