// A timer in a worker: browsers slow down the timers of hidden pages to one a minute, but not those of workers.
// Takes milliseconds, answers when they are over.
"use strict";
onmessage = (event) => setTimeout(() => postMessage(null), event.data);
