"""OpenCV, imported on first use: it is an extra, and it takes longer to import than everything else here together."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from edge_sdk.errors import MissingExtra

__all__ = ["load_cv2"]

LOG_LEVEL_VARIABLE = "OPENCV_LOG_LEVEL"


def load_cv2() -> Any:
    """Returns the module `cv2`.

    Where this call is the first to import it and `OPENCV_LOG_LEVEL` is not set, OpenCV's own messages are switched off:
    what goes wrong is told by our errors.

    Raises:
        MissingExtra: OpenCV is not installed, or a system library that it needs is missing.
    """
    known = sys.modules.get("cv2")
    if known is not None:
        return known
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise _broken(error) from error
        raise MissingExtra(
            "pictures need OpenCV, which is not installed; pip install 'edge-sdk[vision]'"
            " (or 'edge-sdk[vision-headless]' on a machine without a display)"
        ) from None
    except ImportError as error:
        raise _broken(error) from error
    if LOG_LEVEL_VARIABLE not in os.environ:
        logging = getattr(cv2.utils, "logging", None)
        if logging is not None:
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    return cv2


def _broken(error: ImportError) -> MissingExtra:
    reason = " ".join(str(error).split())
    if "libGL" in reason or "libgthread" in reason or "libX" in reason or "libSM" in reason:
        return MissingExtra(
            f"OpenCV is installed but needs a display library that this machine lacks ({reason});"
            " pip uninstall opencv-python, then pip install 'edge-sdk[vision-headless]', which needs none"
        )
    return MissingExtra(
        f"OpenCV is installed but cannot be imported ({reason});"
        " pip install --force-reinstall 'edge-sdk[vision-headless]'"
    )
