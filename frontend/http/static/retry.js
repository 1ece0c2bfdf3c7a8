// Loads the page again after a while, each browser at a time of its own.
"use strict";
(() => {
  const delayMs = document.getElementById("retry").dataset.retryS * 1000 * (0.6 + Math.random());
  setTimeout(() => location.reload(), delayMs);
})();
