/**
 * The session of this tab. Its secret lives in `sessionStorage`: it survives a reload, belongs to this origin with its
 * port, and ends with the tab. The cookie alone opens nothing.
 * @module
 */

const SECRET = "vizinho-secret";
/** Why the last session of this tab ended, for the page that follows it. */
const CLOSING_REASON = "vizinho-closing-reason";
const OPEN_TOKEN = /^#open=([\w-]+)$/;

/** Returns the one-time token that the address carries, and takes it out of the address and the history. */
export function takeOpenToken() {
  const [, token = null] = location.hash.match(OPEN_TOKEN) ?? [];
  if (token !== null) history.replaceState(null, "", "#/");
  return token;
}

/** Loads the page anew when an address with a token is opened in its tab: else nothing but the hash would change. */
export function watchOpenToken() {
  addEventListener("hashchange", () => OPEN_TOKEN.test(location.hash) && location.reload());
}

export const storedSecret = () => sessionStorage.getItem(SECRET);

/** Keeps the secret of a session, or forgets it. */
export function keepSecret(secret) {
  if (secret === null) sessionStorage.removeItem(SECRET);
  else sessionStorage.setItem(SECRET, secret);
}

/** Opens the session of this tab: by the address's token, or the secret from before a reload. `null` if there is none. */
export async function openSession(api) {
  const token = takeOpenToken();
  if (token !== null) {
    try {
      return await beginSession(api, { token });
    } catch (why) {
      // An old address in a tab that is open already.
      if (storedSecret() === null) throw why;
    }
  }
  api.setSecret(storedSecret());
  return api.get("/session");
}

/** Begins a session with a token, or with a user and password at the door. */
export async function beginSession(api, credentials) {
  const { secret, ...session } = await api.post("/session", credentials);
  keepSecret(secret);
  api.setSecret(secret);
  return session;
}

/** Ends the session here and at the server. */
export async function endSession(api) {
  await api.delete("/session").catch(() => {});
  forgetSession(api);
}

export function forgetSession(api) {
  keepSecret(null);
  api.setSecret(null);
}

/**
 * Loads the page anew after its session, so that nothing of one person is left for the next. Where no server answers, no
 * page would come: this one stays.
 */
export async function renewPage(api, reason) {
  const isServed = await api.get("/session").then(() => true, (why) => why.status !== 0);
  if (!isServed) return;
  if (reason) sessionStorage.setItem(CLOSING_REASON, reason);
  // The address names what was open.
  history.replaceState(null, "", "#/");
  location.reload();
}

/** Returns why the session before this page ended; empty if there is nothing to say. */
export function takeClosingReason() {
  const reason = sessionStorage.getItem(CLOSING_REASON) ?? "";
  sessionStorage.removeItem(CLOSING_REASON);
  return reason;
}
