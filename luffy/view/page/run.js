// Run: the curves of all runs over one axis of steps, with alarms and checkpoints; and in what their settings differ.

const WIDE = 420, HIGH = 210, LEFT = 52, RIGHT = 12, TOP = 10, BOTTOM = 26;
const runState = { metric: "" };
const OWN_TO_A_RUN = /(experiment_name|default_local_dir|rollout_data_dir|validation_data_dir|env_vars)/;

function showRun(place) {
  const { runs } = index;
  if (!runs.length) { place.replaceChildren(make("p", { class: "note" }, "No run is shown.")); return; }
  const panels = new Map();
  for (const run of runs) for (const panel of run.panels) panels.set(panel.title, { ...panel, metrics: [...new Set([...(panels.get(panel.title)?.metrics ?? []), ...panel.metrics])] });
  if (runState.metric) panels.set(runState.metric, { title: runState.metric, unit: "", metrics: [runState.metric] });
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].sort();
  const alarms = runs.flatMap((run) => run.alarms.map((alarm) => ({ ...alarm, run: run.name })));
  place.replaceChildren(
    make("div", { class: "controls" }, runs.map((run, number) => make("span", { class: "key" }, keyLine(number), run.name)),
      make("span", { class: "note" }, "▲ checkpoint (filled: the best)   ◆ alarm"),
      choice("another metric", [["", "none"], ...names.map((name) => [name, name])], runState.metric, (value) => { runState.metric = value; showRun(place); }, "metric")),
    make("div", { class: "panels" }, [...panels.values()].map((panel) => chart(panel, runs)).filter(Boolean)),
    make("div", { class: "columns" },
      make("section", {}, make("h2", {}, "Alarms"), alarms.length ? make("table", { id: "alarms" }, make("tr", {}, ["run", "step", "what"].map((each) => make("th", {}, each))), alarms.slice(0, 200).map((alarm) => make("tr", {}, make("td", {}, alarm.run), make("td", { class: "number" }, String(alarm.step)), make("td", {}, shown(alarm.text))))) : make("p", { class: "note" }, "none")),
      make("section", {}, make("h2", {}, "Settings that differ"), differences(runs))));
}

function keyLine(number) {
  return make("svg:svg", { width: 26, height: 8 }, make("svg:line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: LINES[number % LINES.length], "stroke-width": 2.5, "stroke-dasharray": DASHES[number % DASHES.length] }));
}

function differences(runs) {
  if (runs.length < 2) return make("p", { class: "note" }, "one run is shown");
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.config)))].sort().filter((key) => !OWN_TO_A_RUN.test(key) && new Set(runs.map((run) => run.config[key])).size > 1);
  return make("table", { class: "config", id: "settings" }, make("tr", {}, make("th", {}, "setting"), runs.map((run) => make("th", {}, run.name))), keys.map((key) => make("tr", {}, make("td", {}, key), runs.map((run) => make("td", {}, shown(run.config[key] ?? "–"))))));
}

function ticksOf(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) ?? rough;
  const ticks = [];
  for (let tick = Math.ceil(low / width - 1e-9) * width; tick <= high + width * 1e-9; tick += width) ticks.push(Math.abs(tick) < width / 1e6 ? 0 : tick);
  return ticks;
}

function chart(panel, runs) {
  const lines = runs.flatMap((run, color) => panel.metrics.filter((name) => run.curves[name]).map((name, kind) => ({ run, name, color, kind, steps: run.curves[name][0], values: run.curves[name][1] })));
  if (!lines.length) return null;
  const steps = lines.flatMap((line) => line.steps), values = lines.flatMap((line) => line.values).filter(Number.isFinite);
  let [low, high] = [Math.min(0, ...values), Math.max(...values)];
  if (!(high > low)) high = low + 1;
  const [from, to] = [Math.min(...steps), Math.max(Math.max(...steps), Math.min(...steps) + 1)];
  const x = (step) => LEFT + (step - from) / (to - from) * (WIDE - LEFT - RIGHT);
  const y = (value) => HIGH - BOTTOM - (value - low) / (high - low) * (HIGH - TOP - BOTTOM);
  const parts = [
    ...ticksOf(low, high, 5).flatMap((tick) => [make("svg:line", { x1: LEFT, x2: WIDE - RIGHT, y1: y(tick), y2: y(tick), stroke: "#e3e7eb" }), make("svg:text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, number(tick, 3))]),
    ...ticksOf(from, to, 6).filter(Number.isInteger).map((tick) => make("svg:text", { x: x(tick), y: HIGH - 9, "text-anchor": "middle" }, String(tick))),
  ];
  for (const line of lines) {
    const points = line.steps.map((step, place) => [step, line.values[place]]).filter(([, value]) => Number.isFinite(value));
    parts.push(make("svg:polyline", { points: points.map(([step, value]) => `${x(step)},${y(value)}`).join(" "), fill: "none", stroke: LINES[line.color % LINES.length], "stroke-width": line.kind ? 1.2 : 2, "stroke-dasharray": DASHES[(line.color + line.kind) % DASHES.length] }));
    if (points.length === 1) parts.push(make("svg:circle", { cx: x(points[0][0]), cy: y(points[0][1]), r: 3, fill: LINES[line.color % LINES.length] }));
  }
  runs.forEach((run, place) => {
    const base = HIGH - BOTTOM, colour = LINES[place % LINES.length];
    for (const { step, best } of run.checkpoints) if (step >= from && step <= to) parts.push(make("svg:path", { class: "checkpoint", d: `M${x(step) - 4},${base + 1}h8l-4,-7z`, fill: best ? colour : "#fff", stroke: colour }, make("svg:title", {}, `${run.name}: checkpoint of step ${step}${best ? ", the best" : ""}`)));
    for (const { step, text } of run.alarms.slice(0, 200)) if (step >= from && step <= to) parts.push(make("svg:path", { class: "alarm", d: `M${x(step)},${TOP - 6}l5,6l-5,6l-5,-6z`, fill: "#d55e00", stroke: "#fff" }, make("svg:title", {}, `${run.name}, step ${step}: ${shown(text)}`)));
  });
  const svg = make("svg:svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, width: WIDE, height: HIGH, role: "img", "aria-label": panel.title }, parts);
  svg.addEventListener("mousemove", (event) => {
    const step = Math.round(from + (event.offsetX * WIDE / svg.clientWidth - LEFT) / (WIDE - LEFT - RIGHT) * (to - from));
    showTip(event, `${panel.title}, step ${step}`, lines.map((line) => [`${runs.length > 1 ? `${line.run.name}: ` : ""}${line.name}`, nearest(line, step)]));
  });
  svg.addEventListener("mouseleave", hideTip);
  return make("figure", {}, make("figcaption", {}, panel.title + (panel.unit ? ` (${panel.unit})` : "")), svg,
    panel.metrics.length > 1 ? make("div", { class: "note" }, panel.metrics.filter((name) => lines.some((line) => line.name === name)).join(", the thinner one ")) : null);
}

function nearest(line, step) {
  let best = 0;
  line.steps.forEach((each, place) => { if (Math.abs(each - step) < Math.abs(line.steps[best] - step)) best = place; });
  return `${number(line.values[best])} (step ${line.steps[best]})`;
}
