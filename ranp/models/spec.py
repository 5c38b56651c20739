"""From the word a user writes for MODEL to a network.

    unet3d                       a built-in
    package.module:Factory       something importable, from the current folder too
    path/to/file.py:factory      something in a file

What a run folder names is not trusted: of that, only built-ins, the networks of `monai.networks.nets`, fused runs of
them and what the factories of `ranp.models.words` know are ever built, and nothing else is imported or called.
"""

import copy
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ranp.errors import UsageError, described, named, nearest, setting, told
from ranp.models.folders import factory_of
from ranp.models.registry import built_in, full_settings, names, seeded
from ranp.models.settings import check_settings, with_classes
from ranp.models.words import is_known_factory

_MONAI = "monai.networks.nets"
# Classes whose constructors fetch files or call what their arguments name.
_FETCHING = ("CellSamWrapper", "MILModel", "TorchVisionFCModel", "Transchex")
# Arguments that would download weights, which the run's own replace anyway; with the value that keeps them from it.
_OFFLINE = {"pretrained": False, "pretrained_url": None}


def resolve(
    spec: str,
    settings: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    trusted: bool = True,
    seed: int = 0,
) -> nn.Module:
    """Build the network that MODEL names.

    Args:
        spec: a built-in, `package.module:Factory` or `file.py:factory`.
        settings: keyword arguments of the factory, the `--set` pairs.
        preset: of a built-in.
        trusted: whether the user wrote `spec`; False for what a run's files name.
        seed: of the initial weights; the global generator is left as it was.

    Raises:
        UsageError: nothing of that name, wrong settings, a factory that fails or returns no `nn.Module`, or an
            untrusted spec that is neither a built-in nor a network of MONAI nor a fused run.
    """
    if ":" not in spec:
        return _build(spec, preset, settings or {}, seed)
    if preset is not None:
        raise UsageError(
            f"{named('preset', preset)}: only built-ins have presets (known: {', '.join(names())}), not {spec}"
        )
    factory = factory_of(spec)
    given = set(settings or {})
    if factory is not None and "run" in given and given <= {"run", "classes"}:  # it trusts the run's files as we do
        where, name = factory.split(":")
        return build_with(_find(where, name, named("MODEL", factory)), settings or {}, factory, seed)
    if is_known_factory(spec):
        return build_with(import_named(spec, named("MODEL", spec)), settings or {}, spec, seed)
    if not trusted:
        network = _find_in_monai(spec)
        return build_with(network, _without_download(network, settings or {}), spec, seed)
    where, _, name = (factory or spec).rpartition(":")
    with _importable(Path(where).resolve().parent if where.endswith(".py") else Path.cwd()):
        return build_with(_find(where, name, named("MODEL", spec)), settings or {}, spec, seed, classes=True)


def factory_named(spec: str, *, trusted: bool = True) -> Any:
    """Return the factory that MODEL names, not called; arguments and errors as `resolve`."""
    if ":" not in spec:
        check_is_built_in(spec)
        return built_in(spec).factory
    if not trusted and factory_of(spec) is None and not is_known_factory(spec):
        return _find_in_monai(spec)
    return import_named(factory_of(spec) or spec, named("MODEL", spec))


def import_named(spec: str, called: str) -> Any:
    """Import what the user's own words name; the one place where the user's code is imported.

    Args:
        spec: `package.module:name`, also of the current folder, or `file.py:name`. Never what a run's files name.
        called: how messages begin: the option and its value.

    Raises:
        UsageError: there is nothing of that name, or its file or package can't be run.
    """
    where, _, name = spec.rpartition(":")
    with beside(spec):
        return _find(where, name, called)


@contextmanager
def beside(spec: str) -> Iterator[None]:
    """Let the user's code import what lies beside it: beside `file.py`, or in the current folder.

    Args:
        spec: as of `import_named`; for when what it named is called, and imports only then.
    """
    where = spec.rpartition(":")[0]
    with _importable(Path(where).resolve().parent if where.endswith(".py") else Path.cwd()):
        yield


_NO_NETWORKS = (".json", ".yaml", ".yml", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".nii", ".gz")


def check_trusted(spec: str) -> None:
    """Refuse what a run's files name unless it is a built-in, a network of MONAI or a fused run; nothing is built.

    Raises:
        UsageError: it is none of them.
    """
    if ":" not in spec:
        check_is_built_in(spec)
    elif factory_of(spec) is None and not is_known_factory(spec):
        _find_in_monai(spec)


def _build(spec: str, preset: str | None, settings: Mapping[str, Any], seed: int) -> nn.Module:
    check_is_built_in(spec)
    merged = full_settings(spec, preset, settings)
    with seeded(seed):
        return built_in(spec).factory(**merged)


