"""Settings of imaging libraries that hold for the whole process: borrowed while an image is decoded, then given back."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import cv2
from PIL import Image

_LOGGER = logging.getLogger("tifffile")
_lock = Lock()
_users = 0
_given_back = ExitStack()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Within, in every thread, decoders set no limit of their own and print nothing. Reentrant.

    `max_pixels` takes the place of Pillow's limit and is asked before Pillow allocates anything; what OpenCV and tifffile can't
    decode is reported by us, by the file's name; Pillow's warnings about damaged EXIF are superfluous, since EXIF is carried
    as it is. The first thread that enters changes the settings, the last one that leaves restores them.
    """
    global _users  # noqa: PLW0603 (the libraries' settings are global, too)
    with _lock:
        if _users == 0:
            _borrow(_given_back)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _given_back.close()


def _borrow(stack: ExitStack) -> None:
    limit, level, opencv = Image.MAX_IMAGE_PIXELS, _LOGGER.level, cv2.utils.logging.getLogLevel()
    Image.MAX_IMAGE_PIXELS = None
    stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", limit)
    _LOGGER.setLevel(logging.CRITICAL)
    stack.callback(_LOGGER.setLevel, level)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    stack.callback(cv2.utils.logging.setLogLevel, opencv)
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
