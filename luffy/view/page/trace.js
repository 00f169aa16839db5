// What did this trace teach? One demonstration over the steps at which it came back.

const traceState = { run: 0, trace: null, gamma: null };
const MOVED = 20;

function tracesOf(run) {
  const found = new Map();
  for (let group = 0; group < run.group_step.length; group++) {
    const { first, last } = groupFacts(run, group);
    for (let row = first; row < last; row++) {
      if (!run.strings[run.row_trace[row]]) continue;
      const name = `${run.group_key[group]} ${run.row_trace[row]}`;
      if (!found.has(name)) found.set(name, { name, group, source: run.strings[run.row_source[row]], seen: [] });
      const { seen } = found.get(name);
      if (!seen.length || seen[seen.length - 1].step !== run.group_step[group]) seen.push({ step: run.group_step[group], group, row: row - first });
    }
  }
  return [...found.values()].sort((a, b) => b.seen.length - a.seen.length);
}

function gammaOf(run) {
  const given = Number(run.config["luffy.objective.shaping.gamma"]);
  return given > 0 ? given : 0.1;
}

async function showTrace(place) {
  const run = index.runs[traceState.run];
  const traces = run ? tracesOf(run) : [];
  const runs = index.runs.length > 1 ? choice("run", index.runs.map((each, number) => [number, each.name]), traceState.run, (value) => { Object.assign(traceState, { run: Number(value), trace: null, gamma: null }); showTrace(place); }, "run") : null;
  if (!traces.length) { place.replaceChildren(make("div", { class: "controls" }, runs), make("p", { class: "note" }, "No group with a demonstration was recorded.")); return; }
  const trace = traces.find((each) => each.name === traceState.trace) ?? traces[0];
  traceState.gamma ??= gammaOf(run);
  const gamma = make("input", { type: "number", id: "gamma", step: "any", min: 0.001, value: traceState.gamma, onchange: () => { traceState.gamma = Math.max(Number(gamma.value) || 0.1, 0.001); showTrace(place); } });
  const shortened = (each) => `${each.seen.length} × ${shown(run.strings[run.group_prompt[each.group]]).replace(/\s+/g, " ").slice(0, 70)} (${shown(each.source)})`;
  const body = make("div", {}, "…");
  place.replaceChildren(make("div", { class: "controls" }, runs,
    choice("demonstration", traces.slice(0, 500).map((each) => [each.name, shortened(each)]), trace.name, (value) => { traceState.trace = value; showTrace(place); }, "trace"),
    make("label", {}, "γ", gamma)), body);
  try {
    drawTrace(run, await readTrace(run, trace), body);
  } catch (error) {
    body.replaceChildren(String(error.message ?? error));
  }
}

// Texts [T] of the forced tokens, and their probabilities and weights, [steps][T].
async function readTrace(run, trace) {
  const member = index.runs.indexOf(run);
  const found = { steps: [], probability: [], weight: [], texts: [] };
  for (const { step, group, row } of trace.seen) {
    const { header, arrays } = await chunk(`runs-${member}-${group}`);
    const start = header.starts[row], end = header.starts[row + 1];
    const places = [];
    for (let each = start; each < end; each++) if (arrays.forced[each]) places.push(each);
    found.steps.push(step);
    found.probability.push(places.map((each) => arrays.old_probability[each]));
    found.weight.push(places.map((each) => arrays.gradient_weight[each]));
    found.texts = places.map((each) => header.vocabulary[arrays.token[each]]);
  }
  return found;
}