def build_with(
    factory: Any, settings: Mapping[str, Any], spec: str, seed: int = 0, *, classes: bool = False
) -> nn.Module:
    """Call a factory that the user gave.

    Args:
        factory: a class or a function.
        settings: its keyword arguments.
        spec: its name, for messages.
        seed: of the initial weights; the global generator is left as it was.
        classes: whether settings may name classes, for a factory that the user named.

    Raises:
        UsageError: it takes no such settings, fails, or makes no `nn.Module`.
    """
    if isinstance(factory, nn.Module):
        raise UsageError(f"{named('MODEL', spec)}: is a network already; name the class or function that makes it")
    if not callable(factory):
        raise UsageError(
            f"{named('MODEL', spec)}: expected a class or a function that makes an nn.Module, got {described(factory)}"
        )
    check_settings(factory, settings, spec)
    arguments = with_classes(factory, settings, spec) if classes else settings
    try:
        with seeded(seed):
            network = factory(**copy.deepcopy(dict(arguments)))  # a constructor may change the lists it is given
    except (Exception, SystemExit) as error:  # whatever a user's constructor raises is about what the user gave it
        given = "".join(f" {setting(key, value)}" for key, value in settings.items())
        raise UsageError(f"{named('MODEL', spec)}{given}: {told(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{named('MODEL', spec)}: expected an nn.Module, got {described(network)}")
    return network


def check_is_built_in(spec: str) -> None:
    """Refuse a MODEL without a colon that is no built-in, naming what was likely meant.

    Raises:
        UsageError: it is none.
    """
    if spec in names():
        return
    hint = nearest(spec, names())
    if spec.endswith(".py"):
        hint = f"; write {spec}:factory for a function or class in that file"
    elif Path(spec).suffix in _NO_NETWORKS:
        hint = f"; {Path(spec).suffix} files hold no network that ranp could build"
    elif "." in spec:
        module, _, name = spec.rpartition(".")
        hint = f"; did you mean {f'{module}:{name}'!r}?"
    raise UsageError(
        f"{named('MODEL', spec)}: not a built-in ({', '.join(names())}), package.module:Factory or "
        f"file.py:factory{hint}"
    )


def _find(where: str, name: str, called: str) -> Any:
    if where and not name:
        raise UsageError(f"{called} names nothing behind the colon; expected a class or function that is there")
    if not where or not name:
        raise UsageError(f"{called}: expected package.module:Factory or file.py:factory")
    module = _load_file(Path(where), called) if where.endswith(".py") else _import(where, called)
    return _attribute(module, where, name, called)


def _find_in_monai(spec: str) -> Any:
    where, _, name = spec.rpartition(":")
    refused = UsageError(
        f"{spec}: a run's files never make ranp build this network by themselves; repeat it with {named('model', spec)}"
    )
    if where != _MONAI or name in _FETCHING:
        raise refused
    found = vars(importlib.import_module(_MONAI)).get(name)
    if not (inspect.isclass(found) and issubclass(found, nn.Module) and found.__module__.startswith(_MONAI)):
        raise refused
    return found


def _without_download(factory: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    accepted = inspect.signature(factory).parameters
    return {**settings, **{key: value for key, value in _OFFLINE.items() if key in accepted}}


def _import(where: str, called: str) -> ModuleType:
    try:
        return importlib.import_module(where)
    except (Exception, SystemExit) as error:  # an import runs the user's code
        raise UsageError(f"{called}: can't import {where}: {_reason(error)}{_nearest_module(error)}") from error


def _nearest_module(error: BaseException) -> str:
    """Name the module of the same package that was likely meant by one that is missing."""
    missing = str(getattr(error, "name", None))
    package = missing.rpartition(".")[0]
    folders = getattr(sys.modules.get(package), "__path__", ())
    return nearest(missing, [f"{package}.{found.name}" for found in pkgutil.iter_modules(folders)])


def _load_file(path: Path, called: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{called}: no file {path}")
    path = path.resolve()
    name = f"ranp_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickling look classes up by their module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # running the user's file
        del sys.modules[name]
        raise UsageError(f"{called}: can't run {path}: {_reason(error)}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules beside the user's code be imported; last in the path, so that they shadow nothing."""
    entry, known = str(folder), list(sys.path)
    if entry not in known:
        sys.path.append(entry)
    try:
        yield
    finally:
        if entry not in known and entry in sys.path:
            sys.path.remove(entry)


def _attribute(module: ModuleType, where: str, name: str, called: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [
                key
                for key, value in getattr(found, "__dict__", {}).items()
                if callable(value) and not key.startswith("_")
            ]
            raise UsageError(f"{called}: {where} has no {part!r}{nearest(part, known)}")
        found = getattr(found, part)
    return found


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
