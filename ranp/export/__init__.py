"""A run's slim network as ONNX or torch.export, compared with the network before the file is kept."""

from ranp.export._run import export_run

__all__ = ["export_run"]