function drawTrace(run, found, body) {
  const { steps, probability, texts } = found;
  const gamma = traceState.gamma;
  const shaped = probability.map((line) => line.map((p) => gamma * p / (p + gamma) ** 2));
  const moved = texts.map((text, token) => ({ text, token, first: probability[0][token], last: probability[steps.length - 1][token] }));
  const changes = moved.map(({ first, last }) => last - first);
  const most = [...moved].sort((a, b) => Math.abs(b.last - b.first) - Math.abs(a.last - a.first)).slice(0, MOVED);
  const ofShaped = { stops: AMOUNT, share: (value) => value / 0.25, numbers: [0, 0.0625, 0.125, 0.1875, 0.25] };
  const ofChange = scaleOf("change", changes);
  const strip = make("div", { class: "text", id: "changes" }, texts.map((text, token) => {
    const span = make("span", { "data-token": token }, shown(text) || "∅");
    paint(span, ofChange, changes[token]);
    return span;
  }));
  strip.addEventListener("mouseover", (event) => {
    const token = event.target.dataset.token;
    if (token === undefined) { hideTip(); return; }
    showTip(event, shown(texts[token]), steps.map((step, line) => [`step ${step}`, number(probability[line][token], 8)]).slice(-12));
  });
  strip.addEventListener("mouseleave", hideTip);
  body.replaceChildren(
    make("p", { class: "note" }, `${texts.length} tokens, at ${steps.length} step${steps.length === 1 ? "" : "s"}: ${steps.join(", ")}`),
    make("h2", {}, "Probability of each of its tokens ", make("small", {}, "step down, token to the right")), legend(scaleOf("old_probability", []), "p"),
    heatMap("heat-probability", steps, probability, scaleOf("old_probability", []), texts, found),
    make("h2", {}, "What the shaping lets through: γp/(p+γ)² ", make("small", {}, `largest, ¼, at p = γ = ${number(gamma)}`)), legend(ofShaped, "γp/(p+γ)²"),
    heatMap("heat-shaped", steps, shaped, ofShaped, texts, found),
    make("div", { class: "columns" },
      make("section", {}, make("h2", {}, "Tokens that moved most"), make("table", { id: "moved" },
        make("tr", {}, make("th", { class: "number" }, "token"), make("th", {}, "text"), make("th", { class: "number" }, `p at step ${steps[0]}`), make("th", { class: "number" }, `p at step ${steps[steps.length - 1]}`), make("th", { class: "number" }, "change")),
        most.map(({ text, token, first, last }) => make("tr", {}, make("td", { class: "number" }, String(token + 1)), make("td", { class: "prompt" }, shown(text)), make("td", { class: "number" }, number(first, 4)), make("td", { class: "number" }, number(last, 4)), make("td", { class: "number" }, number(last - first, 4)))))),
      make("section", {}, make("h2", {}, "The trace, by how its tokens' probabilities changed"), legend(ofChange, "change"), strip)));
}

function heatMap(id, steps, lines, scale, texts, found) {
  const wide = Math.max(1, Math.min(14, Math.floor(1100 / texts.length)));
  const high = Math.max(6, Math.min(22, Math.floor(300 / steps.length)));
  const canvas = make("canvas", { id, width: texts.length, height: steps.length });
  canvas.style.width = `${texts.length * wide}px`;
  canvas.style.height = `${steps.length * high}px`;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(texts.length, steps.length);
  lines.forEach((line, y) => line.forEach((value, x) => image.data.set([...rgbOf(scale, value), 255], 4 * (y * texts.length + x))));
  pen.putImageData(image, 0, 0);
  canvas.addEventListener("mousemove", (event) => {
    const x = Math.min(texts.length - 1, Math.floor(event.offsetX / wide)), y = Math.min(steps.length - 1, Math.floor(event.offsetY / high));
    const p = found.probability[y]?.[x];
    showTip(event, shown(texts[x] ?? ""), [["step", String(steps[y])], ["token", String(x + 1)], ["probability", number(p, 8)], ["γp/(p+γ)²", number(traceState.gamma * p / (p + traceState.gamma) ** 2, 8)], ["gradient weight", number(found.weight[y]?.[x], 8)]]);
  });
  canvas.addEventListener("mouseleave", hideTip);
  return make("div", { class: "heat" }, canvas);
}
