#!/usr/bin/env bash
# The long runs behind the table in docs/reliability.md: tests/faults.sh [PART]…
#
# The parts: kills, stops, disk, flips, numbers, signals, threads, fuzz, neighbour. Without arguments all but the last two: fuzz takes
# the executions and seconds of each target from FUZZ_RUNS and FUZZ_SECONDS, and neighbour means something on a machine only that has
# nothing else to do. Scratch is in memory. A full disk is a tmpfs, for which it has to be root.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d -p /dev/shm)
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$scratch"' EXIT
export TMPDIR=$scratch

# run TESTS NAME…: these tests of tests/TESTS.rs, and what they tell.
run() {
    local tests=$1 status=0
    shift
    cargo test --quiet --test "$tests" -- "$@" --nocapture --test-threads 1 >"$scratch/log" 2>&1 || status=$?
    grep -vE '^(running |test result: ok|$)' "$scratch/log" || true
    return $status
}

kills() { WORDMILL_TEST_KILLS=${KILLS:-1000} run faults killed_at_random_moments; }
stops() { WORDMILL_TEST_STOPS=${STOPS:-200} run faults stopped_at_any_step; }
# With WORDMILL_TEST_SECONDS=2, an end that takes longer fails.
signals() { WORDMILL_TEST_SIGNALS=${SIGNALS:-200} WORDMILL_TEST_WORDS=100000 run faults signals_at_random_moments; }
flips() { run checkpoint every_bit_flip_and_every_truncation_is_detected every_failing_operation_leaves_what_was_there; }
numbers() { WORDMILL_TEST_ONE_OF=1 run faults not_finite_anywhere; }

threads() {
    local isa
    for isa in avx512 avx2 scalar; do
        if WORDMILL_ISA=$isa cargo run --quiet -- info --seconds 0.01 >/dev/null 2>&1; then
            WORDMILL_ISA=$isa WORDMILL_TEST_THREADS=1,2,3,4,8,16 run determinism same_bits
            printf '%s: the same bits for 1, 2, 3, 4, 8 and 16 threads\n' $isa
        fi
    done
}

# A disk that gets full while a checkpoint is written: no more files, no more blocks, and another program that takes and gives back
# whatever is left.
disk() {
    [ "$(id -u)" = 0 ] || { echo 'disk: skipped, only root can mount a tmpfs'; return; }
    cargo build --quiet
    local wordmill=$PWD/target/debug/wordmill text=$PWD/data/lm/valid.txt tries=0 failed=0 kept=0 filler=
    mounted=$scratch/full
    mkdir "$mounted"
    local train=("$wordmill" train lm --embed 6 --hidden 30 --batch 16 --tau 10 --save-every 1e-6 --max-steps 40 -q)
    try() { # OPTIONS-OF-TMPFS
        mount -t tmpfs -o "$1" tmpfs "$mounted"
        if [ "${2:-}" = filler ]; then
            ( while :; do head -c $((RANDOM * 100)) /dev/zero >"$mounted/filler" 2>/dev/null || true; rm -f "$mounted/filler"; done ) &
            filler=$!
        fi
        local code=0 said
        said=$("${train[@]}" --train "$text" --out "$mounted/model" 2>&1 >/dev/null) || code=$?
        tries=$((tries + 1))
        if [ -n "$filler" ]; then kill "$filler"; wait "$filler" 2>/dev/null || true; filler=; fi
        case $code in
        0) ;;
        6)
            failed=$((failed + 1))
            [ "$(wc -l <<<"$said")" = 1 ] || { printf 'disk (%s): %s\n' "$1" "$said"; exit 1; }
            ;;
        *) printf 'disk (%s): exit code %d: %s\n' "$1" $code "$said"; exit 1 ;;
        esac
        # What is called a checkpoint is one, and the run goes on from it where there is room.
        if compgen -G "$mounted/model/step-*" >/dev/null; then
            cp -r "$mounted/model" "$scratch/model"
            said=$("$wordmill" train lm --out "$scratch/model" --resume --max-steps 60 -q 2>&1) || { printf 'disk (%s): %s\n' "$1" "$said"; exit 1; }
            [ -z "$said" ] || { printf 'disk (%s): %s\n' "$1" "$said"; exit 1; }
            rm -rf "$scratch/model"
            kept=$((kept + 1))
        fi
        umount "$mounted"
    }
    for inodes in $(seq 3 42); do try "size=20m,nr_inodes=$inodes"; done
    for kilobytes in $(seq 8 40 1600); do try "size=${kilobytes}k"; done
    for i in $(seq 120); do try "size=$((2 + i % 4))m" filler; done
    mounted=
    echo "a full tmpfs, $tries runs: $failed ended with exit code 6 and one line, the others had room; $kept left checkpoints, all of them whole and gone on from"
}

fuzz() {
    local runs=${FUZZ_RUNS:-2000000} target
    command -v cargo-fuzz >/dev/null || { echo 'fuzz: needs cargo install cargo-fuzz'; exit 1; }
    export RUSTC_BOOTSTRAP=1 RAYON_NUM_THREADS=1
    cargo fuzz build --sanitizer none
    for target in $(cargo fuzz list); do
        mkdir -p "$scratch/$target"
        cargo fuzz run --sanitizer none "$target" "$scratch/$target" "fuzz/seeds/$target" -- \
            -runs="$runs" -max_total_time="${FUZZ_SECONDS:-1800}" -max_len=4096 -timeout=600 -rss_limit_mb=2048 -close_fd_mask=3 -print_final_stats=1 2>&1 |
            grep -E '^stat::number_of_executed_units|SUMMARY|Test unit' | sed "s/^/$target: /"
    done
}

# Words a second beside an endless loop on one of two cores.
neighbour() {
    cargo build --quiet --release
    local loop
    speed() { # THREADS WHAT
        target/release/wordmill train lm --train data/lm/train.txt --out "$scratch/model" --force --cell gru --hidden 200 --embed 100 \
            --max-steps 150 --threads "$1" --json 2>/dev/null | sed -E "s|.*\"words_per_second\":([0-9]+).*|$2: \\1 words/s|"
    }
    for _ in 1 2 3; do
        speed 2 'two threads on two free cores'
        speed 1 'one thread'
        taskset -c 1 sh -c 'while :; do :; done' &
        loop=$!
        speed 2 'two threads, an endless loop on core 1'
        kill "$loop"
        wait "$loop" 2>/dev/null || true
    done
}

[ $# -gt 0 ] || set -- flips numbers threads disk stops signals kills
for part in "$@"; do
    printf '\n== %s\n' "$part"
    "$part"
done
