"""Which stream of a GPU a table that kernels read may be kept for."""

import torch


def table_stream(device: torch.device) -> int | None:
    """Return the stream that tables are kept for, 0 on the CPU, or None where they must not be kept.

    Another stream might still read them when this one's allocator gives their memory to somebody else. And tables made
    while a CUDA graph is captured hold nothing before it is replayed; the graph keeps their memory.
    """
    if device.type != "cuda":
        return 0
    with torch.cuda.device(device):
        return None if torch.cuda.is_current_stream_capturing() else torch.cuda.current_stream().cuda_stream
