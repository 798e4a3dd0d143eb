/**
 * A long list of rows of one height, of which only those in sight are elements: 5,000 rows cost as much as 30.
 * Arrow keys, Home and End move between the rows; Tab leaves the list.
 * @module
 */

import { h, setAttribute } from "./elements.js";

/** Rows beyond the visible ones, so that a quick scroll shows no gap. */
const SPARE_ROWS = 8;

/** @template T */
export class VirtualList {
  #items = [];
  #rows = new Map();
  #active = 0;
  #height = 0;

  /**
   * @param {{label: string, key: (item: T) => string, create: (item: T) => HTMLElement,
   *   update: (element: HTMLElement, item: T) => void, isStop?: (item: T) => boolean}} options - `create` makes the element
   *   that takes the focus; rows for which `isStop` is false are passed over.
   */
  constructor(options) {
    this.options = { isStop: () => true, ...options };
    this.list = h("ul", { class: "virtual-rows", "aria-label": options.label });
    this.probe = h("div", { class: "virtual-probe", "aria-hidden": "true" });
    this.element = h("div", { class: "virtual-list", keydown: (event) => this.#handleKey(event) }, this.probe, this.list);
    this.element.addEventListener("scroll", () => this.#draw(), { passive: true });
    this.element.addEventListener("focusin", (event) => this.#noteFocus(event.target));
    this.observer = new ResizeObserver(() => this.#measure());
    this.observer.observe(this.element);
    // Follows the density: the style sheet gives the rows' height.
    this.observer.observe(this.probe);
  }

  /** Shows other items. Elements are kept by their key. */
  set(items) {
    const active = this.#items[this.#active];
    this.#items = items;
    // The row, wherever it is now.
    const at = active === undefined ? -1 : items.findIndex((item) => this.options.key(item) === this.options.key(active));
    this.#active = at >= 0 ? at : Math.min(this.#active, Math.max(items.length - 1, 0));
    this.#draw();
  }

  /** Moves the focus into the list. */
  focus(at = this.#active) {
    this.#focusRow(this.#stopFrom(at, 1) ?? this.#stopFrom(at, -1));
  }

  /** Marks the row that Tab leads to, without moving the focus. */
  activate(key) {
    const at = this.#items.findIndex((item) => this.options.key(item) === key);
    if (at < 0 || this.element.contains(document.activeElement)) return;
    this.#active = at;
    this.#draw();
  }

  #measure() {
    const height = this.probe.offsetHeight;
    if (height > 0 && height !== this.#height) {
      this.#height = height;
      // All rows stand elsewhere now.
      for (const row of this.#rows.values()) row.at = -1;
    }
    this.#draw();
  }

  #draw() {
    if (this.#height === 0) return;
    const [top, seen] = [this.element.scrollTop, this.element.clientHeight];
    const first = Math.max(Math.floor(top / this.#height) - SPARE_ROWS, 0);
    const last = Math.min(Math.ceil((top + seen) / this.#height) + SPARE_ROWS, this.#items.length);
    this.list.style.height = `${this.#items.length * this.#height}px`;
    const next = new Map();
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    for (let at = first; at < last; at += 1) this.#place(at, next);
    // The focused row stays an element, else the focus would fall out of the page.
    if (this.element.contains(document.activeElement) && this.#active < this.#items.length) this.#place(this.#active, next);
    for (const [key, row] of this.#rows) if (!next.has(key)) row.shell.remove();
    this.#rows = next;
    // An element that moves to another place loses the focus.
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  #place(at, next) {
    const item = this.#items[at];
    const key = this.options.key(item);
    if (next.has(key)) return;
    let row = this.#rows.get(key);
    if (!row) {
      const content = this.options.create(item);
      row = { shell: h("li", { class: "virtual-row" }, content), content, item: null, at: -1 };
    }
    if (row.item !== item) this.options.update(row.content, item);
    row.item = item;
    if (row.at !== at || !row.shell.isConnected) {
      row.shell.style.transform = `translateY(${at * this.#height}px)`;
      row.at = at;
      row.shell.dataset.at = at;
      // The order of elements is the order of Tab and of screen readers.
      const after = [...this.list.children].find((shell) => Number(shell.dataset.at) > at);
      this.list.insertBefore(row.shell, after ?? null);
    }
    setAttribute(row.shell, "aria-posinset", at + 1);
    setAttribute(row.shell, "aria-setsize", this.#items.length);
    if (this.options.isStop(item)) row.content.tabIndex = at === this.#active ? 0 : -1;
    next.set(key, row);
  }

  #handleKey(event) {
    const page = Math.max(Math.floor(this.element.clientHeight / Math.max(this.#height, 1)) - 1, 1);
    const moves = { ArrowDown: [1, 1], ArrowUp: [-1, -1], PageDown: [page, 1], PageUp: [-page, -1] };
    let at = null;
    if (event.key === "Home") at = this.#stopFrom(0, 1);
    else if (event.key === "End") at = this.#stopFrom(this.#items.length - 1, -1);
    else if (moves[event.key]) {
      const [step, direction] = moves[event.key];
      const wanted = Math.min(Math.max(this.#active + step, 0), this.#items.length - 1);
      at = this.#stopFrom(wanted, direction) ?? this.#stopFrom(wanted, -direction);
    } else return;
    if (event.target.matches("input, textarea, select") || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.#focusRow(at);
  }

  #stopFrom(at, direction) {
    for (let place = at; place >= 0 && place < this.#items.length; place += direction) {
      if (this.options.isStop(this.#items[place])) return place;
    }
    return null;
  }

  #focusRow(at) {
    if (at === null || this.#items.length === 0) return;
    this.#active = at;
    const [top, bottom] = [at * this.#height, (at + 1) * this.#height];
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (bottom > this.element.scrollTop + this.element.clientHeight) {
      this.element.scrollTop = bottom - this.element.clientHeight;
    }
    this.#draw();
    this.#rows.get(this.options.key(this.#items[at]))?.content.focus({ preventScroll: true });
  }

  #noteFocus(target) {
    const shell = target.closest(".virtual-row");
    if (!shell || Number(shell.dataset.at) === this.#active) return;
    this.#active = Number(shell.dataset.at);
    this.#draw();
  }
}
