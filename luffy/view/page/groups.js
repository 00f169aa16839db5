// Groups: a step's groups as lines with their rewards; an opened one shows its responses side by side, token by token.

const MEASURES = [["old_probability", "probability (old policy)"], ["gradient_weight", "gradient weight on ∇log π"], ["entropy", "entropy (nats)"], ["loss", "loss"], ["ratio", "ratio"], ["", "nothing"]];
const PIECE = 400;  // tokens that are drawn at once
const LISTED = 200;  // groups that are listed at once
const groupsState = { run: 0, held: 0, step: null, all: false, verdict: "", reason: "", source: "", advantage: "", search: "", measure: "old_probability", open: null };

// Numbers of a run's groups, and of the responses of each.
function groupFacts(run, group) {
  const last = group + 1 < run.group_first_row.length ? run.group_first_row[group + 1] : run.row_reward.length;
  return { first: run.group_first_row[group], last };
}

function stepsOf(run, held) {
  const steps = new Set();
  run.group_step.forEach((step, group) => { if (run.group_held_out[group] === held) steps.add(step); });
  return [...steps].sort((a, b) => a - b);
}

function rowFits(run, row) {
  const { verdict, reason, source, advantage } = groupsState;
  const value = run.row_advantage[row];
  if (verdict && (run.strings[run.row_reason[row]] === "correct" || (!run.strings[run.row_reason[row]] && run.row_reward[row] > 0)) !== (verdict === "right")) return false;
  if (reason && run.strings[run.row_reason[row]] !== reason) return false;
  if (source && run.strings[run.row_source[row]] !== source) return false;
  return !advantage || (advantage === "+" ? value > 0 : advantage === "-" ? value < 0 : value === 0);
}

function listedGroups(run) {
  const words = groupsState.search.toLowerCase();
  const found = [];
  for (let group = 0; group < run.group_step.length; group++) {
    if (run.group_held_out[group] !== groupsState.held || (!groupsState.all && run.group_step[group] !== groupsState.step)) continue;
    const { first, last } = groupFacts(run, group);
    const rows = [];
    for (let row = first; row < last; row++) if (rowFits(run, row)) rows.push(row);
    if (!rows.length) continue;
    if (words && !run.strings[run.group_prompt[group]].toLowerCase().includes(words) && !rows.some((row) => run.strings[run.row_answer[row]].toLowerCase().includes(words)) && !groupsState.found?.has(group)) continue;
    found.push(group);
  }
  return found;
}

function distinct(run, column) {
  return [...new Set(run[column])].map((place) => run.strings[place]).filter(Boolean).sort();
}

function chips(run, group) {
  const { first, last } = groupFacts(run, group);
  const found = [];
  for (let row = first; row < last; row++) {
    const right = run.row_reward[row] > 0;
    const kinds = ["chip", right ? "right" : "wrong", run.strings[run.row_trace[row]] && "forced", !rowFits(run, row) && "out"].filter(Boolean);
    const text = `${right ? "✓" : "✗"} ${number(run.row_reward[row], 3)}`;
    found.push(make("span", { class: kinds.join(" "), title: `${run.strings[run.row_source[row]]}: ${run.strings[run.row_reason[row]]}, advantage ${number(run.row_advantage[row])}, ${run.row_length[row]} tokens` }, text));
  }
  return make("div", { class: "chips" }, found);
}

