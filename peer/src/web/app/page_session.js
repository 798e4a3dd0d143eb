/**
 * The session of this tab. Its secret lives in `sessionStorage`: it survives a reload, belongs to this origin with its
 * port, and ends with the tab. The cookie alone opens nothing.
 * @module
 */

const SECRET = "vizinho-secret";
const OPEN_TOKEN = /^#open=([\w-]+)$/;

/** Returns the one-time token that the address carries, and takes it out of the address and the history. */
export function takeOpenToken() {
  const [, token = null] = location.hash.match(OPEN_TOKEN) ?? [];
  if (token !== null) history.replaceState(null, "", "#/");
  return token;
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
