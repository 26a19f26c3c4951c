"""Run times: what computes a network's predictions, PyTorch or OpenVINO.

Nothing here imports torch or openvino before it is needed: `bwpipe.nn.runtime.choose` decides, the others do the work.
"""
