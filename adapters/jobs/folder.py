"""How a folder that `ranp fuse` wrote is known."""

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
