/**
 * The node's events, read from a stream that is opened again whenever it ends. `EventSource` can't send the session's
 * secret, so the stream is read by `fetch`.
 * @module
 */

/** The time without anything from the server, a comment at least, after which the stream counts as dead. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 10_000;

/** Splits the text of a stream of events into events, however it is cut. Pure. */
export class EventParser {
  #rest = "";

  /** @returns {Array<{id: string|null, name: string, data: string}>} the events that are complete by this text */
  push(text) {
    const blocks = (this.#rest + text).split(/\r?\n\r?\n/);
    this.#rest = blocks.pop();
    return blocks.map(parseBlock).filter((event) => event !== null);
  }
}

function parseBlock(block) {
  const event = { id: null, name: "message", data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
    if (field === "data") event.data.push(value);
    else if (field === "id") event.id = value;
    else if (field === "event") event.name = value;
  }
  if (event.data.length === 0 && event.name === "message") return null;
  return { ...event, data: event.data.join("\n") };
}

/** A stream of events that lasts as long as the session. */
export class EventStream {
  #lastId = null;
  #abort = new AbortController();
  #isClosed = false;
  #wake = () => {};

  /**
   * @param {import("./api_client.js").ApiClient} api
   * @param {{onEvent: (event: object) => void, onResync: () => void, onState: (state: "live"|"lost") => void}} handlers
   */
  constructor(api, handlers) {
    this.api = api;
    this.handlers = handlers;
  }

  /** Reads until the stream is closed. */
  async run() {
    const retry = () => this.#wake();
    addEventListener("online", retry);
    document.addEventListener("visibilitychange", retry);
    for (let attempt = 0; !this.#isClosed; attempt += 1) {
      try {
        await this.#readOnce(() => { attempt = 0; });
      } catch (why) {
        if (why.status === 401) break;
      }
      if (this.#isClosed) break;
      this.handlers.onState("lost");
      await this.#pause(Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS));
    }
    removeEventListener("online", retry);
    document.removeEventListener("visibilitychange", retry);
  }

  close() {
    this.#isClosed = true;
    this.#abort.abort();
    this.#wake();
  }

  async #readOnce(onOpen) {
    this.#abort = new AbortController();
    const headers = { ...this.api.headers(), Accept: "text/event-stream" };
    if (this.#lastId !== null) headers["Last-Event-ID"] = this.#lastId;
    const watchdog = new Watchdog(SILENCE_MS, () => this.#abort.abort());
    try {
      const answer = await this.api.open("/events", { headers, signal: this.#abort.signal });
      onOpen();
      // Without a place to go on from, the lists have to be read after the stream began: nothing falls between.
      if (this.#lastId === null) this.handlers.onResync();
      this.handlers.onState("live");
      const [parser, decoder, reader] = [new EventParser(), new TextDecoder(), answer.body.getReader()];
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        watchdog.reset();
        for (const event of parser.push(decoder.decode(value, { stream: true }))) this.#handle(event);
      }
    } finally {
      watchdog.stop();
    }
  }

  #handle({ id, name, data }) {
    if (id !== null) this.#lastId = id;
    if (name === "resync") this.handlers.onResync();
    if (name !== "message") return;
    let event = null;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    this.handlers.onEvent(event);
  }

  #pause(time) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, time);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

class Watchdog {
  constructor(time, onSilence) {
    this.time = time;
    this.onSilence = onSilence;
    this.reset();
  }

  reset() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.onSilence, this.time);
  }

  stop() {
    clearTimeout(this.timer);
  }
}
