/**
 * The text of a message as elements: links of the web and mentions stand out, all else is text.
 * @module
 */

import { h } from "./elements.js";
import { safeText } from "./format.js";

/** Addresses with a scheme that a browser can open without harm, up to a space or what can't end one. */
const LINK = /\bhttps?:\/\/[^\s<>"'`⟨⟩]+/gi;
const MENTION = /(?<![\p{L}\p{N}])@([\p{L}\p{N}_.-]*[\p{L}\p{N}_-])/gu;
/** What follows an address in a sentence, and isn't a part of it. */
const TRAILING = /[.,;:!?)\]}]+$/;
/** Lines and characters up to which a message is shown whole. */
const LONG_LINES = 24;
const LONG_TEXT = 2400;

/** True for a text that is folded until it is opened. */
export const isLong = (text) => text.length > LONG_TEXT || text.split("\n", LONG_LINES + 1).length > LONG_LINES;

/** Returns the nodes of a message's text. `me` is called by mentions; `words` of a search are marked. */
export function messageNodes(text, { me, words = "" }) {
  return splitBy(safeText(text), LINK, linkNode).flatMap((part) =>
    typeof part === "string" ? splitBy(part, MENTION, (match) => mentionNode(match, me)) : [part])
    .flatMap((part) => (typeof part === "string" && words ? markWords(part, words) : [part]));
}

/** Splits a text by a pattern; what matches becomes a node, with the rest that the node leaves. */
function splitBy(text, pattern, nodeOf) {
  const parts = [];
  let last = 0;
  for (const match of text.matchAll(pattern)) {
    const { node, length } = nodeOf(match);
    if (match.index > last) parts.push(text.slice(last, match.index));
    parts.push(node);
    last = match.index + length;
  }
  if (last < text.length) parts.push(text.slice(last));
  return parts;
}

function linkNode([address]) {
  let shown = address.replace(TRAILING, "");
  // A bracket that was opened within the address belongs to it.
  if (shown.includes("(") && address[shown.length] === ")" && !shown.includes(")")) shown += ")";
  const node = h("a", { href: shown, target: "_blank", rel: "noreferrer noopener", dir: "ltr" }, shown);
  return { node, length: shown.length };
}

function mentionNode([whole, name], me) {
  const isMe = name.toLowerCase() === me.toLowerCase();
  return { node: h("span", { class: isMe ? "mention mention-me" : "mention" }, whole), length: whole.length };
}

function markWords(text, words) {
  const wanted = words.split(/\s+/).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (wanted.length === 0) return [text];
  return splitBy(text, new RegExp(wanted.join("|"), "gi"), ([found]) => ({ node: h("mark", {}, found), length: found.length }));
}
