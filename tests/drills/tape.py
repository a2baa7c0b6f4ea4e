"""Record what a process does to its disk, and make the disks that a power cut can leave.

SQLite's writes, truncations and syncs are recorded below SQLite, by replacing the methods of the
files that its default VFS opens (through ctypes, in the library that Python itself uses). Other
files are recorded where the house makes them durable: `os.fsync`, `os.replace`, `os.link`,
`os.unlink` and the sync of a directory; what such a file holds is read at each of these moments.

A disk after a power cut holds everything that was synced before it. Of what was not synced, any
part may be there, sector by sector, in any order; a rename, a link or a deletion whose directory
was not synced may have happened or not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

SECTOR: Final = 512
_P = ctypes.c_void_p
_OK: Final = 0
# SQLite syncs the directory with the first sync of a journal or log that it may have made.
_CREATE, _JOURNAL, _LOG = 0x4, 0x800, 0x80000


class Op(NamedTuple):
    """One thing that happened: write, truncate, sync, content, rename, link, delete, directory,
    mark. `path` is relative to the folder; `data` bytes or another path; `at` an offset or size."""

    what: str
    path: str
    data: Any = None
    at: int = 0


@dataclass
class Tape:
    """What happened in one folder, in order."""

    folder: Path
    ops: list[Op] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, path: str, data: Any = None, at: int = 0) -> None:
        """Append; what is not in the folder is nobody's business."""
        if not path.startswith(f"{self.folder}/"):
            return
        if isinstance(data, str) and what in ("rename", "link"):
            data = os.path.relpath(data, self.folder)
        with self._lock:
            self.ops.append(Op(what, os.path.relpath(path, self.folder), data, at))

    def mark(self, what: Any) -> None:
        """Something was acknowledged: whatever it says must be there after a cut from now on."""
        with self._lock:
            self.ops.append(Op("mark", "", what))


# Below SQLite --------------------------------------------------------------------------------


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        *((name, _P) for name in ("close", "read", "write", "truncate", "sync", "size")),
        *((name, _P) for name in ("lock", "unlock", "check", "control", "sector", "device")),
        *((name, _P) for name in ("map", "shm_lock", "barrier", "unmap", "fetch", "unfetch")),
    )


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs as far as it is needed, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest", ctypes.c_int),
        ("next", _P),
        ("name", ctypes.c_char_p),
        ("data", _P),
        ("open", _P),
        ("delete", _P),
        *((f"rest{n}", _P) for n in range(15)),
    )


_F = ctypes.POINTER(_File)
# Names are passed on as they came, not as copies: SQLite keeps them, and what lies behind them.
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, _F, ctypes.c_int, _P)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, _P, _P, ctypes.c_int)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _F, _P, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, _F, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _F, ctypes.c_int)


class _Shim:
    """The default VFS of this process's SQLite, with a tape in it. Made once, stays."""

    def __init__(self) -> None:
        import _sqlite3

        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        library.sqlite3_vfs_register.argtypes = [_P, ctypes.c_int]
        found = library.sqlite3_vfs_find(None)
        self._original = ctypes.addressof(found.contents)
        self._vfs = _Vfs.from_buffer_copy(found.contents)
        self._vfs.name = b"tape"
        self._vfs.next = None
        self._real_open = _OPEN(found.contents.open)
        self._real_delete = _DELETE(found.contents.delete)
        self._tables: dict[int, _Methods] = {}
        self._paths: dict[int, str] = {}
        self._new: set[int] = set()
        self._kept: list[Any] = []
        self.tape: Tape | None = None
        self._vfs.open = self._keep(_OPEN(self._open))
        self._vfs.delete = self._keep(_DELETE(self._delete))
        if library.sqlite3_vfs_register(ctypes.addressof(self._vfs), 1) != _OK:
            raise RuntimeError("SQLite does not take another VFS")

    def _keep(self, function: Any) -> int | None:
        self._kept.append(function)  # what C calls must not be collected
        return ctypes.cast(function, _P).value

    def _open(self, _vfs: int, name: int | None, file: Any, flags: int, out: int) -> int:
        result: int = self._real_open(self._original, name, file, flags, out)
        if result == _OK and name:
            address = ctypes.addressof(file.contents)
            self._paths[address] = _path(name)
            self._new.discard(address)
            if flags & _CREATE and flags & (_JOURNAL | _LOG):
                self._new.add(address)
            file.contents.methods = ctypes.pointer(self._taped(file.contents.methods.contents))
        return result

    def _delete(self, _vfs: int, name: int, sync: int) -> int:
        result: int = self._real_delete(self._original, name, sync)
        if self.tape is not None and result == _OK:
            path = _path(name)
            self.tape.add("delete", path)
            if sync:
                self.tape.add("directory", str(Path(path).parent) + "/.")
        return result

    def _taped(self, methods: _Methods) -> _Methods:
        original = ctypes.addressof(methods)
        if original in self._tables:
            return self._tables[original]
        copy = _Methods.from_buffer_copy(methods)
        write, truncate, sync = (
            _WRITE(methods.write),
            _TRUNCATE(methods.truncate),
            _SYNC(methods.sync),
        )

        def taped_write(file: Any, data: int, size: int, offset: int) -> int:
            if self.tape is not None:
                self._add("write", file, ctypes.string_at(data, size), offset)
            return int(write(file, data, size, offset))

        def taped_truncate(file: Any, size: int) -> int:
            if self.tape is not None:
                self._add("truncate", file, None, size)
            return int(truncate(file, size))

        def taped_sync(file: Any, flags: int) -> int:
            result = int(sync(file, flags))
            if self.tape is not None:
                self._add("sync", file)
                address = ctypes.addressof(file.contents)
                if address in self._new:
                    self._new.discard(address)
                    self.tape.add("directory", str(Path(self._paths[address]).parent) + "/.")
            return result

        copy.write = self._keep(_WRITE(taped_write))
        copy.truncate = self._keep(_TRUNCATE(taped_truncate))
        copy.sync = self._keep(_SYNC(taped_sync))
        self._tables[original] = copy
        return copy

    def _add(self, what: str, file: Any, data: Any = None, at: int = 0) -> None:
        assert self.tape is not None
        self.tape.add(what, self._paths[ctypes.addressof(file.contents)], data, at)


