"""Process-wide settings of imaging libraries: changed while an image is decoded, then restored."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import cv2
from PIL import Image

from bwpipe.core.shared_setting import SharedSetting

_LOGGER = logging.getLogger("tifffile")


def _quieten(stack: ExitStack) -> None:
    limit, level, opencv = Image.MAX_IMAGE_PIXELS, _LOGGER.level, cv2.utils.logging.getLogLevel()
    Image.MAX_IMAGE_PIXELS = None
    stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", limit)
    _LOGGER.setLevel(logging.CRITICAL)
    stack.callback(_LOGGER.setLevel, level)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    stack.callback(cv2.utils.logging.setLogLevel, opencv)
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


_QUIET = SharedSetting(_quieten)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Inside the context, in every thread, decoders enforce no limits of their own and print nothing. Reentrant.

    `max_pixels` replaces Pillow's limit and is checked before Pillow allocates anything; decoding errors of OpenCV and tifffile
    are reported by us, with the file's name; Pillow's warnings about damaged EXIF are superfluous, since EXIF is copied
    unchanged.
    """
    with _QUIET.changed():
        yield
