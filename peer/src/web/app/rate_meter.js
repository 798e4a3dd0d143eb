/**
 * The speed of transfers, from what was moved in the last seconds. Pure: the time is an argument.
 * @module
 */

/** The time over which a speed is the mean, in ms. */
const SPAN_MS = 5000;
const MOST_METERS = 200;

/** A meter for each transfer. */
export class RateMeters {
  #samples = new Map();

  /** Notes how far a transfer is, and returns its bytes a second; 0 as long as that isn't known. */
  rate(key, bytes, now) {
    const samples = this.#samples.get(key) ?? [];
    // A transfer that goes back began anew.
    if (samples.length > 0 && samples.at(-1).bytes > bytes) samples.length = 0;
    samples.push({ bytes, now });
    while (samples.length > 2 && now - samples[0].now > SPAN_MS) samples.shift();
    this.#samples.set(key, samples);
    if (this.#samples.size > MOST_METERS) this.#samples.delete(this.#samples.keys().next().value);
    const [first, last] = [samples[0], samples.at(-1)];
    return last.now - first.now < 300 ? 0 : ((last.bytes - first.bytes) * 1000) / (last.now - first.now);
  }
}
