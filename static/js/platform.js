/* What the pages do beyond plain links and forms. Everything here has a way without it. */
"use strict";

document.documentElement.classList.add("js");

// On a narrow screen the tabs scroll; the open one is in sight.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// Messages can be put away.
for (const toast of document.querySelectorAll(".toast")) {
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", document.documentElement.lang.startsWith("pt") ? "Fechar" : "Close");
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
}

// A link with data-dialog opens its page's form in a dialog; whatever goes wrong, the page itself opens.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || typeof HTMLDialogElement === "undefined") return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href, { headers: { "HX-Request": "true" }, credentials: "same-origin" });
    if (!answer.ok || answer.redirected) throw new Error("not a form");
    const dialog = document.getElementById("dialog");
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const content = parsed.querySelector("[data-dialog-content]");
    if (!content) throw new Error("not a form");
    dialog.replaceChildren(content);
    dialog.showModal();
    (dialog.querySelector("input:not([type=hidden]), select, textarea") || dialog.querySelector("button")).focus();
  } catch {
    location.assign(link.href);
  }
});

document.addEventListener("click", (event) => {
  const cancel = event.target.closest("dialog [data-cancel]");
  if (!cancel) return;
  event.preventDefault();
  cancel.closest("dialog").close();
});

// A button with data-copy copies the text of the element that it names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    const before = button.textContent;
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = before; }, 2000);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }
});

// The delete button waits for the typed name; the server asks for it again.
document.addEventListener("input", (event) => {
  const field = event.target.closest("[data-phrase]");
  if (!field) return;
  field.form.querySelector("button[data-armed]").disabled = field.value !== field.dataset.phrase;
});

// An open menu closes on Escape and on a click elsewhere.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// A form that is sent is sent once.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  setTimeout(() => {
    for (const button of event.target.querySelectorAll("button")) {
      button.disabled = true;
      button.setAttribute("aria-busy", "true");
    }
  });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const busy of document.querySelectorAll("[aria-busy]")) busy.disabled = false;
});

// What the page asks by itself keeps no session alive, unless somebody has touched the page since it last asked.
let touched = false;
for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"]) {
  addEventListener(kind, (event) => { touched ||= event.isTrusted; }, { passive: true, capture: true });
}
document.addEventListener("htmx:configRequest", (event) => {
  if (!/\bevery\b/.test(event.detail.elt.getAttribute("hx-trigger") || "")) return;
  if (!touched) event.detail.headers["X-Poll"] = "1";
  touched = false;
});

// Who reads or writes for long on one page asks for nothing, and is there all the same.
if (document.querySelector(".who")) {
  setInterval(() => {
    if (!touched || document.hidden) return;
    touched = false;
    fetch("/api/users/me", { credentials: "same-origin" }).catch(() => {});
  }, 25000);
}
