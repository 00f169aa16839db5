"use strict";
// Chunks: fetched, read from the page, or loaded from files beside it; unpacked once and kept while they are in use.

const KEPT_CHUNKS = 48;
const ARRAYS = { u1: Uint8Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };
const live = document.body.dataset.live === "yes";
const chunksBeside = document.body.dataset.folder;
const nonce = document.currentScript.nonce;
const keptChunks = new Map();
const waiting = new Map();
let version = "1";

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  return bytes;
}

async function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const arrays = {};
  for (const [name, [kind, offset, length]] of Object.entries(header.arrays)) arrays[name] = new ARRAYS[kind](buffer, 4 + size + offset, length);
  return { header, arrays };
}

function wholePage() {
  return document.readyState !== "loading" ? Promise.resolve() : new Promise((resolve) => addEventListener("DOMContentLoaded", resolve, { once: true }));
}

function received(name, base64) {
  waiting.get(name)?.(base64);
  waiting.delete(name);
}

function fromFile(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(name, (base64) => { script.remove(); resolve(bytesOf(base64)); });
    script.nonce = nonce;
    script.src = `${chunksBeside}/${name}.js`;
    script.onerror = () => reject(new Error(`${script.src} is not there: keep the page and its folder together`));
    document.body.append(script);
  });
}

async function fetched(path) {
  const answer = await fetch(path);
  if (answer.status === 409) { await refresh(); throw new Error("The run has something new; open it again."); }
  if (!answer.ok) throw new Error(await answer.text());
  if (path === "index") version = answer.headers.get("X-Version");
  return new Uint8Array(await answer.arrayBuffer());
}

async function bytesOfChunk(name) {
  if (live) return fetched(`chunk/${name}?${version}`);
  if (chunksBeside && name.startsWith("runs") || chunksBeside && !document.getElementById(name)) return fromFile(name);
  if (!document.getElementById(name)) await wholePage();
  const element = document.getElementById(name);
  if (!element) throw new Error(`${name} is not in this page`);
  return bytesOf(element.textContent);
}

// One chunk, {header, arrays}.
function chunk(name) {
  const known = keptChunks.get(name);
  keptChunks.delete(name);
  const found = known ?? bytesOfChunk(name).then(unpack);
  keptChunks.set(name, found);
  found.catch(() => keptChunks.delete(name));
  if (keptChunks.size > KEPT_CHUNKS) keptChunks.delete(keptChunks.keys().next().value);
  return found;
}

async function readIndex() {
  const { header, arrays } = await unpack(live ? await fetched("index") : bytesOf(document.getElementById("index").textContent));
  for (const kind of ["runs", "results"]) {
    header[kind].forEach((member, number) => {
      const start = `${kind}${number}.`;
      for (const [name, array] of Object.entries(arrays)) if (name.startsWith(start)) member[name.slice(start.length)] = array;
    });
  }
  return header;
}

// Elements are made of texts alone: what a model wrote is never read as markup.
function make(tag, properties = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Signs that have no shape, or turn the direction of what follows them, are shown by their number.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;
function shown(text) {
  return text.replace(UNSEEN, (sign) => `⟦${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`);
}

function number(value, digits = 6) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(digits)));
}

function choice(label, options, chosen, act, id) {
  const select = make("select", { id, onchange: () => act(select.value) }, options.map(([value, text]) => make("option", { value, selected: String(value) === String(chosen) }, text)));
  return make("label", {}, label, select);
}
