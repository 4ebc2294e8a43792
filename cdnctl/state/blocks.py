"""The blocks, in a file of their own: there may be a million, and one edit must not write all the others.

`blocks.jsonl` is a list of edits, one JSON object a line, only ever appended and on the disk before `add`
or `remove` return; the first line says which format it is. Reading it from the start gives the blocks. It
is written anew, without what no longer matters, when it has grown to several times what it says.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from cdnctl.errors import CdnctlError
from cdnctl.model import Block
from cdnctl.state import files

VERSION = 2
"""1 had no lists: a file without any is one still."""
_HEAD_1 = b'{"blocks":1'
_LIST = "list "
"""How the source of a list's blocks begins; then comes the revision that it was blocked with."""
_SPARE = 10_000
"""Edits that may lie about in any list."""


class Head(Struct, frozen=True, omit_defaults=True):
    """The first line."""

    blocks: int
    """The format's version."""
    revision: int = 0
    """Of the edge, when the file was written anew."""


class Many(Struct, frozen=True):
    """A list that was blocked as one: on a line of its own, so that all of it is there or nothing."""

    like: Block
    """The first of them."""
    prefixes: list[str]


class Edit(Struct, frozen=True, omit_defaults=True):
    """Another line: a block that is wanted, or one (by prefix and source) that is wanted no more; or a whole
    list, and the source of which nothing is wanted any more."""

    add: Block | None = None
    remove: tuple[str, str] | None = None
    many: Many | None = None
    let_go: str | None = None
    revision: int = 0
    """Of the edge after this edit."""


class BlocksError(CdnctlError):
    """The file cannot be read, and going on would lose it."""


