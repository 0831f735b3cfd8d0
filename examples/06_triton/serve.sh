#!/usr/bin/env bash
# Serve the bundle, ask once, and end the server. In your own use these are two terminals.
set -euo pipefail

posert serve out/demo/hrnet_demo.pose --port 8200 --grpc-port 8201 >out/06/serve.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server || true' EXIT
sleep 3
if ! kill -0 $server 2>/dev/null; then  # it did not start: Triton is not installed, or the port is taken
    tail -n 1 out/06/serve.log >&2
    exit 1
fi
python "$(dirname "$0")/ask.py" localhost:8201
