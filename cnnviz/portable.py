"""A network that goes to other processes and machines, and comes out with the same weights."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnviz.adapter import Adapter
from cnnviz.discovery import FILE_MODULES, Origin, adapt, load
from cnnviz.errors import UnsupportedModel

__all__ = ["PortableNetwork", "weights_fingerprint"]


def weights_fingerprint(net: Adapter[Any]) -> str:
    """Give 32 hexadecimal digits that change with any weight of a network, its name or shape."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in net.weights().items():
        array = np.ascontiguousarray(value)
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class PortableNetwork:
    """What another process needs to open a network.

    Attributes
    ----------
    environment : mapping of str to str
        Variables that the process must have before it imports the framework.
    fingerprint : str
        See `weights_fingerprint`; what is opened is held to it.
    """

    environment: Mapping[str, str]
    fingerprint: str
    _name: str
    _origin: Origin
    _labels: Any
    # The model itself, pickled; None where it can only be loaded by its spec.
    _model: bytes | None = field(repr=False)

    @classmethod
    def of(cls, net: Adapter[Any]) -> PortableNetwork:
        """Pack a network.

        Raises
        ------
        UnsupportedModel
            It cannot be pickled, and was not loaded by a spec.
        """
        # Unlike pickle it takes classes of a script or a notebook along.
        import cloudpickle

        for name, module in list(sys.modules.items()):
            if name.startswith(FILE_MODULES):
                cloudpickle.register_pickle_by_value(module)
        origin = net.origin or Origin(by_hand=True)
        packed = None
        try:
            # An adapter that was made by hand goes as it is.
            # What a framework deprecates of itself is none of the caller's affair.
            with warnings.catch_warnings(action="ignore"):
                packed = cloudpickle.dumps(net if origin.by_hand else net.model)
        # What a framework raises where it cannot write a model is its own affair.
        except Exception as error:
            if origin.spec is None:
                raise UnsupportedModel(
                    f"{net.name} cannot be sent to other processes ({type(error).__name__}); use"
                    " the serial executor, or load it with cnnviz.load"
                ) from error
        labels = None if net.labels is None else tuple(net.labels)
        fingerprint = weights_fingerprint(net)
        return cls(dict(net.environment), fingerprint, net.name, origin, labels, packed)

    def open(self) -> Adapter[Any]:
        """Open the network here.

        Raises
        ------
        UnsupportedModel
            What the spec loads now has other weights.
        """
        if self._model is not None:
            import cloudpickle

            try:
                packed = cloudpickle.loads(self._model)
            except (ImportError, AttributeError) as error:
                raise UnsupportedModel(
                    f"{self._name} cannot be opened in a worker ({error}); put what it imports on"
                    " PYTHONPATH, or use the serial executor"
                ) from error
            # An adapter stays as it is.
            net = adapt(packed, **self._origin.adapt_options)
        else:
            assert self._origin.spec is not None
            net = load(self._origin.spec, **self._origin.load_options)
        net.name = self._name
        if self._labels is not None:
            net.labels = self._labels
        if weights_fingerprint(net) != self.fingerprint:
            raise UnsupportedModel(
                f"{self._name} came out with other weights in a worker; save the model to a file,"
                " and load that"
            )
        return net
