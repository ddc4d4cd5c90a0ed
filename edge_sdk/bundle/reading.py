"""`open` and `Bundle`: a bundle's manifest at once, its files on first use, each compared with its hash.

Opening reads the manifest and looks at the size of every file it names. A model file is hashed before it is handed out,
golden arrays before they are read; `verify` hashes everything.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sdk.bundle.consistency import MANIFEST
from edge_sdk.bundle.content import Content, FolderContent
from edge_sdk.bundle.limits import Limits
from edge_sdk.bundle.manifest import BundleFile, Manifest, Variant
from edge_sdk.bundle.manifest_json import decode_manifest
from edge_sdk.bundle.paths import shortened
from edge_sdk.errors import BundleDamaged, BundleError, BundleIncomplete, BundleTooLarge, ModelError, ModelNotFound
from edge_sdk.formats import ModelFile, open_model
from edge_sdk.signature import Signature

if TYPE_CHECKING:
    from edge_sdk.bundle.extraction import Extracted

__all__ = ["Answer", "Bundle", "Golden", "is_bundle", "open_bundle"]

MAX_GOLDEN_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """What one variant answered to a golden request.

    Attributes:
        outputs: logical output name to array.
        tolerance: largest difference allowed on another device, relative to the spread of the expected output.
        engine, isa: what computed it.
    """

    outputs: Mapping[str, Any]
    tolerance: float
    engine: str = ""
    isa: str = ""


@dataclass(frozen=True, slots=True)
class Golden:
    """A request with known answers.

    Attributes:
        feeds: logical input name to array.
        answers: by name of the variant.
    """

    feeds: Mapping[str, Any]
    answers: Mapping[str, Answer] = field(default_factory=dict)


class Bundle:
    """An open bundle. Any number of threads may use one; a context manager. Made by `open`, `create` and `update`.

    Attributes:
        path: where it lies; None for a bundle in memory.
        name: what messages call it: its file name.
        manifest: all it says about itself.
    """

    def __init__(self, content: Content, path: Path | None, name: str) -> None:
        self.path, self.name = path, name
        self.content = content
        self.manifest: Manifest = decode_manifest(content.manifest_bytes(), f"{content.where}: {MANIFEST}")
        self._lock = threading.Lock()
        self._extracted: dict[str, Extracted] = {}
        self._verified: dict[Path, tuple[int, ...]] = {}
        for file in self.manifest.files:
            _check_size(content, file)

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, release {self.manifest.release}, {len(self.variants)} variants)"

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self.manifest.signature

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All variants, in the order of the manifest."""
        return self.manifest.variants

    @property
    def digest(self) -> str:
        """Hash over the whole bundle, hexadecimal."""
        return self.manifest.digest

    def variant(self, name: str) -> Variant:
        """The variant called `name`.

        Raises:
            ModelNotFound: there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(shortened(v.name) for v in self.variants)
        raise ModelNotFound(f"{self.name}: has no variant {shortened(name)}; expected one of {known}")

    def open_variant(self, name: str) -> ModelFile:
        """The model file of a variant, its hashes compared; keep the bundle open as long as it may be opened again.

        Of an archive it is unpacked into the cache folder first. A model file that has not changed since it was hashed
        is not hashed again (see `ModelFile.sha256`); `verify` always reads everything.

        Raises:
            ModelNotFound: there is no such variant.
            BundleDamaged: a file is not the one that was written.
            BundleIncomplete: a file is missing, as where the bundle was replaced since it was opened.
            StorageError: it could not be unpacked.
            ModelError: the model file is of a format that is not run here.
        """
        variant = self.variant(name)
        with self._lock:
            if isinstance(self.content, FolderContent):
                paths = [self.content.path(file.path) for file in variant.files]
            else:
                paths = self._unpacked(variant)
            for file, path in zip(variant.files[1:], paths[1:], strict=True):
                self._verify(file, path)
            return self._opened(variant, paths[0])

    def golden(self, only: str | None = None) -> Iterator[Golden]:
        """The golden requests, one after the other, each read when its turn comes.

        Args:
            only: name of the variant whose answers are wanted; requests that it did not answer are left out.

        Raises:
            BundleDamaged: a file is not the one that was written, or holds no arrays.
            BundleIncomplete: a file is missing.
        """
        for sample in self.manifest.golden:
            wanted = [output for output in sample.outputs if only in (None, output.variant)]
            if only is not None and not wanted:
                continue
            answers = {
                output.variant: Answer(self._arrays(output.file), output.tolerance, output.engine, output.isa)
                for output in wanted
            }
            yield Golden(self._arrays(sample.inputs), answers)

    def verify(self) -> None:
        """Compares every file with its size and hash.

        Raises:
            BundleDamaged: a file is not the one that was written.
            BundleIncomplete: a file is missing.
        """
        for file in self.manifest.files:
            _check_size(self.content, file)
            digest = hashlib.sha256()
            for chunk in self.content.chunks(file.path):
                digest.update(chunk)
            self._compare(file, digest.hexdigest())

    def close(self) -> None:
        """Lets go of the archive and of what was unpacked. Idempotent."""
        with self._lock:
            for extracted in self._extracted.values():
                extracted.close()
            self._extracted.clear()
            self.content.close()

    def _unpacked(self, variant: Variant) -> list[Path]:
        from edge_sdk.bundle.extraction import Extracted

        extracted = self._extracted.get(variant.name)
        if extracted is None:
            extracted = self._extracted[variant.name] = Extracted(self.content, variant)
        paths = []
        for file in variant.files:
            path, is_fresh = extracted.unpack(file)
            if not is_fresh:
                try:
                    self._verify(file, path)
                except BundleDamaged:
                    # It was altered in the cache: the archive has it whole, or `unpack` says that it has not.
                    extracted.forget(file)
                    path, is_fresh = extracted.unpack(file)
            if is_fresh:
                self._remember(path)
            paths.append(path)
        return paths

    def _opened(self, variant: Variant, path: Path) -> ModelFile:
        file = variant.files[0]
        try:
            model = open_model(path, name=f"{self.name}/{variant.name}")
        except ModelError:
            self._verify(file, path)  # a damaged file is called that, whatever it looks like now
            raise
        if not self._is_verified(path):
            # Hashed where it is mapped; the model file keeps the hash for whoever asks for it next.
            self._compare(file, model.sha256)
            self._remember(path)
        return model

    def _verify(self, file: BundleFile, path: Path) -> None:
        if self._is_verified(path):
            return
        try:
            with open(path, "rb") as source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
        except OSError:
            raise self.content.missing(file.path) from None
        self._compare(file, digest)
        self._remember(path)

    def _is_verified(self, path: Path) -> bool:
        stamp = _stamp(path)
        return stamp is not None and self._verified.get(path) == stamp

    def _remember(self, path: Path) -> None:
        stamp = _stamp(path)
        if stamp is not None:
            self._verified[path] = stamp

    def _compare(self, file: BundleFile, sha256: str) -> None:
        if sha256 != file.sha256:
            raise BundleDamaged(
                f"{self.content.where}: {shortened(file.path)} is not the file that was written: its sha256 is"
                f" {sha256[:12]}…, expected {file.sha256[:12]}…; fetch the bundle again"
            )

    def _arrays(self, file: BundleFile) -> dict[str, Any]:
        where = f"{self.content.where}: {shortened(file.path)}"
        if file.size_bytes > MAX_GOLDEN_BYTES:
            raise BundleTooLarge(f"{where}: has {file.size_bytes} bytes; at most {MAX_GOLDEN_BYTES} are read")
        _check_size(self.content, file)
        content = b"".join(self.content.chunks(file.path))
        self._compare(file, hashlib.sha256(content).hexdigest())
        from edge_sdk.bundle.arrays import unpack_arrays

        return unpack_arrays(content, where)


def open_bundle(source: str | os.PathLike[str] | bytes, *, limits: Limits | None = None) -> Bundle:
    """Opens a bundle: a folder, a zip archive, or an archive's bytes.

    Args:
        source: path or bytes.
        limits: how far an archive may expand.

    Raises:
        ModelNotFound: there is nothing at that path.
        BundleIncomplete: there is no manifest, or a file that it names is missing.
        BundleDamaged: a file or the manifest is not the one that was written, or the archive is not whole.
        UnsafePath: a path leads out of the bundle.
        BundleTooLarge: the archive would expand beyond the limits.
        UnsupportedBundle: it is of a newer major format.
        UnknownFeature: it requires a feature that is not known here.
        InvalidManifest: the manifest is no JSON of this format, or contradicts itself.
        BundleError: it is no bundle, or cannot be read.
    """
    limits = limits or Limits()
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_archive(bytes(source), None, limits, "bundle in memory")
    path = Path(os.fspath(source))
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = "no such bundle" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise ModelNotFound(f"{path}: {reason}; expected a folder or file NAME.edge") from None
    if stat.S_ISDIR(mode):
        return _open_folder(path)
    if not stat.S_ISREG(mode):
        raise BundleError(f"{path}: is neither a folder nor a regular file; expected a bundle NAME.edge")
    return _open_archive(path, path, limits, str(path))


def _open_archive(source: Path | bytes, path: Path | None, limits: Limits, where: str) -> Bundle:
    from edge_sdk.bundle.archive import ArchiveContent

    return _opened(ArchiveContent(source, limits, where), path, where if path is None else path.name)


def _open_folder(path: Path) -> Bundle:
    """A writer may put the next release in place between the reading of the manifest and the look at the files."""
    while True:
        before = _stamp(path / MANIFEST)
        try:
            return _opened(FolderContent(path), path, path.name)
        except BundleIncomplete:
            if _stamp(path / MANIFEST) == before:
                raise


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether a path is to be opened as a bundle rather than as a model file: by its suffix, or by a manifest in it."""
    where = Path(os.fspath(path))
    if where.suffix.lower() == ".edge":
        return True
    try:
        return (where / MANIFEST).is_file()
    except (OSError, ValueError):
        return False


def _opened(content: Content, path: Path | None, name: str) -> Bundle:
    try:
        return Bundle(content, path, name)
    except BaseException:
        content.close()
        raise


def _check_size(content: Content, file: BundleFile) -> None:
    size = content.size_bytes(file.path)
    if size != file.size_bytes:
        raise BundleDamaged(
            f"{content.where}: {shortened(file.path)} has {size} bytes, expected {file.size_bytes};"
            " fetch the bundle again"
        )


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
