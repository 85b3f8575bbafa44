"""The file itself: a gzip of a plain tar. Written by the standard library, so any ``tar`` reads it; read by this module
alone, byte by byte against what the manifest says, so that nothing else can be in it."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from backups import manifest
from backups.errors import ArchiveRefused
from backups.manifest import Manifest, Member
from zcplatform.lib.failpoints import failpoint

BLOCK, CHUNK = 512, 1 << 20
LEVEL = 1  # a database of 500 MB in 8 s instead of 25, for a fifth more on the disk
# A gzip header with one extra field, which every gunzip skips: the SHA-256 of all bytes behind it. The checksum inside
# a gzip is of the unpacked bytes, and some flipped bits unpack to the same ones.
HEADER = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x04\xff\x24\x00ZC\x20\x00"
DIGEST = 32
TRAILER = struct.Struct("<II")
END = bytes(2 * BLOCK)
RECORD = 20 * BLOCK
MAX_RATIO, FREE_BYTES = 250, 64 << 20
MAX_SECONDS = 3_600.0

Progress = Callable[[int, int], None]


def write(target: BinaryIO, content: bytes, folder: Path, members: list[Member], on_progress: Progress) -> None:
    """Manifest first, then the members from ``folder``, in their order."""
    total, done = sum(member.size for member in members), 0
    out = _Gzip(target)
    out.write(_header(manifest.NAME, len(content)) + content + _padding(len(content)))
    for member in members:
        out.write(_header(member.name, member.size))
        for chunk in _chunks(folder / member.name):
            out.write(chunk)
            done += len(chunk)
            on_progress(done, total)
        out.write(_padding(member.size))
        failpoint("backup.member")
    out.write(END + bytes(-(out.size + len(END)) % RECORD))
    out.end()


class Reader:
    """Reads one archive from its start to its end; ArchiveRefused for anything that ``write`` does not write."""

    def __init__(self, file: BinaryIO) -> None:
        self._source = _Gunzip(file)
        self.manifest = self._manifest()

    def extract(self, folder: Path, on_progress: Progress = lambda _done, _total: None) -> None:
        """Every member into ``folder``, each compared with its size and checksum; the archive must end with them."""
        total, done = sum(member.size for member in self.manifest.members), 0
        seen = [manifest.NAME]
        for member in self.manifest.members:
            header = self._source.read(BLOCK)
            if header != _header(member.name, member.size):
                raise _why(header, member, seen)
            seen.append(member.name)
            done = self._copy(member, folder / member.name, done, total, on_progress)
        self._end(seen)

    def _copy(self, member: Member, target: Path, done: int, total: int, on_progress: Progress) -> int:
        digest, left = hashlib.sha256(), member.size
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with target.open("xb") as out:
            target.chmod(0o600)
            while left:
                chunk = self._source.read(min(CHUNK, left))
                out.write(chunk)
                digest.update(chunk)
                left, done = left - len(chunk), done + len(chunk)
                on_progress(done, total)
        self._nulls(len(_padding(member.size)))
        if digest.hexdigest() != member.sha256:
            raise ArchiveRefused(f"{member.name} is not what the manifest says: its checksum differs.")
        return done

    def _manifest(self) -> Manifest:
        header = self._source.read(BLOCK)
        info = _info(header)
        if info is None or info.size > manifest.MAX_BYTES or header != _header(manifest.NAME, info.size):
            raise _why(header, Member(manifest.NAME, 0, ""), [])
        content = self._source.read(info.size)
        self._nulls(len(_padding(info.size)))
        return manifest.parse(content)

    def _end(self, seen: list[str]) -> None:
        block = self._source.read(BLOCK)
        if block != bytes(BLOCK):
            raise _why(block, None, seen)
        while block := self._source.read(BLOCK, at_most=True):
            if block.strip(b"\0"):
                raise ArchiveRefused("There is something behind the archive's end.", type="archive_member")

    def _nulls(self, count: int) -> None:
        if self._source.read(count).strip(b"\0"):
            raise ArchiveRefused("The archive is damaged: its padding holds something.")


class _Gzip:
    """Packs into a file that can be sought in: the digest is only known at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._deflate = file, zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._digest, self._crc, self.size = hashlib.sha256(), 0, 0
        file.write(HEADER + bytes(DIGEST))

    def write(self, data: bytes) -> None:
        self._crc, self.size = zlib.crc32(data, self._crc), self.size + len(data)
        self._put(self._deflate.compress(data))

    def end(self) -> None:
        self._put(self._deflate.flush() + TRAILER.pack(self._crc, self.size & 0xFFFFFFFF))
        self._file.seek(len(HEADER))
        self._file.write(self._digest.digest())

    def _put(self, packed: bytes) -> None:
        self._digest.update(packed)
        self._file.write(packed)


