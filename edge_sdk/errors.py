"""Every error a caller can meet, as one small tree.

    EdgeError
    ├── ModelError (ValueError)             a model file cannot be used
    │   ├── ModelNotFound (FileNotFoundError)
    │   ├── UnsupportedFormat               a format we do not run; the message names the way to ONNX or TFLite
    │   ├── DamagedModel                    truncated, bit-flipped, or its structure contradicts itself
    │   ├── UnsupportedOp                   an op that no engine here has; `.ops` names it
    │   ├── UnsupportedVersion              a newer opset, IR or schema than the engine knows
    │   └── BundleError                     a bundle cannot be used or written as asked
    │       ├── BundleDamaged               a file is not the one that was written: its size or hash differs
    │       ├── BundleIncomplete            a file that the manifest names is missing, or there is no manifest
    │       ├── BundleTooLarge              it would expand beyond the limits
    │       ├── InvalidManifest             the manifest is no JSON of this format, or contradicts itself
    │       ├── UnknownFeature              it requires a feature that is not known here; `.features` names it
    │       ├── UnsafePath                  a path leads out of the bundle
    │       └── UnsupportedBundle           a newer major format than is known here
    ├── InputError (ValueError)             what was fed does not fit
    │   ├── InputNameError (KeyError)
    │   ├── InputShapeError
    │   ├── InputTypeError (TypeError)
    │   ├── InputValueError                 NaN or infinity where refused
    │   └── UnreadableInput                 a picture, sound or array file that cannot be read
    ├── DeviceError (OSError)               the machine could not be read (a sysroot without a CPU tree)
    ├── ProfileError (ValueError)           a broken device profile; the message names the key
    ├── EngineError (RuntimeError)          an engine failed while loading or running
    │   ├── EngineNotInstalled (ImportError)
    │   ├── AcceleratorError                an accelerator is missing, refused the model, or failed
    │   │   ├── AcceleratorCrashed          it took the process that it ran in with it
    │   │   └── AcceleratorHung (TimeoutError)  it did not answer in time
    │   └── OutOfMemory (MemoryError)       memory for loading or running was refused
    ├── CompressionError (ValueError)       a variant cannot be made of this model; the message says why
    ├── MissingExtra (ImportError)          an optional dependency is not installed; the message names the extra
    ├── StorageError (OSError)              a file could not be written whole
    ├── SessionClosed (RuntimeError)
    ├── EndpointError (ConnectionError)     an endpoint gave no answer that can be used; `.status`, `.retry_after_s`
    │   ├── EndpointUnreachable             no connection, or it broke before the answer was whole
    │   ├── EndpointRefused                 it answered with an error status
    │   ├── EndpointResting                 it failed too often and is not asked for a while
    │   ├── EndpointMismatch                the model there is not of this bundle, cut and codec
    │   └── InvalidAnswer                   its answer is broken, or not what the model gives
    ├── WireError (ValueError)              a body of the wire breaks the protocol or its limits; `.status`
    ├── AdmissionRefused (RuntimeError)     a promise cannot be kept beside those already made; the figures say why
    ├── RequestDropped (RuntimeError)       a request was given up: there was no room to wait
    └── DeadlineExceeded (TimeoutError)

Each also inherits the builtin that fits, so `except ValueError` keeps working. A message says what was wrong,
where, what was expected and what to do, on one line.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AcceleratorCrashed",
    "AcceleratorError",
    "AcceleratorHung",
    "AdmissionRefused",
    "BundleDamaged",
    "BundleError",
    "BundleIncomplete",
    "BundleTooLarge",
    "CompressionError",
    "DamagedModel",
    "DeadlineExceeded",
    "DeviceError",
    "EdgeError",
    "EndpointError",
    "EndpointMismatch",
    "EndpointRefused",
    "EndpointResting",
    "EndpointUnreachable",
    "EngineError",
    "EngineNotInstalled",
    "InputError",
    "InputNameError",
    "InputShapeError",
    "InputTypeError",
    "InputValueError",
    "InvalidAnswer",
    "InvalidManifest",
    "MissingExtra",
    "ModelError",
    "ModelNotFound",
    "OutOfMemory",
    "ProfileError",
    "RequestDropped",
    "SessionClosed",
    "StorageError",
    "UnknownFeature",
    "UnreadableInput",
    "UnsafePath",
    "UnsupportedBundle",
    "UnsupportedFormat",
    "UnsupportedOp",
    "UnsupportedVersion",
    "WireError",
]


class EdgeError(Exception):
    """Root of all errors raised by this package."""

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, OSError its errno pair: every message here is one plain line.
        return str(self.args[0]) if self.args else ""


class ModelError(EdgeError, ValueError):
    """A model file cannot be used."""


class ModelNotFound(ModelError, FileNotFoundError):
    """There is no such model file."""


class UnsupportedFormat(ModelError):
    """The file is of a format that is not run here."""


class DamagedModel(ModelError):
    """The file is truncated, altered, or contradicts itself."""


class UnsupportedOp(ModelError):
    """The model holds ops that no engine here has.

    Attributes:
        ops: their names, as the model file spells them.
    """

    def __init__(self, message: str, ops: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.ops = tuple(ops)


class UnsupportedVersion(ModelError):
    """The model needs a newer opset, IR or schema version than the engine knows."""


class BundleError(ModelError):
    """A bundle cannot be used, or not written as asked."""


class BundleDamaged(BundleError):
    """A file of the bundle is not the one that was written: its size or hash differs."""


class BundleIncomplete(BundleError):
    """A file that the manifest names is missing, or the manifest itself."""


class BundleTooLarge(BundleError):
    """The bundle would expand beyond the limits, as an archive made to fill the disk would."""


class InvalidManifest(BundleError):
    """The manifest is no JSON of this format, or contradicts itself or its files."""


class UnknownFeature(BundleError):
    """The bundle requires features that are not known here.

    Attributes:
        features: their names, as the manifest spells them.
    """

    def __init__(self, message: str, features: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.features = tuple(features)


class UnsafePath(BundleError):
    """A path in the bundle leads out of it, or would on another system."""


class UnsupportedBundle(BundleError):
    """The bundle is of a newer major format than is known here."""


class InputError(EdgeError, ValueError):
    """What was fed to a model does not fit it."""


class InputNameError(InputError, KeyError):
    """An input is missing or unknown."""


class InputShapeError(InputError):
    """An input has another shape than the model expects."""


class InputTypeError(InputError, TypeError):
    """An input has another dtype than the model expects."""


class InputValueError(InputError):
    """An input holds NaN or infinity where that is refused."""


class UnreadableInput(InputError):
    """A picture, sound or array file cannot be read."""


class DeviceError(EdgeError, OSError):
    """The machine could not be read."""


class ProfileError(EdgeError, ValueError):
    """A device profile is broken; the message names the file and the key."""


class EngineError(EdgeError, RuntimeError):
    """An engine failed while loading or running a model."""


class EngineNotInstalled(EngineError, ImportError):
    """The engine a model needs is not installed."""


class AcceleratorError(EngineError):
    """An accelerator is missing, refused the model, or failed."""


class AcceleratorCrashed(AcceleratorError):
    """An accelerator, or its driver, ended the process that it ran in."""


class AcceleratorHung(AcceleratorError, TimeoutError):
    """An accelerator gave no answer within the time that is taken for a hang."""


class CompressionError(EdgeError, ValueError):
    """A variant cannot be made of this model, or would bring nothing."""


class OutOfMemory(EngineError, MemoryError):
    """Memory for loading or running a model was refused."""


class MissingExtra(EdgeError, ImportError):
    """An optional dependency is not installed."""


class StorageError(EdgeError, OSError):
    """A file could not be written whole."""


class SessionClosed(EdgeError, RuntimeError):
    """The session was closed before the call."""


class EndpointError(EdgeError, ConnectionError):
    """An endpoint gave no answer that can be used.

    Attributes:
        status: HTTP status it answered with; None where there was no answer.
        retry_after_s: when it asks to be tried again, in seconds from then; None where it does not say.
    """

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class EndpointUnreachable(EndpointError):
    """No connection, or it broke before the answer was whole."""


class EndpointRefused(EndpointError):
    """The endpoint answered with an error status."""


class EndpointResting(EndpointError):
    """The endpoint failed too often lately and is not asked for a while."""


class EndpointMismatch(EndpointError):
    """The model at the endpoint is not the one meant: another bundle, cut or codec."""


class InvalidAnswer(EndpointError):
    """The answer of the endpoint is broken, or not what the model gives."""


class WireError(EdgeError, ValueError):
    """A body of the wire breaks the protocol or the limits.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class DeadlineExceeded(EdgeError, TimeoutError):
    """The answer did not come within the deadline."""


class AdmissionRefused(EdgeError, RuntimeError):
    """A promise cannot be kept beside those already made."""


class RequestDropped(EdgeError, RuntimeError):
    """A request was given up before it was computed: there was no room to wait."""
