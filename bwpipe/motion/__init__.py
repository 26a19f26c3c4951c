"""Optical flow, shot detection, and the temporal filter along the flow."""

from bwpipe.core.aliases import forward

__getattr__ = forward(__name__)
