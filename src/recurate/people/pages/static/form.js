// Forms that are sent without a script: what the browser asks for first, and why one came back.
"use strict";
const agree = document.querySelector("input[name=agree]");
if (agree) agree.required = !agree.closest("[hidden]");
const status = performance.getEntriesByType("navigation")[0]?.responseStatus;
const message = document.querySelector(`[data-status="${status}"]`);
if (message) message.hidden = false;
