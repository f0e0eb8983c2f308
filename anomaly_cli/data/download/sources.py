"""Addresses, licences and checksums of the data sets and the weights. Loads no torch.

Addresses and checksums are constants, so that an address and its checksum always belong together,
whichever torchvision is installed. A test compares those that torchvision has with torchvision's.
"""

from typing import Literal, NamedTuple

from anomaly_cli.config.data import UNCHECKED, DownloadConfig
from anomaly_cli.data.samples import MVTEC_CATEGORIES
from anomaly_cli.errors import require

Kind = Literal["archive", "gzip", "file"]

DSPRITES_FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
WEIGHTS_FILE = "resnet18-f37072fd.pth"
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MVTEC_SHARES = (  # newest first; MVTec has renewed its share links before
    "150996/b52ecdcbf521176e9db9c731f2304b27",
    "38536/3830184030e49fe74747669442f0f283",
)


class RemoteFile(NamedTuple):
    """One file to download."""

    name: str  # of the file on disk
    checksum: str  # hexadecimal: MD5 of 32 digits or SHA-256 of 64; empty: not checked
    urls: tuple[str, ...]  # mirrors, in the order they are tried


class Source(NamedTuple):
    """A data set or the weights: licence, files and location on disk."""

    title: str
    licence: str
    terms: str  # address of the text of the licence, or of the publisher
    kind: Kind  # archive: tar or zip that becomes a folder; gzip: files of a folder; file: as it is
    files: tuple[RemoteFile, ...]
    largest: int  # bytes that one of the files has at most, about twice what the largest has
    target: str  # folder or file that is made, below the output folder
    expected: tuple[str, ...] = ()  # globs in `target`; each matches if it is complete
    expansion: float = 0.0  # estimated unpacked bytes per downloaded byte, beside the download
    next_command: str = ""  # {output} stands for the output folder


def _mnist_file(name: str, md5: str) -> RemoteFile:
    return RemoteFile(name, md5, tuple(mirror + name for mirror in MNIST_MIRRORS))


SOURCES: dict[str, Source] = {
    "mnist": Source(
        title="MNIST",
        licence="CC BY-SA 3.0, by Yann LeCun and Corinna Cortes",
        terms="https://creativecommons.org/licenses/by-sa/3.0/",
        kind="gzip",
        files=(
            _mnist_file("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            _mnist_file("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            _mnist_file("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            _mnist_file("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        largest=20_000_000,
        target="MNIST",
        expected=(
            "raw/train-images-idx3-ubyte",
            "raw/train-labels-idx1-ubyte",
            "raw/t10k-images-idx3-ubyte",
            "raw/t10k-labels-idx1-ubyte",
        ),
        expansion=5.0,  # 55 MB from 11.6 MB
        next_command="anomaly-cli train --dataset mnist --data {output} --category 3",
    ),
    "ucsd": Source(
        title="UCSD Anomaly Detection (Ped1 and Ped2)",
        licence="no licence is known to be stated; by the Statistical Visual Computing "
        "Laboratory of UC San Diego",
        terms="http://www.svcl.ucsd.edu/projects/anomaly/dataset.htm",
        kind="archive",
        files=(
            RemoteFile(
                "UCSD_Anomaly_Dataset.tar.gz",
                "2329af326951f5097fdd114c50e853957d3e569493a49d22fc082a9fd791915b",
                # The publisher has no https; the checksum tells a changed file.
                ("http://www.svcl.ucsd.edu/projects/anomaly/UCSD_Anomaly_Dataset.tar.gz",),
            ),
        ),
        largest=2_000_000_000,
        target="ucsd",
        expected=(
            "UCSD_Anomaly_Dataset.v1p2/UCSDped1/Train/*/*.tif",
            "UCSD_Anomaly_Dataset.v1p2/UCSDped2/Train/*/*.tif",
        ),
        expansion=2.0,
        next_command="anomaly-cli train --dataset ucsd "
        "--data {output}/ucsd/UCSD_Anomaly_Dataset.v1p2 --category UCSDped1",
    ),
    "mvtec": Source(
        title="MVTec AD",
        licence="CC BY-NC-SA 4.0, by MVTec Software GmbH: no commercial use",
        terms="https://creativecommons.org/licenses/by-nc-sa/4.0/",
        kind="archive",
        files=(
            RemoteFile(
                "mvtec_anomaly_detection.tar.xz",
                "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
                tuple(
                    f"https://www.mydrive.ch/shares/{share}/download/420938113-1629960298/"
                    "mvtec_anomaly_detection.tar.xz"
                    for share in MVTEC_SHARES
                ),
            ),
        ),
        largest=11_000_000_000,
        target="mvtec",
        expected=tuple(f"{category}/train/good/*" for category in MVTEC_CATEGORIES),
        expansion=1.05,  # PNG files are compressed already
        next_command="anomaly-cli train --data {output}/mvtec --category bottle",
    ),
    "dsprites": Source(
        title="dSprites",
        licence="Apache License 2.0, by DeepMind; the images were made with LOVE (zlib licence)",
        terms="https://github.com/google-deepmind/dsprites-dataset",
        kind="file",
        files=(
            RemoteFile(
                DSPRITES_FILE,
                "7da33b31b13a06f4b04a70402ce90c2e",
                (
                    "https://github.com/google-deepmind/dsprites-dataset/raw/master/"
                    + DSPRITES_FILE,
                ),
            ),
        ),
        largest=60_000_000,
        target=f"dsprites/{DSPRITES_FILE}",
        next_command=f"anomaly-cli disentangle --data {{output}}/dsprites/{DSPRITES_FILE}",
    ),
    "weights": Source(
        title="ResNet18, trained on ImageNet",
        licence="BSD 3-Clause, by torchvision, which adds that the terms of the training data "
        "(ImageNet: research without commercial use) may hold for weights too",
        terms="https://github.com/pytorch/vision#pre-trained-model-license",
        kind="file",
        files=(
            RemoteFile(
                WEIGHTS_FILE,
                "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
                (f"https://download.pytorch.org/models/{WEIGHTS_FILE}",),
            ),
        ),
        largest=100_000_000,
        target=f"weights/{WEIGHTS_FILE}",
        next_command=f"anomaly-cli train --category bottle "
        f"--weights {{output}}/weights/{WEIGHTS_FILE}",
    ),
}


def files_of(config: DownloadConfig, name: str) -> tuple[RemoteFile, ...]:
    """List the files of a data set, with the `url` and `checksum` of the settings if given.

    Raises:
        ConfigError: one checksum is given for several files.
    """
    files = SOURCES[name].files
    is_hash = config.checksum not in {None, UNCHECKED}
    require(
        not (is_hash and len(files) > 1), f"{name} has several files: no one --checksum fits them"
    )
    if config.url is None:
        return files
    checksum = "" if config.checksum == UNCHECKED else config.checksum
    base = config.url.rstrip("/")
    return tuple(
        RemoteFile(
            file.name,
            file.checksum if checksum is None else checksum,
            (config.url if len(files) == 1 else f"{base}/{file.name}",),
        )
        for file in files
    )
