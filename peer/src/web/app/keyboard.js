/**
 * Shortcuts of the whole page. Lists and dialogs have keys of their own.
 * @module
 */

import { openSwitcher } from "./quick_switcher.js";
import { goTo } from "./router.js";
import { conversationRows, openName } from "./state.js";

/** @param {import("./main.js").App} app */
export function watchShortcuts(app) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || app.store.state.phase !== "open") return;
    const isCommand = event.ctrlKey || event.metaKey;
    if (isCommand && !event.altKey && event.key.toLowerCase() === "k") openSwitcher(app);
    else if (event.altKey && !isCommand && (event.key === "ArrowDown" || event.key === "ArrowUp")) step(app, event.key === "ArrowDown" ? 1 : -1);
    else return;
    event.preventDefault();
  });
}

/** Goes to the next or previous conversation of the list. */
function step({ store }, direction) {
  const { users, rooms } = store.state;
  const names = conversationRows(users, rooms, "").filter(({ kind }) => kind !== "heading").map(({ name }) => name);
  if (names.length === 0) return;
  const at = names.indexOf(openName(store.state));
  goTo("chats", names[at < 0 ? 0 : (at + direction + names.length) % names.length]);
}
