"""Tables 1 and 2 of the paper (Liu et al., CVPR 2020), to compare results with."""

from typing import NamedTuple

# UCSDped1, pixel AUROC: the reconstruction error, then attention at conv1, conv2 and conv3.
TABLE_1 = (0.86, 0.89, 0.92, 0.91)

METHODS = ("AE-SSIM", "AE-L2", "AnoGAN", "CNN feature dictionary", "the paper")

# The second row of the four competitors is not a best IoU.
CAVEAT = (
    "The paper calls its second row IoU. For the four competitors it comes from Bergmann et al. "
    "(CVPR 2019), where it is the overlap per region at a threshold estimated on validation "
    "images; only the paper's own column is the best IoU over all thresholds, chosen on the test "
    "labels. The columns of that row are not comparable with each other."
)


class PaperRow(NamedTuple):
    """One category of Table 2, in the order of METHODS."""

    pixel_auroc: tuple[float, float, float, float, float]
    overlap: tuple[float, float, float, float, float]  # the last is best IoU


TABLE_2 = {
    "carpet": PaperRow((0.87, 0.59, 0.54, 0.72, 0.78), (0.69, 0.38, 0.34, 0.20, 0.10)),
    "grid": PaperRow((0.94, 0.90, 0.58, 0.59, 0.73), (0.88, 0.83, 0.04, 0.02, 0.02)),
    "leather": PaperRow((0.78, 0.75, 0.64, 0.87, 0.95), (0.71, 0.67, 0.34, 0.74, 0.24)),
    "tile": PaperRow((0.59, 0.51, 0.50, 0.93, 0.80), (0.04, 0.23, 0.08, 0.14, 0.23)),
    "wood": PaperRow((0.73, 0.73, 0.62, 0.91, 0.77), (0.36, 0.29, 0.14, 0.47, 0.14)),
    "bottle": PaperRow((0.93, 0.86, 0.86, 0.78, 0.87), (0.15, 0.22, 0.05, 0.07, 0.27)),
    "cable": PaperRow((0.82, 0.86, 0.78, 0.79, 0.90), (0.01, 0.05, 0.01, 0.13, 0.18)),
    "capsule": PaperRow((0.94, 0.88, 0.84, 0.84, 0.74), (0.09, 0.11, 0.04, 0.00, 0.11)),
    "hazelnut": PaperRow((0.97, 0.95, 0.87, 0.72, 0.98), (0.00, 0.41, 0.02, 0.00, 0.44)),
    "metal_nut": PaperRow((0.89, 0.86, 0.76, 0.82, 0.94), (0.01, 0.26, 0.00, 0.13, 0.49)),
    "pill": PaperRow((0.91, 0.85, 0.87, 0.68, 0.83), (0.07, 0.25, 0.17, 0.00, 0.18)),
    "screw": PaperRow((0.96, 0.96, 0.80, 0.87, 0.97), (0.03, 0.34, 0.01, 0.00, 0.17)),
    "toothbrush": PaperRow((0.92, 0.93, 0.90, 0.77, 0.94), (0.08, 0.51, 0.07, 0.00, 0.14)),
    "transistor": PaperRow((0.90, 0.86, 0.80, 0.66, 0.93), (0.01, 0.22, 0.08, 0.03, 0.30)),
    "zipper": PaperRow((0.88, 0.77, 0.78, 0.76, 0.78), (0.10, 0.13, 0.01, 0.00, 0.06)),
}
