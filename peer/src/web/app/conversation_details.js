/**
 * Who and what belongs to a conversation: a room's members and what may be done with them, a user's key and state.
 * @module
 */

import { changeRoom, setContact, setMuted } from "./actions.js";
import { askFirst, openDialog } from "./dialogs.js";
import { button, h, iconButton, setText } from "./elements.js";
import { safeName } from "./format.js";
import { avatar, nameText, setPresence } from "./name_parts.js";
import { openInvitation, openTopic } from "./people_dialogs.js";
import { routeHash } from "./router.js";
import { conversationPartner, isRoom } from "./state.js";
import { WatchScope } from "./store.js";
import { t, tn } from "./texts.js";
import { VirtualList } from "./virtual_list.js";

const RANKS = { owner: 2, moderator: 1 };

/** @param {import("./main.js").App} app */
export function createDetails(app, name, onClose) {
  const scope = new WatchScope(app.store);
  const body = h("div", { class: "details-body" });
  const element = h("aside", { class: "details", "aria-label": t("details"), hidden: true },
    h("header", { class: "details-head" }, h("h2", {}, isRoom(name) ? t("members") : t("details")), iconButton("close", t("close"), onClose)), body);
  if (isRoom(name)) fillRoom(app, scope, name, body);
  else fillUser(app, scope, name, body);
  return { element, focus: () => element.querySelector("button").focus(), close: () => scope.close() };
}

function fillRoom(app, scope, name, body) {
  const room = name.slice(1);
  const tools = h("div", { class: "details-tools" });
  const list = new VirtualList({
    label: t("members"), key: (row) => row.user,
    create: (row) => h("button", { type: "button", class: "row member", click: () => openMember(app, room, row.user) },
      avatar(row.user, { online: null }), nameText(row.user), h("span", { class: "row-note" })),
    update: (element, row) => {
      setPresence(element.querySelector(".presence"), row.online);
      setText(element.querySelector(".row-note"), row.role === "member" ? (row.online ? t("online") : t("offline")) : t(`role_${row.role}`));
      element.classList.toggle("away", !row.online);
    },
  });
  body.append(tools, list.element);
  scope.watch((state) => state.rooms.get(room)?.members, (members = []) => list.set(sorted(members)));
  scope.watch((state) => [state.rooms.get(room)?.role, state.rooms.get(room)?.muted], ([role, muted]) => {
    const rank = RANKS[role] ?? 0;
    const current = () => app.store.state.rooms.get(room);
    tools.replaceChildren(...(role ? [
      rank > 0 ? button(t("invite_someone"), () => openInvitation(app, room)) : null,
      rank > 0 ? button(t("change_topic"), () => openTopic(app, current())) : null,
      button(muted ? t("unmute") : t("mute"), () => setMuted(app, name, !muted)),
      button(t("leave"), () => askFirst(t("leave_named", { name: safeName(name) }), t("leave_words"), t("leave"), () => changeRoom(app, room, "leave"))),
    ] : [h("p", { class: "hint" }, t("left_room")), button(t("join"), () => changeRoom(app, room, "join"))]).filter(Boolean));
  });
}

const sorted = (members) => members.toSorted((a, b) => Number(b.online) - Number(a.online)
  || (RANKS[b.role] ?? 0) - (RANKS[a.role] ?? 0) || a.user.localeCompare(b.user));

/** What may be done with a member, by one's own role. */
function openMember(app, room, user) {
  const { members, role } = app.store.state.rooms.get(room);
  const member = members.find((other) => other.user === user);
  const me = app.store.state.session.user;
  const rank = RANKS[role] ?? 0;
  const change = (verb, body) => () => { dialog.close(); changeRoom(app, room, verb, { user, ...body }); };
  const tools = [];
  if (user !== me) tools.push(link(t("write"), routeHash("chats", user)), link(t("files"), routeHash("files", user)));
  if (user !== me && rank > (RANKS[member?.role] ?? 0)) {
    tools.push(button(t("kick"), change("kick")), button(t("ban"), change("ban")));
    if (rank === 2) {
      const next = member?.role === "moderator" ? "member" : "moderator";
      tools.push(button(t(`make_${next}`), change("role", { role: next })));
    }
  }
  const dialog = openDialog(safeName(user), h("p", { class: "hint" }, t(`role_${member?.role ?? "member"}`)), h("div", { class: "details-tools" }, ...tools));
  dialog.addEventListener("click", (event) => event.target.closest("a") && dialog.close());
}

const link = (label, href) => h("a", { class: "button", href }, label);

function fillUser(app, scope, name, body) {
  scope.watch((state) => conversationPartner(state, name), (user) => {
    const facts = [
      [t("state"), user?.online === true ? t("online") : user?.online === false ? t("offline") : t("presence_unknown")],
      user?.waiting ? [t("queued"), tn("waiting", user.waiting)] : null,
      user?.frozen ? [t("key"), t("key_changed")] : null,
    ].filter(Boolean);
    body.replaceChildren(
      h("dl", { class: "facts-list" }, ...facts.flatMap(([term, words]) => [h("dt", {}, term), h("dd", {}, words)])),
      h("div", { class: "details-tools" }, link(t("files"), routeHash("files", name)),
        button(user?.muted ? t("unmute") : t("mute"), () => setMuted(app, name, !user?.muted)),
        button(user?.blocked ? t("unblock") : t("block"), () => (user?.blocked ? setContact(app, name, "unblock")
          : askFirst(t("block_named", { name: safeName(name) }), t("block_warning"), t("block"), () => setContact(app, name, "block"))))),
      h("p", { class: "hint" }, t("verify_words")), h("code", { class: "command" }, `peer verify ${name}`));
  });
}