function showGroups(place) {
  const run = index.runs[groupsState.run];
  if (!run) { place.replaceChildren(make("p", { class: "note" }, "No run is shown.")); return; }
  const steps = stepsOf(run, groupsState.held);
  if (!steps.includes(groupsState.step)) groupsState.step = steps[steps.length - 1] ?? null;
  const list = make("div", { id: "list" });
  const redraw = () => { groupsState.open = null; drawList(run, list); };
  const set = (name) => (value) => { groupsState[name] = value; redraw(); };
  const stepNumber = make("output", { id: "step-number" }, String(groupsState.step ?? "none"));
  const slider = make("input", { type: "range", id: "step", min: 0, max: Math.max(steps.length - 1, 0), value: Math.max(steps.indexOf(groupsState.step), 0), oninput: () => {
    groupsState.step = steps[slider.value];
    groupsState.all = all.checked = false;
    stepNumber.textContent = String(groupsState.step);
    redraw();
  } });
  const all = make("input", { type: "checkbox", id: "all-steps", checked: groupsState.all, onchange: () => { groupsState.all = all.checked; redraw(); } });
  const search = make("input", { type: "search", id: "search", value: groupsState.search, placeholder: "text", oninput: () => {
    groupsState.search = search.value;
    groupsState.found = null;
    redraw();
    clearTimeout(groupsState.timer);
    if (search.value) groupsState.timer = setTimeout(() => searchResponses(run, search.value, redraw), 300);
  } });
  place.replaceChildren(make("div", { class: "controls" },
    index.runs.length > 1 ? choice("run", index.runs.map((each, place) => [place, each.name]), groupsState.run, (value) => { groupsState.run = Number(value); groupsState.open = null; showGroups(place); }, "run") : null,
    choice("of", [[0, "training"], [1, "held-out problems"]], groupsState.held, (value) => { groupsState.held = Number(value); groupsState.open = null; showGroups(place); }, "split"),
    make("label", {}, "step", slider, stepNumber),
    make("label", {}, all, "all steps"),
    choice("verdict", [["", "any"], ["right", "right"], ["wrong", "wrong"]], groupsState.verdict, set("verdict"), "verdict"),
    choice("reason", [["", "any"], ...distinct(run, "row_reason").map((each) => [each, shown(each)])], groupsState.reason, set("reason"), "reason"),
    choice("source", [["", "any"], ...distinct(run, "row_source").map((each) => [each, shown(each)])], groupsState.source, set("source"), "source"),
    choice("advantage", [["", "any"], ["+", "above 0"], ["0", "0"], ["-", "below 0"]], groupsState.advantage, set("advantage"), "advantage"),
    make("label", {}, "search", search),
  ), list);
  drawList(run, list);
}

// Looks through the responses of the listed steps, which it has to open for that.
async function searchResponses(run, words, redraw) {
  const found = new Set();
  const member = index.runs.indexOf(run);
  const wanted = words.toLowerCase();
  for (let group = 0; group < run.group_step.length; group++) {
    if (groupsState.search !== words) return;
    if (run.group_held_out[group] !== groupsState.held || (!groupsState.all && run.group_step[group] !== groupsState.step)) continue;
    const { header, arrays } = await chunk(`runs-${member}-${group}`);
    const texts = header.rows.map((_, row) => Array.from(arrays.token.subarray(header.starts[row], header.starts[row + 1]), (token) => header.vocabulary[token]).join(""));
    if ([header.prompt, ...texts].some((text) => text.toLowerCase().includes(wanted))) found.add(group);
  }
  if (groupsState.search === words) { groupsState.found = found; redraw(); }
}

function drawList(run, list) {
  const groups = listedGroups(run);
  const body = make("tbody");
  for (const group of groups.slice(0, LISTED)) {
    const line = make("tr", { class: "group", "data-group": group, tabindex: 0, "aria-expanded": "false" },
      make("td", { class: "number" }, String(run.group_step[group])),
      make("td", {}, make("div", { class: "prompt" }, shown(run.strings[run.group_prompt[group]]))),
      make("td", {}, chips(run, group)),
      make("td", { class: "number" }, number(run.group_share[group], 3)),
      make("td", {}, shown(run.strings[run.group_chosen[group]])));
    const toggle = () => openGroup(run, group, line);
    line.addEventListener("click", toggle);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(); });
    body.append(line);
    if (groupsState.open === group) openGroup(run, group, line);
  }
  const more = groups.length > LISTED ? `, the first ${LISTED} of them listed` : "";
  list.replaceChildren(
    make("p", { class: "note", id: "count" }, `${groups.length} group${groups.length === 1 ? "" : "s"}${more}. A click opens one; a dashed border marks a response with tokens of a demonstration.`),
    make("table", { class: "groups" }, make("colgroup", {}, ["64", "", "320", "120", "90"].map((width) => make("col", { width }))), make("thead", {}, make("tr", {}, make("th", { class: "number" }, "step"), make("th", {}, "prompt"), make("th", {}, "rewards"), make("th", { class: "number" }, "gradient share"), make("th", {}, "chosen by"))), body));
}

