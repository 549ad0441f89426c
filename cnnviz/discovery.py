"""A model, or a spec such as ``torchvision:resnet50``, to its adapter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
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
from cnnviz.pictures import two_sides
from cnnviz.preprocessing import Preprocessing, as_preprocessing

__all__ = ["FILE_MODULES", "Origin", "adapt", "frameworks", "load", "made_by_hand"]

PreprocessingLike = Any
"""What `cnnviz.preprocessing.as_preprocessing` takes."""

FILE_MODULES = "_cnnviz_model_"
"""What the names of modules begin with that were run from a file; no other process has them."""


@dataclass(frozen=True)
class Origin:
    """How a network was opened, so that it can be opened again elsewhere.

    Attributes
    ----------
    spec : str or None
        As for `load`; None for a model that was given.
    load_options, adapt_options : mapping of str to object
        What was given to `load`, and to `adapt` along with the model.
    by_hand : bool
        Whether an adapter was given, which a model alone does not make again.
    """

    spec: str | None = None
    load_options: Mapping[str, Any] = field(default_factory=dict)
    adapt_options: Mapping[str, Any] = field(default_factory=dict)
    by_hand: bool = False


def adapt(
    model: Any,
    preprocessing: PreprocessingLike | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    output: str | int | None = None,
    other_inputs: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Adapter[Any]:
    """Wrap a model so that every function of cnnviz can use it; the model is not changed.

    Parameters
    ----------
    model : torch.nn.Module, keras.Model or Adapter
        An adapter is given back as it is.
    preprocessing : Preprocessing, str, mapping or image processor, optional
        What the network was trained on: a preset (``"imagenet"``, ``"caffe"``, ``"tf"``,
        ``"identity"``), the map itself, an image processor of transformers or an image
        converter of KerasHub. Read off the model where it can be.
    input_shape : tuple of int, optional
        Height, width and channels of its pictures, where the model does not tell;
        ``(length, channels)`` for signals, ``(depth, height, width, channels)`` for volumes.
    output : str or int, optional
        Which of several outputs holds the class scores: its key or its place. The address of
        a layer serves where what the model returns is no longer scores, as with detection.
    other_inputs : mapping of str to array, optional
        What a model of several inputs takes besides the picture, by name: one example each,
        without the batch axis; it is repeated for every picture.
    device : str, optional
        Where to compute, in the framework's words; the model's own place by default. Another
        place is taken by a copy.

    Raises
    ------
    UnsupportedModel
        No installed backend opens it.
    InvalidOption
        The preprocessing, the shape, the output or another input is not one.
    """
    given = {
        "input_shape": _input_shape(input_shape),
        "output": output,
        "other_inputs": other_inputs,
        "device": device,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if isinstance(model, Adapter):
        if preprocessing is not None or options:
            raise InvalidOption("this model is adapted already; give options to the first adapt()")
        return model
    if preprocessing is not None:
        options["preprocessing"] = as_preprocessing(preprocessing)
    for entry in _entries("cnnviz.backends"):
        # A model of a framework cannot exist before the framework is imported.
        if entry.name in sys.modules:
            backend = _load_entry(entry)
            if backend.accepts(model):
                adapter: Adapter[Any] = backend(model, **options)
                adapter.origin = Origin(adapt_options=options)
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
    input_size: int | tuple[int, int] | None = None,
    output: str | int | None = None,
    other_inputs: Mapping[str, Any] | None = None,
) -> Adapter[Any]:
    """Load a network by its spec and wrap it.

    Parameters
    ----------
    spec : str
        ``demo`` (EfficientNet-Lite0 with its ImageNet weights), ``torchvision:NAME``,
        ``timm:NAME``, ``keras:NAME``, the path of a ``.keras`` or ``.h5`` file, of a ``.pt2``
        export or of TorchScript (``.pt``, ``.pth``), or ``module.py:function`` where the function
        returns a model. Files of weights are read with the framework's safe mode; a module is
        run, so name only what you trust.
    framework : {"torch", "keras"}, optional
        For ``demo`` alone: which of the two; the first that is installed by default.
    weights : str, optional
        For ``torchvision:``, ``timm:`` and ``keras:``: ``"pretrained"`` (the default; fetched
        and kept by the framework), ``"none"`` for random ones, or a file.
    preprocessing, device, output, other_inputs
        As for `adapt`.
    input_size : int or (int, int), optional
        Height and width of its pictures, or the side of a square, in place of what the model
        tells of itself.

    Raises
    ------
    UnknownModel
        The spec names nothing that can be loaded.
    MissingDependency
        The framework or the wheel behind it is not installed.
    """
    options = {
        "preprocessing": preprocessing,
        "device": device,
        "output": output,
        "other_inputs": other_inputs,
    }
    if not isinstance(spec, str) or not spec:
        raise UnknownModel("a model spec is a text such as 'demo' or 'torchvision:resnet50'")
    given = {"framework": framework, "weights": weights, "input_size": input_size, **options}
    net = _opened(spec, framework, weights, input_size, options)
    known = {name: value for name, value in given.items() if value is not None}
    net.origin = replace(net.origin or Origin(), spec=spec, load_options=known)
    return net


def _opened(
    spec: str,
    framework: str | None,
    weights: str | None,
    input_size: int | tuple[int, int] | None,
    options: Mapping[str, Any],
) -> Adapter[Any]:
    scheme, _, rest = spec.partition(":")
    by_hand = scheme.endswith(".py") and bool(rest)
    if weights is not None and (scheme == "demo" or by_hand):
        raise InvalidOption(f"{spec} brings its own weights; leave --weights out")
    if scheme == "demo" and rest and framework is None:
        spec, framework = "demo", rest
    if spec == "demo":
        return _load_demo(framework, input_size, options)
    if framework is not None:
        raise InvalidOption("framework is for 'demo' alone; other specs say theirs")
    if by_hand:
        model = made_by_hand(spec)
        given = [name for name, value in options.items() if value is not None]
        if input_size is not None:
            given.append("input_shape")
        if isinstance(model, Adapter) and given:
            raise InvalidOption(
                f"{spec} returns an adapter, which takes no {given[0]} from outside; write"
                f" cnnviz.adapt(model, {given[0]}=...) in {scheme}, or return the model itself"
            )
        net = _dressed(model, None, None, input_size, options)
        if isinstance(model, Adapter) and net.origin is None:
            net.origin = Origin(by_hand=True)
        return net
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
            " a .keras, .h5, .pt2 or .pt file, or module.py:function"
        )
    model, found, labels = _load_entry(loader)(spec, weights, options["device"])
    return _dressed(model, found, labels, input_size, options)


def frameworks() -> dict[str, bool]:
    """Say of each framework with a backend whether it is installed, without importing it."""
    return {e.name: _is_installed(e.name) for e in _entries("cnnviz.backends")}


def _load_demo(
    framework: str | None,
    input_size: int | tuple[int, int] | None,
    options: Mapping[str, Any],
) -> Adapter[Any]:
    entries = {entry.name: entry for entry in _entries("cnnviz.demo")}
    if framework is None:
        installed = [name for name, there in frameworks().items() if there and name in entries]
        # Torch first: it starts faster.
        framework = min(installed, key=lambda name: name != "torch", default=None)
        if framework is None:
            raise MissingDependency(
                "no framework is installed;"
                " pip install 'cnnviz[torch,demo]' or 'cnnviz[keras,demo]'"
            )
    if framework not in entries:
        raise InvalidOption(f"framework must be one of {', '.join(entries)}, not {framework!r}")
    model, found, labels = _load_entry(entries[framework])(options["device"])
    return _dressed(model, found, labels, input_size, options)


def _dressed(
    model: Any,
    found: Preprocessing | None,
    labels: Any,
    input_size: int | tuple[int, int] | None,
    options: Mapping[str, Any],
) -> Adapter[Any]:
    options = {name: value for name, value in options.items() if value is not None}
    if found is not None:
        options.setdefault("preprocessing", found)
    if input_size is not None:
        sides = two_sides(input_size, "input_size")
        # The network itself tells how many channels its pictures have.
        at_first = {name: value for name, value in options.items() if name != "device"}
        options["input_shape"] = (*sides, adapt(model, **at_first).input_shape[-1])
    net = adapt(model, **options)
    if labels is not None:
        net.labels = labels
    return net


def _input_shape(shape: Any) -> tuple[int, ...] | None:
    if shape is None:
        return None
    sides = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if not 2 <= len(sides) <= 4 or not all(isinstance(n, int) and n > 0 for n in sides):
        raise InvalidOption(
            "input_shape is (height, width, channels), (length, channels) or"
            f" (depth, height, width, channels), each above zero, not {shape!r}"
        )
    return sides


def made_by_hand(spec: str) -> Any:
    """Run the function that ``module.py:function`` names: a model, or an adapter of one.

    Raises
    ------
    UnknownModel
        There is no such file or function, or it fails.
    """
    name, _, function = spec.partition(":")
    return _call_factory(Path(name), function)


def _call_factory(path: Path, function: str) -> Any:
    if not path.is_file():
        raise UnknownModel(f"there is no file {str(path)!r}")
    name = f"{FILE_MODULES}{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise UnknownModel(f"{str(path)!r} is not a Python module")
    module = importlib.util.module_from_spec(module_spec)
    # Keras and pickle look a class up by its module.
    sys.modules[name] = module
    # As for a script: what stands beside it can be imported.
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        module_spec.loader.exec_module(module)
        factory: Callable[[], Any] | None = getattr(module, function, None)
        if callable(factory):
            return factory()
    except CnnvizError:
        raise
    # A script that was not meant to be imported may end the process.
    except (Exception, SystemExit) as error:
        raise UnknownModel(f"{path}:{function}() failed: {_first_line(error)}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    close = get_close_matches(function, [k for k, v in vars(module).items() if callable(v)], 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UnknownModel(f"{path} has no function {function!r}{hint}")


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _load_entry(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        package = (error.name or entry.name).partition(".")[0]
        if _is_installed(package):
            raise _broken(entry, error) from error
        raise MissingDependency(
            f"{package} is not installed; pip install {_requirement(package)}"
        ) from error
    except Exception as error:  # a library that does not load, or Keras told to run on nothing
        raise _broken(entry, error) from error


def _broken(entry: EntryPoint, error: Exception) -> MissingDependency:
    return MissingDependency(f"{entry.module} cannot be imported: {_first_line(error)}")


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a stand-in for the module that says nothing of itself
        return False


def _requirement(package: str) -> str:
    extras = {"torch": "torch", "torchvision": "torch", "keras": "keras", "tensorflow": "keras"}
    return f"'cnnviz[{extras[package]}]'" if package in extras else package
