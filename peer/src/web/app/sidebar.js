/**
 * The list of conversations: requests of strangers, rooms, people.
 * @module
 */

import { openNewMenu } from "./people_dialogs.js";
import { h, icon, iconButton, setAttribute, setText } from "./elements.js";
import { safeName, shortTimeText } from "./format.js";
import { avatar, countBadge, nameText, setBadge, setPresence } from "./name_parts.js";
import { routeHash } from "./router.js";
import { conversationRows, openName, writersIn } from "./state.js";
import { t, tn } from "./texts.js";
import { VirtualList } from "./virtual_list.js";

/** @param {import("./main.js").App} app */
export function createSidebar(app) {
  const { store } = app;
  const filter = h("input", {
    type: "search", class: "filter", "aria-label": t("filter_conversations"), placeholder: t("filter_conversations"),
    autocomplete: "off", spellcheck: "false",
  });
  const list = new VirtualList({
    label: t("conversations"), key: (row) => row.name, create: createRow, update: (element, row) => updateRow(store, element, row),
    isStop: (row) => row.kind !== "heading",
  });
  const empty = h("p", { class: "empty", hidden: true });
  const draw = () => {
    const { users, rooms, isLoaded } = store.state;
    const rows = conversationRows(users, rooms, filter.value);
    list.set(rows.map((row) => decorate(store.state, row)));
    empty.hidden = rows.length > 0 || !isLoaded;
    setText(empty, filter.value ? t("nobody_matches") : t("nobody_yet"));
  };
  filter.addEventListener("input", draw);
  filter.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      list.focus(0);
      if (event.key === "Enter") document.activeElement?.closest(".sidebar .row")?.click();
    } else if (event.key === "Escape" && filter.value) {
      event.stopPropagation();
      filter.value = "";
      draw();
    }
  });
  store.watch((state) => [state.users, state.rooms, state.typing, state.isLoaded, openName(state)], draw);
  store.watch(openName, (name) => name && list.activate(name));
  return h("nav", { class: "sidebar", "aria-label": t("conversations") },
    h("header", { class: "sidebar-head" }, ownUser(app), iconButton("plus", t("new_conversation"), () => openNewMenu(app))),
    h("div", { class: "filter-box" }, icon("search"), filter), list.element, empty);
}

function ownUser({ store }) {
  const [line, name, picture] = [h("span", { class: "own-state" }), h("strong", { class: "own-name" }), h("span", { class: "own-picture" })];
  const element = h("div", { class: "own" }, picture, h("div", { class: "own-texts" }, name, line));
  store.watch((state) => [state.session, state.stream, state.tracker], ([session, stream, tracker]) => {
    const user = session?.user ?? "";
    name.replaceChildren(nameText(user));
    const isOnline = stream === "live" && tracker.reachable && !tracker.elsewhere;
    picture.replaceChildren(avatar(user, { online: isOnline }));
    setText(line, isOnline ? t("online") : stream !== "live" ? t("connecting") : t("tracker_gone_short"));
  });
  return element;
}

/** Adds what a row shows besides its user or room, so that a row that looks the same is the same value. */
function decorate(state, row) {
  if (row.kind === "heading") return remember(row, row.title + row.count);
  const isOpen = openName(state) === row.name;
  const isTyping = writersIn(state, row.name, Date.now()).length > 0;
  return remember({ ...row, isOpen, isTyping }, `${isOpen} ${isTyping}`);
}

const remembered = new Map();

function remember(row, key) {
  const known = remembered.get(row.name);
  if (known && known.key === key && known.row.user === row.user && known.row.room === row.room) return known.row;
  remembered.set(row.name, { key, row });
  return row;
}

function createRow(row) {
  if (row.kind === "heading") return h("h2", { class: "list-heading" });
  const { name } = row;
  return h("a", { class: "row", href: routeHash("chats", name) },
    avatar(name, row.kind === "user" ? { online: null } : {}), nameText(name), h("span", { class: "row-note" }),
    h("time", { class: "row-time" }), countBadge());
}

function updateRow(store, element, row) {
  if (row.kind === "heading") return setText(element, `${t(row.title)} ${row.title === "requests" ? `· ${row.count}` : ""}`.trim());
  const partner = row.user ?? row.room;
  const [note, time, badge] = [".row-note", ".row-time", ".badge"].map((part) => element.querySelector(part));
  if (row.user) setPresence(element.querySelector(".presence"), row.user.online);
  setText(note, rowNote(row));
  note.classList.toggle("typing", row.isTyping);
  setText(time, partner.last ? shortTimeText(partner.last) : "");
  setBadge(badge, partner.unread, tn("unread", partner.unread));
  element.classList.toggle("unread", partner.unread > 0 && !partner.muted);
  element.classList.toggle("muted", Boolean(partner.muted));
  element.classList.toggle("away", row.user?.online === false || row.user?.blocked === true);
  setAttribute(element, "aria-current", row.isOpen ? "page" : null);
}

/** Returns the small line below a name. */
function rowNote({ user, room, isTyping }) {
  if (isTyping) return t("writes");
  if (room) {
    const online = room.members.filter((member) => member.online).length;
    return room.role ? (room.topic ? safeName(room.topic) : t("members_online", { online, all: room.members.length })) : t("left_room");
  }
  if (user.blocked) return t("blocked");
  if (user.request) return t("wants_to_talk");
  if (user.frozen) return t("key_changed_short");
  if (user.waiting > 0) return tn("waiting", user.waiting);
  return user.online === true ? t("online") : user.online === false ? t("offline") : t("presence_unknown");
}
