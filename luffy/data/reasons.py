"""Why a row or a trace is left out of a data set: the names used in reports, and what each one means."""

from __future__ import annotations

MALFORMED = "malformed"
EMPTY_PROMPT = "empty_prompt"
NO_ANSWER = "no_answer"
UNREADABLE_ANSWER = "unreadable_answer"
EXCLUDED = "excluded"
PROMPT_TOO_LONG = "prompt_too_long"
OVERLAP = "overlap_with_evaluation"
NO_TRACE_LEFT = "no_trace_left"
DUPLICATE_PROMPT = "duplicate_prompt"
CONFLICTING_ANSWER = "conflicting_answer"
BEYOND_MAX_SAMPLES = "beyond_max_samples"

EMPTY_TRACE = "empty_trace"
THINK_MISSING = "think_tags_missing"
THINK_DOUBLED = "think_tags_doubled"
TRACE_TOO_LONG = "trace_too_long"
WRONG_ANSWER = "wrong_answer"
UNVERIFIABLE = "unverifiable"
DUPLICATE_TRACE = "duplicate_trace"
BEYOND_MAX_TRACES = "beyond_max_traces"

MEANINGS = {
    MALFORMED: "a value of another type than its column's",
    EMPTY_PROMPT: "no text in the prompt",
    NO_ANSWER: "no gold answer",
    UNREADABLE_ANSWER: "the verifier cannot read the gold answer, so nothing could equal it; --keep-unreadable keeps it",
    EXCLUDED: "the prompt is in the set to be complemented",
    PROMPT_TOO_LONG: "the rendered prompt is above --max-prompt-length",
    OVERLAP: "the prompt is in an evaluation set",
    NO_TRACE_LEFT: "every trace of the row was dropped",
    DUPLICATE_PROMPT: "an earlier row has the prompt and all of the traces",
    CONFLICTING_ANSWER: "an earlier row gives the prompt another gold answer",
    BEYOND_MAX_SAMPLES: "beyond --max-samples",
    EMPTY_TRACE: "no text in the trace",
    THINK_MISSING: "a think tag is missing, or they are in the wrong order; --no-think-tags accepts it",
    THINK_DOUBLED: "a think tag appears more than once",
    TRACE_TOO_LONG: "trace and EOS are above --max-response-length",
    WRONG_ANSWER: "the verifier calls the final answer wrong; --no-verify does not ask it",
    UNVERIFIABLE: "the verifier finds no answer, or cannot compare it; --no-verify does not ask it",
    DUPLICATE_TRACE: "an equal trace of the prompt is kept",
    BEYOND_MAX_TRACES: "beyond --max-traces",
}
