/* Follows an agent's log: filter, pause, wrap. New lines never move what is being read. Read by fetch and not by
   EventSource, which gives up for good at any answer but 200 and does not say which it was. */
"use strict";

const view = document.getElementById("log");
const state = document.getElementById("log-state");
const filter = document.getElementById("log-filter");
const pause = document.getElementById("log-pause");
const wrap = document.getElementById("log-wrap");
const empty = document.getElementById("log-empty");
const MOST = 2000;
const KEPT = 200;
const LONGEST_S = 30;
let held = [];
let paused = false;
let first = true;
let last = [];
let open = null;
let timer = 0;
let failures = 0;

const levelOf = (text) => {
  if (/\b(error|fatal|critical|panic|traceback|exception)\b/i.test(text)) return "error";
  return /\bwarn(ing)?\b/i.test(text) ? "warning" : "";
};

function piece(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function element(raw) {
  const cut = raw.indexOf(" ");
  const time = raw.slice(0, cut);
  const pieces = ansiPieces(raw.slice(cut + 1));
  const text = pieces.map(([part]) => part).join("");
  const line = piece("span", "", `line ${levelOf(text)}`);
  if (time !== "-") line.append(piece("time", time, "quiet"), " ");
  line.append(...pieces.map(([part, style]) => (style ? piece("span", part, style) : part)));
  line.hidden = !text.toLowerCase().includes(filter.value.toLowerCase());
  return line;
}

function add(lines) {
  const atEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 24;
  view.append(...lines.map(element));
  while (view.childElementCount > MOST) view.firstElementChild.remove();
  empty.hidden = view.childElementCount > 0;
  if (atEnd) view.scrollTop = view.scrollHeight;
}

/* Of the last lines that a new stream begins with, those that came since the stream before it ended. */
function since(lines) {
  for (let end = lines.length; end > 0 && last.length; end -= 1) {
    const many = Math.min(end, last.length, 20);
    let same = 0;
    while (same < many && lines[end - 1 - same] === last[last.length - 1 - same]) same += 1;
    if (same === many) return lines.slice(end);
  }
  return last.length && lines.length ? [`- ${state.dataset.gap}`, ...lines] : lines;
}

function receive(lines, begins) {
  if (begins && first) { view.replaceChildren(); first = false; }
  const fresh = begins ? since(lines) : lines;
  last = [...last, ...fresh].slice(-KEPT);
  if (paused) held = [...held, ...fresh].slice(-MOST); else add(fresh);
  tell();
}

function tell() {
  state.textContent = paused
    ? `${state.dataset.paused}${held.length ? `, ${state.dataset.waiting.replace("%s", held.length)}` : ""}`
    : state.dataset.live;
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  [pause.textContent, pause.dataset.goOn] = [pause.dataset.goOn, pause.textContent];
  if (!paused) { add(held); held = []; }
  tell();
});

wrap.addEventListener("click", () => {
  const on = view.classList.toggle("nowrap");
  wrap.setAttribute("aria-pressed", String(!on));
});

const textOf = (line) => [...line.childNodes].filter((node) => node.nodeName !== "TIME").map((node) => node.textContent).join("").trim();
filter.addEventListener("input", () => {
  for (const line of view.children) line.hidden = !textOf(line).toLowerCase().includes(filter.value.toLowerCase());
});
document.getElementById("log-apply").hidden = true;
filter.form.addEventListener("submit", (event) => event.preventDefault());

class Refused extends Error {
  constructor(status, after) { super(); this.status = status; this.after = after; }
}

/* The stream's events, until it ends. */
async function* events(signal) {
  const headers = { Accept: "text/event-stream", "X-Poll": "1" };
  const answer = await fetch(view.dataset.stream, { signal, headers, credentials: "same-origin", cache: "no-store" });
  if (!answer.ok) throw new Refused(answer.status, Number(answer.headers.get("Retry-After")));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const blocks = (text + part.value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if (fields.event) yield [fields.event, JSON.parse(fields.data)];
    }
  }
}

async function follow() {
  clearTimeout(timer);
  if (open || document.hidden) return;
  const mine = new AbortController();
  open = mine;
  let begins = true;
  let after = 0;
  let why = state.dataset.lost;
  try {
    for await (const [name, data] of events(mine.signal)) {
      if (name === "lines") { failures = 0; receive(data, begins); begins = false; }
      if (name === "cut") after = Infinity;
      if (name === "error") throw new Refused(503, data.error.details.retry_after);
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    failures += 1;
    after = Math.min(LONGEST_S, 2 ** (failures - 1));
    if (error instanceof Refused) {
      if (error.status === 429) why = state.dataset.many;
      else if (error.status >= 500) why = state.dataset.busy;
      else after = Infinity;
      after = Math.max(after, error.after || 0);
    }
  }
  if (mine.signal.aborted) return;
  open = null;
  if (after === Infinity) { state.textContent = state.dataset.cut; return; }
  if (after) state.textContent = `${why}, ${state.dataset.again.replace("%s", Math.ceil(after))}`;
  timer = setTimeout(follow, 1000 * (after || 1));
}

/* A browser has six connections for all tabs of a host: who can't be seen holds none. */
function leave(text) {
  clearTimeout(timer);
  open?.abort();
  open = null;
  if (text) state.textContent = text;
}

document.addEventListener("visibilitychange", () => (document.hidden ? leave(state.dataset.hidden) : follow()));
addEventListener("pagehide", () => leave());
addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
view.scrollTop = view.scrollHeight;
follow();
