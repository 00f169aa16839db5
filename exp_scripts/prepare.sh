# Sourced by run.sh and train_sft.sh. prepare MODEL_KEY [hydra overrides]: set up what is missing of packages, data and start
# model, each only where the run reads it; MODEL_KEY is the override that names another start model. Help, a dry run and the
# printed config work with what is installed.
prepare() {
  local overrides=" ${*:2} " python=$VENV/bin/python only=()
  given() { [[ $overrides =~ \ \+*"$1"[=\ ] ]]; }  # KEY, or KEY=VALUE
  if [[ $overrides =~ \ (--help|-h|--cfg|-c|dry_run=true)[\ =] ]] && [ -x "$python" ]; then return; fi
  bash exp_scripts/setup.sh
  if [ "$PROFILE" = cpu ]; then
    ! { given "$1" && given data.train_files; } || return 0
    ! given "$1" || only=(--only data)
    ! given data.train_files || only=(--only model)
    "$python" data/prepare_tiny.py --output_dir outputs/tiny "${only[@]}"
    return
  fi
  [ -e data/openr1.parquet ] || given data.train_files || given paper_model=llama_3_1_8b || "$python" data/prepare_train.py
  [ -e data/valid.parquet ] || given data.val_files || { given data.train_files && [[ $overrides != *=data/openr1* ]]; } ||
    "$python" data/prepare_eval.py --validation-only
  [ -e models/Qwen2.5-Math-7B-16k ] || given "$1" || given paper_model ||
    "$python" data/prepare_model.py --source Qwen/Qwen2.5-Math-7B --output models/Qwen2.5-Math-7B-16k
}
