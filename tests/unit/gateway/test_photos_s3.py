"""Photos in an S3-compatible store, spoken to over HTTP: what holds for a folder holds there."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.common.serving.errors import NotReady
from services.gateway import ids
from services.gateway.photos import PhotoStore

BUCKET = "/claimsight-photos/"


class Bucket(BaseHTTPRequestHandler):
    """As much of S3's interface as one bucket needs (path style); signatures are asked for and not checked."""

    objects: dict[str, bytes]
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"ETag": '"1"', "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.startswith(BUCKET) or "AWS4-HMAC-SHA256" not in self.headers["Authorization"]:
            return self.answer(403)
        self.objects[self.path] = body
        return self.answer(200)

    def do_GET(self) -> None:
        found = self.objects.get(self.path)
        self.answer(404) if found is None else self.answer(200, found)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """DeleteObjects: the only POST there is."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall(r"<Key>([^<]+)</Key>", asked)
        for key in keys:
            self.objects.pop(f"{BUCKET}{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    kept: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Bucket,), {"objects": kept}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }.items():
        monkeypatch.setenv(name, value)
    yield kept
    server.shutdown()
    thread.join()


async def test_a_photo_is_kept_read_and_erased_with_its_pictures(objects: dict[str, bytes]) -> None:
    store, photo = PhotoStore("s3://claimsight-photos/claims"), ids.new("pho")
    await store.put_photo(photo, b"bytes of a photo")
    await store.put_picture("overlay", photo, b"drawn")
    assert await store.get_photo(photo) == b"bytes of a photo"
    assert all(key.startswith(f"{BUCKET}claims/") for key in objects)
    assert await store.erase(photo) == 2
    assert objects == {}
    assert await store.get_picture("overlay", photo) is None
    assert await store.erase(photo) == 0
    with pytest.raises(LookupError):
        await store.get_photo(photo)


async def test_a_bucket_that_refuses_is_told_and_loses_nothing_silently(objects: dict[str, bytes]) -> None:
    with pytest.raises(NotReady):
        await PhotoStore("s3://another-bucket").put_photo(ids.new("pho"), b"bytes of a photo")
    await PhotoStore("s3://claimsight-photos").ping()
    assert objects == {}
