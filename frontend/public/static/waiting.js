// Asks for the ticket until it has a server, and shows the place in line meanwhile. Nobody has to rely on it: the page
// loads itself again unless an answer came and was shown; later it does so when no further one does.
"use strict";
(() => {
  const room = document.getElementById("room");
  const at = (id) => document.getElementById(id);
  const AWAY_MS = 4000;
  const ANSWER_MS = 6000;
  const GUARD_MS = 8000;
  let round = 0;
  let guard;
  let timer = null;
  try {
    timer = new Worker(room.dataset.tick);
  } catch (error) {
    // Without one the timers of hidden pages are slow.
  }

  const watch = (ms) => {
    clearTimeout(guard);
    guard = setTimeout(() => location.reload(), ms);
  };

  // Asks after a while, by the clock that is there first: a worker may be missing, or never answer.
  const later = (ms) => {
    watch(ms + GUARD_MS);
    const mine = ++round;
    const next = () => {
      if (mine !== round) return;
      round += 1;
      ask();
    };
    setTimeout(next, ms);
    if (timer) {
      timer.onmessage = (tick) => tick.data === mine && next();
      timer.postMessage([ms, mine]);
    }
  };

  // From now on the guard looks after us, not the page's own refresh.
  const still = () => {
    if (window.stop) window.stop();
  };

  const show = (id, text) => {
    if (at(id).textContent !== text) at(id).textContent = text;
  };

  const waiting = (state) => {
    show("headline", room.dataset.headline);
    show("position", String(state.position));
    show("waiting", String(state.waiting));
    show("estimate", state.estimate);
    show("said", `Your place in line is ${state.position} of ${state.waiting}.`);
    later(state.retry_in_s * 1000);
    still();
  };

  const over = (headline, text) => {
    room.classList.add("still");
    at("figures").hidden = true;
    show("headline", headline);
    show("text", text);
    show("said", headline);
    at("start-again").hidden = false;
    clearTimeout(guard);
    still();
  };

  const act = (state) => {
    switch (state.status) {
      case "assigned":
        location.replace(state.url);
        show("headline", "Your server is ready");
        return;
      case "waiting":
        waiting(state);
        return;
      case "gone":
        over("Your place in line is gone", "This page was asleep for too long. You can get in line again.");
        return;
      case "refused":
        over("No server could be started", `Please tell whoever runs this service${state.message ? `: ${state.message}` : ""}.`);
        return;
      default:
        away();
    }
  };

  const away = () => {
    show("headline", "Just a moment");
    show("said", "The service cannot be asked right now. You keep your place in line.");
    later(AWAY_MS * (0.7 + 0.6 * Math.random()));
  };

  const patience = () => {
    if (!window.AbortController) return undefined;
    const controller = new AbortController();
    setTimeout(() => controller.abort(), ANSWER_MS);
    return controller.signal;
  };

  // What fails here but the question itself is a fault of ours or of the browser: the page is loaded again.
  const ask = () => {
    fetch(room.dataset.ticket, { cache: "no-store", signal: patience() })
      .then((answer) => answer.json())
      .then(act, away);
  };

  ask();
})();
