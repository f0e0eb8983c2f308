"""Archives are unpacked inside their folder or not at all."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from download_server import MVTEC_FILES, make_tar

from anomaly_cli.data.download.archives import decompress, unpack
from anomaly_cli.data.download.installation import install
from anomaly_cli.data.download.sources import SOURCES
from anomaly_cli.errors import DataError, OutputError

IMAGE = "bottle/train/good/000.png"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def make_zip(names: list[str], *, mode: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode if name == names[-1] else 0) << 16
            archive.writestr(info, b"/etc/passwd")
    return stream.getvalue()


def install_mvtec(folder: Path, archive: bytes) -> None:
    """Install what was fetched as `mvtec.part` into `folder / "data" / "mvtec"`."""
    part = folder / "mvtec.part"
    part.write_bytes(archive)
    for _ in install(SOURCES["mvtec"], [part], folder / "data" / "mvtec"):
        pass


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_comes_out(tmp_path: Path, mode: str) -> None:
    install_mvtec(tmp_path, make_tar(MVTEC_FILES, mode=mode))
    folder = tmp_path / "data" / "mvtec" / "bottle" / "train" / "good"
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [b"normal"]


def test_zip_comes_out(tmp_path: Path) -> None:
    install_mvtec(tmp_path, make_zip(["bottle/", *MVTEC_FILES]))
    assert (tmp_path / "data" / "mvtec" / IMAGE).read_bytes() == b"/etc/passwd"


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil"),
        member("bottle/../../evil"),
        member("/tmp/evil"),  # noqa: S108 - it is refused
        member("C:\\evil"),
        member("evil", tarfile.SYMTYPE, "license.txt"),  # inside: links are led out in steps
        member("evil", tarfile.SYMTYPE, "../outside"),
        member("evil", tarfile.SYMTYPE, "/etc/passwd"),
        member("evil", tarfile.LNKTYPE, "../outside"),
        member("evil", tarfile.CHRTYPE),
        member("evil", tarfile.BLKTYPE),
        member("evil", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.type.decode()}-{info.name}-{info.linkname}",
)
def test_tar_member_that_leaves_the_folder_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    """One line that names it; and of the members before it, nothing is kept either."""
    (tmp_path / "outside").write_text("mine")
    with pytest.raises(DataError, match="is refused, nothing of it is kept") as raised:
        install_mvtec(tmp_path, make_tar(MVTEC_FILES, bad))
    assert "evil" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "data").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mvtec.part", "outside"]
    assert (tmp_path / "outside").read_text() == "mine"


def test_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A link out of the folder is refused before the member that would go through it."""
    bad = [member("door", tarfile.SYMTYPE, ".."), member("door/evil")]
    with pytest.raises(DataError, match="door"):
        install_mvtec(tmp_path, make_tar(MVTEC_FILES, *bad))
    assert not list((tmp_path / "data").iterdir())


def test_file_is_not_written_through_a_link_that_lay_in_the_folder(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.tar", tmp_path / "folder"
    archive.write_bytes(make_tar({"door/evil": b"x"}))
    folder.mkdir()
    (folder / "door").symlink_to(tmp_path)
    with pytest.raises(DataError, match="'door/evil' points outside the folder"):
        list(unpack(archive, folder))
    assert not (tmp_path / "evil").exists()


def test_a_python_without_the_safe_filter_unpacks_no_tar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DataError, match=r"3\.11\.4 or newer can"):
        install_mvtec(tmp_path, make_tar(MVTEC_FILES))


def test_a_file_in_the_place_of_a_folder_is_an_output_error(tmp_path: Path) -> None:
    target = tmp_path / "data/mvtec"
    target.mkdir(parents=True)
    (target / "bottle").write_text("mine")
    with pytest.raises(OutputError, match=f"cannot write {target}: "):
        install_mvtec(tmp_path, make_tar(MVTEC_FILES))
    assert (target / "bottle").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../evil", 0),
        ("bottle/../../evil", 0),
        ("/evil", 0),
        ("..\\evil", 0),
        ("C:/evil", 0),
        ("evil", stat.S_IFLNK | 0o777),
        ("evil", stat.S_IFCHR | 0o666),
    ],
)
def test_zip_member_that_leaves_the_folder_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    with pytest.raises(DataError, match=r"is refused.*evil"):
        install_mvtec(tmp_path, make_zip([IMAGE, name], mode=mode))
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_zip_is_refused(tmp_path: Path, damage: str) -> None:
    whole = bytearray(make_zip([IMAGE]))
    whole[60] ^= 0xFF  # inside the content of the first member
    (tmp_path / "x.zip").write_bytes(whole[:-10] if damage == "cut" else whole)
    with pytest.raises(DataError, match="cut off"):
        list(unpack(tmp_path / "x.zip", tmp_path / "out"))


def test_page_instead_of_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar.xz").write_text("<html>Sign in to the network</html>")
    with pytest.raises(DataError, match="neither a tar nor a zip"):
        list(unpack(tmp_path / "x.tar.xz", tmp_path / "out"))


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"0123456789" * 100))
    whole[-5] ^= 0xFF  # of the checksum
    (tmp_path / "x.gz").write_bytes(whole)
    with pytest.raises(DataError, match=r"x\.gz is damaged"):
        decompress(tmp_path / "x.gz", tmp_path / "out" / "x")


def test_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OutputError, match="data"):
        install_mvtec(tmp_path, make_tar(MVTEC_FILES))


def test_folder_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / "data" / "mvtec.partial" / "old"
    left.mkdir(parents=True)
    install_mvtec(tmp_path, make_tar(MVTEC_FILES))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mvtec"]
    assert not (tmp_path / "data" / "mvtec" / "old").exists()
