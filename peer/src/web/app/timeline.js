/**
 * The messages of the open conversation: the newest at the bottom, further ones when they are scrolled to. At most a few
 * hundred are elements at any time.
 * @module
 */

import { loadAround, loadMessages, markRead } from "./actions.js";
import { button, h, icon, reconcile, setText } from "./elements.js";
import { dayOf } from "./format.js";
import { timelineRows } from "./message_list.js";
import { rowsOf } from "./message_rows.js";
import { EMPTY_CONVERSATION, conversationPartner, writersIn } from "./state.js";
import { t, tn } from "./texts.js";

/** The distance in pixels from an edge at which further messages are read. */
const NEAR_EDGE = 600;
/** The distance from the bottom up to which a person counts as being there. */
const AT_BOTTOM = 48;

/** @param {import("./main.js").App} app */
export function createTimeline(app, name) {
  const { store } = app;
  const list = h("ol", { class: "messages" });
  const status = h("p", { class: "timeline-status" });
  const writing = h("p", { class: "writing", "aria-live": "polite" });
  const latest = button("", () => toLatest(), { class: "button latest", hidden: true });
  const scroller = h("div", { class: "timeline", tabindex: "0", role: "region", "aria-label": t("messages") }, status, list);
  const rows = rowsOf(app, name);
  let isAtBottom = true;
  const conversation = () => store.state.conversations.get(name) ?? EMPTY_CONVERSATION;

  function draw() {
    const shown = conversation();
    const keep = isAtBottom && !shown.hasNewer ? null : placeOf(scroller);
    const items = timelineRows(shown.messages, shown.unreadAfter, store.state.session?.user ?? "", dayOf);
    reconcile(list, items, rows);
    setText(status, statusText(shown));
    if (keep) restore(scroller, keep);
    else scroller.scrollTop = scroller.scrollHeight;
    drawLatest(shown);
    read();
  }

  function drawLatest(shown) {
    latest.hidden = isAtBottom && !shown.hasNewer;
    latest.replaceChildren(icon("down"), shown.unseen > 0 ? tn("new_below", shown.unseen) : t("to_latest"));
  }

  /** What is in sight in a visible page counts as read. */
  function read() {
    app.attention.isAtBottom = isAtBottom && !conversation().hasNewer;
    // Before the messages are there, nothing was read, and the line above the first new one needs their number.
    if (!app.attention.isOn() || conversation().isStale) return;
    if (conversation().unseen > 0) store.dispatch({ type: "seen", name });
    if (conversationPartner(store.state, name)?.unread > 0) markRead(app, name);
  }

  async function toLatest() {
    isAtBottom = true;
    if (conversation().hasNewer) await loadMessages(app, name);
    scroller.scrollTop = scroller.scrollHeight;
    draw();
  }

  /** Leads to a message, however far it is. */
  async function show({ id, seq }) {
    const find = () => list.querySelector(`[data-id="${CSS.escape(id)}"]`);
    if (!find()) {
      isAtBottom = false;
      await loadAround(app, name, seq);
      await Promise.resolve();
    }
    const row = find();
    row?.scrollIntoView({ block: "center" });
    row?.classList.add("pointed");
    setTimeout(() => row?.classList.remove("pointed"), 2500);
  }

  function look() {
    const shown = conversation();
    const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    isAtBottom = below < AT_BOTTOM;
    if (shown.hasOlder && scroller.scrollTop < NEAR_EDGE) loadMessages(app, name, "older");
    else if (shown.hasNewer && below < NEAR_EDGE) loadMessages(app, name, "newer");
    drawLatest(shown);
    read();
  }

  const ends = [
    store.watch((state) => [state.conversations.get(name), conversationPartner(state, name)?.unread], draw),
    store.watch(needsReading(name), (isNeeded) => isNeeded && loadMessages(app, name)),
    store.watch((state) => state.typing.get(name), () => showWriters(writing, writersIn(store.state, name, Date.now()))),
    app.attention.watch(read),
  ];
  scroller.addEventListener("scroll", look, { passive: true });
  const observer = new ResizeObserver(() => {
    if (isAtBottom) scroller.scrollTop = scroller.scrollHeight;
    look();
  });
  for (const part of [scroller, list]) observer.observe(part);
  return {
    element: h("div", { class: "timeline-box" }, scroller, latest, writing),
    toLatest,
    show,
    close: () => {
      observer.disconnect();
      ends.forEach((end) => end());
    },
  };
}

/** What couldn't be read is read again when it is opened anew, or events tell of more. */
const needsReading = (name) => ({ conversations }) => {
  const { isStale, error } = conversations.get(name) ?? EMPTY_CONVERSATION;
  return isStale && error === null;
};

function statusText({ isLoading, error, messages, hasOlder }) {
  if (error) return t("history_failed", { why: error });
  if (isLoading && messages.length === 0) return "";
  if (messages.length === 0) return t("no_messages");
  return hasOlder ? t("loading_older") : t("beginning");
}

function showWriters(line, writers) {
  const words = writers.length > 2 ? t("several_write") : writers.length === 0 ? "" : tn("writing", writers.length, { names: writers.join(", ") });
  setText(line, words);
}

/** Remembers a row in sight, and where it is: what is added above or removed doesn't move it. */
function placeOf(scroller) {
  const top = scroller.getBoundingClientRect().top;
  for (const row of scroller.querySelectorAll(".messages > .message")) {
    const { bottom } = row.getBoundingClientRect();
    if (bottom > top) return { row, offset: row.getBoundingClientRect().top - top };
  }
  return null;
}

function restore(scroller, { row, offset }) {
  if (!row.isConnected) return;
  const moved = row.getBoundingClientRect().top - scroller.getBoundingClientRect().top - offset;
  if (moved !== 0) scroller.scrollTop += moved;
}
