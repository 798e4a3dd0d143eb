/**
 * Where a message is written: text, mentions, files that go with it.
 * @module
 */

import { cancelMessage, sendText, tellTyping } from "./actions.js";
import { chosenFiles } from "./drop_zone.js";
import { h, iconButton, icon, isTouch, reconcile, setAttribute } from "./elements.js";
import { withFiles } from "./file_names.js";
import { safeName, sizeText } from "./format.js";
import { nameText } from "./name_parts.js";
import { conversationPartner, isRoom } from "./state.js";
import { t, tn } from "./texts.js";

/** The pause after which the other side is told again that something is being written. */
const TYPING_PAUSE_MS = 3000;
const MOST_MENTIONS = 6;
/** The bytes of UTF-8 that a message may have: a test compares it with what nodes take. */
const LONGEST_TEXT = 16_384;

/** @param {import("./main.js").App} app */
export function createComposer(app, name, timeline) {
  const { store } = app;
  const field = h("textarea", {
    class: "field", rows: "1", "aria-label": t("message_to", { name: safeName(name) }), placeholder: t("write_a_message"),
    enterkeyhint: "send", "aria-autocomplete": isRoom(name) ? "list" : null,
  });
  const send = iconButton("send", t("send"), () => submit(), { class: "icon-button send" });
  const picker = h("input", { type: "file", multiple: true, hidden: true, tabindex: "-1" });
  const attach = iconButton("clip", t("attach"), () => picker.click());
  const mentions = createMentions(app, name, field);
  const staged = createStagedFiles(app, name, () => field.focus());
  const hint = h("p", { class: "composer-hint", hidden: true });
  let lastTyping = 0;

  const keepDraft = () => store.dispatch({ type: "draft", name, text: field.value });
  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  };
  async function submit() {
    const text = field.value.trim();
    if (new TextEncoder().encode(text).length > LONGEST_TEXT) return app.tell(t("too_long"));
    const files = staged.take();
    if (files.length > 0) app.uploads.send(files, name, text);
    else if (text) sendText(app, name, text);
    else return;
    field.value = "";
    keepDraft();
    // The next message is announced from its first letter on.
    lastTyping = 0;
    fit();
    mentions.close();
    await timeline.toLatest();
  }
  field.addEventListener("input", () => {
    fit();
    keepDraft();
    mentions.update();
    if (field.value.trim() && Date.now() - lastTyping > TYPING_PAUSE_MS) {
      lastTyping = Date.now();
      tellTyping(app, name);
    }
  });
  field.addEventListener("keydown", (event) => {
    if (mentions.handleKey(event) || event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !isTouch()) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && field.value === "") {
      takeBack(app, name, field, event);
    }
  });
  field.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    staged.add(chosenFiles(app, files));
  });
  picker.addEventListener("change", () => {
    staged.add(chosenFiles(app, picker.files));
    picker.value = "";
  });
  const element = h("form", { class: "composer", submit: (event) => { event.preventDefault(); submit(); } },
    staged.element, mentions.element, hint, h("div", { class: "composer-line" }, attach, picker, field, send));
  const ends = [store.watch((state) => conversationPartner(state, name), (partner) => {
    const why = closedReason(name, partner);
    for (const control of [field, send, attach]) control.disabled = why !== "";
    hint.hidden = why === "";
    hint.replaceChildren(why);
  }), store.watch((state) => state.drafts.get(name) ?? "", (text) => {
    if (field.value === text) return;
    field.value = text;
    fit();
  })];
  requestAnimationFrame(fit);
  return { element, staged, focus: () => field.focus(), close: () => ends.forEach((end) => end()) };
}

function closedReason(name, partner) {
  if (isRoom(name)) return partner && !partner.role ? t("not_a_member") : "";
  return partner?.blocked ? t("is_blocked") : "";
}

/** The arrow up in an empty field takes the last message back that nobody has yet, to write it anew. */
async function takeBack(app, name, field, event) {
  const { store } = app;
  const messages = store.state.conversations.get(name)?.messages ?? [];
  const last = messages.findLast((message) => message.from === store.state.session.user && !message.send && !message.offer);
  if (!last || isRoom(name) || !["waiting", "unsent"].includes(last.state)) return;
  event.preventDefault();
  // One that was on its way already would be sent twice. Nor is what was typed meanwhile replaced.
  if (!(await cancelMessage(app, name, last)) || field.value !== "") return;
  field.value = last.text;
  field.dispatchEvent(new Event("input"));
}

/** The members whose names begin like the word that follows `@`. */
function createMentions(app, name, field) {
  const id = "mention-list";
  const list = h("ul", { class: "mentions", role: "listbox", id, "aria-label": t("members"), hidden: true });
  let [names, chosen, start] = [[], 0, 0];
  const close = () => {
    names = [];
    list.hidden = true;
    setAttribute(field, "aria-activedescendant", null);
  };
  const pick = (user) => {
    field.setRangeText(`@${user} `, start, field.selectionStart, "end");
    field.dispatchEvent(new Event("input"));
    close();
    field.focus();
  };
  const draw = () => {
    list.hidden = names.length === 0;
    list.replaceChildren(...names.map((user, at) => h("li", {
      id: `${id}-${at}`, role: "option", "aria-selected": String(at === chosen),
      // The field keeps the focus.
      mousedown: (event) => { event.preventDefault(); pick(user); },
    }, nameText(user))));
    setAttribute(field, "aria-activedescendant", names.length > 0 ? `${id}-${chosen}` : null);
  };
  function update() {
    const before = field.value.slice(0, field.selectionStart);
    const [, word] = before.match(/(?:^|[\s(])@([\p{L}\p{N}_.-]*)$/u) ?? [];
    if (!isRoom(name) || word === undefined) return close();
    const me = app.store.state.session.user;
    const members = conversationPartner(app.store.state, name)?.members ?? [];
    names = members.map(({ user }) => user)
      .filter((user) => user !== me && user.toLowerCase().startsWith(word.toLowerCase())).slice(0, MOST_MENTIONS);
    [chosen, start] = [0, before.length - word.length - 1];
    draw();
  }
  function handleKey(event) {
    if (names.length === 0) return false;
    if (event.key === "Escape") close();
    else if (event.key === "Enter" || event.key === "Tab") pick(names[chosen]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : names.length - 1)) % names.length;
      draw();
    } else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }
  return { element: list, update, close, handleKey };
}

/** The files that are to be sent, before it is confirmed. */
function createStagedFiles(app, name, onChange) {
  const list = h("ul", { class: "staged" });
  const sum = h("p", { class: "staged-sum" });
  const element = h("div", { class: "staged-box", hidden: true }, sum, list);
  let files = [];
  const draw = () => {
    element.hidden = files.length === 0;
    const bytes = files.reduce((total, { file }) => total + file.size, 0);
    sum.replaceChildren(files.length > 0 ? tn("staged", files.length, { name: safeName(name), size: sizeText(bytes) }) : "");
    reconcile(list, files, {
      key: (entry) => entry.name,
      create: (entry) => h("li", {}, icon("file"), nameText(entry.name), h("span", { class: "size" }, sizeText(entry.file.size)),
        iconButton("close", t("remove_named", { name: safeName(entry.name) }), () => {
          files = files.filter((other) => other !== entry);
          draw();
          onChange();
        })),
    });
  };
  return {
    element,
    add: (added) => {
      files = withFiles(files, added);
      draw();
      onChange();
    },
    take: () => {
      const taken = files;
      files = [];
      draw();
      return taken;
    },
  };
}
