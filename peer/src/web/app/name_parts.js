/**
 * Names of users, rooms and files as elements. Each is isolated, so that its direction turns nothing around it.
 * @module
 */

import { h, setAttribute, setText } from "./elements.js";
import { initials, safeName, toneOf } from "./format.js";
import { t } from "./texts.js";

/** Creates the text of a name. */
export const nameText = (name, properties = {}) => h("bdi", { class: "name", ...properties }, safeName(name));

/** Creates the circle of a user or the square of a room. */
export function avatar(name, { online = undefined } = {}) {
  const isRoom = name.startsWith("#");
  const mark = h("span", { class: `avatar tone-${toneOf(name)}${isRoom ? " square" : ""}`, "aria-hidden": "true" },
    isRoom ? "#" : initials(safeName(name)));
  if (online === undefined) return mark;
  return h("span", { class: "avatar-box" }, mark, presenceDot(online));
}

/** Creates the dot of a user's presence; unknown while the tracker can't be asked. */
export function presenceDot(online) {
  const dot = h("span", { class: "presence" });
  setPresence(dot, online);
  return dot;
}

export function setPresence(dot, online) {
  const [kind, label] = online === true ? ["online", t("online")] : online === false ? ["offline", t("offline")] : ["unknown", t("presence_unknown")];
  dot.dataset.kind = kind;
  setAttribute(dot, "title", label);
}

/** Creates the name of a file: the folder in small, the end always in sight. */
export function fileName(name) {
  const parts = safeName(name).split("/");
  const own = parts.pop();
  const folder = parts.length > 0 ? h("span", { class: "file-folder" }, `${parts.join("/")}/`) : null;
  return h("bdi", { class: "file-name", title: safeName(name) }, folder, h("span", { class: "file-own" }, own));
}

/** Creates a bar with its text; `setBar` moves it. */
export function progressBar(label) {
  return h("progress", { class: "bar", "aria-label": label, max: 1, value: 0 });
}

export function setBar(bar, done, size) {
  bar.max = Math.max(size, 1);
  bar.value = size === 0 ? 1 : Math.min(done, size);
}

/** Creates the mark of a number; nothing is shown for none. */
export function countBadge() {
  return h("span", { class: "badge", role: "img", hidden: true });
}

export function setBadge(badge, count, label) {
  badge.hidden = count === 0;
  setText(badge, count > 999 ? "999+" : String(count));
  setAttribute(badge, "aria-label", count > 0 ? label : null);
}
