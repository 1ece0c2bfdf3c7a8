// A timer in a worker: browsers slow down the timers of hidden pages to one a minute, but not those of workers.
// Takes milliseconds and a name, answers with the name when they are over.
"use strict";
onmessage = (event) => setTimeout(() => postMessage(event.data[1]), event.data[0]);
