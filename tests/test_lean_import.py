"""What `import ranp` and `ranp --help` may load: no torch, and nothing but the core dependencies."""

import ast
import subprocess
import sys
from pathlib import Path

OPTIONAL = (
    "nibabel",
    "skimage",
    "matplotlib",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "fvcore",
    "torch_pruning",
    "einops",
)
BLOCK = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {OPTIONAL!r} else find(name, *rest)
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_no_torch() -> None:
    code = """
import sys
from typer.testing import CliRunner
from ranp.commands.main import app
for words in (["--help"], ["prune", "--help"], ["models", "--help"], ["--version"]):
    assert CliRunner().invoke(app, words).exit_code == 0, words
print(sorted({"torch", "numpy", "monai", "safetensors"} & set(sys.modules)))
"""
    assert python(code).strip() == "[]"


def test_import_ranp_imports_no_torch() -> None:
    assert python("import ranp, sys; print('torch' in sys.modules, ranp.__version__)").startswith("False")


def test_little_is_loaded_before_an_interrupt_is_caught() -> None:
    code = "import sys; before = {*sys.modules}; import ranp.commands.start; print(sorted({*sys.modules} - before))"
    loaded = set(ast.literal_eval(python(code))) - {"collections.abc"}
    assert loaded == {"ranp", "ranp.commands", "ranp.commands.start", "ranp.lazy"}


def test_core_dependencies_suffice() -> None:
    code = (
        BLOCK
        + """
import ranp
from typer.testing import CliRunner
from ranp.commands.main import app
for name in ranp.__all__:
    getattr(ranp, name)
words = ["prune", "unet3d", "--set", "base_width=2", "--set", "depth=2", "--patch", "8", "--method", "l1",
         "--sparsity", "0.1", "--dry-run", "--json"]
for each in (["--help"], words):
    result = CliRunner().invoke(app, each)
    assert result.exit_code == 0, result.output
print("done")
"""
    )
    assert python(code).strip() == "done"


def test_an_absent_extra_is_named(tmp_path: Path) -> None:
    code = (
        BLOCK
        + f"""
from typer.testing import CliRunner
from ranp.commands.main import app
image = {str(tmp_path / "t1.nii.gz")!r}
open(image, "w").close()
result = CliRunner().invoke(app, ["prune", "unet3d", "--patch", "8", "--sparsity", "0.1", "--data", "nifti",
                                  "--images", image, "--labels", image, "--out", {str(tmp_path / "run")!r}])
print(result.exit_code, result.stderr)
"""
    )
    assert python(code).strip() == "4 error: nibabel is not installed: pip install 'ranp[medical]'"
