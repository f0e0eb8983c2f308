"""Settings of `reproduce`, and their defaults, which `cli` reads. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from anomaly_cli.errors import require


class Target(NamedTuple):
    """A table or figure of the paper, in words."""

    title: str  # of the table or figure
    needs: str  # data sets, as folders under the root of the data


TARGETS = {
    "table1": Target(
        "Table 1: anomaly localization on UCSD pedestrians, pixel AUROC",
        "UCSD pedestrians: ucsd/UCSDped1 (as in the paper) or ucsd/UCSDped2",
    ),
    "table2": Target(
        "Table 2: anomaly localization on MVTec AD, pixel AUROC and best IoU",
        "MVTec AD: mvtec, any of the 15 categories",
    ),
    "table3": Target(
        "Table 3: disentanglement on dSprites, FactorVAE score",
        "nothing: the images are rendered; dsprites/*.npz, the official file, is used if present",
    ),
    "figure1": Target(
        "Figure 1: attention of single latents in different samples",
        "any of MNIST, UCSD pedestrians, MVTec AD: MNIST/raw, ucsd, mvtec",
    ),
    "figure4": Target(
        "Figure 4: anomaly localization on MNIST, models of the digits 1 and 3",
        "MNIST: MNIST/raw",
    ),
    "figure5": Target(
        "Figure 5: anomaly localization on UCSD pedestrians",
        "UCSD pedestrians: ucsd/UCSDped1 (as in the paper) or ucsd/UCSDped2",
    ),
    "figure6": Target(
        "Figure 6: anomaly localization on MVTec AD",
        "MVTec AD: mvtec; wood, tile, leather, hazelnut, pill and metal_nut as in the paper, "
        "or other categories if none of these is present",
    ),
    "figure8": Target(
        "Figure 8: attention of the two highest latents on dSprites",
        "nothing: the images are rendered; dsprites/*.npz, the official file, is used if present",
    ),
}
GUIDED = frozenset({"figure1", "figure6"})  # targets with models of MVTec AD of one kind
REDUCED_MARK = "REDUCED RUN, not comparable with the paper"


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Settings of `reproduce`."""

    targets: tuple[str, ...]  # of TARGETS
    data: Path = Path("data")  # root of mvtec, MNIST, ucsd and dsprites
    output: Path = Path("reproduction")
    guided: bool = False  # models of MVTec AD as `train` makes them by default, not as the paper
    paper_epochs: int | None = None  # of the paper's VAE in Table 2; None: as in the preset `paper`
    seeds: int = 5  # of each method of Table 3
    reduced: bool = False  # a run of seconds to a minute
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse nonsense when built."""
        for name in self.targets:
            from difflib import get_close_matches  # noqa: PLC0415 - `--help` needs none

            close = get_close_matches(name, TARGETS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            known = ", ".join(TARGETS)
            require(name in TARGETS, f"unknown table or figure {name}; {hint}known: {known}")
        epochs = self.paper_epochs
        require(epochs is None or epochs >= 1, f"--paper-epochs must be at least 1, got {epochs}")
        is_used = epochs is None or "table2" in self.targets
        require(is_used, "--paper-epochs is for the paper's VAE in table2")
        require(self.seeds >= 1, f"--seeds must be at least 1, got {self.seeds}")
        require(self.seed >= 0, f"--seed must not be negative, got {self.seed}")
        strange = [name for name in self.targets if name not in GUIDED]
        require(
            not self.guided or len(strange) < len(self.targets),
            f"--guided is not supported with {', '.join(strange)}: it has no model of MVTec AD",
        )

    @property
    def root(self) -> Path:
        """Folder of models and results.

        Reduced runs have a folder of their own, so that none is taken for a full run.
        """
        return self.output / "reduced" if self.reduced else self.output

    def folder(self, target: str) -> Path:
        """Find the folder of a table or figure."""
        return self.root / self.name(target)

    def name(self, target: str) -> str:
        """Name the folder and the files of a table or figure."""
        return f"{target}-guided" if self.guided and target in GUIDED else target
