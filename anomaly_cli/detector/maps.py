"""Anomaly maps by name.

All are listed in the table `DEFINITIONS`: a new map is a row there, and a function. The formulas
of attention are in `models.attention`, those of the other maps in `detector.mapper` and
`detector.normal`. Parts are fused in `detector.fusion`.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from anomaly_cli.config.names import (
    APPEARANCE,
    CENTRE_PRIOR,
    FUSED,
    MEMORY,
    RECONSTRUCTION,
    SSIM,
)
from anomaly_cli.errors import ConfigError
from models.config import (
    COMPARED,
    SUMMED,
    Attention,
    Layer,
    MethodName,
    OneClassConfig,
)

ATTENTION = "attention"  # name of the part of a fused map that is a map of attention
Need = Literal["pooled", "covariance", "memory", "no memory"] | MethodName


class Part(NamedTuple):
    """Constants with which `detector.fusion` brings a part of a fused map to a common scale."""

    floor: float = 1.0  # added before the logarithm; distances are 1 on average in normal images
    weight: float = 1.0  # factor of the part in standard deviations


PARTS: Mapping[str, Part] = {
    # Guidance trains log(1 + T), so the floor of attention is 1.
    ATTENTION: Part(weight=0.5),
    APPEARANCE: Part(),
    # A tenth of the mean distance: patches of the training images themselves lie at 0.
    MEMORY: Part(floor=0.1),
}


class Definition(NamedTuple):
    """One way to compute an anomaly map."""

    needs: frozenset[Need] = frozenset()  # properties of the model without which it does not exist
    attention: Attention | None = None  # definition of the map, or of its attention part
    parts: tuple[str, ...] = ()  # keys of `PARTS` whose sum the map is; empty: it is no sum

    @property
    def is_fused(self) -> bool:
        """Whether the map is a sum of others."""
        return bool(self.parts)


_NEEDS: Mapping[Attention, Need] = {
    Attention.EXACT: "pooled",
    Attention.EXACT_POSITION: "pooled",
    Attention.EXACT_COVARIANCE: "covariance",
}


def _attention(attention: Attention) -> Definition:
    needs: set[Need] = {_NEEDS[attention]} if attention in _NEEDS else set()
    return Definition(frozenset({"vae", *needs}), attention)


def _fused(need: Need, *others: str) -> Definition:
    return Definition(frozenset({"pooled", need}), Attention.EXACT, (ATTENTION, *others))


DEFINITIONS: Mapping[str, Definition] = {
    **{each.value: _attention(each) for each in Attention},
    APPEARANCE: Definition(frozenset({"vae"})),
    MEMORY: Definition(frozenset({"memory"})),
    RECONSTRUCTION: Definition(frozenset({"vae"})),
    SSIM: Definition(frozenset({"vae"})),
    CENTRE_PRIOR: Definition(),
    FUSED: _fused("no memory", APPEARANCE),
    f"{FUSED}_{MEMORY}": _fused("memory", APPEARANCE, MEMORY),
    # The map of each method that the paper compares itself with has the method's name.
    **{method: Definition(frozenset({method})) for method in COMPARED},
}


class MapSpec(NamedTuple):
    """An anomaly map: a row of `DEFINITIONS` and, for attention, a layer of the network."""

    source: str  # a key of `DEFINITIONS`
    layer: Layer | None = None  # target layer of attention

    def __str__(self) -> str:
        """Write the name in checkpoints and reports, such as `diff_mahal@layer4`."""
        return f"{self.source}@{self.layer}" if self.layer else self.source

    @property
    def definition(self) -> Definition:
        """Row of `DEFINITIONS`."""
        return DEFINITIONS[self.source]

    @property
    def is_fused(self) -> bool:
        """Whether the map is a sum of parts."""
        return self.definition.is_fused

    @property
    def is_halved(self) -> bool:
        """Whether a region also ends halfway between the normal level and its highest pixel.

        This suits maps in units of logarithms. In a squared distance, half of the height is far
        inside the region.
        """
        return self.is_fused

    @property
    def has_latents(self) -> bool:
        """Whether the map, or its attention part, is a mean of one map for each latent."""
        attention = self.definition.attention
        return attention is not None and attention not in SUMMED

    @property
    def parts(self) -> tuple["MapSpec", ...]:
        """Maps whose sum this one is, in the order of `part_names`; only itself if not fused."""
        attention = self.definition.attention
        if not self.is_fused or attention is None:
            return (self,)
        own = MapSpec(attention.value, self.layer)
        return tuple(own if name == ATTENTION else MapSpec(name) for name in self.part_names)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Keys of `PARTS`, one for each part of a fused map; empty for others."""
        return self.definition.parts


def parts_of(specs: Iterable[MapSpec]) -> list[MapSpec]:
    """List the parts of all `specs`, each once."""
    return list(dict.fromkeys(part for spec in specs for part in spec.parts))


def fused_map(config: OneClassConfig) -> MapSpec | None:
    """Find the fused map of a network; None if its attention has no exact definition."""
    return next((spec for spec in map_specs(config) if spec.is_fused), None)


def map_specs(config: OneClassConfig) -> list[MapSpec]:
    """List every map that a network of this shape supports: attention, baselines, fused maps."""
    has: set[Need] = {config.method, "memory" if config.has_memory else "no memory"}
    has |= {"pooled"} if config.is_pooled else set()
    has |= {"covariance"} if config.has_covariance else set()
    rows = [(source, row) for source, row in DEFINITIONS.items() if row.needs <= has]
    last = config.layers[-1:]
    attention = [
        MapSpec(source, layer)
        for layer in config.layers
        for source, row in rows
        if row.attention and not row.is_fused and (row.needs == {"vae"} or (layer,) == last)
    ]
    baselines = [MapSpec(source) for source, row in rows if row.attention is None]
    fused = [MapSpec(source, layer) for source, row in rows if row.is_fused for layer in last]
    return [*attention, *baselines, *fused]


def parse_map_spec(text: str, config: OneClassConfig) -> MapSpec:
    """Find the map of a name, such as `diff_mahal@layer4`.

    Raises:
        ConfigError: a network of this shape has no such map.
    """
    specs = map_specs(config)
    for spec in specs:
        if str(spec) == text:
            return spec
    raise ConfigError(f"no anomaly map {text}; this model has {', '.join(map(str, specs))}")


def candidate_maps(
    config: OneClassConfig, attention: Attention | None = None, layer: Layer | None = None
) -> list[MapSpec]:
    """List the maps of attention with the definition and the layer that the user named.

    A method without attention has only the map of its own.

    Args:
        config: shape of the network.
        attention: the definition; None: all.
        layer: None: the last one.

    Raises:
        ConfigError: a network of this shape has no such map.
    """
    if not config.layers:
        if attention is not None or layer is not None:
            raise ConfigError(f"--method {config.method} has no attention and no --target-layer")
        return [MapSpec(config.method)]
    chosen = layer or config.layers[-1]
    if attention is not None:
        return [parse_map_spec(str(MapSpec(attention.value, chosen)), config)]
    specs = [spec for spec in map_specs(config) if spec.layer == chosen and not spec.is_fused]
    if not specs:
        raise ConfigError(f"no layer {chosen}; this model has {', '.join(config.layers)}")
    return specs
