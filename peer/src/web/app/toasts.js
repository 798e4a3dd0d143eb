/**
 * Short words at the edge of the page: what was done, what failed.
 * @module
 */

import { button, h, iconButton } from "./elements.js";
import { goTo } from "./router.js";
import { t } from "./texts.js";

const SHOWN_MS = 5000;
const PROBLEM_MS = 9000;
const MOST_SHOWN = 3;
/** The lines that a screen reader may still be reading. */
const MOST_ANNOUNCED = 20;

/** Creates the functions by which the page tells its reader something. */
export function createToasts() {
  const list = h("ul", { class: "toasts" });
  document.getElementById("layers").append(list);
  /** Shows words for a while; with `place`, a button leads there. */
  function tell(words, { isProblem = false, action, place } = {}) {
    const toast = h("li", { class: isProblem ? "toast problem-toast" : "toast", role: isProblem ? "alert" : "status" }, h("span", {}, words),
      place ? button(action, () => { goTo(place); toast.remove(); }, { class: "link-button" }) : null,
      iconButton("close", t("close"), () => toast.remove()));
    list.append(toast);
    while (list.childElementCount > MOST_SHOWN) list.firstChild.remove();
    let timer = setTimeout(() => toast.remove(), isProblem ? PROBLEM_MS : SHOWN_MS);
    toast.addEventListener("mouseenter", () => clearTimeout(timer));
    toast.addEventListener("mouseleave", () => { timer = setTimeout(() => toast.remove(), SHOWN_MS); });
  }
  /** Runs what may fail, and shows why it did; `undefined` then. */
  async function attempt(act) {
    try {
      return await act();
    } catch (why) {
      tell(why.message, { isProblem: true });
      return undefined;
    }
  }
  return { tell, attempt };
}

/** Tells screen readers something that everybody else sees. */
export function announce(text) {
  const region = document.getElementById("announcer");
  region.append(h("p", {}, text));
  while (region.childElementCount > MOST_ANNOUNCED) region.firstChild.remove();
}
