/**
 * Ctrl+K: a jump to a conversation by a few letters of its name.
 * @module
 */

import { openDialog } from "./dialogs.js";
import { h, setAttribute, setText } from "./elements.js";
import { avatar, nameText } from "./name_parts.js";
import { goTo } from "./router.js";
import { t, tn } from "./texts.js";

const MOST_SHOWN = 10;

/** @param {import("./main.js").App} app */
export function openSwitcher(app) {
  if (document.querySelector("dialog[open]")) return;
  const list = h("ul", { class: "switcher-list", role: "listbox", id: "switcher-list", "aria-label": t("conversations") });
  const status = h("p", { class: "visually-hidden", role: "status" });
  const field = h("input", { type: "search", class: "switcher-field", role: "combobox", "aria-expanded": "true", "aria-controls": "switcher-list",
    "aria-label": t("jump_to"), placeholder: t("jump_to"), autocomplete: "off", spellcheck: "false" });
  const dialog = openDialog(t("jump_to"), field, list, status);
  dialog.classList.add("switcher");
  let [names, chosen] = [[], 0];
  const go = (name) => {
    dialog.close();
    goTo("chats", name);
  };
  const draw = () => {
    list.replaceChildren(...names.map((name, at) => h("li", { id: `switch-${at}`, role: "option", class: "row", "aria-selected": String(at === chosen), click: () => go(name) },
      avatar(name), nameText(name), h("span", { class: "row-note" }, noteOf(app.store.state, name)))));
    setAttribute(field, "aria-activedescendant", names.length > 0 ? `switch-${chosen}` : null);
    setText(status, names.length === 0 ? t("nobody_matches") : "");
  };
  const look = () => {
    names = bestMatches(app.store.state, field.value);
    chosen = 0;
    draw();
  };
  field.addEventListener("input", look);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && names[chosen]) go(names[chosen]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : Math.max(names.length - 1, 0))) % Math.max(names.length, 1);
      draw();
    } else return;
    event.preventDefault();
  });
  look();
  field.focus();
}

function noteOf(state, name) {
  const partner = name.startsWith("#") ? state.rooms.get(name.slice(1)) : state.users.get(name);
  if (partner?.unread > 0) return tn("unread", partner.unread);
  return name.startsWith("#") ? t("room") : partner?.online ? t("online") : "";
}

/** Returns the names that fit best: those that begin so, then those that have it within, lively ones first. Pure. */
export function bestMatches(state, typed) {
  const words = typed.trim().toLowerCase().replace(/^[#@]/, "");
  const onlyRooms = typed.trim().startsWith("#");
  const all = [...[...state.rooms.values()].map((room) => ({ name: `#${room.room}`, plain: room.room, ...livelinessOf(room) })),
    ...(onlyRooms ? [] : [...state.users.values()].filter(({ blocked }) => !blocked).map((user) => ({ name: user.user, plain: user.user, ...livelinessOf(user) })))];
  return all.filter(({ plain }) => plain.toLowerCase().includes(words))
    .sort((a, b) => Number(b.plain.toLowerCase().startsWith(words)) - Number(a.plain.toLowerCase().startsWith(words))
      || Number(b.unread > 0) - Number(a.unread > 0) || b.last - a.last || a.plain.localeCompare(b.plain))
    .slice(0, MOST_SHOWN).map(({ name }) => name);
}

const livelinessOf = ({ unread, last, online }) => ({ unread, last: last ?? (online ? 1 : 0) });
