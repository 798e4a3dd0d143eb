/**
 * What calls a person who looks elsewhere: the title, notifications, a sound. Within the page, a live region tells screen
 * readers of new messages.
 * @module
 */

import { safeName, safeText } from "./format.js";
import { goTo } from "./router.js";
import { conversationPartner, requestCount, unreadTotal } from "./state.js";
import { t, tn } from "./texts.js";

const EXCERPT = 140;
/** The pause between two sounds. */
const SOUND_PAUSE_MS = 1500;

/** Returns "granted", "denied", "default", or "missing" where the browser has no notifications, as without TLS. */
export const permissionState = () => (typeof Notification === "undefined" || !isSecureContext ? "missing" : Notification.permission);

/** Asks the browser for the right to show notifications. */
export async function askPermission() {
  if (permissionState() === "missing") return false;
  return (await Notification.requestPermission()) === "granted";
}

/** Shows the number of unread messages in the title. */
export function watchTitle(store) {
  store.watch((state) => unreadTotal(state) + requestCount(state), (unread) => {
    document.title = unread > 0 ? `(${unread}) Vizinho` : "Vizinho";
  });
}

/**
 * Says whether a message calls its reader: between two users always, in a room by a mention only, strangers by their
 * request only, and what is muted never. Pure.
 */
export function callsReader(state, event) {
  const isMessage = event.type === "message" || event.type === "offer";
  if (event.type === "request") return !state.users.get(event.from)?.muted;
  if (!isMessage || event.from === state.session?.user) return false;
  const partner = conversationPartner(state, event.peer);
  if (partner?.muted || partner?.blocked || partner?.request) return false;
  return event.room === undefined || Boolean(event.mentions_me);
}

/** Calls the person, by what they allowed. */
export class Notifier {
  #lastSound = 0;
  #audio = null;

  /** @param {import("./main.js").App} app */
  constructor(app) {
    this.app = app;
  }

  handle(event) {
    const { state } = this.app.store;
    const name = event.peer ?? event.from;
    const isMine = event.from === state.session?.user;
    if ((event.type === "message" || event.type === "offer") && !isMine && event.room === undefined || event.mentions_me) this.#announce(event, name);
    else if (event.type === "message" && !isMine && state.route.name === name) this.#announce(event, name);
    if (!callsReader(state, event) || (document.hasFocus() && this.app.attention.isOn(name))) return;
    if (state.preferences.sounds) this.#ring();
    if (state.preferences.notifications && document.hidden && permissionState() === "granted") this.#notify(event, name);
  }

  /** Tells a screen reader. */
  #announce(event, name) {
    const { state } = this.app.store;
    const words = excerptOf(event);
    const text = state.route.name === name ? `${safeName(event.from)}: ${words}` : t("announce", { from: safeName(event.from), text: words });
    this.app.announce(text);
  }

  #notify(event, name) {
    const title = event.room === undefined ? safeName(event.from) : `${safeName(event.from)} · #${safeName(event.room)}`;
    const shown = new Notification(title, { body: excerptOf(event), tag: name, icon: "app/icon.svg", renotify: true, silent: true });
    shown.onclick = () => {
      window.focus();
      goTo("chats", name);
      shown.close();
    };
  }

  /** Plays two soft tones; no file is needed for that. */
  #ring() {
    const now = performance.now();
    if (now - this.#lastSound < SOUND_PAUSE_MS) return;
    this.#lastSound = now;
    this.#audio ??= new AudioContext();
    for (const [at, pitch] of [[0, 660], [0.12, 880]]) {
      const [tone, volume] = [this.#audio.createOscillator(), this.#audio.createGain()];
      const start = this.#audio.currentTime + at;
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0.06, start);
      volume.gain.exponentialRampToValueAtTime(0.001, start + 0.25);
      tone.connect(volume).connect(this.#audio.destination);
      tone.start(start);
      tone.stop(start + 0.25);
    }
  }
}

function excerptOf(event) {
  if (event.type === "request") return t("wants_to_talk");
  const sent = event.send ?? event.offer;
  if (sent) return t("sends_you", { name: safeName(sent.name), files: tn("file_count", sent.files ?? 1) });
  const line = safeText(event.text ?? "").replace(/\s+/g, " ");
  return line.length > EXCERPT ? `${[...line].slice(0, EXCERPT).join("")}…` : line;
}
