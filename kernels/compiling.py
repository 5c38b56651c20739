"""Turn the C++ and CUDA sources beside this file into one shared library per kind of device.

The sources know neither torch nor Python, so one library serves every version of both. The CPU library holds the same
code compiled for several instruction sets and chooses at run time: no `-march=native`, because machines share caches.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
COMMON = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fopenmp", "-pthread")
# No contraction: native code and PyTorch must round alike. The rest only lets `a < b ? a : b` become one instruction.
ARITHMETIC = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
INSTRUCTION_SETS = {
    "baseline": (),
    "avx2": ("-mavx2", "-mbmi2"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"),
}
CUDA_TARGETS = (80, 86, 89, 90, 100)
PER_INSTRUCTION_SET = ("isa.cpp", "reassembly.cpp")
CPU_SOURCES = ("cpu.cpp", "reassembly.cpp")
CUDA_UNITS = (
    ("cuda.cu", "-DRANP_METHOD=0"),
    ("cuda.cu", "-DRANP_METHOD=1"),
    ("cuda.cu", "-DRANP_METHOD=2"),
    ("cuda.cu", "-DRANP_REST"),
    ("reassembly.cu",),
)


class BuildError(RuntimeError):
    """No compiler, or one that fails; the message is one line."""


@dataclass(frozen=True)
class Recipe:
    """How one library is made.

    Args:
        kind: `cpu` or `cuda`.
        commands: compiler command lines, run in an empty folder: all but the last side by side, then the last, which
            writes `library.so`.
        compiler: what the compiler says about itself.
    """

    kind: str
    commands: tuple[tuple[str, ...], ...]
    compiler: str

    def key(self) -> str:
        """Return a digest of the sources, the command lines and the compiler's version."""
        digest = hashlib.sha256(repr((self.kind, self.commands, self.compiler)).encode())
        for source in sorted(SOURCES.iterdir()):
            digest.update(source.name.encode() + source.read_bytes())
        return digest.hexdigest()[:20]

    def run(self, folder: Path) -> Path:
        """Run the commands in `folder` and return the library.

        Raises:
            BuildError: with the first line the compiler complained in.
        """
        *units, link = self.commands
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(lambda command: _compile(command, folder), units))
        _compile(link, folder)
        return folder / "library.so"


def _compile(command: tuple[str, ...], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise BuildError(f"{command[0]} failed with {done.returncode}: {' '.join(complaint.split())}")


@cache
def _version(compiler: str) -> str:
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{compiler} does not run: {error}") from error
    return done.stdout.strip()


def _find(variable: str, names: tuple[str, ...], what: str) -> str:
    wanted = (os.environ[variable],) if os.environ.get(variable) else names
    for name in wanted:
        if path := shutil.which(name):
            return path
    raise BuildError(f"no {what} found (tried {', '.join(wanted)}; set {variable} to name one)")


def instruction_sets() -> dict[str, tuple[str, ...]]:
    """Return the instruction sets compiled into the CPU library, and their flags; Arm has NEON as its baseline."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return INSTRUCTION_SETS if x86 else {"baseline": ()}


def cpu_recipe() -> Recipe:
    """Return the recipe of the CPU library.

    Raises:
        BuildError: there is no C++ compiler.
    """
    compiler = _find("CXX", ("g++", "c++", "clang++"), "C++ compiler")
    sets = instruction_sets()
    units = [
        (
            compiler,
            *COMMON,
            *ARITHMETIC,
            *flags,
            f"-DRANP_ISA={name}",
            "-c",
            str(SOURCES / source),
            "-o",
            f"{source}-{name}.o",
        )
        for source in PER_INSTRUCTION_SET
        for name, flags in sets.items()
    ]
    x86 = ("-DRANP_X86",) if len(sets) > 1 else ()
    inputs = [*(str(SOURCES / source) for source in CPU_SOURCES), *(unit[-1] for unit in units)]
    link = (compiler, *COMMON, *ARITHMETIC, *x86, "-shared", *inputs, "-o", "library.so")
    return Recipe("cpu", (*units, link), _version(compiler))


def cuda_recipe(targets: tuple[int, ...] = CUDA_TARGETS) -> Recipe:
    """Return the recipe of the CUDA library for these compute capabilities (90 means sm_90), plus PTX of the first.

    Raises:
        BuildError: there is no nvcc.
    """
    default = str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc")
    compiler = _find("NVCC", ("nvcc", default), "CUDA compiler")
    codes = [f"-gencode=arch=compute_{target},code=sm_{target}" for target in targets]
    codes.append(f"-gencode=arch=compute_{targets[0]},code=compute_{targets[0]}")
    flags = (
        "-std=c++17",
        "-O3",
        "--threads=0",
        "--fmad=false",
        "--expt-relaxed-constexpr",
        "-Xcompiler=-fPIC,-fvisibility=hidden",
    )
    units = [
        (compiler, *flags, *codes, *defined, "-c", str(SOURCES / source), "-o", f"{number}.o")
        for number, (source, *defined) in enumerate(CUDA_UNITS)
    ]
    link = (compiler, *flags, *codes, "-shared", *(unit[-1] for unit in units), "-o", "library.so")
    return Recipe("cuda", (*units, link), _version(compiler))
