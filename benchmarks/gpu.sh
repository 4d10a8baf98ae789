#!/bin/sh
# What one GPU shows in ten minutes: the output layer's gradient, the learner's update, the whole loop at 135 M and at 1.4 B
# parameters, the engine beside bare vLLM.
#   benchmarks/gpu.sh [PART ...]      all parts: doctor head learner loop large engine
# Needs: make setup EXTRA=gpu, models/smollm2-135m-instruct (make models/smollm2-135m-instruct/config.json EXTRA=gpu makes it).
# What is printed goes to OUT (default gpu-figures) as well; a part that fails does not stop the others.
# UPDATES, LARGE_UPDATES, OPTIONS, LEARNER and ENGINE make it small enough to try on a CPU:
#   UPDATES=2 LEARNER="--shape 135m --device cpu --threads 1 --rollouts 8 --rounds 1" ENGINE="--tokens 64 --rounds 1" \
#   OPTIONS="--learner.device=cpu --producer.dtype=float32 --learner.dtype=float32" benchmarks/gpu.sh head learner loop engine
set -u
cd "$(dirname "$0")/.."
out=${OUT:-gpu-figures}
mkdir -p "$out"
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
recipe=configs/smollm2-gpu.toml
large=models/random-1.4b
learner=${LEARNER:---shape 1.5b --device cuda --dtype bfloat16 --micro-batch-tokens 16384 --max-tokens 1024 --rollouts 128 --rounds 2}
failed=0

part() {
    name=$1
    shift
    echo "== $name: $*"
    begin=$(date +%s)
    "$@" >"$out/$name.log" 2>&1
    code=$?
    [ $code -eq 0 ] || failed=1
    tail -"${LINES_SHOWN:-30}" "$out/$name.log" | cut -c1-200
    echo "== $name: exit code $code, $(($(date +%s) - begin)) s"
}

for wanted in ${*:-doctor head learner loop large engine}; do
    # shellcheck disable=SC2086  # OPTIONS, LEARNER and ENGINE are several words
    case $wanted in
    doctor) part doctor "$python" -m infra.cli doctor $recipe ;;
    head) part head "$python" -m pytest -q -p no:cacheprovider tests/learner/test_head.py ;;
    learner)
        part learner "$python" -m benchmarks.learner --out "$out/learner.json" $learner --gradient-checkpointing
        part learner-compiled "$python" -m benchmarks.learner --out "$out/learner-compiled.json" $learner --alone --compile \
            --gradient-checkpointing
        part learner-kept "$python" -m benchmarks.learner --out "$out/learner-kept.json" $learner --alone --compile
        ;;
    loop) part loop "$python" -m infra.cli up $recipe --run.name "gpu-$(date +%s)" --run.num_updates "${UPDATES:-100}" \
        ${OPTIONS:-} ;;
    large)
        [ -f $large/config.json ] || part large-model "$python" -m benchmarks.large_model $large
        part large "$python" -m infra.cli up $recipe --run.name "large-$(date +%s)" --run.model $large \
            --run.num_updates "${LARGE_UPDATES:-12}" --learner.lr 1e-6 --evaluator.enabled=false \
            --learner.checkpoint_every=1000 ${OPTIONS:-}
        ;;
    engine) part engine "$python" -m benchmarks.engine --out "$out/engine.json" \
        ${ENGINE:---prompts 1024 --max-num-seqs 512 --tokens 256 --rounds 3} ;;
    *)
        echo "benchmarks/gpu.sh: no part $wanted; the parts are doctor head learner loop large engine" >&2
        exit 2
        ;;
    esac
done
exit $failed
