"""`ModelFile`: a model's bytes, what they say, and whether they hold together; `open_model` makes one."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.errors import DamagedModel, EdgeError, ModelNotFound
from edge_sdk.formats.detect import detect_folder, detect_format
from edge_sdk.formats.info import ModelInfo

if TYPE_CHECKING:
    from edge_sdk.formats import onnx_reader, tflite_reader
    from edge_sdk.formats.known_hashes import KnownHash

__all__ = ["ModelFile", "open_model"]


class ModelFile:
    """A model file of a known format. Any number of threads may use one.

    Attributes:
        name: the file's name, for messages.
        path: where it lies; None for a model in memory.
        format: "onnx" or "tflite".
        size_bytes: of the file itself, without external files.
    """

    def __init__(self, content: bytes | None, path: Path | None, name: str) -> None:
        self.name = name
        self.path = path
        self._bytes = content
        self._mapped: mmap.mmap | None = None
        self._lock = threading.RLock()
        self._sha256 = ""
        self._fingerprint = ""
        self._checked = False
        self._info: ModelInfo | None = None
        self._onnx: onnx_reader.Model | None = None
        self._tflite: tflite_reader.Model | None = None
        self._stamp: tuple[int, int] | None = None
        self._state: os.stat_result | None = None
        with self.content() as view:
            self.size_bytes = len(view)
            try:
                self.format = detect_format(view, name)
            except EdgeError:
                view.release()
                self.close()
                raise

    def __repr__(self) -> str:
        return f"ModelFile({self.name!r}, {self.format}, {self.size_bytes} bytes)"

    def __enter__(self) -> ModelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def content(self) -> memoryview:
        """The file's bytes: mapped where it lies on disk, the bytes given otherwise. Maps again after `close`.

        Raises:
            ModelNotFound: the file has gone.
            DamagedModel: the file changed since it was opened.
        """
        if self._bytes is not None:
            return memoryview(self._bytes)
        with self._lock:
            if self._mapped is None:
                self._map()
            return memoryview(self._mapped) if self._mapped is not None else memoryview(b"")

    @property
    def sha256(self) -> str:
        """Hash of the file itself, hexadecimal. Read once, on first use, or known from an earlier process."""
        with self._lock:
            if not self._sha256:
                self._sha256 = self._hashed()
            return self._sha256

    def _hashed(self) -> str:
        content = self.content()
        known = self._known()
        if known is not None:
            return known.sha256
        import hashlib

        sha256 = hashlib.sha256(content).hexdigest()
        if self.path is not None and self._state is not None:
            from edge_sdk.formats.known_hashes import KnownHash, keep_hash

            keep_hash(self.path, self._state, KnownHash(sha256))
        return sha256

    def _known(self) -> KnownHash | None:
        """What an earlier process kept of this very file."""
        if self.path is None or self._state is None:
            return None
        from edge_sdk.formats.known_hashes import known_hash

        return known_hash(self.path, self._state)

    @property
    def fingerprint(self) -> str:
        """Hash of all the model is, for caches: `sha256`, or where there are external files a hash over them too.

        Raises:
            ModelError: the file is damaged or an external file is missing.
        """
        with self._lock:
            if not self._fingerprint:
                self._fingerprint = self._hash_all()
            return self._fingerprint

    def describe(self) -> ModelInfo:
        """What the file says about itself. Read once.

        Raises:
            DamagedModel: it cannot be read.
        """
        with self._lock:
            if self._info is None:
                if self.format == "onnx":
                    from edge_sdk.formats.onnx_info import describe_onnx

                    self._info = describe_onnx(self._read_onnx())
                else:
                    from edge_sdk.formats.tflite_check import check_references
                    from edge_sdk.formats.tflite_info import describe_tflite

                    model = self._read_tflite()
                    check_references(model, self.size_bytes, self.name)
                    self._info = describe_tflite(model, self.content())
            self._forget_parts()
            return self._info

    def check(self) -> None:
        """Checks that the structure holds together, without any engine. Done once; costs milliseconds.

        Raises:
            DamagedModel: it does not; the message says where.
            UnsupportedVersion: a TFLite schema other than version 3.
        """
        with self._lock:
            if self._checked:
                return
            if self.format == "onnx":
                from edge_sdk.formats.onnx_check import check_onnx

                check_onnx(self._read_onnx(), self.name, self.path.parent if self.path else None)
            else:
                from edge_sdk.formats.tflite_check import check_tflite

                check_tflite(self._read_tflite(), self.size_bytes, self.name)
            self._checked = True
            self._forget_parts()

    def close(self) -> None:
        """Gives the mapped memory back as soon as nobody reads it. Idempotent; what was read stays known."""
        with self._lock:
            self._onnx = self._tflite = None  # they may refer to the memory
            mapped, self._mapped = self._mapped, None
            if mapped is not None:
                # Somebody still reads: the memory goes with the last view of it.
                with contextlib.suppress(BufferError):
                    mapped.close()

    def _forget_parts(self) -> None:
        """Drops what was read once nobody will ask for it again: a large graph takes much memory as objects."""
        if self._checked and self._info is not None:
            self._onnx = self._tflite = None

    def _read_onnx(self) -> onnx_reader.Model:
        if self._onnx is None:
            from edge_sdk.formats.onnx_reader import read_model

            self._onnx = read_model(self.content(), self.name)
        return self._onnx

    def _read_tflite(self) -> tflite_reader.Model:
        if self._tflite is None:
            from edge_sdk.formats.tflite_reader import read_model

            self._tflite = read_model(self.content(), self.name)
        return self._tflite

    def _map(self) -> None:
        path = self.path
        assert path is not None
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_size, status.st_mtime_ns)
                if self._stamp is not None and stamp != self._stamp:
                    raise DamagedModel(f"{self.name}: the file changed while it was open; open it again")
                self._stamp, self._state = stamp, status
                if not status.st_size:
                    self._bytes = b""
                    return
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _not_readable(path, error) from None

    def _external_files(self) -> tuple[str, ...]:
        sha256 = self.sha256
        known = self._known()
        if known is not None and known.external_files is not None:
            return known.external_files
        files = self.describe().external_files
        if self.path is not None and self._state is not None:
            from edge_sdk.formats.known_hashes import KnownHash, keep_hash

            keep_hash(self.path, self._state, KnownHash(sha256, files))
        return files

    def _hash_all(self) -> str:
        files = self._external_files()
        if not files:
            return self.sha256
        import hashlib

        digest = hashlib.sha256(self.sha256.encode())
        folder = self.path.parent if self.path else Path()
        for name in files:
            try:
                with open(folder / name, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except (OSError, ValueError) as error:
                raise ModelNotFound(
                    f"{self.name}: its external file {name!r} cannot be read: {_reason(error)}"
                ) from None
        return digest.hexdigest()


def open_model(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> ModelFile:
    """Opens a model file and tells its format by its content. Reads next to nothing; see `check` and `describe`.

    Args:
        source: path of a file, or the bytes of one.
        name: what messages call it; the file's name by default.

    Raises:
        ModelNotFound: there is no such file, or it is a folder, or it cannot be read.
        UnsupportedFormat: it is of a format that is not run here; the message names the way to ONNX or TFLite.
        DamagedModel: it is empty or cut off, or a web page or a Git LFS pointer was stored in its place.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return ModelFile(bytes(source), None, name or "model in memory")
    path = Path(os.fspath(source))
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise _not_readable(path, error) from None
    if stat.S_ISDIR(mode):
        raise detect_folder(path)
    if not stat.S_ISREG(mode):
        raise ModelNotFound(f"{path}: is no regular file; expected a .onnx or .tflite file")
    return ModelFile(None, path, name or path.name)


def _not_readable(path: Path, error: OSError | ValueError) -> ModelNotFound:
    if not isinstance(error, FileNotFoundError):
        return ModelNotFound(f"{path}: cannot be read: {_reason(error)}; expected a .onnx or .tflite file")
    import difflib

    hint = ""
    with contextlib.suppress(OSError):
        close = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
    return ModelNotFound(f"{path}: no such file{hint}")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
