// Asks for the ticket until it has a server, and shows the place in line meanwhile.
"use strict";
(() => {
  const room = document.getElementById("room");
  const at = (id) => document.getElementById(id);
  const AWAY_MS = 4000;
  let timer;
  try {
    timer = new Worker(room.dataset.tick);
  } catch {
    timer = null;
  }

  const later = (ms) => {
    if (timer) {
      timer.onmessage = ask;
      timer.postMessage(ms);
    } else {
      setTimeout(ask, ms);
    }
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
  };

  const over = (headline, text) => {
    room.classList.add("still");
    at("figures").hidden = true;
    show("headline", headline);
    show("text", text);
    show("said", headline);
    at("start-again").hidden = false;
  };

  const act = (state) => {
    switch (state.status) {
      case "assigned":
        show("headline", "Your server is ready");
        location.replace(state.url);
        return;
      case "waiting":
        waiting(state);
        return;
      case "gone":
        over("Your place in line is gone", "This page was asleep for too long. You can get in line again.");
        return;
      case "refused":
        over("No server could be started", state.reason || "Please tell whoever runs this service.");
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

  const ask = async () => {
    try {
      const answer = await fetch(room.dataset.ticket, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      act(await answer.json());
    } catch {
      away();
    }
  };

  ask();
})();
