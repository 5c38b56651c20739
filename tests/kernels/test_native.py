"""The loader: every way in which a library can be missing, damaged or stale ends in PyTorch or in one line."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ranp.kernels import compiling, native, status
from ranp.kernels.compiling import BuildError, Recipe

RECIPE = native.recipe  # the tests put a small one in its place
SMALL = """
extern "C" __attribute__((visibility("default"))) int ranp_abi_version() { return %d; }
extern "C" __attribute__((visibility("default"))) const char* ranp_error(int) { return "out of memory"; }
extern "C" __attribute__((visibility("default"))) const char* ranp_isa() { return "small"; }
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and a small library in the place of the real one, so that a test takes no minute."""
    monkeypatch.setenv("RANP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RANP_NATIVE", "auto")
    monkeypatch.setattr(native, "_loaded", {})
    monkeypatch.setattr(native, "_reasons", {})
    monkeypatch.setattr(native, "recipe", lambda kind: small(tmp_path))


def small(folder: Path, abi: int = native.ABI) -> Recipe:
    source = folder / "small.cpp"
    source.write_text(SMALL % abi)
    compiler = shutil.which("g++") or "g++"
    return Recipe("cpu", ((compiler, "-shared", "-fPIC", str(source), "-o", "library.so"),), f"test {abi}")


def test_a_library_is_compiled_once_and_then_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run, compiled = Recipe.run, []
    monkeypatch.setattr(Recipe, "run", lambda *given: compiled.append(given) or run(*given))
    first = native.build("cpu")
    assert native.library("cpu") is not None
    assert native.build("cpu") == first
    assert len(compiled) == 1
    assert native.build("cpu", force=True) == first
    assert len(compiled) == 2


def test_off_never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "off")
    monkeypatch.setattr(native, "build", lambda kind: pytest.fail("looked"))
    assert native.library("cpu") is None
    assert native.function("cpu", "ranp_isa", []) is None
    assert status.status("cpu").state == "off"


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "always")
    with pytest.raises(ValueError, match="RANP_NATIVE='always': expected one of off, auto, require"):
        native.mode()


@pytest.mark.parametrize("compiler", ["/bin/false", "/no/such/compiler"])
def test_no_compiler_falls_back_with_one_line(
    compiler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(native, "recipe", lambda kind: compiling.cpu_recipe())
    with caplog.at_level(logging.WARNING):
        assert native.library("cpu") is None
        assert native.library("cpu") is None
    assert len(caplog.records) == 1
    assert "unavailable, using PyTorch" in caplog.text
    monkeypatch.setenv("RANP_NATIVE", "require")
    with pytest.raises(native.NativeError, match="RANP_NATIVE=require, but the cpu library is missing"):
        native.library("cpu")


def test_a_failing_compiler_says_where(tmp_path: Path) -> None:
    plan = small(tmp_path)
    (tmp_path / "small.cpp").write_text("nonsense;")
    with pytest.raises(BuildError, match=r"g\+\+ failed with 1: .*small.cpp:1:1: error"):
        plan.run(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_library_is_never_mapped(keep: int) -> None:
    file = native.build("cpu")
    file.write_bytes(file.read_bytes()[:keep])
    assert not native.is_whole(file)
    assert native.library("cpu") is not None
    assert native.is_whole(file)


def test_a_library_of_another_abi_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "recipe", lambda kind: small(tmp_path, abi=native.ABI + 1))
    assert native.library("cpu") is None
    assert "ABI version" in str(native.reason("cpu"))


def test_an_unwritable_cache_still_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RANP_CACHE", str(tmp_path / "file" / "cache"))
    assert native.library("cpu") is not None


def test_racing_processes_leave_one_good_file(tmp_path: Path) -> None:
    small(tmp_path)
    script = (
        "from pathlib import Path; from ranp.kernels import native; from ranp.kernels.compiling import Recipe;"
        f"source = Path({str(tmp_path)!r}) / 'small.cpp';"
        "command = ('g++', '-shared', '-fPIC', str(source), '-o', 'library.so');"
        "native.recipe = lambda kind: Recipe('cpu', (command,), '');"
        "assert native.library('cpu').ranp_abi_version() == native.ABI"
    )
    racers = [subprocess.Popen([sys.executable, "-c", script], env=os.environ.copy()) for _ in range(4)]
    assert [racer.wait() for racer in racers] == [0] * 4
    left = list((tmp_path / "cache").iterdir())
    assert len(left) == 1
    assert native.is_whole(left[0])


def test_return_codes_become_errors() -> None:
    native.check("cpu", 0)
    with pytest.raises(RuntimeError, match="native cpu kernel: out of memory"):
        native.check("cpu", 1)


def test_status_tells_unbuilt_ready_and_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status.status("cpu").state == "unbuilt"
    native.build("cpu")
    assert status.status("cpu").instruction_set == "small"

    def missing(kind: str) -> Recipe:
        raise BuildError("no compiler")

    monkeypatch.setattr(native, "recipe", missing)
    assert status.status("cpu") == status.Status("cpu", "unavailable", reason="no compiler")


def test_the_key_follows_sources_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small(tmp_path)
    key = plan.key()
    assert Recipe("cpu", (*plan.commands, ("ld",)), plan.compiler).key() != key
    shutil.copytree(compiling.SOURCES, tmp_path / "src")
    monkeypatch.setattr(compiling, "SOURCES", tmp_path / "src")
    assert plan.key() == key
    with (tmp_path / "src" / "lanes.h").open("a") as header:
        header.write("// changed\n")
    assert plan.key() != key


def test_no_machine_flags_in_a_shared_cache() -> None:
    flags = {flag for command in compiling.cpu_recipe().commands for flag in command}
    assert not any("native" in flag for flag in flags)
    assert any("sm_90" in flag for command in _cuda_commands() for flag in command)


def test_the_cuda_library_is_made_for_every_gpu_that_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = [(9, 0), (8, 0), (9, 0)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    monkeypatch.setattr(native, "cuda_recipe", lambda targets=None: targets)
    assert RECIPE("cuda") == (80, 90)
    capabilities.clear()
    assert RECIPE("cuda") is None  # for all there are


def test_importing_the_loader_does_not_import_torch() -> None:
    script = "import sys; from ranp.kernels import native; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def _cuda_commands() -> tuple[tuple[str, ...], ...]:
    try:
        return compiling.cuda_recipe().commands
    except BuildError as error:
        pytest.skip(str(error))
