"""What settings of methods and of measures may be."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnviz.errors import InvalidOption

__all__ = ["require_channels", "require_count", "require_noise", "require_positive"]


def require_count(name: str, value: Any, least: int = 1) -> int:
    """Give an integer from `least` on, or raise InvalidOption."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidOption(f"{name} is an integer from {least} on, not {value!r}")
    return int(value)


def require_positive(name: str, value: Any) -> float:
    """Give a finite number above zero, or raise InvalidOption."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
        raise InvalidOption(f"{name} is a number above zero, not {value!r}")
    return float(value)


def require_channels(channels: int | None) -> None:
    """Raise InvalidOption unless it is a count of channels, or None."""
    if channels is not None:
        require_count("channels", channels)


def require_noise(samples: int, noise: float, seed: int) -> None:
    """Raise InvalidOption unless pictures can be put under such noise."""
    require_count("samples", samples)
    if not isinstance(noise, (int, float)) or not 0 <= noise < np.inf:
        raise InvalidOption(f"noise is a share of the range of the picture, not {noise!r}")
    require_count("seed", seed, 0)
