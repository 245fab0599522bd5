#!/bin/sh
# Stands before rustc for our own crates when a fuzzer is built, so that libFuzzer sees which code an input reaches.
# Dependencies are as everywhere else: they are not compiled a second time. Build scripts run without libFuzzer.
case " $* " in
*" --crate-name build_script_build "* | *" -vV "* | *" --print"*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on
