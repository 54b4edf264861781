#!/bin/sh
# Runs the checks one after another and ends in one screen of summary.
# Usage: tools/test.sh [lint]     (lint: format and clippy only)
# Each step's whole output is kept in target/test-logs/; it is shown when the step fails.
set -u
cd "$(dirname "$0")/.."
logs=target/test-logs
mkdir -p $logs
: >$logs/summary
failed_steps=0 passed_tests=0 failed_tests=0

# Unit tests and clippy share one profile, so that dependencies are compiled once.
profile=${TEST_PROFILE:-dev}

note() { # note NAME RESULT DETAIL
    printf '  %-12s %-8s %s\n' "$1" "$2" "$3" >>$logs/summary
}

step() { # step NAME COMMAND...
    name=$1
    shift
    echo "==> $name: $*"
    began=$(date +%s)
    if "$@" >"$logs/$name.log" 2>&1; then
        result=ok
    else
        result=FAILED
        failed_steps=$((failed_steps + 1))
        tail -n 60 "$logs/$name.log"
    fi
    # Sums of cargo's and the story runner's own counts, 0 when the step prints none.
    counts=$(awk '/^test result:/ { p += $4; f += $6 }
                  /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 }
                  END { print p + 0, f + 0 }' "$logs/$name.log")
    p=${counts% *} f=${counts#* }
    if [ "$((p + f))" = 0 ]; then # a step without counts is one check
        [ $result = ok ] && p=1 || f=1
    elif [ $result != ok ] && [ "$f" = 0 ]; then
        f=1
    fi
    passed_tests=$((passed_tests + p)) failed_tests=$((failed_tests + f))
    note "$name" $result "$p passed, $f failed, $(($(date +%s) - began)) s"
    [ $result = ok ] || why
}

# What failed and where, for the summary: the names of cargo's tests, and each panic with the line after it.
why() {
    awk '/^test .* FAILED$/ { print "    " $2 }
         / panicked at / { print "      " $0; getline; print "        " $0 }' "$logs/$name.log" | cut -c1-300 | head -n 40 >>$logs/summary
}

# cargo-deny is a pinned tool of the project, built once into .tools.
deny() {
    if [ ! -x .tools/bin/cargo-deny ]; then
        echo "==> building cargo-deny 0.20.2 (three minutes, once)"
        if ! cargo install --quiet --locked --root .tools cargo-deny@0.20.2 >$logs/cargo-deny.log 2>&1; then
            note licences FAILED "cargo-deny could not be built: see $logs/cargo-deny.log"
            failed_steps=$((failed_steps + 1)) failed_tests=$((failed_tests + 1))
            return
        fi
    fi
    step licences .tools/bin/cargo-deny --locked check licenses bans sources
}

# A test that lacks something says so in a line that begins with "skipped:" and passes. Golden data may be absent;
# everything else has been installed by `make build`, so that its absence is a failure.
skips() {
    grep -h '^skipped: ' $logs/unit.log | sort | uniq -c | while read -r count line; do
        note skipped "$count" "${line#skipped: }"
    done
    lacking=$(grep '^skipped: ' $logs/unit.log | grep -vc 'no golden data')
    failed_steps=$((failed_steps + (lacking > 0))) failed_tests=$((failed_tests + lacking))
}

step format cargo fmt --all --check
step clippy cargo clippy --locked --workspace --all-targets --profile "$profile" -- -D warnings
if [ "${1:-}" != lint ]; then
    deny
    step unit cargo test --locked --workspace --no-fail-fast --profile "$profile" -- --show-output
    skips
    step walk bin/story run e2e/canary-upgrade --short
    step helm bin/story run e2e/helm
    step gateways bin/story run e2e/gateways
    step faults bin/story run e2e/faults
fi

echo
echo "summary (whole output in $logs/)"
cat $logs/summary
echo
echo "$passed_tests passed, $failed_tests failed"
[ $failed_steps = 0 ]