class BlockLog:
    """Keeps blocks in the file at `path`; makes it and its directory when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.revision = 0
        """Of the last edit, or 0."""
        self.warnings: list[str] = []
        """What went wrong at the last `load` but did not stop it."""
        self._descriptor = -1
        self._size = 0
        """Bytes up to the end of the last whole line."""
        self._lines = 0
        self._damaged = False

    @property
    def exists(self) -> bool:
        """Whether there is a file; a state of an earlier version has its blocks elsewhere."""
        return self.path.exists()

    def load(self) -> list[Block]:
        """The blocks; those that have ended are left out. Raises BlocksError.

        A line that a crash has torn was never answered for, and is left out. Other damage is told, and
        the file kept when it is next written anew.
        """
        self.close()
        self.warnings, self.revision, self._lines, self._size, self._damaged = [], 0, 0, 0, False
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BlocksError(
                f"cannot read {self.path}: {error.strerror}",
                "the agent needs to read and write it; run it as root, or set CDNCTL_STATE_DIR",
            ) from error
        head, _, rest = data.partition(b"\n")
        self._check(head)
        whole = data.rfind(b"\n") + 1
        self._size = whole
        with undisturbed():
            edits = self._edits(rest[: max(0, whole - len(head) - 1)])
            self._lines = len(edits)
            found: dict[tuple[str, str], Block] = {}
            for edit in edits:
                if edit.add is not None:
                    found[edit.add.prefix, edit.add.source] = edit.add
                elif edit.remove is not None:
                    found.pop(edit.remove, None)
                elif edit.many is not None:
                    source = edit.many.like.source
                    found |= {(each.prefix, source): each for each in _each(edit.many)}
                elif edit.let_go is not None:
                    found = {key: each for key, each in found.items() if key[1] != edit.let_go}
            if edits:
                self.revision = max(self.revision, edits[-1].revision)
            now_ns = time.time_ns()
            return [block for block in found.values() if not 0 < block.expires_ns <= now_ns]

    def _check(self, head: bytes) -> None:
        try:
            said = msgspec.json.decode(head, type=Head)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._damage(f"its first line does not say what it is: {error}")
            return
        self.revision = said.revision
        if said.blocks > VERSION:
            raise BlocksError(
                f"{self.path} has version {said.blocks}; this cdnctl knows up to {VERSION}",
                "run the newer cdnctl, or move the file away to start without blocks",
            )

    def _edits(self, data: bytes) -> list[Edit]:
        try:
            return msgspec.json.Decoder(Edit).decode_lines(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # one by one, then
        found, wrong = list[Edit](), 0
        for line in data.split(b"\n"):
            try:
                found.append(msgspec.json.decode(line, type=Edit))
            except (msgspec.DecodeError, UnicodeDecodeError):
                wrong += bool(line.strip())
        if wrong:
            self._damage(f"{wrong} of its lines cannot be read, and are left out")
        return found

    def _damage(self, what: str) -> None:
        self._damaged = True
        self.warnings.append(
            f"{self.path} is damaged: {what}; it is kept as {self.path.name}.damaged- and the time"
        )

    # -- edits --

    def add(self, block: Block, revision: int) -> None:
        """Keep a block. Raises OSError; then it is not kept."""
        self._append(Edit(add=_kept(block), revision=revision))

    def remove(self, prefix: str, source: str, revision: int) -> None:
        """Keep it no longer. Raises OSError; then it is kept."""
        self._append(Edit(remove=(prefix, source), revision=revision))

    def add_list(self, blocks: Sequence[Block], revision: int) -> None:
        """Keep a list, all of one source. Raises OSError; then nothing of it is kept."""
        many = Many(_kept(blocks[0]), [block.prefix for block in blocks])
        self._append(Edit(many=many, revision=revision))

    def let_go(self, source: str, revision: int) -> None:
        """Keep nothing of a source any longer. Raises OSError; then it is kept."""
        self._append(Edit(let_go=source, revision=revision))

    def wants_rewriting(self, count: int) -> bool:
        """Whether most of what the file says, of so many blocks, does not matter any more."""
        return self._damaged or not self.exists or self._lines > 4 * count + _SPARE

    def rewrite(self, blocks: Iterable[Block], revision: int) -> None:
        """Have exactly these in the file. Raises OSError; then it is as it was."""
        single, lists = list[Block](), dict[str, list[Block]]()
        for block in blocks:
            (lists.setdefault(block.source, []) if is_list(block.source) else single).append(block)
        lines: list[Head | Edit] = [Head(blocks=VERSION if lists else 1, revision=revision)]
        lines += [Edit(add=_kept(block)) for block in single]
        lines += [
            Edit(many=Many(_kept(each[0]), [block.prefix for block in each])) for each in lists.values()
        ]
        data = msgspec.json.Encoder().encode_lines(lines)
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if self._damaged:
            time_of_day = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                os.link(self.path, self.path.with_name(f"{self.path.name}.damaged-{time_of_day}"))
        files.replace(self.path, data)
        self.close()
        self._damaged = False
        self._size, self._lines, self.revision = len(data), len(lines) - 1, max(self.revision, revision)

    def close(self) -> None:
        """Let go of the file; twice does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, edit: Edit) -> None:
        if self._descriptor < 0:
            if not self.exists:
                self.rewrite([], 0)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        data, length = msgspec.json.encode(edit) + b"\n", os.fstat(self._descriptor).st_size
        if length > self._size:  # a line that was torn: its writer was killed, or found no room
            os.ftruncate(self._descriptor, self._size)
        elif length < self._size:
            raise OSError(errno.EIO, f"{self.path} was made shorter by somebody else")
        try:
            if edit.many is not None and os.pread(self._descriptor, len(_HEAD_1), 0) == _HEAD_1:
                os.pwrite(
                    self._descriptor, b"%d" % VERSION, len(_HEAD_1) - 1
                )  # an older cdnctl must not read on
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            files.write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)
        self._lines += 1
        self.revision = max(self.revision, edit.revision)


def list_source(revision: int) -> str:
    """The source of the blocks of a list."""
    return f"{_LIST}{revision}"


def is_list(source: str) -> bool:
    """Whether it is one."""
    return source.startswith(_LIST)


def _each(many: Many) -> Iterator[Block]:
    like = many.like
    for prefix in many.prefixes:
        yield Block(
            prefix=prefix,
            reason=like.reason,
            source=like.source,
            created_ns=like.created_ns,
            expires_ns=like.expires_ns,
        )


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A million objects are made in half the time when nobody looks for cycles among them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _kept(block: Block) -> Block:
    """Without its hits: they are an estimate of the running agent."""
    return msgspec.structs.replace(block, hits=0) if block.hits else block