class _Gunzip:
    """What one gzip stream holds, and no more of it than its own size and the clock allow."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate = file, zlib.decompressobj(-zlib.MAX_WBITS)
        self._digest, self._left, self._given, self._taken = hashlib.sha256(), bytearray(), 0, 0
        self._ended, self._until = False, time.monotonic() + MAX_SECONDS
        start = file.read(len(HEADER) + DIGEST)
        if start[: len(HEADER)] != HEADER[: len(start)]:
            raise ArchiveRefused("This is no archive of zcplatform: it begins otherwise.")
        if len(start) < len(HEADER) + DIGEST:
            raise _cut_off()
        self._wanted = start[len(HEADER) :]

    def read(self, count: int, *, at_most: bool = False) -> bytes:
        """Exactly ``count`` bytes, or, with ``at_most``, what is left."""
        while len(self._left) < count and self._more():
            pass
        if len(self._left) < count and not at_most:
            raise ArchiveRefused("The archive ends before its last member.", type="archive_truncated")
        taken = bytes(self._left[:count])
        del self._left[:count]
        return taken

    def _more(self) -> bool:
        if self._inflate.eof:
            self._end()
            return False
        chunk = self._inflate.unconsumed_tail or self._next()
        if not chunk:
            raise _cut_off()
        try:
            fresh = self._inflate.decompress(chunk, CHUNK)
        except zlib.error as error:
            raise ArchiveRefused("The archive is damaged: it does not unpack.") from error
        self._given += len(fresh)
        self._left += fresh
        if self._given > FREE_BYTES + MAX_RATIO * self._taken or time.monotonic() > self._until:
            raise ArchiveRefused("The archive unpacks to far more than a backup does.", type="archive_bomb")
        return True

    def _next(self) -> bytes:
        chunk = self._file.read(CHUNK)
        self._digest.update(chunk)
        self._taken += len(chunk)
        return chunk

    def _end(self) -> None:
        """Behind the packed bytes there are CRC and size, and nothing else; all of it is as it was written."""
        if self._ended:
            return
        rest = self._inflate.unused_data + self._next()
        if len(rest) < TRAILER.size:
            raise _cut_off()
        if len(rest) > TRAILER.size or self._file.read(1):
            raise ArchiveRefused("There is something behind the archive's end.", type="archive_member")
        if self._digest.digest() != self._wanted:
            raise ArchiveRefused("The archive is damaged: its checksum differs.")
        self._ended = True


def _cut_off() -> ArchiveRefused:
    return ArchiveRefused("The archive is cut off.", type="archive_truncated")


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _info(header: bytes) -> tarfile.TarInfo | None:
    with suppress(tarfile.TarError):
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    return None


_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
}


def _why(header: bytes, wanted: Member | None, seen: list[str]) -> ArchiveRefused:
    """What stands where ``wanted`` should: named, for whoever has to find out where the archive comes from."""
    info = _info(header)
    if info is None:
        kind = "archive_truncated" if header == bytes(BLOCK) else "archive_damaged"
        missing = f"{wanted.name} is missing" if wanted and header == bytes(BLOCK) else "a header is damaged"
        return ArchiveRefused(f"The archive is not whole: {missing}.", type=kind)
    return ArchiveRefused(
        f"The archive holds {_oddity(info, wanted, seen)}; nothing was unpacked.", type="archive_member"
    )


def _oddity(info: tarfile.TarInfo, wanted: Member | None, seen: list[str]) -> str:
    name = ascii(info.name)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return f"{_KINDS.get(info.type, 'an extension')} ({name})"
    if info.name.startswith("/") or ".." in PurePosixPath(info.name).parts:
        return f"a path that leads out of it ({name})"
    if info.name in seen:
        return f"{name} twice"
    if wanted and info.name == wanted.name:
        return f"{name} with another size, mode or owner than its manifest says"
    if _folded(info.name) in {_folded(known) for known in (*seen, *manifest.SMALL, manifest.SQLITE)}:
        return f"a look-alike or misplaced name ({name})"
    return f"a member that its manifest does not name ({name})"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip("./ ")
