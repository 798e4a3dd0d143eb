/**
 * Dialogs: the browser's own, which keep the focus and give it back.
 * @module
 */

import { button, h, iconButton, setText } from "./elements.js";
import { t } from "./texts.js";

/**
 * Opens a dialog and returns it; it ends by Escape, its cross, a click beside it, or `close()`.
 * @param {string} title
 * @param {...Node} children
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, ...children) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" },
    h("header", { class: "dialog-head" }, heading, iconButton("close", t("close"), () => dialog.close())), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("mousedown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.getElementById("layers").append(dialog);
  dialog.showModal();
  // Else the focus would be on the cross.
  dialog.querySelector("[autofocus], .dialog-head ~ * :is(input, select, button, a), .dialog-head ~ :is(input, button)")?.focus();
  return dialog;
}

/** Asks before something that can't be taken back. */
export function askFirst(title, words, verb, onYes) {
  const dialog = openDialog(title, h("p", {}, words), h("div", { class: "dialog-foot" },
    button(t("cancel"), () => dialog.close()),
    button(verb, () => { dialog.close(); onYes(); }, { class: "button danger", autofocus: true })));
}

/**
 * Opens a dialog with fields. `onSend` gets their values; what it throws is shown, and the dialog stays.
 * @param {string} title
 * @param {Array<{name: string, label: string, kind?: string, value?: string, hint?: string, choices?: string[][]}>} fields
 * @param {string} verb
 * @param {(values: Record<string, any>) => Promise<void>} onSend
 */
export function openForm(title, fields, verb, onSend) {
  const problem = h("p", { class: "problem", role: "alert" });
  const send = h("button", { type: "submit", class: "button primary" }, verb);
  const form = h("form", { class: "form" }, ...fields.map(formField), problem,
    h("div", { class: "dialog-foot" }, button(t("cancel"), () => dialog.close()), send));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(problem, "");
    send.disabled = true;
    try {
      await onSend(valuesOf(form, fields));
      dialog.close();
    } catch (why) {
      setText(problem, why.message);
    } finally {
      send.disabled = false;
    }
  });
  const dialog = openDialog(title, form);
  form.querySelector("input, select")?.focus();
  return dialog;
}

/** Creates a field with its label. */
export function formField({ name, label, kind = "text", value = "", hint, choices, ...rest }) {
  const id = `field-${name}`;
  const hintLine = hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null;
  const common = { id, name, "aria-describedby": hint ? `${id}-hint` : null };
  if (kind === "check") {
    return h("div", { class: "form-field check" }, h("input", { ...common, type: "checkbox", checked: Boolean(value) }),
      h("label", { for: id }, label), hintLine);
  }
  const field = kind === "choice"
    ? h("select", common, ...choices.map(([key, words]) => h("option", { value: key, selected: key === value }, words)))
    : h("input", { ...common, type: kind, value, autocomplete: kind === "password" ? "off" : null, spellcheck: "false", ...rest });
  return h("div", { class: "form-field" }, h("label", { for: id }, label), field, hintLine);
}

function valuesOf(form, fields) {
  return Object.fromEntries(fields.map(({ name, kind }) => {
    const field = form.elements.namedItem(name);
    return [name, kind === "check" ? field.checked : kind === "password" ? field.value : field.value.trim()];
  }));
}
