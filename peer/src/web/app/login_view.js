/**
 * The door: login, registration, and the questions before an account changes its place. And the page of a session that
 * is over, on one's own machine.
 * @module
 */

import { openDialog } from "./dialogs.js";
import { button, h, setText } from "./elements.js";
import { nameText } from "./name_parts.js";
import { beginSession } from "./page_session.js";
import { t } from "./texts.js";

/** The consent that a refused login asks for, by the code of its answer. */
const CONSENTS = { consent_needed: "bind", moved_needed: "move" };

/** @param {import("./main.js").App} app */
export function createLogin(app) {
  const problem = h("p", { class: "problem", role: "alert" });
  const user = h("input", { id: "login-user", name: "username", autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 64 });
  const password = h("input", { id: "login-password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const again = h("input", { id: "login-again", type: "password", autocomplete: "new-password" });
  const againField = h("div", { class: "form-field", hidden: true }, h("label", { for: "login-again" }, t("password_again")), again);
  const submit = h("button", { type: "submit", class: "button primary" });
  const other = button("", () => setMode(!isNew), { class: "link-button" });
  const form = h("form", { class: "form" },
    h("div", { class: "form-field" }, h("label", { for: "login-user" }, t("user_name")), user),
    h("div", { class: "form-field" }, h("label", { for: "login-password" }, t("password")), password), againField, problem, submit, other);
  let isNew = false;
  function setMode(next) {
    isNew = next;
    againField.hidden = !isNew;
    again.required = isNew;
    password.autocomplete = isNew ? "new-password" : "current-password";
    setText(submit, isNew ? t("register") : t("log_in"));
    setText(other, isNew ? t("have_account") : t("make_account"));
    setText(problem, "");
    user.focus();
  }
  async function enter(consent) {
    submit.disabled = true;
    setText(problem, "");
    const credentials = { user: user.value.trim(), password: password.value };
    try {
      if (isNew && password.value !== again.value) throw new Error(t("passwords_differ"));
      if (isNew && !consent) await app.api.post("/accounts", credentials);
      await app.open(await beginSession(app.api, consent ? { ...credentials, consent } : credentials));
    } catch (why) {
      const wanted = CONSENTS[why.code];
      if (wanted && !consent) askConsent(wanted, credentials.user, why.message, () => enter(wanted));
      else setText(problem, why.message);
    } finally {
      submit.disabled = false;
    }
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    enter();
  });
  setMode(false);
  setText(problem, app.closedReason);
  return { element: frame(h("p", { class: "login-lead" }, t("login_words")), form, h("p", { class: "hint" }, t("door_holds_key"))), focus: () => user.focus(), close: () => {} };
}

/** Asks before an account is bound to the door, or moves to it from the machine where it lives. */
function askConsent(consent, user, words, onYes) {
  const title = h("span", {}, nameText(user));
  const dialog = openDialog(t(`consent_${consent}_title`), h("p", {}, title, ": ", words), h("p", {}, t(`consent_${consent}_words`)),
    h("div", { class: "dialog-foot" }, button(t("cancel"), () => dialog.close(), { autofocus: true }),
      button(t(`consent_${consent}_verb`), () => { dialog.close(); onYes(); }, { class: consent === "move" ? "button danger" : "button primary" })));
}

/** Shows that the session of one's own machine is over, and how to open it again. */
export function createClosed(reason) {
  return {
    element: frame(h("p", { class: "login-lead" }, reason || t("session_over")), h("p", {}, t("open_again")), h("code", { class: "command" }, "peer web")),
    focus: () => {}, close: () => {},
  };
}

const frame = (...children) => h("main", { class: "login", id: "main", tabindex: "-1" }, h("h1", { class: "brand" }, "Vizinho"), ...children);
