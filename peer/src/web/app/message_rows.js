/**
 * The rows of a conversation: messages, files that are offered, lines for days and news.
 * @module
 */

import { cancelMessage, sendLocal, sendText, startFetch } from "./actions.js";
import { button, h, icon, iconButton, setAttribute, setText } from "./elements.js";
import { bareClockText, clockText, dayText, isoText, safeName, sizeText, whenText } from "./format.js";
import { isLong, messageNodes } from "./message_text.js";
import { shownTime } from "./message_list.js";
import { avatar, fileName, nameText } from "./name_parts.js";
import { t, tn } from "./texts.js";

/** The difference in ms up to which the time of writing and that of arrival count as the same. */
const CLOCK_TOLERANCE_MS = 2 * 60 * 1000;
const ENDED = new Set(["failed", "expired", "dropped", "unsent"]);

/** Returns how the rows of one conversation are made, for `reconcile`. */
export function rowsOf(app, name) {
  return {
    key: (row) => row.id,
    create: (row) => createRow(app, name, row),
    update: (element, row) => row.message && updateMessage(app, name, element, row),
  };
}

function createRow(app, name, row) {
  if (row.kind === "day") return h("li", { class: "day" }, h("span", {}, dayText(row.time)));
  if (row.kind === "unread") return h("li", { class: "unread-line" }, h("span", {}, t("new_messages")));
  if (row.kind === "note") return h("li", { class: "note" }, ...noteNodes(row.note));
  const { message } = row;
  const element = h("li", { class: "message", "data-id": message.id },
    h("div", { class: "message-side" }), h("div", { class: "message-head" }), h("div", { class: "message-body" }),
    h("div", { class: "message-state" }), h("div", { class: "message-actions" }));
  element.querySelector(".message-body").append(row.kind === "file" ? fileCard(app, message) : textBlock(app, message));
  updateMessage(app, name, element, row);
  return element;
}

function updateMessage(app, name, element, { message, follows }) {
  const me = app.store.state.session.user;
  const isMine = message.from === me;
  element.classList.toggle("follows", follows);
  element.classList.toggle("mine", isMine);
  element.classList.toggle("calls-me", Boolean(message.mentions_me));
  element.classList.toggle("ended", ENDED.has(message.state));
  const [side, head] = [".message-side", ".message-head"].map((part) => element.querySelector(part));
  const time = shownTime(message);
  side.replaceChildren(follows ? timeOf(time, bareClockText) : avatar(message.from));
  // The name is there for screen readers in each row.
  const author = nameText(message.from, { class: isMine ? "author author-me" : "author" });
  head.replaceChildren(author, follows ? "" : timeOf(time), ...remarks(message, isMine));
  head.classList.toggle("visually-hidden", follows && head.childElementCount === 1);
  showState(element, message, isMine);
  element.querySelector(".message-actions").replaceChildren(...actionsOf(app, name, message, isMine));
}

const timeOf = (time, textOf = clockText) => h("time", { datetime: isoText(time), title: whenText(time) }, textOf(time));

function remarks(message, isMine) {
  const shown = [];
  if (message.late) shown.push(h("span", { class: "remark" }, t("late")));
  const isOff = !isMine && message.at && Math.abs(message.at - message.ts) >= CLOCK_TOLERANCE_MS;
  if (isOff) shown.push(h("span", { class: "remark", title: whenText(message.ts) }, t("written_at", { time: clockText(message.ts) })));
  return shown;
}

/** Returns the mark of a message of ours, as the terminal shows it, and its words. */
export function deliveryMark({ state, count, of, room }) {
  if (state === "sending") return ["…", t("state_sending")];
  if (ENDED.has(state)) return ["!", t(`state_${state}`)];
  if (room !== undefined) {
    if (of === undefined || count === 0) return of === 0 ? ["✓", t("state_stored")] : ["…", t("state_waiting")];
    return count < of ? [`${count}/${of}`, t("state_partly", { count, of })] : ["✓", t("state_stored_all")];
  }
  return { waiting: ["…", t("state_waiting")], sent: ["→", t("state_sent")], stored: ["✓", t("state_stored")] }[state] ?? ["", ""];
}

