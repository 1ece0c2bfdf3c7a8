// What the page asks of the server, and what it asks of the operator before.
import { byId, say } from "./format.js";

/** A call of the admin API; gives the answer's JSON, throws an Error with words for people. */
export async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      cache: "no-store",
      headers: { Accept: "application/json", "X-Tmpnb-Page": "1", ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
      signal: AbortSignal.timeout?.(20000),
    });
  } catch {
    throw new Error("The admin application does not answer.");
  }
  if (answer.status === 401) {
    location.assign("/login");
    throw new Error("Your session is over.");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.message || `It answered ${answer.status}.`);
  return said;
}

let silence;
/** Tell what became of an action, where everybody sees and hears it. */
export function tell(text, isBad = false) {
  const said = byId("said");
  said.classList.toggle("bad", isBad);
  say(said, text);
  clearTimeout(silence);
  silence = setTimeout(() => say(said, ""), isBad ? 15000 : 8000);
}

/** Do it, and say how it went. */
export async function attempt(done, work) {
  try {
    await work();
    tell(done);
    return true;
  } catch (error) {
    tell(error.message, true);
    return false;
  }
}

/**
 * Ask before something is done. ``field``: {label, unit, value, min, max, optional} of a number to be given.
 * Resolves to null (no), true (yes), or, with a field, {value: number or null}.
 */
export function confirm({ title, text, yes, isGrave = false, field = null }) {
  const dialog = byId("ask");
  const input = byId("ask-value");
  say(byId("ask-title"), title);
  say(byId("ask-text"), text);
  say(byId("ask-yes"), yes);
  byId("ask-yes").classList.toggle("grave", isGrave);
  byId("ask-field").hidden = !field;
  input.disabled = !field;
  if (field) {
    say(byId("ask-label"), field.label);
    say(byId("ask-unit"), field.unit);
    input.min = field.min;
    input.max = field.max;
    input.required = !field.optional;
    input.value = field.value ?? "";
  }
  dialog.returnValue = "";
  dialog.showModal();
  // What cannot be undone is not the answer to a stray Enter.
  (field ? input : isGrave ? byId("ask-no") : byId("ask-yes")).focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        if (dialog.returnValue !== "yes") resolve(null);
        else if (!field) resolve(true);
        else resolve({ value: input.value === "" ? null : Number(input.value) });
      },
      { once: true },
    );
  });
}

byId("ask-no").addEventListener("click", () => byId("ask").close(""));

export const canChange = document.body.dataset.canChange === "yes";
