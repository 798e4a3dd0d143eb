/**
 * What a person has before their eyes: the open conversation, its end in sight, in a visible page.
 * @module
 */

import { openName } from "./state.js";

/** The attention of this page's reader. */
export class Attention {
  /** True while the end of the open conversation is in sight. */
  isAtBottom = true;
  #watchers = new Set();

  constructor(store) {
    this.store = store;
    for (const name of ["focus", "blur"]) addEventListener(name, () => this.#tell());
    document.addEventListener("visibilitychange", () => this.#tell());
  }

  /** True if a new message of the conversation would be seen. */
  isOn(name = openName(this.store.state)) {
    return !document.hidden && this.isAtBottom && name !== null && openName(this.store.state) === name;
  }

  /** Calls `listener` when the page comes into sight or leaves it. */
  watch(listener) {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  #tell() {
    for (const listener of this.#watchers) listener();
  }
}
