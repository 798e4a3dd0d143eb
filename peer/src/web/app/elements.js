/**
 * Building of elements. Text becomes a text node and nothing else, so that no text from others is ever read as HTML.
 * @module
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Creates an element. A property that is a function listens to the event of its name; `true` sets an attribute without a
 * value, `false`, `null` and `undefined` set none.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node|string|number|null|undefined|false|Array<Node|string|null|false>)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else setAttribute(element, name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets an attribute, or removes it if the value says that there is none. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** Sets the text of an element if it differs: an unchanged text keeps a selection, and a live region silent. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** True on a device that is touched, whose keyboard covers half of the page. */
export const isTouch = () => matchMedia("(pointer: coarse) and (hover: none)").matches;

/** The paths of the icons, in a square of 24; drawn as lines. */
const ICONS = {
  chat: "M4 5h16v11H9l-5 4z",
  folder: "M3 6h6l2 2h10v11H3z",
  transfer: "M8 4v14M4 14l4 4 4-4M16 20V6M12 10l4-4 4 4",
  gear: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13M15.5 15.5 20 20",
  plus: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  send: "M4 12h14M12 5l7 7-7 7",
  clip: "M19 11l-7.5 7.5a4.5 4.5 0 0 1-6.4-6.4L13 4.3a3 3 0 0 1 4.3 4.3l-7.7 7.6a1.5 1.5 0 0 1-2.1-2.1l7-7",
  close: "M6 6l12 12M18 6L6 18",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  muted: "M6 16V11a6 6 0 0 1 9-5M18 12v4H5M10 20h4M4 4l16 16",
  people: "M9 11a3.5 3.5 0 1 0 0-7a3.5 3.5 0 0 0 0 7M2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6M16 4.5a3.5 3.5 0 0 1 0 6M18 14.5c2.5 1 3.5 3 3.5 5.5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  down: "M12 5v14M6 13l6 6 6-6",
  right: "M9 5l7 7-7 7",
  retry: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  leave: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9",
};

/** Creates an icon; it says nothing to screen readers, the element around it has the label. */
export function icon(name) {
  const image = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  image.setAttribute("viewBox", "0 0 24 24");
  image.setAttribute("aria-hidden", "true");
  image.setAttribute("class", `icon icon-${name}`);
  image.append(path);
  return image;
}

/** Creates a button that shows an icon only. */
export function iconButton(name, label, onClick, properties = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, click: onClick, ...properties },
    icon(name));
}

/** Creates a button with text. */
export function button(label, onClick, properties = {}) {
  return h("button", { type: "button", class: "button", click: onClick, ...properties }, label);
}

/**
 * Makes the children of `parent` those of `items`, in their order. Elements are kept by their key, so that focus,
 * selection and running animations survive.
 * @template T
 * @param {HTMLElement} parent
 * @param {T[]} items
 * @param {{key: (item: T) => string, create: (item: T) => HTMLElement, update?: (element: HTMLElement, item: T) => void}} rows
 */
export function reconcile(parent, items, { key, create, update }) {
  const known = parent.keyedRows ?? new Map();
  const next = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    let row = known.get(id);
    if (!row || row.kind !== item.kind) {
      row?.element.remove();
      row = { element: create(item), item, kind: item.kind };
    } else if (row.item !== item) {
      update?.(row.element, item);
      row.item = item;
    }
    known.delete(id);
    next.set(id, row);
    if (row.element === place) place = place.nextSibling;
    else parent.insertBefore(row.element, place);
  }
  for (const { element } of known.values()) element.remove();
  parent.keyedRows = next;
}
