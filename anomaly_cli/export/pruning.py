"""Parts of ONNX graphs that give some of their results. Loads no torch.

ONNX Runtime computes every result of a graph, also those that nobody asks for.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any


def prune(model: Any, names: Collection[str]) -> bytes:
    """Leave out of a graph what the named results do not need.

    Args:
        model: a `ModelProto` of onnx, which is changed.
        names: results that stay.

    Returns:
        The file.
    """
    graph = model.graph
    needed, kept = set(names), []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed |= set(_inputs(node))
    _keep(graph.output, [output for output in graph.output if output.name in names])
    _keep(graph.node, reversed(kept))
    _keep(graph.initializer, [value for value in graph.initializer if value.name in needed])
    pruned: bytes = model.SerializeToString()
    return pruned


def _inputs(node: Any) -> Iterator[str]:
    """List the values that a node reads, also those within its loops and branches."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _inputs(inner)
            yield from (output.name for output in graph.output)


def _keep(field: Any, values: Iterable[Any]) -> None:
    """Replace the values of a repeated field of protobuf."""
    copies = list(values)
    del field[:]
    field.extend(copies)
