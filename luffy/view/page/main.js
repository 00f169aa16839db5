// The views, and what is new while a run goes on.

const REFRESH_MS = 5000;
const VIEWS = { groups: ["Groups", showGroups], trace: ["What did this trace teach?", showTrace], run: ["Run", showRun], evaluation: ["Evaluation", showEvaluation] };
let index = { runs: [], results: [] };
let view = "groups";

function show(name) {
  view = name;
  hideTip();
  for (const button of document.querySelectorAll("#views button")) button.setAttribute("aria-current", String(button.dataset.view === name));
  VIEWS[name][1](document.getElementById("view"));
}

async function refresh() {
  const before = version;
  const state = document.getElementById("state");
  try {
    const fresh = await readIndex();
    state.textContent = live ? `as of ${new Date().toLocaleTimeString()}` : "";
    if (before === version && index.runs.length + index.results.length) return;
    index = fresh;
    keptChunks.clear();
    if (!document.querySelector("tr.detail")) show(view);  // what is open stays as it is
  } catch (error) {
    state.textContent = live ? "the server does not answer" : `cannot be shown: ${error.message ?? error}`;
  }
}

document.getElementById("views").append(...Object.entries(VIEWS).map(([name, [title]]) => make("button", { "data-view": name, onclick: () => show(name) }, title)));
refresh().then(() => {
  show(index.runs.length ? (index.runs.some((run) => run.group_step.length) ? "groups" : "run") : "evaluation");
  document.body.dataset.shown = String(Math.round(performance.now()));
});
if (live) setInterval(refresh, REFRESH_MS);
