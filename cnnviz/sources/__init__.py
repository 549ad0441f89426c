"""Images of any kind as one ordered source that can be read again from anywhere in it.

`as_source` takes a folder, files, arrays, a dataset of a framework, archives or a stream;
`read_batches` gives them to a network, decoded in threads beside it.
"""

from __future__ import annotations

from cnnviz.sources.opening import as_source
from cnnviz.sources.reading import Batch, Broken, read_batches
from cnnviz.sources.source import Item, Source

__all__ = ["Batch", "Broken", "Item", "Source", "as_source", "read_batches"]
