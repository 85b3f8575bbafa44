/* Parts of a page that ask for themselves again: they replace nothing that somebody is using, and what is shown says
   how old it is when it can't be renewed. */
"use strict";

{  // names of its own: all scripts of a page share one space
  const note = document.getElementById("age");
  const began = Date.now();
  const OLD = 5 * 60_000;
  const known = new Map();  // by id of the part: when it was renewed, and why it was not since
  let ended = "";

  const parts = () => [...document.querySelectorAll("[hx-trigger^=every]")];
  const of = (part) => known.get(part.id) || known.set(part.id, { at: began, why: "" }).get(part.id);
  const patience = (part) => 2_000 * parseFloat(part.getAttribute("hx-trigger").slice("every ".length)) + 3_000;

  // An open menu, a dialog, the keyboard's focus, a held button or marked text would be lost.
  function inUse(part) {
    const marked = getSelection();
    return part.contains(document.activeElement) || part.querySelector("details[open], :active") !== null
      || document.querySelector("dialog[open]") !== null || (!marked.isCollapsed && part.contains(marked.anchorNode));
  }

  function span(milliseconds) {
    const seconds = milliseconds / 1_000;
    if (seconds < 60) return `${Math.floor(seconds / 5) * 5} s`;
    if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
    return `${Math.floor(seconds / 3_600)} h`;
  }

  function what(now) {
    if (ended) return [ended, 0];
    const late = parts().filter((part) => of(part).why && now - of(part).at > patience(part));
    if (late.length) {
      const at = Math.min(...late.map((part) => of(part).at));
      return [late.some((part) => of(part).why === "lost") ? "lost" : "held", now - at];
    }
    const still = parts().length === 0 && document.querySelector("main .pill") !== null;
    return still && now - began > OLD ? ["old", now - began] : ["", 0];
  }

  function tell() {
    const [why, age] = what(Date.now());
    const text = why ? note.dataset[why].replace("{age}", span(age)) : "";
    note.hidden = !why;
    if (note.firstElementChild.textContent === text) return;
    note.firstElementChild.textContent = text;
    note.lastElementChild.textContent = why === "out" ? note.dataset.login : note.dataset.again;
    note.lastElementChild.href = location.href;
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.detail.elt;
    if (!inUse(part) && !ended) return;
    event.preventDefault();
    of(part).why ||= "held";
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { detail } = event;
    if (!detail.shouldSwap) return;
    if (!detail.serverResponse.includes(`id="${detail.target.id}"`)) {
      detail.shouldSwap = false;  // another page, such as the login
      ended = "out";
    } else if (inUse(detail.target)) {
      detail.shouldSwap = false;
      of(detail.target).why ||= "held";
    } else {
      known.set(detail.target.id, { at: Date.now(), why: "" });
    }
    tell();
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt, successful, xhr } = event.detail;
    if (successful) return;
    if (xhr.status === 401) ended = "out";
    else if (xhr.status === 403 || xhr.status === 404) ended = "gone";
    else of(elt).why = "lost";
    tell();
  });

  setInterval(tell, 1_000);
  addEventListener("pageshow", tell);
}
