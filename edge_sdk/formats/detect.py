"""What kind of file this is: told by its content first, by its suffix only where the content does not tell."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from edge_sdk.errors import DamagedModel, EdgeError, ModelNotFound, UnsupportedFormat
from edge_sdk.formats.foreign import FOLDERS, FOREIGN, MAGIC, SUFFIXES, ZIP_MEMBERS
from edge_sdk.formats.protobuf import LENGTH, VARINT, Wire

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["detect_folder", "detect_format"]

_HEAD = 512
# Top-level fields of ModelProto and their wire types. See onnx.proto.
_ONNX_FIELDS = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH)
_CORE_ML_FIELDS = range(200, 3001)
_TENSORFLOW_FIELDS = {1, 2, 3, 4, 5}


def detect_format(content: memoryview, name: str) -> str:
    """Tells the format of a file.

    Args:
        content: the file.
        name: its name, for the suffix and for messages.

    Returns:
        "onnx" or "tflite".

    Raises:
        UnsupportedFormat: it is of another format; the message names the way to ONNX or TFLite.
        DamagedModel: it is empty, cut off, or something else was stored in the place of a model.
    """
    head = bytes(content[:_HEAD])
    suffix = PurePath(name).suffix.lower()
    if not head:
        raise DamagedModel(f"{name}: the file is empty; expected an ONNX or TFLite model; fetch it again")
    if head[4:8] == b"TFL3":
        return "tflite"
    for offset, magic, key in MAGIC:
        if head.startswith(magic, offset):
            raise _foreign(name, key)
    if head.startswith(b"PK\x03\x04"):
        raise _foreign(name, _zip_kind(content, suffix))
    if head[0] == 0x80 and len(head) > 1 and head[1] in (2, 3, 4, 5):
        raise _foreign(name, SUFFIXES.get(suffix) or "sklearn")
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= len(content):
        raise _foreign(name, "safetensors")
    text = _as_text(head, len(content))
    if text is not None:
        raise _text_in_place(name, suffix, text)
    return _protobuf_kind(content, name, suffix)


def detect_folder(path: Path) -> EdgeError:
    """The error for a folder given in place of a model file."""
    for member, key in FOLDERS:
        if (path / member).is_file():
            return _foreign(str(path), key)
    key = SUFFIXES.get(path.suffix.lower(), "")
    if key:
        return _foreign(str(path), key)
    models: list[str] = []
    with contextlib.suppress(OSError):
        models = sorted(p.name for p in path.iterdir() if p.suffix.lower() in (".onnx", ".tflite"))[:3]
    hint = f"; it holds {', '.join(models)}" if models else ""
    return ModelNotFound(f"{path}: is a folder; expected a .onnx or .tflite file{hint}")


def _foreign(name: str, key: str) -> UnsupportedFormat:
    what, way = FOREIGN[key]
    return UnsupportedFormat(f"{name}: is {what}, which is not run here; expected ONNX or TFLite: {way}")


class _File(io.RawIOBase):
    """Bytes in memory as a file, without a copy of them: archives of weights are large, their directory is not."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, len(self._content))[whence]
        if base + offset < 0:
            raise OSError(22, "a place before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        part = self._content[self._position : self._position + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)


def _zip_kind(content: memoryview, suffix: str) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(_File(content)) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, OverflowError):
        members = []
    if any(member.endswith(".tflite") for member in members) and suffix == ".task":
        return "task"
    names = {PurePath(member).name for member in members}
    for name, key in ZIP_MEMBERS:
        if name in names:
            return key
    if members and all(member.endswith(".npy") for member in members):
        return "numpy"
    return SUFFIXES.get(suffix) or "zip"


def _as_text(head: bytes, size: int) -> str | None:
    """The beginning of the file as text, None where it holds anything but printable characters."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if size <= len(head) or error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8")  # a character cut in two by the end of the head
    if all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text):
        return text
    return None


def _text_in_place(name: str, suffix: str, text: str) -> EdgeError:
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith("version https://git-lfs"):
        return DamagedModel(
            f"{name}: is a Git LFS pointer, not the model itself; fetch the model with: git lfs pull --include {name}"
        )
    if start.startswith(("<!doctype html", "<html", "<head")):
        return DamagedModel(f"{name}: is a web page, not a model: the download was answered by a page; fetch it again")
    if start.startswith(("<?xml", "<net")) and suffix == ".xml":
        return _foreign(name, "openvino")
    if start.startswith("{") and '"modeltopology"' in start:
        return _foreign(name, "tfjs")
    if SUFFIXES.get(suffix):
        return _foreign(name, SUFFIXES[suffix])
    first = " ".join(text.split())[:40]
    return DamagedModel(
        f'{name}: holds text ("{first}…"), not a model; expected an ONNX or TFLite file; fetch it again'
    )


def _protobuf_kind(content: memoryview, name: str, suffix: str) -> str:
    """Tells ONNX from other protobuf files by the fields at the top, which cost nothing to step over."""
    fields: list[tuple[int, int]] = []
    broken: DamagedModel | None = None
    try:
        for field in Wire(content, name).fields(0, len(content)):
            fields.append(field[:2])
            if len(fields) > 100_000:
                break
    except DamagedModel as error:
        broken = error
    # Newer versions of ONNX may add fields of their own.
    known = bool(fields) and all(_ONNX_FIELDS.get(n, wire) == wire and n < _CORE_ML_FIELDS.start for n, wire in fields)
    numbers = {number for number, _ in fields}
    if known and 7 in numbers and broken is None:
        return "onnx"
    if suffix == ".tflite":
        raise DamagedModel(f'{name}: has no TFLite identifier ("TFL3" at byte 4); the file is damaged; fetch it again')
    if suffix == ".onnx" or (known and broken is not None and 1 in numbers and not SUFFIXES.get(suffix)):
        if broken is not None:
            raise broken
        if known:
            raise DamagedModel(
                f"{name}: holds no graph; the file is damaged or no ONNX model; fetch or export it again"
            )
    if broken is None and any(number in _CORE_ML_FIELDS for number in numbers):
        raise _foreign(name, "coreml")
    if SUFFIXES.get(suffix):
        raise _foreign(name, SUFFIXES[suffix])
    if broken is None and fields and numbers <= _TENSORFLOW_FIELDS:
        raise _foreign(name, "saved-model" if fields[0] == (1, VARINT) else "tensorflow")
    if suffix == ".onnx":
        return "onnx"
    raise UnsupportedFormat(
        f"{name}: is in no format known here (first bytes: {bytes(content[:8]).hex(' ')}); expected ONNX or TFLite"
    )