def _path(name: int) -> str:
    return os.fsdecode(ctypes.string_at(name))


_shim: _Shim | None = None


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Tape]:
    """Record what this process does below `folder`, from connections that are opened inside."""
    global _shim
    _shim = _shim or _Shim()
    tape = Tape(folder)
    real = (os.fsync, os.replace, os.rename, os.unlink, os.link)

    def fsync(descriptor: int) -> None:
        real[0](descriptor)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            tape.add("directory", f"{path}/.")
        elif stat.S_ISREG(os.fstat(descriptor).st_mode):
            tape.add("content", path, Path(path).read_bytes(), at=1)

    def replace(source: Any, target: Any, **options: Any) -> None:
        tape.add("content", str(source), Path(source).read_bytes())
        real[1](source, target, **options)
        tape.add("rename", str(source), str(target))

    def unlink(path: Any, **options: Any) -> None:
        real[3](path, **options)
        tape.add("delete", str(path))

    def link(source: Any, target: Any, **options: Any) -> None:
        tape.add("content", str(source), Path(source).read_bytes())
        real[4](source, target, **options)
        tape.add("link", str(source), str(target))

    _shim.tape = tape
    os.fsync, os.replace, os.rename, os.unlink, os.link = fsync, replace, replace, unlink, link  # type: ignore[assignment]
    try:
        yield tape
    finally:
        os.fsync, os.replace, os.rename, os.unlink, os.link = real
        _shim.tape = None


# After the cut -------------------------------------------------------------------------------


@dataclass
class _Content:
    """One file: what is surely on the disk, and what may be."""

    safe: bytearray
    loose: list[Op] = field(default_factory=list)


@dataclass
class Disk:
    """The disk as operations are played onto it. `files` are names; contents move with them."""

    files: dict[str, _Content] = field(default_factory=dict)
    #: Names as they were when their directory was last synced, for directories that changed since.
    loose_names: list[tuple[Op, dict[str, _Content | None]]] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """A folder as it is, all of it synced."""
        disk = cls()
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder))
            if path.is_dir():
                disk.directories.add(name)
            elif path.is_file():
                disk.files[name] = _Content(bytearray(path.read_bytes()))
        return disk

    def play(self, op: Op) -> None:
        """What one operation does."""
        if op.what in ("write", "truncate"):
            self._file(op.path).loose.append(op)
        elif op.what == "sync":
            content = self._file(op.path)
            for loose in content.loose:
                _apply(content.safe, loose)
            content.loose.clear()
        elif op.what == "content":
            content = self._file(op.path)
            if op.at:
                content.safe, content.loose = bytearray(op.data), []
            else:
                content.loose = [Op("truncate", op.path, None, 0), Op("write", op.path, op.data)]
                if content.safe == op.data:
                    content.loose = []
        elif op.what in ("rename", "link"):
            self._remember(op, op.path, op.data)
            self.files[op.data] = self._file(op.path)
            if op.what == "rename":
                del self.files[op.path]
        elif op.what == "delete":
            self._remember(op, op.path)
            self.files.pop(op.path, None)
        elif op.what == "directory":
            folder = Path(op.path)
            self.loose_names = [
                entry for entry in self.loose_names if Path(entry[0].path).parent != folder
            ]

    def _file(self, name: str) -> _Content:
        return self.files.setdefault(name, _Content(bytearray()))

    def _remember(self, op: Op, *names: str) -> None:
        self.loose_names.append((op, {name: self.files.get(name) for name in names}))

    def cut(self, rng: random.Random, target: Path) -> None:
        """Write one of the disks that a power cut now can leave."""
        names = dict(self.files)
        # Names change in order: some of the last changes did not reach the disk.
        keep = rng.randrange(len(self.loose_names) + 1)
        for _, before in reversed(self.loose_names[keep:]):
            for name, content in before.items():
                if content is None:
                    names.pop(name, None)
                else:
                    names[name] = content
        for directory in sorted(self.directories):
            (target / directory).mkdir(parents=True, exist_ok=True)
        reached = rng.choice((0.0, 0.3, 0.7, 1.0))
        for name, content in names.items():
            data = bytearray(content.safe)
            loose = list(content.loose)
            if rng.random() < 0.3:
                rng.shuffle(loose)
            for op in loose:
                for piece in _pieces(op):
                    if rng.random() < reached:
                        _apply(data, piece)
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)


def _pieces(op: Op) -> Iterator[Op]:
    if op.what != "write":
        yield op
        return
    at = op.at
    while at < op.at + len(op.data):
        end = min((at // SECTOR + 1) * SECTOR, op.at + len(op.data))
        yield Op("write", op.path, op.data[at - op.at : end - op.at], at)
        at = end


def _apply(data: bytearray, op: Op) -> None:
    if op.what == "truncate":
        del data[op.at :]
        return
    end = op.at + len(op.data)
    if len(data) < end:
        data.extend(bytes(end - len(data)))
    data[op.at : end] = op.data
