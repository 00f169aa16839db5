#!/usr/bin/env bash
# Any method by the name of its experiment: train_method.sh NAME [hydra overrides]. The names: verl/mix_src/config/experiment/.
cd "$(dirname "$0")/.."
name=${1:-} names=$(cd verl/mix_src/config/experiment && echo *.yaml | sed 's/\.yaml//g')
case "$name" in --help | -h) cat verl/mix_src/config/help.txt; printf '\nMethods:  %s\n' "$names"; exit ;; esac
if [ ! -f "verl/mix_src/config/experiment/$name.yaml" ]; then
    echo "error: there is no method '$name'; choose one of $names" >&2
    exit 2
fi
exec bash exp_scripts/run.sh "$@"
