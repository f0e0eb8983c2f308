"""A bucket of a real S3 server, which runs in the process of the tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3", reason="the tests of buckets need pip install '.[test]'")
pytest.importorskip("s3fs", reason="pip install 'anomaly-cli[cloud]'")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")

from anomaly_cli.files import remote  # noqa: E402 - needs the extra


class KilledError(BaseException):
    """End of a process in the middle of a run."""


class Bucket:
    """A bucket of the server, with the objects in it by key."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.address = f"s3://{name}"
        self._name = name
        client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self._name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Write the files of a folder, and return its address."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.address}/{prefix}"

    def get(self, key: str) -> bytes:
        """Read an object."""
        content: bytes = self.client.get_object(Bucket=self._name, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=self._name, Key=key)

    def keys(self, prefix: str) -> dict[str, Any]:
        """When each object below a folder was last written, by name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=f"{prefix}/"
        )
        found = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"].removeprefix(f"{prefix}/"): item["LastModified"] for item in found}

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Read all objects below a folder, by name."""
        return {name: self.get(f"{prefix}/{name}") for name in self.keys(prefix)}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Bucket]:
    """Make an empty bucket, and let the environment say where it is."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    remote._open.cache_clear()
    name = f"b{abs(hash(request.node.nodeid)):x}"
    yield Bucket(boto3.client("s3", endpoint_url=endpoint), name)
    remote._open.cache_clear()
