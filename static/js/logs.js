/* Follows an agent's log: filter, pause, wrap. New lines never move what is being read. */
"use strict";

const view = document.getElementById("log");
const state = document.getElementById("log-state");
const filter = document.getElementById("log-filter");
const pause = document.getElementById("log-pause");
const wrap = document.getElementById("log-wrap");
const empty = document.getElementById("log-empty");
const MOST = 2000;
let held = [];
let paused = false;
let first = true;

const levelOf = (text) => {
  if (/\b(error|fatal|critical|panic|traceback|exception)\b/i.test(text)) return "error";
  return /\bwarn(ing)?\b/i.test(text) ? "warning" : "";
};

function element(text) {
  const line = document.createElement("span");
  line.className = `line ${levelOf(text)}`;
  line.textContent = text;
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

filter.addEventListener("input", () => {
  for (const line of view.children) line.hidden = !line.textContent.toLowerCase().includes(filter.value.toLowerCase());
});
document.getElementById("log-apply").hidden = true;
filter.form.addEventListener("submit", (event) => event.preventDefault());

view.scrollTop = view.scrollHeight;
const stream = new EventSource(view.dataset.stream);
stream.addEventListener("open", tell);
stream.addEventListener("lines", (event) => {
  const lines = JSON.parse(event.data);
  if (first) { view.replaceChildren(); first = false; }
  if (paused) { held.push(...lines); tell(); } else add(lines);
});
stream.addEventListener("cut", () => { stream.close(); state.textContent = state.dataset.cut; });
stream.addEventListener("error", () => { first = true; state.textContent = state.dataset.lost; });
addEventListener("pagehide", () => stream.close());