function showState(element, message, isMine) {
  const box = element.querySelector(".message-state");
  const [mark, words] = isMine ? deliveryMark(message) : ["", ""];
  setText(box, mark);
  setAttribute(box, "title", words ? [words, message.why].filter(Boolean).join(": ") : null);
  setAttribute(box, "role", words ? "img" : null);
  setAttribute(box, "aria-label", words || null);
  box.dataset.state = message.count !== undefined && message.of > 0 && message.count === message.of ? "stored" : message.state;
}

function actionsOf(app, name, message, isMine) {
  if (!isMine) return [];
  if (message.state === "unsent") {
    return [h("span", { class: "problem" }, message.why ?? t("state_unsent")),
      button(t("send_again"), () => sendLocal(app, name, message), { class: "link-button" }),
      button(t("remove"), () => cancelMessage(app, name, message), { class: "link-button" })];
  }
  if (ENDED.has(message.state)) {
    const why = [t(`state_${message.state}`), message.why].filter(Boolean).join(": ");
    return [h("span", { class: "problem" }, why), ...(message.text && !message.send
      ? [button(t("send_again"), () => sendText(app, name, message.text), { class: "link-button" })] : [])];
  }
  const isQueued = message.room === undefined && !message.send && (message.state === "waiting" || message.state === "sent");
  return isQueued ? [button(t("dont_send"), () => cancelMessage(app, name, message), { class: "link-button quiet-action" })] : [];
}

function textBlock(app, message) {
  const me = app.store.state.session.user;
  const text = h("p", { class: "text", dir: "auto" }, ...messageNodes(message.text, { me }));
  if (!isLong(message.text)) return text;
  text.classList.add("folded");
  const more = button(t("show_all"), () => {
    const isFolded = text.classList.toggle("folded");
    setText(more, isFolded ? t("show_all") : t("show_less"));
    setAttribute(more, "aria-expanded", String(!isFolded));
  }, { class: "link-button", "aria-expanded": "false" });
  return h("div", {}, text, more);
}

/** Creates the card of a file or folder that somebody sends. */
function fileCard(app, message) {
  const { name, size, files = 1, kind = "file" } = message.send ?? message.offer;
  const isMine = message.from === app.store.state.session.user;
  const facts = kind === "folder" ? `${tn("file_count", files)} · ${sizeText(size)}` : sizeText(size);
  // The slash says that a folder is meant, and no file of that name.
  const fetchIt = () => startFetch(app, message.from, kind === "folder" ? `${name}/` : name);
  const label = t("download_named", { name: safeName(name) });
  return h("div", { class: "card" }, icon(kind === "folder" ? "folder" : "file"),
    h("div", { class: "card-texts" }, fileName(name), h("span", { class: "card-facts" }, facts)),
    isMine ? null : iconButton("download", label, fetchIt));
}

/** Returns the words of a room's news; names in them are isolated. */
function noteNodes(note) {
  const who = (name) => nameText(name ?? "");
  const key = NOTES.has(note.kind) ? `note_${note.kind}` : "note_other";
  const parts = { user: who(note.user), by: who(note.by), topic: h("q", { dir: "auto" }, safeName(note.topic ?? "")),
    role: note.role ? t(`role_${note.role}`) : "" };
  const chosen = note.kind === "topic" && !note.topic ? "note_topic_none" : key;
  return t(chosen).split(/\{(\w+)\}/).map((part, at) => (at % 2 === 1 ? parts[part] ?? "" : part));
}

const NOTES = new Set(["joined", "invited", "left", "kicked", "role", "topic", "deleted", "restored", "contradicted", "equivocation", "gap"]);
