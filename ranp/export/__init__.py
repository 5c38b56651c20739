"""A run's slim network as ONNX or torch.export, compared with the network before the file is kept."""

from ranp.export._onnx_file import inputs_of as onnx_inputs
from ranp.export._onnx_file import opened as open_onnx
from ranp.export._parity import difference
from ranp.export._run import export_run, tensorrt_notes

__all__ = ["difference", "export_run", "onnx_inputs", "open_onnx", "tensorrt_notes"]
