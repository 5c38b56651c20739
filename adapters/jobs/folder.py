"""How folders that `ranp fuse`, `ranp connect` and `ranp transform` wrote are known."""

from ranp.models.folders import Kind

WEIGHTS = "fused.safetensors"
FUSED = Kind(
    name="fused",
    marker=WEIGHTS,
    factory="ranp.adapters.jobs.fuse:load_fused",
    former=("ranp.adapters.fused_runs:load",),
    made_by="ranp fuse",
    files=("config.yaml", "report.json", "a", "b"),
)
MASK = "connectivity.json"
CONNECTED = Kind(
    name="connected",
    marker=MASK,
    factory="ranp.adapters.jobs.connect:load_connected",
    made_by="ranp connect",
    files=("config.yaml", "report.json", "report.html", "decoder.svg", "connected.safetensors", "encoder"),
)
DENSE = "dilated.safetensors"
DILATED = Kind(
    name="dilated",
    marker=DENSE,
    factory="ranp.adapters.jobs.transform:load_dilated",
    made_by="ranp transform",
    files=("config.yaml", "report.json", "network"),
)
