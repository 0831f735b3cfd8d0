#!/usr/bin/env bash
# Annotate, kill the run as a power cut would, and run the same command again: kill_and_resume.sh SOURCE ... OPTION ...
set -euo pipefail

results=out/07/results
annotate=(posert annotate "$@" --output "$results")
shards() { ls "$results/frames" 2>/dev/null | wc -l; }

setsid "${annotate[@]}" &
run=$!
until (($(shards) >= 2)) || ! kill -0 $run 2>/dev/null; do sleep 0.1; done
kill -KILL -- -$run 2>/dev/null || true  # the run and its workers
wait $run || true
echo "killed; shards with results: $(shards)"

"${annotate[@]}"
