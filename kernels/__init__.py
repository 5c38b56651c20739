"""Native kernels behind a thin C ABI."""
