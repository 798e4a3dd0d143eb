/**
 * Settings: those of this browser, those of the node, and the session.
 * @module
 */

import { button, h, setAttribute, setText } from "./elements.js";
import { paneHead } from "./files_view.js";
import { safeText } from "./format.js";
import { nameText } from "./name_parts.js";
import { askPermission, permissionState } from "./notifier.js";
import { WatchScope } from "./store.js";
import { t } from "./texts.js";

/** @param {import("./main.js").App} app */
export function createSettings(app) {
  const scope = new WatchScope(app.store);
  const set = (preferences) => app.store.dispatch({ type: "preferences", preferences });
  const nodeSettings = h("div", { class: "settings-group" });
  const element = h("section", { class: "pane", "aria-labelledby": "pane-title" }, paneHead(t("settings")),
    h("div", { class: "pane-scroll settings" },
      group(t("appearance"),
        choices(scope, t("theme"), "theme", ["auto", "light", "dark"], set),
        choices(scope, t("density"), "density", ["comfortable", "compact"], set)),
      group(t("notifications"), notificationSwitch(app, scope, set), soundSwitch(scope, set)),
      nodeSettings, account(app, scope), shortcuts()));
  loadNodeSettings(app, nodeSettings);
  return { element, focus: () => element.querySelector("input")?.focus(), close: () => scope.close() };
}

const group = (title, ...children) => h("fieldset", { class: "settings-group" }, h("legend", {}, title), ...children);

function choices(scope, label, key, values, set) {
  const name = `preference-${key}`;
  const inputs = values.map((value) => h("input", { type: "radio", name, value, change: () => set({ [key]: value }) }));
  scope.watch((state) => state.preferences[key], (value) => inputs.forEach((input) => { input.checked = input.value === value; }));
  return h("div", { class: "setting", role: "radiogroup", "aria-label": label }, h("span", { class: "setting-label" }, label),
    h("div", { class: "segments" }, inputs.map((input) => h("label", { class: "segment" }, input, h("span", {}, t(`${key}_${input.value}`))))));
}

function toggle(label, hint, onChange) {
  const input = h("input", { type: "checkbox", role: "switch", class: "switch", change: () => onChange(input) });
  const line = h("span", { class: "hint" }, hint);
  return { input, line, element: h("label", { class: "setting" }, h("span", { class: "setting-label" }, label, line), input) };
}

function notificationSwitch(app, scope, set) {
  const { element, input, line } = toggle(t("notify_hidden"), "", async () => {
    const isAllowed = !input.checked || (await askPermission());
    set({ notifications: input.checked && isAllowed });
    input.checked = app.store.state.preferences.notifications;
    show();
  });
  const show = () => setText(line, { denied: t("notify_denied"), missing: t("notify_missing") }[permissionState()] ?? t("notify_words"));
  scope.watch((state) => state.preferences.notifications, (isOn) => { input.checked = isOn; });
  setAttribute(input, "disabled", permissionState() === "missing");
  show();
  return element;
}

function soundSwitch(scope, set) {
  const { element, input } = toggle(t("sounds"), t("sounds_words"), () => set({ sounds: input.checked }));
  scope.watch((state) => state.preferences.sounds, (isOn) => { input.checked = isOn; });
  return element;
}

/** The settings that the terminal has. */
async function loadNodeSettings(app, place) {
  const settings = await app.api.get("/settings").catch(() => ({}));
  const shown = ["bell", "desktop"].filter((key) => typeof settings[key] === "boolean");
  if (shown.length === 0 || app.store.state.session?.mode === "door") return;
  place.replaceChildren(group(t("terminal_settings"), ...shown.map((key) => {
    const { element, input } = toggle(t(`setting_${key}`), "", () => app.attempt(() => app.api.put("/settings", { [key]: input.checked }).catch((why) => {
      // The switch shows what is, and not what was wished.
      input.checked = !input.checked;
      throw why;
    })));
    input.checked = settings[key];
    return element;
  })));
}

function account(app, scope) {
  const facts = h("dl", { class: "facts-list" });
  scope.watch((state) => state.session, (session) => {
    const rows = session ? [[t("user_name"), nameText(session.user)], [t("tracker"), session.tracker], [t("download_folder"), session.download_folder],
      [t("key_fingerprint"), session.fingerprint && h("code", {}, safeText(session.fingerprint))], [t("version"), session.version]] : [];
    facts.replaceChildren(...rows.filter(([, value]) => value)
      .flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, typeof value === "string" ? h("bdi", {}, safeText(value)) : value)]));
  });
  const words = h("p", { class: "hint" });
  scope.watch((state) => state.session?.mode, (mode) => setText(words, mode === "door" ? t("door_words") : t("local_words")));
  return group(t("account"), facts, words, button(t("log_out"), () => app.logout(), { class: "button danger" }));
}

function shortcuts() {
  const rows = [["Ctrl K", t("key_jump")], ["Alt ↑ ↓", t("key_next")], ["Esc", t("key_close")], ["Ctrl F", t("key_search")],
    ["↑", t("key_take_back")], ["Shift Enter", t("key_line")]];
  return group(t("keyboard"), h("dl", { class: "keys" }, ...rows.flatMap(([keys, words]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, words)])));
}
