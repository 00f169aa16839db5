// Colours that keep their order for every kind of colour vision: light to dark blue for amounts, orange to blue for signed ones.

const AMOUNT = [[255, 250, 235], [253, 226, 168], [222, 186, 132], [158, 158, 158], [96, 122, 166], [38, 80, 146], [6, 34, 84]];
const SIGNED = [[140, 62, 4], [214, 122, 44], [247, 199, 150], [247, 247, 247], [168, 201, 235], [66, 131, 196], [8, 54, 118]];
const LINES = ["#0b5cad", "#d55e00", "#1b9e77", "#8c4bb8", "#b8860b", "#444444", "#cc79a7", "#56b4e9"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function mixed(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((from, part) => Math.round(from + (stops[low + 1][part] - from) * (place - low)));
}

// A scale of the values that tokens are coloured by: {colour(value), stops, numbers}.
function scaleOf(name, values) {
  if (name === "old_probability") return { stops: AMOUNT, share: (value) => value, numbers: [0, 0.25, 0.5, 0.75, 1] };
  let most = 0, least = 0;
  for (const value of values) if (Number.isFinite(value)) { if (value > most) most = value; if (value < least) least = value; }
  if (name === "entropy" || name === "ratio") {
    most = most || 1;
    return { stops: AMOUNT, share: (value) => value / most, numbers: [0, 0.25, 0.5, 0.75, 1].map((share) => share * most) };
  }
  const far = Math.max(most, -least) || 1;  // the square root shows small values too
  const share = (value) => 0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.abs(value) / far);
  return { stops: SIGNED, share, numbers: [-far, -far / 4, 0, far / 4, far] };
}

function rgbOf(scale, value) {
  return Number.isFinite(value) ? mixed(scale.stops, scale.share(value)) : [255, 255, 255];
}

function paint(element, scale, value) {
  const [red, green, blue] = rgbOf(scale, value);
  element.style.backgroundColor = `rgb(${red},${green},${blue})`;
  element.style.color = 0.299 * red + 0.587 * green + 0.114 * blue < 130 ? "#fff" : "#111";
}

function legend(scale, title) {
  const canvas = make("canvas", { width: 240, height: 12 });
  const pen = canvas.getContext("2d");
  for (let x = 0; x < 240; x++) {
    pen.fillStyle = `rgb(${mixed(scale.stops, x / 239).join(",")})`;
    pen.fillRect(x, 0, 1, 12);
  }
  return make("span", { class: "legend" }, title, make("span", {}, canvas, make("span", { class: "ticks" }, scale.numbers.map((each) => make("span", {}, number(each, 3))))));
}

const tip = document.getElementById("tip");
function showTip(event, what, facts) {
  tip.replaceChildren(make("div", { class: "what" }, what), make("table", {}, facts.map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", { "data-name": name }, value)))));
  tip.hidden = false;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
}
function hideTip() { tip.hidden = true; }
