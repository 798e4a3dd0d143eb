/**
 * The state of the page: one value, changed only by actions through one pure function, watched by the views.
 * @module
 */

/** @typedef {import("./state.js").PageState} PageState */

/** The state with those who watch it. */
export class Store {
  /** @type {Set<{select: Function, listener: Function, last: unknown}>} */
  #watchers = new Set();
  #isScheduled = false;

  /**
   * @param {(state: PageState, action: {type: string}) => PageState} reduce
   * @param {PageState} state
   */
  constructor(reduce, state) {
    this.reduce = reduce;
    this.state = state;
  }

  /** Changes the state. Those who watch are told once for all actions of a task. */
  dispatch(action) {
    this.state = this.reduce(this.state, action);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // No animation frame: a hidden page has none, and its title and notifications are to follow all the same.
    queueMicrotask(() => this.#tell());
  }

  /**
   * Calls `listener` now, and whenever what `select` returns is another value.
   * @template T
   * @param {(state: PageState) => T} select
   * @param {(value: T, last: T|undefined) => void} listener
   * @returns {() => void} a function that ends it
   */
  watch(select, listener) {
    const watcher = { select, listener, last: select(this.state) };
    this.#watchers.add(watcher);
    listener(watcher.last, undefined);
    return () => this.#watchers.delete(watcher);
  }

  #tell() {
    this.#isScheduled = false;
    for (const watcher of [...this.#watchers]) {
      const value = watcher.select(this.state);
      if (isSame(value, watcher.last) || !this.#watchers.has(watcher)) continue;
      const last = watcher.last;
      watcher.last = value;
      watcher.listener(value, last);
    }
  }
}

/** What one view watches, to be ended at once. */
export class WatchScope {
  #ends = [];

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
  }

  watch(select, listener) {
    this.#ends.push(this.store.watch(select, listener));
  }

  /** Adds something else that ends with the view. */
  add(end) {
    this.#ends.push(end);
  }

  close() {
    for (const end of this.#ends.splice(0)) end();
  }
}

/** Returns true for the same value, or arrays of the same values. */
function isSame(a, b) {
  if (a === b) return true;
  return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((value, at) => value === b[at]);
}
