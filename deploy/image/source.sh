#!/bin/sh
# `sh source.sh ROOM` (in a Dockerfile's build stage): /app holds the packages that the build stage copied, and /opt/pyc the
# bytecode of what the room imports. Both are layers of their own, so that an upgrade of the source alone is a small download.
set -eu
/opt/pip/bin/pip --disable-pip-version-check install --only-binary :all: --require-hashes --requirement "$(dirname "$0")/build.txt"
/opt/pip/bin/pip install --no-index --no-build-isolation --no-deps --no-compile --target /app .
if [ -d /app/claimsight ]; then sed -i '1s|.*|#!/opt/venv/bin/python|' /app/bin/claimsight; else rm -rf /app/bin; fi

# A container writes nothing, so without it every start compiles some two thousand modules. All bytecode would be three times
# as much. An image in which the room cannot be imported is not built.
cd /app
PYTHONPYCACHEPREFIX=/opt/pyc /opt/venv/bin/python - "$1" <<END
import importlib, pkgutil, sys
import uvicorn.lifespan.on, uvicorn.loops.uvloop, uvicorn.protocols.http.httptools_impl
room = importlib.import_module(f"services.{sys.argv[1]}")
for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    if ".migrations." not in found.name:
        importlib.import_module(found.name)
END
