/**
 * One conversation: its head, its messages, where one writes, and beside it who and what belongs to it.
 * @module
 */

import { searchMessages, setContact, setMuted } from "./actions.js";
import { createComposer } from "./composer.js";
import { createDetails } from "./conversation_details.js";
import { watchDrops } from "./drop_zone.js";
import { button, h, icon, iconButton, isTouch, setAttribute, setText } from "./elements.js";
import { clockText, dayText, isoText, safeName } from "./format.js";
import { messageNodes } from "./message_text.js";
import { shownTime } from "./message_list.js";
import { avatar, nameText, setPresence } from "./name_parts.js";
import { goTo, routeHash } from "./router.js";
import { conversationPartner, isRoom } from "./state.js";
import { t, tn } from "./texts.js";
import { createTimeline } from "./timeline.js";
import { WatchScope } from "./store.js";

/** The width from which the details stand beside the messages. */
const WIDE = "(min-width: 1400px)";

/** @param {import("./main.js").App} app */
export function createConversation(app, name) {
  const scope = new WatchScope(app.store);
  const timeline = createTimeline(app, name);
  const composer = createComposer(app, name, timeline);
  const details = createDetails(app, name, () => toggleDetails(false));
  const search = createSearch(app, name, timeline);
  const element = h("section", { class: "conversation", "aria-label": safeName(name) });
  const toggle = iconButton(isRoom(name) ? "people" : "more", t("details"), () => toggleDetails(), { "aria-expanded": "false" });
  function toggleDetails(isOpen = details.element.hidden) {
    details.element.hidden = !isOpen;
    setAttribute(toggle, "aria-expanded", String(isOpen));
    if (isOpen && !matchMedia(WIDE).matches) details.focus();
  }
  const head = createHead(scope, name, [iconButton("search", t("search_messages"), search.toggle), mute(app, scope, name),
    h("a", { class: "icon-button", href: routeHash("files", name), title: t("files"), "aria-label": t("files") }, icon("folder")), toggle]);
  const talk = h("div", { class: "talk" }, head, requestBar(app, scope, name), search.element, timeline.element, composer.element);
  const dropEnd = watchDrops(app, talk, t("drop_to_send", { name: safeName(name) }), composer.staged.add);
  element.append(talk, details.element);
  toggleDetails(isRoom(name) && matchMedia(WIDE).matches);
  if (!isTouch()) requestAnimationFrame(composer.focus);
  element.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "f" && search.element.hidden) {
      event.preventDefault();
      search.toggle();
    }
    if (event.key === "Escape" && !event.defaultPrevented) {
      if (!search.element.hidden) search.toggle();
      else if (!details.element.hidden && !matchMedia(WIDE).matches) toggleDetails(false);
      else if (document.activeElement?.tagName === "TEXTAREA") timeline.toLatest();
    }
  });
  return { element, focus: composer.focus, close: () => [timeline, composer, details, scope, { close: dropEnd }].forEach((part) => part.close()) };
}

function createHead(scope, name, tools) {
  const picture = avatar(name, isRoom(name) ? {} : { online: null });
  const line = h("p", { class: "head-line", dir: "auto" });
  const element = h("header", { class: "pane-head" },
    iconButton("back", t("back"), () => goTo("chats"), { class: "icon-button back" }),
    picture, h("div", { class: "head-texts" }, h("h1", {}, nameText(name)), line), h("div", { class: "head-tools" }, tools));
  scope.watch((state) => conversationPartner(state, name), (partner) => {
    if (!isRoom(name)) setPresence(picture.querySelector(".presence"), partner?.online ?? null);
    setText(line, headLine(name, partner));
  });
  return element;
}

function headLine(name, partner) {
  if (!partner) return "";
  if (isRoom(name)) {
    const online = partner.members.filter((member) => member.online).length;
    const members = t("members_online", { online, all: partner.members.length });
    return partner.topic ? `${safeName(partner.topic)} · ${members}` : members;
  }
  if (partner.frozen) return t("key_changed");
  return partner.online === true ? t("online") : partner.online === false ? t("offline_waits") : t("presence_unknown");
}

function mute(app, scope, name) {
  const isMuted = () => Boolean(conversationPartner(app.store.state, name)?.muted);
  const toggle = iconButton("muted", t("mute"), () => setMuted(app, name, !isMuted()), { class: "icon-button optional", "aria-pressed": "false" });
  scope.watch((state) => Boolean(conversationPartner(state, name)?.muted), (muted) => {
    setAttribute(toggle, "aria-pressed", String(muted));
    setAttribute(toggle, "title", muted ? t("unmute") : t("mute"));
  });
  return toggle;
}

/** A stranger's request, with the answers to it. */
function requestBar(app, scope, name) {
  const bar = h("div", { class: "request-bar", hidden: true });
  if (isRoom(name)) return bar;
  scope.watch((state) => [state.users.get(name)?.request, state.users.get(name)?.blocked], ([request, blocked]) => {
    bar.hidden = !request && !blocked;
    const words = h("p", {}, ...t(blocked ? "blocked_words" : "request_words").split("{name}").flatMap((part, at) => (at ? [nameText(name), part] : [part])));
    bar.replaceChildren(words, ...(blocked ? [button(t("unblock"), () => setContact(app, name, "unblock"))]
      : [button(t("accept"), () => setContact(app, name, "accept"), { class: "button primary" }),
        button(t("block"), () => setContact(app, name, "block"))]));
  });
  return bar;
}

/** The search in the messages of one conversation. */
function createSearch(app, name, timeline) {
  const field = h("input", { type: "search", "aria-label": t("search_messages"), placeholder: t("search_messages"), autocomplete: "off" });
  const count = h("p", { class: "search-count", role: "status" });
  const found = h("ol", { class: "found" });
  let [timer, latest] = [0, 0];
  async function look() {
    const words = field.value.trim();
    const turn = (latest += 1);
    if (words.length < 2) {
      found.replaceChildren();
      return setText(count, "");
    }
    const messages = await app.attempt(() => searchMessages(app, name, words));
    if (turn !== latest) return;
    setText(count, !messages ? "" : messages.length >= 100 ? t("found_many") : tn("found", messages.length));
    found.replaceChildren(...(messages ?? []).toReversed().map((message) => foundRow(app, message, words, () => timeline.show(message))));
  }
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 180);
  });
  const element = h("div", { class: "search-box", role: "search", hidden: true },
    h("div", { class: "search-line" }, field, iconButton("close", t("close"), () => toggle())), count, found);
  function toggle() {
    element.hidden = !element.hidden;
    if (element.hidden) element.parentElement.querySelector("textarea")?.focus();
    else field.select();
  }
  return { element, toggle };
}

function foundRow(app, message, words, onOpen) {
  const time = shownTime(message);
  const me = app.store.state.session.user;
  return h("li", {}, h("button", { type: "button", class: "found-row", click: onOpen }, h("div", { class: "message-head" }, nameText(message.from, { class: "author" }),
    h("time", { datetime: isoText(time) }, `${dayText(time)}, ${clockText(time)}`)),
  h("div", { class: "text", dir: "auto" }, ...messageNodes(message.text, { me, words }))));
}
