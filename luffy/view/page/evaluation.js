// Evaluation: results by benchmark, lengths of right and wrong answers, and each sample.

const SAMPLES_LISTED = 200, BINS = 24;
const evaluationState = { result: 0, benchmark: "", verdict: "", reason: "", search: "", open: null };

function showEvaluation(place) {
  const { results } = index;
  if (!results.length) { place.replaceChildren(make("p", { class: "note" }, "No file of scored samples is shown: give files of generate_vllm.py beside the runs.")); return; }
  const result = results[evaluationState.result] ?? results[0];
  const list = make("div");
  const redraw = () => { evaluationState.open = null; drawSamples(result, list); };
  const set = (name) => (value) => { evaluationState[name] = value; redraw(); };
  const names = result.benchmarks.map((each) => each.name);
  if (evaluationState.benchmark && !names.includes(evaluationState.benchmark)) evaluationState.benchmark = "";
  const reasons = [...new Set(result.sample_reason)].map((each) => result.strings[each]).filter(Boolean).sort();
  const search = make("input", { type: "search", id: "search", value: evaluationState.search, placeholder: "answer", oninput: () => { evaluationState.search = search.value; redraw(); } });
  place.replaceChildren(make("h2", {}, "Accuracy ", make("small", {}, "with its 95 % interval over problems")), benchmarkTable(results),
    make("div", { class: "controls" },
      choice("result", results.map((each, number) => [number, shown(each.name)]), evaluationState.result, (value) => { Object.assign(evaluationState, { result: Number(value), open: null }); showEvaluation(place); }, "result"),
      choice("benchmark", [["", "all"], ...names.map((name) => [name, shown(name)])], evaluationState.benchmark, set("benchmark"), "benchmark"),
      choice("verdict", [["", "any"], ["right", "right"], ["wrong", "wrong"]], evaluationState.verdict, set("verdict"), "verdict"),
      choice("reason", [["", "any"], ...reasons.map((each) => [each, shown(each)])], evaluationState.reason, set("reason"), "reason"),
      make("label", {}, "answer", search)), list);
  drawSamples(result, list);
}

function percent([value, low, high]) {
  return `${(100 * value).toFixed(1)} (${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)})`;
}

function benchmarkTable(results) {
  const head = ["result", "benchmark", "problems", "samples", "accuracy, %", "pass@k, %", "k", "cut off", "no answer", "tokens: right", "wrong"];
  const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
  return make("table", { id: "benchmarks" }, make("tr", {}, head.map((each, place) => make("th", { class: place > 1 ? "number" : null }, each))),
    results.flatMap((result) => result.benchmarks.map((each) => make("tr", {}, make("td", {}, shown(result.name)), make("td", {}, shown(each.name)),
      [each.problems, each.samples, percent(each.accuracy), percent(each.pass_at_k), each.k, share(each.truncated), share(each.unanswered), number(each.length_right, 4), number(each.length_wrong, 4)].map((value) => make("td", { class: "number" }, String(value)))))));
}

function drawSamples(result, list) {
  const { benchmark, verdict, reason, search } = evaluationState;
  const found = [];
  for (let sample = 0; sample < result.sample_problem.length; sample++) {
    if (benchmark && result.strings[result.sample_benchmark[sample]] !== benchmark) continue;
    if (verdict && Boolean(result.sample_correct[sample]) !== (verdict === "right")) continue;
    if (reason && result.strings[result.sample_reason[sample]] !== reason) continue;
    if (search && !result.strings[result.sample_answer[sample]].toLowerCase().includes(search.toLowerCase())) continue;
    found.push(sample);
  }
  const body = make("tbody");
  for (const sample of found.slice(0, SAMPLES_LISTED)) {
    const right = result.sample_correct[sample];
    const line = make("tr", { class: "group", tabindex: 0, "data-sample": sample }, make("td", {}, shown(result.strings[result.sample_benchmark[sample]])), make("td", { class: "number" }, String(result.sample_problem[sample])), make("td", { class: "number" }, String(result.sample_sample[sample])),
      make("td", {}, make("span", { class: `chip ${right ? "right" : "wrong"}` }, `${right ? "✓" : "✗"} ${shown(result.strings[result.sample_reason[sample]])}`)), make("td", { class: "prompt" }, shown(result.strings[result.sample_answer[sample]])), make("td", { class: "number" }, number(result.sample_length[sample])));
    const open = () => openSample(result, sample, line);
    line.addEventListener("click", open);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
    body.append(line);
  }
  list.replaceChildren(lengthChart(result, found), make("p", { class: "note", id: "count" }, `${found.length} sample${found.length === 1 ? "" : "s"}${found.length > SAMPLES_LISTED ? `, the first ${SAMPLES_LISTED} listed` : ""}`),
    make("table", {}, make("thead", {}, make("tr", {}, ["benchmark", "problem", "sample", "verdict", "answer", "tokens"].map((each) => make("th", {}, each)))), body));
}

function lengthChart(result, samples) {
  const known = samples.filter((sample) => !Number.isNaN(result.sample_length[sample]));
  if (!known.length) return make("p", { class: "note" }, "The samples do not have their lengths.");
  const most = known.reduce((most, sample) => Math.max(most, result.sample_length[sample]), 1);
  const bins = { right: new Array(BINS).fill(0), wrong: new Array(BINS).fill(0) };
  for (const sample of known) bins[result.sample_correct[sample] ? "right" : "wrong"][Math.min(BINS - 1, Math.floor(result.sample_length[sample] / most * BINS))]++;
  const high = Math.max(...bins.right, ...bins.wrong), wide = (WIDE - LEFT - RIGHT) / BINS;
  const bars = Object.entries(bins).flatMap(([kind, counts], side) => counts.map((count, bin) => make("svg:rect", { x: LEFT + bin * wide + side * wide / 2, width: wide / 2 - 0.5, y: HIGH - BOTTOM - count / high * (HIGH - TOP - BOTTOM), height: count / high * (HIGH - TOP - BOTTOM), fill: kind === "right" ? "#0b5cad" : "#d55e00" }, make("svg:title", {}, `${count} ${kind}, ${Math.round(bin / BINS * most)} to ${Math.round((bin + 1) / BINS * most)} tokens`))));
  return make("figure", {}, make("figcaption", {}, "length (tokens): blue right, orange wrong"), make("svg:svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, width: WIDE, height: HIGH }, bars,
    [0, most / 2, most].map((tick) => make("svg:text", { x: LEFT + tick / most * (WIDE - LEFT - RIGHT), y: HIGH - 9, "text-anchor": "middle" }, number(Math.round(tick)))), make("svg:text", { x: LEFT - 5, y: TOP + 6, "text-anchor": "end" }, String(high))));
}

async function openSample(result, sample, line) {
  const old = line.parentNode.querySelector("tr.detail");
  const again = old?.dataset.of === String(sample);
  old?.remove();
  if (again) return;
  const box = make("div", { class: "opened" }, "…");
  line.after(make("tr", { class: "detail", "data-of": sample }, make("td", { colspan: 6 }, box)));
  try {
    const { header } = await chunk(`results-${index.results.indexOf(result)}-${Math.floor(sample / result.samples_a_chunk)}`);
    const texts = header.samples[sample % result.samples_a_chunk];
    box.replaceChildren(...Object.entries(texts).map(([name, text]) => make("div", {}, make("h2", {}, name.replace("_", " ")), make("div", { class: "text" }, shown(text)))));
  } catch (error) {
    box.replaceChildren(String(error.message ?? error));
  }
}
