#!/bin/sh
# Ten minutes of one GPU: doctor, the whole loop on SmolLM2, the engine beside bare vLLM, the learner beside a plain loop.
#   benchmarks/gpu.sh [OUT]       needs: make setup EXTRA=gpu, models/smollm2-135m-instruct (make smollm2 makes it)
# Everything printed goes to OUT as well (default: $OUT, or gpu-figures); a part that fails does not stop the others.
# UPDATES and OPTIONS make it small enough to try on a CPU:
#   UPDATES=2 OPTIONS="--learner.device=cpu --producer.dtype=float32 --learner.dtype=float32" \
#   LEARNER="--shape 135m --device cpu --threads 1 --rollouts 8 --rounds 1" benchmarks/gpu.sh
set -u
cd "$(dirname "$0")/.."
out=${1:-${OUT:-gpu-figures}}
mkdir -p "$out"
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
recipe=configs/smollm2-gpu.toml
failed=0

part() {
    name=$1
    shift
    echo "== $name: $*"
    begin=$(date +%s)
    "$@" >"$out/$name.log" 2>&1
    code=$?
    [ $code -eq 0 ] || failed=1
    tail -40 "$out/$name.log" | cut -c1-200
    echo "== $name: exit code $code, $(($(date +%s) - begin)) s"
}

part doctor "$python" -m infra.cli doctor $recipe
# shellcheck disable=SC2086  # OPTIONS are several words
part loop "$python" -m infra.cli up $recipe --run.name "gpu-$(date +%s)" --run.num_updates "${UPDATES:-100}" ${OPTIONS:-}
part engine "$python" -m benchmarks.engine --model models/smollm2-135m-instruct --out "$out/engine.json"
# shellcheck disable=SC2086  # LEARNER is several words
part learner "$python" -m benchmarks.learner --out "$out/learner.json" ${LEARNER:---shape 1.5b --device cuda \
    --dtype bfloat16 --gradient-checkpointing --micro-batch-tokens 16384 --max-tokens 1024 --rollouts 256}
exit $failed