async function openGroup(run, group, line) {
  const old = line.parentNode?.querySelector("tr.detail");
  const again = old?.dataset.of === String(group);
  old?.previousSibling?.setAttribute("aria-expanded", "false");
  old?.remove();
  groupsState.open = again ? null : group;
  if (again) return;
  line.setAttribute("aria-expanded", "true");
  const box = make("div", { class: "opened" }, "…");
  line.after(make("tr", { class: "detail", "data-of": group }, make("td", { colspan: 5 }, box)));
  try {
    drawGroup(run, group, await chunk(`runs-${index.runs.indexOf(run)}-${group}`), box);
  } catch (error) {
    box.replaceChildren(String(error.message ?? error));
  }
}

function drawGroup(run, group, data, box) {
  const { header, arrays } = data;
  const { first } = groupFacts(run, group);
  const measured = arrays.old_probability.some((value) => !Number.isNaN(value));
  const measure = measured ? groupsState.measure : "";
  const scale = measure ? scaleOf(measure, arrays[measure]) : null;
  const columns = header.rows.map((row, place) => {
    const text = make("div", { class: "text", "data-row": place });
    if (header.starts[place] === header.starts[place + 1]) text.append(make("span", { class: "note" }, "its text was not recorded"));
    else drawTokens(text, data, place, measure, scale);
    return rowFits(run, first + place) ? make("section", { class: "response" },
      make("h3", {}, `${shown(row.source)}: reward ${number(row.reward)}${row.advantage === null ? "" : `, advantage ${number(row.advantage)}`}`,
        make("small", {}, [row.reason && shown(row.reason), row.answer && `answer ${shown(row.answer)}`, measured && `${header.starts[place + 1] - header.starts[place]} tokens`, measured && `Σ|gradient weight| ${number(run.row_weight[first + place], 4)}`].filter(Boolean).join(" · "))), text) : null;
  });
  const filtered = columns.filter((each) => !each).length;
  box.replaceChildren(
    make("details", {}, make("summary", {}, "prompt"), make("div", { class: "prompt text" }, shown(header.prompt))),
    make("div", { class: "controls" },
      measured ? choice("colour by", MEASURES, measure, (value) => { groupsState.measure = value; drawGroup(run, group, data, box); }, "measure") : make("span", { class: "note" }, "no values of single tokens"),
      scale ? legend(scale, MEASURES.find(([name]) => name === measure)[1]) : null,
      measured ? make("span", { class: "note" }, "underlined: tokens that a demonstration gave") : null,
      filtered ? make("span", { class: "note" }, `${filtered} response${filtered === 1 ? "" : "s"} filtered out`) : null),
    make("div", { class: "side" }, columns));
}

function drawTokens(text, data, row, measure, scale) {
  const { header, arrays } = data;
  const start = header.starts[row], end = header.starts[row + 1];
  const words = groupsState.search.toLowerCase();
  const draw = (from) => {
    const to = Math.min(from + PIECE, end);
    const spans = [];
    for (let place = from; place < to; place++) {
      const token = header.vocabulary[arrays.token[place]];
      const span = make("span", { "data-place": place, class: arrays.forced[place] ? "given" : null }, shown(token) || "∅");
      if (scale) paint(span, scale, arrays[measure][place]);
      if (words && token.toLowerCase().includes(words)) span.classList.add("found");
      spans.push(span);
    }
    text.append(...spans);
    if (to === end) return;
    const more = make("span", { class: "more" }, `${end - to} more tokens …`);
    text.append(more);
    new IntersectionObserver((seen, observer) => {
      if (!seen.some((each) => each.isIntersecting)) return;
      observer.disconnect();
      more.remove();
      draw(to);
    }, { root: text, rootMargin: "600px" }).observe(more);
  };
  draw(start);
  text.addEventListener("mouseover", (event) => {
    const place = event.target.dataset.place;
    if (place === undefined || Number.isNaN(arrays.old_probability[place])) { hideTip(); return; }
    showTip(event, shown(header.vocabulary[arrays.token[place]]) || "∅", [
      ["token", `${place - start + 1} of ${end - start}`],
      ...["old_probability", "ratio", "entropy", "loss", "gradient_weight"].map((name) => [name.replace("_", " "), number(arrays[name][place], 8)]),
      ["given by", arrays.forced[place] ? "a demonstration" : "the policy"],
    ]);
  });
  text.addEventListener("mouseleave", hideTip);
}
