/**
 * Dialogs for new conversations: with a person, in a new room, in one that the tracker lists.
 * @module
 */

import { loadList } from "./actions.js";
import { openDialog, openForm } from "./dialogs.js";
import { button, h, icon, setText } from "./elements.js";
import { safeName } from "./format.js";
import { avatar, nameText } from "./name_parts.js";
import { goTo } from "./router.js";
import { t, tn } from "./texts.js";

/** Opens the choice of what to begin. @param {import("./main.js").App} app */
export function openNewMenu(app) {
  const choice = (kind, title, words, act) => h("button", {
    type: "button", class: "choice", click: () => { dialog.close(); act(app); },
  }, icon(kind), h("span", { class: "choice-texts" }, h("strong", {}, title), h("span", {}, words)));
  const dialog = openDialog(t("new_conversation"),
    choice("chat", t("write_to_person"), t("write_to_person_words"), openPerson),
    choice("people", t("join_room"), t("join_room_words"), openDirectory),
    choice("plus", t("create_room"), t("create_room_words"), openRoomCreation));
}

/** Finds a person at the tracker, and opens the conversation. */
export function openPerson(app) {
  const suggestions = h("div", { class: "suggestions" });
  const dialog = openForm(t("write_to_person"), [{ name: "user", label: t("user_name"), required: true, maxlength: 64 }], t("open"),
    async ({ user }) => {
      suggestions.replaceChildren();
      if (app.store.state.users.has(user)) return goTo("chats", user);
      const { exists, similar } = await app.api.post("/users/lookup", { user });
      if (exists) {
        app.store.dispatch({ type: "user", name: user, change: {} });
        return goTo("chats", user);
      }
      suggestions.replaceChildren(...similar.map((name) => button(safeName(name), () => {
        dialog.querySelector("input").value = name;
        dialog.querySelector("form").requestSubmit();
      })));
      throw new Error(similar.length > 0 ? t("no_such_user_similar") : t("no_such_user"));
    });
  dialog.querySelector(".dialog-foot").before(suggestions);
}

/** Makes a room. */
export function openRoomCreation(app) {
  openForm(t("create_room"), [
    { name: "name", label: t("room_name"), required: true, maxlength: 64 },
    { name: "topic", label: t("topic"), hint: t("optional") },
    { name: "password", label: t("room_password"), kind: "password", hint: t("room_password_words"), autocomplete: "new-password" },
    { name: "invite_only", label: t("invite_only"), kind: "check" },
    { name: "history", label: t("history_for_newcomers"), kind: "choice", value: "30d", choices: [["30d", t("history_30d")], ["none", t("history_none")]] },
  ], t("create"), async ({ name, topic, password, invite_only, history }) => {
    const room = name.replace(/^#/, "");
    await app.api.post("/rooms", { name: room, topic: topic || undefined, password: password || undefined, invite_only, history: history === "30d" });
    await loadList(app, "rooms");
    goTo("chats", `#${room}`);
  });
}

/** Shows the rooms that the tracker lists. */
export function openDirectory(app) {
  const status = h("p", { class: "empty", role: "status" }, t("loading"));
  const list = h("ul", { class: "directory" });
  const filter = h("input", { type: "search", class: "filter", "aria-label": t("filter_rooms"), placeholder: t("filter_rooms") });
  const other = button(t("join_by_name"), () => { dialog.close(); joinRoom(app, "", true); }, { class: "link-button" });
  const dialog = openDialog(t("join_room"), filter, status, list, other);
  let rooms = [];
  const draw = () => {
    const words = filter.value.trim().toLowerCase();
    const shown = rooms.filter(({ name, topic }) => `${name} ${topic ?? ""}`.toLowerCase().includes(words));
    setText(status, shown.length === 0 ? t("no_rooms") : "");
    list.replaceChildren(...shown.slice(0, 200).map((room) => directoryRow(app, room, dialog)));
  };
  filter.addEventListener("input", draw);
  app.api.get("/rooms/directory").then((answer) => {
    rooms = answer.rooms;
    draw();
  }, (why) => setText(status, why.message));
}

function directoryRow(app, room, dialog) {
  const isMember = Boolean(app.store.state.rooms.get(room.name)?.role);
  const act = () => {
    dialog.close();
    if (isMember) goTo("chats", `#${room.name}`);
    else joinRoom(app, room.name, room.password);
  };
  return h("li", { class: "directory-row" }, avatar(`#${room.name}`),
    h("div", { class: "directory-texts" }, nameText(`#${room.name}`), h("span", { dir: "auto" }, safeName(room.topic ?? "")),
      h("span", { class: "facts" }, [tn("members_count", room.members ?? 0), room.password ? t("has_password") : ""].filter(Boolean).join(" · "))),
    button(isMember ? t("open") : t("join"), act, { "aria-label": `${isMember ? t("open") : t("join")} #${safeName(room.name)}` }));
}

function joinRoom(app, name, asksPassword) {
  const join = async (room, password) => {
    await app.api.post(`/rooms/${encodeURIComponent(room)}/join`, { password: password || undefined });
    await loadList(app, "rooms");
    goTo("chats", `#${room}`);
  };
  if (!asksPassword) return app.attempt(() => join(name, ""));
  openForm(t("join_room"), [
    { name: "room", label: t("room_name"), value: name, required: true },
    { name: "password", label: t("password"), kind: "password", hint: t("if_it_has_one") },
  ], t("join"), ({ room, password }) => join(room.replace(/^#/, ""), password));
}

/** Asks for a user to invite into a room. */
export function openInvitation(app, room) {
  openForm(t("invite_to", { room: safeName(room) }), [{ name: "user", label: t("user_name"), required: true }], t("invite"), async ({ user }) => {
    const answer = await app.api.post(`/rooms/${encodeURIComponent(room)}/invite`, { user });
    app.tell(answer?.note ?? t("invited", { user }));
  });
}

/** Asks for a room's topic. */
export function openTopic(app, { room, topic }) {
  openForm(t("topic"), [{ name: "topic", label: t("topic"), value: topic }], t("save"), async (values) => {
    await app.api.post(`/rooms/${encodeURIComponent(room)}/topic`, values);
    await loadList(app, "rooms");
  });
}
