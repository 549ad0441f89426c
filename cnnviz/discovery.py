"""A model, or a spec such as ``torchvision:resnet50``, to its adapter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cnnviz.adapter import Adapter
from cnnviz.errors import (
    CnnvizError,
    InvalidOption,
    MissingDependency,
    UnknownModel,
    UnsupportedModel,
)
from cnnviz.preprocessing import Preprocessing, as_preprocessing

__all__ = ["adapt", "frameworks", "load"]

PreprocessingLike = Preprocessing | str | Mapping[str, Any]


def adapt(
    model: Any,
    preprocessing: PreprocessingLike | None = None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    device: str | None = None,
) -> Adapter[Any]:
    """Wrap a model so that every function of cnnviz can use it; the model is not changed.

    Parameters
    ----------
    model : torch.nn.Module, keras.Model or Adapter
        An adapter is given back as it is.
    preprocessing : Preprocessing, str or mapping, optional
        What the network was trained on: a preset (``"imagenet"``, ``"caffe"``, ``"tf"``,
        ``"identity"``), or the map itself. Read off the model where it can be.
    input_shape : (int, int, int), optional
        Height, width and channels of its pictures, where the model does not tell.
    device : str, optional
        Where to compute, in the framework's words; the model's own place by default. Another
        place is taken by a copy.

    Raises
    ------
    UnsupportedModel
        No installed backend opens it.
    InvalidOption
        The preprocessing is not one.
    """
    if isinstance(model, Adapter):
        if preprocessing is not None or input_shape is not None or device is not None:
            raise InvalidOption("this model is adapted already; give options to the first adapt()")
        return model
    options: dict[str, Any] = {"input_shape": input_shape, "device": device}
    if preprocessing is not None:
        options["preprocessing"] = as_preprocessing(preprocessing)
    for entry in _entries("cnnviz.backends"):
        # A model of a framework cannot exist before the framework is imported.
        if entry.name in sys.modules:
            backend = _load_entry(entry)
            if backend.accepts(model):
                adapter: Adapter[Any] = backend(model, **options)
                return adapter
    raise UnsupportedModel(
        f"{type(model).__module__}.{type(model).__qualname__} is not a model that cnnviz opens;"
        " give a torch.nn.Module or a keras.Model"
    )


def load(
    spec: str,
    *,
    framework: str | None = None,
    weights: str | None = None,
    preprocessing: PreprocessingLike | None = None,
    device: str | None = None,
) -> Adapter[Any]:
    """Load a network by its spec and wrap it.

    Parameters
    ----------
    spec : str
        ``demo`` (EfficientNet-Lite0 with its ImageNet weights), ``torchvision:NAME``,
        ``timm:NAME``, ``keras:NAME``, the path of a ``.keras`` file, of a ``.pt2`` export or
        of TorchScript (``.pt``, ``.pth``), or ``module.py:function`` where the function
        returns a model. Files of weights are read with the framework's safe mode; a module is
        run, so name only what you trust.
    framework : {"torch", "keras"}, optional
        For ``demo`` alone: which of the two; the first that is installed by default.
    weights : str, optional
        For ``torchvision:``, ``timm:`` and ``keras:``: ``"pretrained"`` (the default; fetched
        and kept by the framework), ``"none"`` for random ones, or a file.
    preprocessing, device
        As for `adapt`.

    Raises
    ------
    UnknownModel
        The spec names nothing that can be loaded.
    MissingDependency
        The framework or the wheel behind it is not installed.
    """
    if not isinstance(spec, str) or not spec:
        raise UnknownModel("a model spec is a text such as 'demo' or 'torchvision:resnet50'")
    if spec == "demo":
        return _load_demo(framework, preprocessing, device)
    if framework is not None:
        raise InvalidOption("framework is for 'demo' alone; other specs say theirs")
    scheme, _, rest = spec.partition(":")
    if scheme.endswith(".py") and rest:
        return adapt(_call_factory(Path(scheme), rest), preprocessing, device=device)
    loaders = {entry.name: entry for entry in _entries("cnnviz.loaders")}
    suffix = Path(spec).suffix.removeprefix(".").lower()
    if rest and scheme in loaders:
        loader = loaders[scheme]
    elif suffix in loaders:
        loader = loaders[suffix]
        if not Path(spec).is_file():
            raise UnknownModel(f"there is no file {spec!r}")
    else:
        raise UnknownModel(
            f"cannot tell what {spec!r} is; write demo, torchvision:NAME, timm:NAME, keras:NAME,"
            " a .keras, .pt2 or .pt file, or module.py:function"
        )
    model, found, labels = _load_entry(loader)(spec, weights, device)
    return _dressed(model, found, labels, preprocessing, device)


def frameworks() -> dict[str, bool]:
    """Say of each framework with a backend whether it is installed, without importing it."""
    return {
        e.name: importlib.util.find_spec(e.name) is not None for e in _entries("cnnviz.backends")
    }


def _load_demo(
    framework: str | None, preprocessing: PreprocessingLike | None, device: str | None
) -> Adapter[Any]:
    entries = {entry.name: entry for entry in _entries("cnnviz.demo")}
    if framework is None:
        installed = [name for name, there in frameworks().items() if there and name in entries]
        # Torch first: it starts faster.
        framework = min(installed, key=lambda name: name != "torch", default=None)
        if framework is None:
            raise MissingDependency(
                "no framework is installed; pip install 'cnnviz[torch,demo]' or 'cnnviz[keras,demo]'"
            )
    if framework not in entries:
        raise InvalidOption(f"framework must be one of {', '.join(entries)}, not {framework!r}")
    model, found, labels = _load_entry(entries[framework])(device)
    return _dressed(model, found, labels, preprocessing, device)


def _dressed(
    model: Any,
    found: Preprocessing | None,
    labels: Any,
    preprocessing: PreprocessingLike | None,
    device: str | None,
) -> Adapter[Any]:
    net = adapt(model, preprocessing if preprocessing is not None else found, device=device)
    if labels is not None:
        net.labels = labels
    return net


def _call_factory(path: Path, function: str) -> Any:
    if not path.is_file():
        raise UnknownModel(f"there is no file {str(path)!r}")
    name = f"_cnnviz_model_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise UnknownModel(f"{str(path)!r} is not a Python module")
    module = importlib.util.module_from_spec(module_spec)
    # Keras and pickle look a class up by its module.
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
        factory: Callable[[], Any] = getattr(module, function)
        return factory()
    except AttributeError as error:
        if hasattr(module, function):
            raise UnknownModel(f"{path}:{function}() failed: {_first_line(error)}") from error
        raise UnknownModel(f"{path} has no function {function!r}") from error
    except CnnvizError:
        raise
    except Exception as error:
        raise UnknownModel(f"{path}:{function}() failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _load_entry(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as error:
        # A framework that is installed but broken says so itself, better than we could.
        if error.name and importlib.util.find_spec(error.name.partition(".")[0]) is not None:
            raise
        package = error.name or entry.name
        raise MissingDependency(
            f"{package} is not installed; pip install 'cnnviz[{_extra(package)}]'"
        ) from error


def _extra(package: str) -> str:
    top = package.partition(".")[0]
    return {"torchvision": "torch", "tensorflow": "keras"}.get(top, top)
