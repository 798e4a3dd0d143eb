/**
 * What a person likes, for this browser only: `localStorage` keeps it.
 * @module
 */

import { DEFAULT_PREFERENCES } from "./state.js";

const KEY = "vizinho-preferences";

/** Returns the kept preferences; what isn't there or makes no sense is as it is by default. */
export function loadPreferences() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    // Someone else's value, or no storage: the defaults do.
  }
  const known = Object.entries(kept).filter(([key, value]) => typeof value === typeof DEFAULT_PREFERENCES[key]);
  return { ...DEFAULT_PREFERENCES, ...Object.fromEntries(known) };
}

/** Keeps the preferences, and lets the style sheet follow them. */
export function watchPreferences(store) {
  store.watch((state) => state.preferences, (preferences) => {
    const { theme, density } = preferences;
    document.documentElement.dataset.theme = theme;
    document.documentElement.dataset.density = density;
    const ground = getComputedStyle(document.documentElement).getPropertyValue("--ground").trim();
    document.querySelector("meta[name=theme-color]").content = ground;
    try {
      localStorage.setItem(KEY, JSON.stringify(preferences));
    } catch {
      // A browser without storage keeps them until the page is closed.
    }
  });
}
