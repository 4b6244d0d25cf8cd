"""Checks that `burgess fetch` and huggingface_hub share the hub's cache: each finds the files that the other fetched.

Serves a repository on this machine with the hub's protocol, so that no network is needed:

    cargo build --release && python tests/reference/hub_cache.py

Versions: huggingface_hub 2.4.0, Python 3.11.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BURGESS = ROOT / "target/release/burgess"
GOLDEN = ROOT / "tests/golden/encoders/dinov2"
COMMIT = "00112233445566778899aabbccddeeff00112233"
REPOSITORY = "maker/small"
SMALL = ["config.json", "preprocessor_config.json"]
LARGE = ["model.safetensors"]


def etag(name):
    data = (GOLDEN / name).read_bytes()
    if name in LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    bodies = []

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[-1]
        if path.startswith(f"/api/models/{REPOSITORY}"):
            files = [{"rfilename": f} for f in SMALL + LARGE]
            listing = {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": files}
            return self.answer(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
        if name not in SMALL + LARGE:
            return self.answer(404, {"X-Error-Code": "EntryNotFound"})
        data = (GOLDEN / name).read_bytes()
        if self.command == "GET":
            self.bodies.append(name)
        if path.startswith("/cdn/"):
            return self.answer(200, {}, data)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(name)}"'}
        if name in SMALL:
            return self.answer(200, headers, data)
        headers |= {"X-Linked-Etag": f'"{etag(name)}"', "X-Linked-Size": str(len(data))}
        host = f"http://localhost:{self.server.server_port}"
        return self.answer(302, headers | {"Location": f"{host}/cdn/{name}"})

    do_HEAD = do_GET


def layout(home):
    """Paths in a cache, without locks and hidden files."""
    names = (path.relative_to(home) for path in (Path(home) / "hub").rglob("*"))
    return {str(name) for name in names if not any(part.startswith(".") or part == "CACHEDIR.TAG" for part in name.parts)}


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "*"}
        os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

        def burgess(home, *args):
            done = subprocess.run([BURGESS, *args], env=os.environ | {"HF_HOME": home}, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            return done.stdout

        burgess(first, "fetch", REPOSITORY)
        # After the environment, which it reads when it is imported.
        from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

        cache = Path(first) / "hub"
        for name in SMALL + LARGE:
            found = hf_hub_download(REPOSITORY, name, cache_dir=cache, local_files_only=True)
            assert Path(found).read_bytes() == (GOLDEN / name).read_bytes(), found
            Hub.bodies.clear()
            assert hf_hub_download(REPOSITORY, name, cache_dir=cache) == found
            assert not Hub.bodies, f"fetched again: {Hub.bodies}"
        assert snapshot_download(REPOSITORY, cache_dir=cache, local_files_only=True).endswith(COMMIT)
        scan = scan_cache_dir(cache)
        assert not scan.warnings and [r.repo_id for r in scan.repos] == [REPOSITORY], scan
        print("huggingface_hub finds what burgess fetched")

        cache = Path(second) / "hub"
        for name in SMALL + LARGE:
            hf_hub_download(REPOSITORY, name, cache_dir=cache)
        Hub.bodies.clear()
        assert burgess(second, "fetch", REPOSITORY).count("here already") == len(SMALL + LARGE)
        assert not [name for name in Hub.bodies if name in LARGE + SMALL], f"fetched again: {Hub.bodies}"
        burgess(second, "encoders", REPOSITORY)
        a, b = layout(first), layout(second)
        assert a == b, a ^ b
        print("burgess finds what huggingface_hub fetched; both made the same files")


if __name__ == "__main__":
    main()
