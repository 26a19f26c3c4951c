"""Optical flow, shot detection, and the temporal filter along the motion."""
