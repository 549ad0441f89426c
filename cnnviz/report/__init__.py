"""One network in every framework, side by side on a page that opens from disk."""

from __future__ import annotations

from cnnviz.report.demonstration import demo

__all__ = ["demo"]
