/* What was typed into a form outlives a login in between: kept in this tab until the form is seen again. Never secrets:
   no password field, no hidden one. */
"use strict";

{  // names of its own: all scripts of a page share one space
  const DRAFT = "zc-draft";
  const LONGEST = 30 * 60_000;
  const SECRET = new Set(["password", "hidden", "file"]);

  const fieldsOf = (form) => [...form.elements].filter((field) => field.name && !SECRET.has(field.type) && field.type !== "submit");
  const valueOf = (field) => (field.type === "checkbox" || field.type === "radio" ? field.checked : field.value);
  const isBetween = () => document.querySelector("main [data-between]") !== null;

  function draft() {
    try {
      const found = JSON.parse(sessionStorage.getItem(DRAFT));
      return found && Date.now() - found.at < LONGEST ? found : null;
    } catch {
      return null;
    }
  }

  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post" || isBetween()) return;
    const values = fieldsOf(event.target).map((field) => [field.name, valueOf(field)]);
    sessionStorage.setItem(DRAFT, JSON.stringify({ at: Date.now(), action: new URL(event.target.action).pathname, values }));
  });

  function putBack({ action, values }) {
    const form = [...document.forms].find((one) => one.method === "post" && new URL(one.action).pathname === action);
    if (!form) return;
    for (const [name, value] of values) {
      const field = fieldsOf(form).find((one) => one.name === name && (one.type !== "radio" || value));
      if (!field) continue;
      if (typeof value === "boolean") field.checked = value;
      else field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    const told = document.getElementById("age").dataset.kept;
    const toast = document.createElement("p");
    toast.className = "toast toast-warning";
    toast.textContent = told;
    document.querySelector(".toasts").append(toast);
  }

  const kept = draft();
  if (kept && isBetween()) {
    sessionStorage.setItem(DRAFT, JSON.stringify({ ...kept, lost: true }));
  } else if (kept) {
    sessionStorage.removeItem(DRAFT);
    if (kept.lost) putBack(kept);
  }
}
