/**
 * The calls of the API. Each carries the session's secret beside the cookie, which the browser adds by itself.
 * @module
 */

/** An answer of the API that says no, or no answer at all. */
export class ApiError extends Error {
  /**
   * @param {string} message - For people, in their language.
   * @param {{status: number, code: string, body?: any}} details - Status 0: nothing was reached.
   */
  constructor(message, { status, code, body = {} }) {
    super(message);
    this.status = status;
    this.code = code;
    this.body = body;
  }
}

/** A client of the API under `/api/v1`. */
export class ApiClient {
  #secret = null;

  /** @param {{unreachable: string, onSessionEnd: (mode?: string) => void}} options */
  constructor({ unreachable, onSessionEnd }) {
    this.unreachable = unreachable;
    this.onSessionEnd = onSessionEnd;
  }

  setSecret(secret) {
    this.#secret = secret;
  }

  get hasSecret() {
    return this.#secret !== null;
  }

  /** Returns the headers of a call; an XMLHttpRequest of an upload needs them as well. */
  headers() {
    return this.#secret === null ? {} : { "Page-Secret": this.#secret };
  }

  get(path, options) {
    return this.call("GET", path, undefined, options);
  }

  post(path, body = {}) {
    return this.call("POST", path, body);
  }

  put(path, body) {
    return this.call("PUT", path, body);
  }

  delete(path) {
    return this.call("DELETE", path);
  }

  /** Makes a call and returns what it answers; `null` if there is nothing in the answer. */
  async call(method, path, body, options = {}) {
    const headers = body === undefined ? this.headers() : { ...this.headers(), "Content-Type": "application/json" };
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const answer = await this.open(path, { method, headers, body: sent, ...options });
    return answer.status === 204 ? null : readJson(answer);
  }

  /** Opens an answer without reading it; throws if it says no. */
  async open(path, options) {
    let answer;
    try {
      answer = await fetch(apiPath(path), { cache: "no-store", ...options });
    } catch (why) {
      if (why.name === "AbortError") throw why;
      throw new ApiError(this.unreachable, { status: 0, code: "unreachable" });
    }
    if (answer.ok) return answer;
    const said = await readJson(answer);
    const { code = "internal", message = `${answer.status} ${answer.statusText}` } = said?.error ?? {};
    if (answer.status === 401 && this.hasSecret) this.onSessionEnd(said?.mode);
    throw new ApiError(message, { status: answer.status, code, body: said ?? {} });
  }
}

/** Returns the address of a call. */
export const apiPath = (path) => `api/v1${path}`;

/** Returns the path of a call whose parts are names: each is encoded whole. */
export function pathOf(...parts) {
  return parts.map((part) => `/${encodeURIComponent(part)}`).join("");
}

/** Returns the query of a call; what is `undefined` or `null` is left out. */
export function queryOf(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

async function readJson(answer) {
  try {
    return await answer.json();
  } catch {
    return null;
  }
}
