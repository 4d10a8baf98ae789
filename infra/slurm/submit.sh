#!/bin/bash
# Submits a whole run to Slurm: infra/slurm/submit.sh CONFIG [--table.key VALUE ...]
#
# The same command resumes a run that was cancelled, timed out or preempted. The folder run.dir is on a file system that
# all nodes share. Environment:
#   PRODUCERS, VERIFIERS          how many (default: as the recipe says)
#   SBATCH_ALL                    options of every job, e.g. "--partition=long --account=mine --time=12:00:00"
#   SBATCH_LEARNER, SBATCH_PRODUCER, SBATCH_VERIFIER, SBATCH_BROKER, ...
#                                 options of one role's jobs, e.g. "--gres=gpu:1 --cpus-per-task=8 --mem=64G"
#   RUCKSACK                      the command (default: rucksack, as PATH has it)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 CONFIG [--table.key VALUE ...]" >&2; exit 2; }
export RUCKSACK=${RUCKSACK:-rucksack}

recipe=$($RUCKSACK config "$@")
value() { sed -n "s/^$1 = //p" <<<"$recipe" | tr -d '"'; }
name=$(value run.name)
folder=$(value run.dir)/$name
servers=$(value broker.bootstrap_servers)
if [ -n "$(squeue --noheader --name="rucksack-$name-learner")" ]; then
    echo "run $name is in the queue already; see squeue, stop it with: scancel --name=rucksack-$name-learner" >&2
    exit 2
fi
mkdir -p "$folder/logs"

# submit ROLE SCRIPT OPTIONS... -- ARGUMENTS...: prints the job's id
submit() {
    local role=$1 script=$2 options=() more="SBATCH_${1^^}"
    shift 2
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    # shellcheck disable=SC2086  # the user's options are words
    sbatch --parsable --export=ALL --job-name="rucksack-$name-$role" --output="$folder/logs/slurm-$role.log" \
        ${SBATCH_ALL:-} ${!more:-} "${options[@]}" "$here/$script" "$@"
}

broker=""
if [ -z "$servers" ]; then
    broker=$(submit broker broker.sbatch -- "$folder")
fi
learner=$(submit learner role.sbatch -- learner "$@")
allocator=$(submit allocator role.sbatch -- allocator "$@")
over="$learner:$allocator"
if [ "$(value evaluator.enabled)" = true ]; then over+=":$(submit evaluator role.sbatch -- evaluator "$@")"; fi
if [ "$(value tracking.to)" != "[]" ]; then over+=":$(submit tracker role.sbatch -- tracker "$@")"; fi
submit producer role.sbatch --output="$folder/logs/slurm-producer-%a.log" --array="0-$((${PRODUCERS:-$(value producer.replicas)} - 1))" -- producer "$@" >/dev/null
submit verifier role.sbatch --output="$folder/logs/slurm-verifier-%a.log" --array="0-$((${VERIFIERS:-$(value verifier.replicas)} - 1))" -- verifier "$@" >/dev/null
finish=$(submit finish finish.sbatch --dependency="afterany:$over" -- "$folder" "$servers" "$1")
echo "run $name submitted: learner $learner, broker ${broker:-$servers}, report and summary by $finish; logs in $folder/logs"
